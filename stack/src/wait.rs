//! Waits for conditions with a deadline, and knows which condition is whose health.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::endpoints::host_port;
use crate::layout::Layout;
use crate::ports::Ports;
use crate::tls::Tls;
use crate::{Service, cassandra, health, postgres, prometheus, rabbitmq, sys};

const BETWEEN_CHECKS: Duration = Duration::from_millis(100);

/// An end to waiting.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    start: Instant,
    within: Duration,
    heeds_interrupts: bool,
}

impl Deadline {
    /// From now. A caught Ctrl-C ends the waiting too.
    #[must_use]
    pub fn within(within: Duration) -> Self {
        Self { start: Instant::now(), within, heeds_interrupts: true }
    }

    /// From now, whatever signal arrives: for cleaning up.
    #[must_use]
    pub fn deaf(within: Duration) -> Self {
        Self { heeds_interrupts: false, ..Self::within(within) }
    }
}

/// Tries `check` again and again until it succeeds.
///
/// # Errors
/// The last error of `check` when time is up.
pub fn until(deadline: &Deadline, mut check: impl FnMut() -> Result<()>) -> Result<()> {
    loop {
        let Err(error) = check() else { return Ok(()) };
        if deadline.heeds_interrupts && sys::interrupted() {
            bail!("interrupted");
        }
        if deadline.start.elapsed() >= deadline.within {
            return Err(error).with_context(|| format!("not so within {} s", deadline.within.as_secs()));
        }
        thread::sleep(BETWEEN_CHECKS);
    }
}

/// Whether a service of our own does its work.
///
/// # Errors
/// When not, with the reason.
pub fn healthy(service: Service, layout: &Layout, ports: &Ports) -> Result<()> {
    if let Some(tls) = Tls::of(layout) {
        return encrypted(&tls, service, ports);
    }
    match service {
        Service::Rabbitmq => rabbitmq::health(ports),
        Service::Cassandra => cassandra::health(ports),
        Service::Postgres => postgres::health(ports),
        Service::Prometheus => prometheus::health(ports),
    }
}

/// Whether a service of a stack with TLS does its work, as far as it says so without one.
fn encrypted(tls: &Tls, service: Service, ports: &Ports) -> Result<()> {
    let address = |port: u16| format!("127.0.0.1:{port}");
    match service {
        Service::Rabbitmq => {
            health::tcp(&address(ports.amqp))?;
            // By its password: another broker that has just taken these ports is none of ours.
            let management = address(ports.rabbitmq_management);
            health::http(&management, "/api/health/checks/virtual-hosts", Some(&tls.authorization()?))
        }
        Service::Cassandra => health::tcp(&address(ports.cql)),
        Service::Postgres => postgres::accepts(ports),
        Service::Prometheus => prometheus::health(ports),
    }
}

/// Whether a service at a given address answers; behind TLS only whether something accepts connections.
///
/// # Errors
/// When not, with the reason.
pub fn answers(service: Service, address: &str) -> Result<()> {
    match service {
        Service::Rabbitmq if address.starts_with("amqps:") => health::tcp(&host_port(address, 5671)),
        Service::Rabbitmq => health::amqp(&host_port(address, 5672)),
        Service::Cassandra => {
            let nodes: Vec<&str> = address.split(',').map(str::trim).collect();
            let first = nodes.first().copied().unwrap_or_default();
            if nodes.iter().any(|node| health::cql(&host_port(node, 9042)).is_ok()) {
                return Ok(());
            }
            health::cql(&host_port(first, 9042))
        }
        Service::Postgres => health::postgres_answers(&host_port(address, 5432)),
        Service::Prometheus if address.starts_with("https:") => health::tcp(&host_port(address, 443)),
        Service::Prometheus => health::http(&host_port(address, 9090), "/-/ready", None),
    }
}
