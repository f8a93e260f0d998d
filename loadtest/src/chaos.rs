//! Chaos: faults on a seeded schedule under steady load, recovery from each, and the audit at the end.

mod faults;
mod harm;
mod options;
mod proxy;
mod recovery;
mod report;
mod schedule;
mod world;

use std::time::{Duration, Instant};

use platform::amqp::Depths;
use platform::config::{Config, ConfigError};
use tokio_util::sync::CancellationToken;

pub use faults::{Fault, Kind, Only, Target};
pub use options::ChaosOptions;
pub use proxy::{Link, Proxy, Towards};
pub use report::{ChaosReport, Recovery, Taken};

use crate::options::Options;
use crate::run::{Control, LoadError, run_controlled};
use harm::Harm;
use schedule::Schedule;
use world::World;

/// No fault comes so near to the load's end.
const QUIET_AT_THE_END: Duration = Duration::from_secs(60);
/// The system is given this long to work before the first fault.
const WORKING_WITHIN: Duration = Duration::from_secs(120);
/// What programs held when they were stopped is counted by RabbitMQ a moment later.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

/// Why a chaos run could not be made. Faults that are not survived are no error but a report.
#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    /// A service, program or proxy could not be started, stopped or harmed.
    #[error("{0}")]
    Failed(String),
    /// The configuration file is not usable.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The load could not run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Files or sockets.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Starts services, proxies and programs of its own, puts load on them, does the harm, audits, and ends them. `stop` ends
/// the faults early; the audit is made all the same.
///
/// # Errors
/// When it cannot run; whatever is not survived is a report that is not clean.
pub async fn run(options: &ChaosOptions, stop: CancellationToken) -> Result<ChaosReport, ChaosError> {
    let clock = u64::try_from(platform::clock::now_us()).unwrap_or(1) % 1_000_000;
    let seed = options.seed.unwrap_or(clock);
    eprintln!("chaos with seed {seed}; again with: {}", options.command(seed));
    let world = World::start(options.config.as_deref()).await?;
    let outcome = under_load(options, seed, &world, &stop).await;
    let clean = outcome.as_ref().is_ok_and(|report| report.clean);
    if !clean {
        eprintln!("data and logs are left to be looked at: {}", world.logs().display());
    }
    world.end_all(!clean).await?;
    outcome
}

async fn under_load(
    options: &ChaosOptions,
    seed: u64,
    world: &World,
    stop: &CancellationToken,
) -> Result<ChaosReport, ChaosError> {
    let control = Control::default();
    let ingest = world.front().map(|address| format!("http://{address}"));
    let only = options.only.clone().unwrap_or_default();
    let seconds = options.load_seconds(seed, &only);
    let load = Options {
        seed: Some(seed),
        ingest,
        give_up: 120,
        drain_timeout: 300,
        config_folder: world.config_folder(),
        ..Options::new(options.rate, seconds)
    };
    let schedule = Schedule::new(seed, &only);
    wait_until_ready(world).await?;
    let mut harm =
        Harm { world, control: &control, stop, steps: Vec::new(), failures: Vec::new(), start: Instant::now() };
    let end = harm.start + Duration::from_secs(u64::from(seconds));
    let end = options.minutes.map_or(end - QUIET_AT_THE_END, |m| harm.start + Duration::from_secs(u64::from(m) * 60));
    let load_over = CancellationToken::new();
    let loading = async {
        let outcome = run_controlled(&world.config, &load, control.clone()).await;
        load_over.cancel();
        outcome
    };
    let harming = async {
        tokio::select! {
            () = harm.run(schedule, options.fault_count(), end) => {}
            () = load_over.cancelled() => {}
        }
        control.finish.cancel();
    };
    let (load, ()) = tokio::join!(loading, harming);
    let lasted = harm.steps.last().map_or(Duration::ZERO, |last| {
        Duration::from_secs_f64(last.at_seconds + last.hold_seconds + last.recovery_seconds.unwrap_or_default())
    });
    let (steps, mut failures) = (harm.steps, harm.failures);
    let left = match left_in_queues(world).await {
        Ok(left) => left,
        Err(error) => {
            failures.push(error);
            0
        }
    };
    Ok(ChaosReport::of(seed, options.command(seed), steps, lasted, load?, left, failures))
}

async fn wait_until_ready(world: &World) -> Result<(), ChaosError> {
    let start = Instant::now();
    while let Err(missing) = recovery::look(world).await {
        if start.elapsed() > WORKING_WITHIN {
            return Err(ChaosError::Failed(format!("{missing}; see {}", world.logs().display())));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Frames in the queues once nobody holds any: the programs are stopped for it, each when nothing is left for it to do.
async fn left_in_queues(world: &World) -> Result<u64, String> {
    for program in [Target::Ingest, Target::Writer, Target::Reconciler] {
        frames(&world.config).await?;
        world.stop_program(program).await.map_err(|error| error.to_string())?;
    }
    frames(&world.config).await
}

/// Waits for empty queues; what is left in them when that takes too long.
async fn frames(config: &Config) -> Result<u64, String> {
    let start = Instant::now();
    let mut depths = Depths::of(&config.rabbitmq);
    loop {
        let asked = depths.ask().await.map(|waiting| waiting.write + waiting.reconcile + waiting.dead);
        if asked == Ok(0) || start.elapsed() > COUNTED_WITHIN {
            return asked.map_err(|error| format!("the queues cannot be counted: {error}"));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
