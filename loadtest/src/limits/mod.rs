//! The raw cost of each step on the same services: what a pipeline would cost that did nothing else. The measured cost
//! is judged by the sum of these.

mod http;
mod queue;
mod sql;
mod store;

use std::fmt;
use std::path::Path;
use std::time::Duration;

use platform::cassandra::CassandraError;
use platform::config::Config;
use serde::Serialize;

use crate::cpu::{Line, Meter, Place};

pub use http::serve_plain;

/// Why the raw costs could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    /// The plain HTTP server cannot be started or reached.
    #[error("plain HTTP: {0}")]
    Http(#[from] std::io::Error),
    /// RabbitMQ refuses something.
    #[error("rabbitmq: {0}")]
    RabbitMq(#[from] lapin::Error),
    /// Cassandra refuses something.
    #[error(transparent)]
    Cassandra(Box<CassandraError>),
    /// Postgres refuses something.
    #[error("postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// The configuration has no source to imitate.
    #[error("{0}")]
    Config(String),
}

impl From<CassandraError> for LimitsError {
    fn from(error: CassandraError) -> Self {
        // It is much larger than the others.
        Self::Cassandra(Box::new(error))
    }
}

/// The raw costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limits {
    /// Each step.
    pub steps: Vec<Step>,
    /// CPU microseconds that one payment costs over all steps, each as often as a payment takes it.
    pub us_per_payment: f64,
}

/// The raw cost of one step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// What was done.
    pub name: &'static str,
    /// How often a payment takes this step.
    pub times: u32,
    /// Payments that were put through.
    pub payments: u64,
    /// Payments a second.
    pub per_second: f64,
    /// CPU microseconds a payment, once through.
    pub us_per_payment: f64,
    /// By process.
    pub processes: Vec<Line>,
}

impl Step {
    fn of(name: &'static str, times: u32, payments: u64, meter: Meter) -> Self {
        let bill = meter.bill(payments);
        let per_second = f64::from(u32::try_from(payments).unwrap_or(u32::MAX)) / bill.window_seconds.max(0.001);
        Self { name, times, payments, per_second, us_per_payment: bill.us_per_payment, processes: bill.lines }
    }
}

/// Measures every step for `seconds`. `program` is this program's file, started as the plain HTTP server.
///
/// # Errors
/// When a service refuses; what was created on it is removed as far as it can be reached.
pub async fn measure(
    config: &Config,
    folder: &Path,
    program: &Path,
    rate: u32,
    seconds: u32,
) -> Result<Limits, LimitsError> {
    let length = Duration::from_secs(u64::from(seconds));
    let name = format!("tollgate_limits_{}", std::process::id());
    let mut steps = vec![http::measure(config, folder, program, rate, seconds).await?];
    steps.push(queue::measure(config, &name, length).await?);
    steps.extend(store::measure(config, &name, length).await?);
    steps.push(sql::measure(config, &name, length).await?);
    let us_per_payment = steps.iter().map(|step| step.us_per_payment * f64::from(step.times)).sum();
    Ok(Limits { steps, us_per_payment })
}

/// The processes of a step against one service.
fn client_and(service: &'static str, place: Place) -> Meter {
    Meter::of(&[("client", Place::Own), (service, place)])
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "raw costs  µs a payment   payments/s")?;
        for step in &self.steps {
            let parts = step.processes.iter().map(|line| match line.us_per_payment {
                Some(us) => format!("{} {us:.1}", line.process),
                None => format!("{} {}", line.process, line.note.as_deref().unwrap_or_default()),
            });
            let parts = parts.collect::<Vec<_>>().join(" + ");
            let times = if step.times > 1 { format!(" × {}", step.times) } else { String::new() };
            writeln!(
                f,
                "  {:>8.1}{times:<4} {:>10.0}   {} ({parts})",
                step.us_per_payment, step.per_second, step.name
            )?;
        }
        writeln!(f, "  {:>8.1}      in sum", self.us_per_payment)
    }
}
