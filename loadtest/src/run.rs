//! A load test from beginning to end: prepare, send, wait until drained, audit, report.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use platform::cassandra::CassandraError;
use platform::clock::now_us;
use platform::config::{Config, ConfigError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::audit::{AuditError, Scope, audit, wait_until_drained};
use crate::client::{Counters, Load, Recorder, drive};
use crate::cpu::{Bill, Metering};
use crate::facts::Run;
use crate::flood::Flooding;
use crate::identity::RunName;
use crate::limits::{LimitsError, measure};
use crate::options::Options;
use crate::payload::Kits;
use crate::report::Report;
use crate::results::{Results, judge};
use crate::schedule::{Schedule, Shape};
use crate::traces::Collector;
use crate::{orders, progress};

/// Once drained, what is still missing may take this long: parked events, late orders, the shop's view.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long raw costs are measured, each step.
const LIMITS_SECONDS: u32 = 5;

/// Why a load test could not run. An audit that fails is no error but a report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A source or its secret is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Options that cannot be followed.
    #[error("{0}")]
    Options(String),
    /// Cassandra cannot be reached.
    #[error(transparent)]
    Cassandra(Box<CassandraError>),
    /// Postgres cannot be reached, or has no tables yet.
    #[error("cannot write the orders to Postgres: {0} (has the reconciler been started once?)")]
    Postgres(#[from] sqlx::Error),
    /// The audit was not possible.
    #[error("the audit could not be made: {0}")]
    Audit(#[from] AuditError),
    /// The raw costs could not be measured.
    #[error("the raw costs could not be measured: {0}")]
    Limits(#[from] LimitsError),
    /// Threads, sockets or histograms.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

impl From<CassandraError> for LoadError {
    fn from(error: CassandraError) -> Self {
        // It is much larger than the others.
        Self::Cassandra(Box::new(error))
    }
}

/// How a load is watched and ended early; what was sent until then is audited all the same.
#[derive(Debug, Clone, Default)]
pub struct Control {
    /// Ends it at once.
    pub stop: CancellationToken,
    /// Ends it with the last of what was refused until now.
    pub finish: CancellationToken,
    /// What was sent and answered so far.
    pub counters: Arc<Counters>,
}

/// Runs a load test. `stop` ends the load early; what was sent until then is audited all the same.
///
/// # Errors
/// When it cannot run; an audit that finds something is a report that is not clean.
pub async fn run(config: &Config, options: &Options, stop: CancellationToken) -> Result<Report, LoadError> {
    run_controlled(config, options, Control { stop, ..Control::default() }).await
}

/// [`run`] for somebody who watches.
///
/// # Errors
/// As [`run`].
pub async fn run_controlled(config: &Config, options: &Options, control: Control) -> Result<Report, LoadError> {
    let (address, host) = ingest_address(config, options).await?;
    let kits = Arc::new(Kits::prepare(&config.sources, &options.config_folder, &host, now_unix())?);
    let run = Arc::new(plan(&kits, options)?);
    let pool = orders::pool(&config.postgres)?;
    let session = platform::cassandra::connect(&config.cassandra).await?;
    orders::insert(&pool, &run).await?;

    let (late_orders, paid) = mpsc::unbounded_channel();
    let late = tokio::spawn(orders::commit_late(pool.clone(), Arc::clone(&run), paid));
    let recorders = (0..options.threads).map(|_| Recorder::new().map(|recorder| Arc::new(Mutex::new(recorder))));
    let recorders: Vec<_> = recorders.collect::<Result<_, _>>().map_err(std::io::Error::other)?;
    let load = Load {
        run: Arc::clone(&run),
        kits: Arc::clone(&kits),
        address,
        connections: usize::from(options.connections),
        threads: usize::from(options.threads),
        give_up: Duration::from_secs(u64::from(options.give_up)),
        resend_after: Duration::from_secs(u64::from(options.resend_after)),
        counters: control.counters,
        recorders: recorders.clone(),
        late_orders,
        stop: control.stop,
        finish: control.finish,
    };
    let collector = Collector::start(&config.trace).await;
    let flooding = Flooding::start(options, &run, &kits, address)?;
    let sent = send(config, options, load).await?;
    let flood = match flooding {
        Some(flooding) => Some(flooding.end().await),
        None => None,
    };
    let patience = Duration::from_secs(u64::from(options.drain_timeout));
    let drained = wait_until_drained(&pool, &run, Instant::now() + patience).await;
    let metered = sent.metering.stop().await.map_err(std::io::Error::other)?;
    let results = Results::of(&recorders);
    let bill = match metered {
        Some(meter) => meter.bill(results.measured.accepted_payments),
        None => Bill::default(),
    };
    late.await.map_err(std::io::Error::other)??;
    let patience_until = Instant::now() + if drained.is_some() { PATIENCE } else { Duration::ZERO };
    let scope = Scope { run: &run, kits: &kits, config, session: &session, pool: &pool, patience_until };
    let audit = audit(&scope).await?;
    let drained_after = drained.map(|at| at.saturating_duration_since(sent.schedule_end));
    let mut report = judge(options, &run, results, audit, bill, sent.lasted, drained_after);
    if let Some(flood) = flood {
        if flood.let_in() > 0 {
            report.failures.push(format!("{} forgeries were let in", flood.let_in()));
            report.failure_count += flood.let_in();
            report.clean = false;
        }
        report.flood = Some(flood);
    }
    if let Some(collector) = collector {
        report.traces = Some(collector.finish().await);
    }
    if options.limits {
        let program = std::env::current_exe()?;
        let limits = measure(config, &options.config_folder, &program, options.rate, LIMITS_SECONDS).await?;
        report.efficiency = Some(limits.us_per_payment / report.cpu.us_per_payment.max(0.001));
        report.limits = Some(limits);
    }
    Ok(report)
}

fn now_unix() -> i64 {
    now_us() / 1_000_000
}

/// Where ingest is, and the name it is asked by.
async fn ingest_address(config: &Config, options: &Options) -> Result<(SocketAddr, String), LoadError> {
    let Some(url) = &options.ingest else {
        let mut address = config.ingest.listen;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        return Ok((address, address.to_string()));
    };
    let host = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/').to_owned());
    let host =
        host.ok_or_else(|| LoadError::Options(format!("--ingest: {url:?} is not like http://127.0.0.1:8080")))?;
    let with_port = if host.contains(':') { host.clone() } else { format!("{host}:80") };
    let address = tokio::net::lookup_host(with_port).await?.next();
    let address = address.ok_or_else(|| LoadError::Options(format!("--ingest: {url:?} has no address")))?;
    Ok((address, host))
}

fn plan(kits: &Kits, options: &Options) -> Result<Run, LoadError> {
    let mix = options.mix.of(|provider| kits.get(provider).is_some());
    if mix.iter().all(|(_, share)| *share == 0) {
        return Err(LoadError::Options("no provider of --mix has a source in the configuration".into()));
    }
    let slots = u64::from(options.rate) * (u64::from(options.seconds) + u64::from(options.warm_up));
    if slots >= 1 << 31 {
        return Err(LoadError::Options("--rate times --seconds is more than two billion webhooks".into()));
    }
    let now = now_us();
    let seed = options.seed.unwrap_or(now.unsigned_abs());
    let schedule = Schedule::of(Shape {
        rate: options.rate,
        warm_up_seconds: options.warm_up,
        seconds: options.seconds,
        mix,
        seed,
    });
    Ok(Run::new(RunName::new(seed, now), seed, schedule))
}

struct Sent {
    lasted: Duration,
    schedule_end: Instant,
    metering: Metering,
}

/// Sends the whole schedule while progress is told and CPU time is metered.
async fn send(config: &Config, options: &Options, load: Load) -> Result<Sent, LoadError> {
    let (stop, finish) = (load.stop.clone(), load.finish.clone());
    let run = Arc::clone(&load.run);
    let warm_up = run.schedule.due_after(run.schedule.warm_up_slots());
    let length = run.schedule.due_after(run.schedule.slot_count());
    let progress = (options.progress > 0).then(|| {
        let every = Duration::from_secs(u64::from(options.progress));
        tokio::spawn(progress::print(every, Arc::clone(&load.counters), load.recorders.clone(), warm_up))
    });
    let metering = Metering::start(config.clone(), warm_up);
    run.start(now_unix());
    let started = Instant::now();
    let outcome = drive(load).await;
    if let Some(progress) = progress {
        progress.abort();
    }
    outcome?;
    let ended_early = stop.is_cancelled() || finish.is_cancelled();
    let schedule_end = if ended_early { Instant::now().min(started + length) } else { started + length };
    Ok(Sent { lasted: schedule_end.duration_since(started), schedule_end, metering })
}
