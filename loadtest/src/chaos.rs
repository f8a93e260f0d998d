//! Chaos: faults on a seeded schedule under steady load, recovery from each, and the audit at the end.

mod proxy;
mod recovery;
mod report;
mod schedule;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use platform::amqp::Depths;
use platform::config::{Config, ConfigError};
use tokio_util::sync::CancellationToken;

pub use proxy::{Link, Proxy, Towards};
pub use report::{ChaosReport, Recovery, Taken};
pub use schedule::{Fault, Kind, Only, Target};

use crate::client::Counters;
use crate::options::Options;
use crate::run::{Control, LoadError, run_controlled};
use schedule::{Schedule, Step};
use world::World;

/// What a step is expected to take besides hold and pause; where Cassandra is started again, more.
const STEP_SECONDS: u32 = 12;
const CASSANDRA_SECONDS: u32 = 40;
/// The load lasts longer than the faults are expected to, and is ended with them.
const SPARE_SECONDS: u32 = 300;
/// No fault comes so near to the load's end.
const QUIET_AT_THE_END: Duration = Duration::from_secs(60);
/// The system is given this long to work before the first fault.
const WORKING_WITHIN: Duration = Duration::from_secs(120);
/// What programs held when they were stopped is counted by RabbitMQ a moment later.
const COUNTED_WITHIN: Duration = Duration::from_secs(30);

/// What a chaos run is told.
#[derive(Debug, Clone, clap::Args)]
pub struct ChaosOptions {
    /// Sources of the load and other settings, instead of those of `cargo demo`; addresses are chosen by the run
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Decides every fault and the load; of the clock if absent
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// How many faults; a pair has two
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5000), conflicts_with = "minutes")]
    pub faults: Option<u32>,
    /// As many faults as fit into this time [default without --faults: 40 faults]
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=1440))]
    pub minutes: Option<u32>,
    /// Webhooks a second, at a constant rate
    #[arg(long, value_name = "N", default_value_t = 150, value_parser = clap::value_parser!(u32).range(20..=10_000))]
    pub rate: u32,
    /// Only these kinds and targets, such as kill,freeze,rabbitmq,postgres-link
    #[arg(long, value_name = "NAMES")]
    pub only: Option<Only>,
    /// Write the report as JSON too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

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

impl ChaosOptions {
    fn command(&self, seed: u64) -> String {
        let only = self.only.as_ref().map(|only| format!(" --only {only}")).unwrap_or_default();
        let config = self.config.as_ref().map(|file| format!(" --config {}", file.display())).unwrap_or_default();
        let length = match self.minutes {
            Some(minutes) => format!("--minutes {minutes}"),
            None => format!("--faults {}", self.fault_count()),
        };
        format!("loadtest chaos --seed {seed} {length} --rate {}{only}{config}", self.rate)
    }

    fn fault_count(&self) -> usize {
        match (self.minutes, self.faults) {
            (Some(_), _) => usize::MAX,
            (None, faults) => faults.unwrap_or(40) as usize,
        }
    }

    /// How long the load must last, by what the schedule holds.
    fn load_seconds(&self, seed: u64, only: &Only) -> u32 {
        let faults = match self.minutes {
            Some(minutes) => minutes * 60,
            None => {
                let mut left = self.fault_count();
                let steps = Schedule::new(seed, only).take_while(|step| {
                    let more = left > 0;
                    left = left.saturating_sub(step.faults.len());
                    more
                });
                steps.map(|step| expected_seconds(&step)).sum()
            }
        };
        faults + SPARE_SECONDS
    }
}

fn expected_seconds(step: &Step) -> u32 {
    let restarts = step.faults.iter().any(|f| f.target == Target::Cassandra && f.kind != Kind::Freeze);
    if restarts { CASSANDRA_SECONDS } else { STEP_SECONDS }
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

/// The one who does the harm.
struct Harm<'a> {
    world: &'a World,
    control: &'a Control,
    stop: &'a CancellationToken,
    steps: Vec<Taken>,
    failures: Vec<String>,
    start: Instant,
}

impl Harm<'_> {
    /// Takes step after step, until there were enough faults, time is up, or something does not recover.
    async fn run(&mut self, schedule: Schedule, faults: usize, end: Instant) {
        // The orders are written first, which takes a while; then it must work without faults.
        while Counters::read(&self.control.counters.acknowledged) == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if let Err(missing) = recovery::wait(self.world, &self.control.counters, Instant::now()).await {
            self.failures.push(format!("before the first fault: {missing}"));
            return;
        }
        self.start = Instant::now();
        let mut done = 0;
        for step in schedule {
            if done >= faults || Instant::now() >= end || self.stop.is_cancelled() {
                break;
            }
            done += step.faults.len();
            if let Err(failure) = self.take(&step).await {
                eprintln!("  {failure}");
                self.failures.push(failure);
                return;
            }
            self.pause(step.pause).await;
        }
        if done < faults && faults != usize::MAX && !self.stop.is_cancelled() {
            self.failures.push(format!("only {done} of {faults} faults fitted into the load"));
        }
    }

    async fn take(&mut self, step: &Step) -> Result<(), String> {
        let names: Vec<String> = step.faults.iter().map(Fault::to_string).collect();
        let name = names.join(" + ");
        let at = self.start.elapsed();
        let failed = |error: ChaosError| format!("{name}: {error}");
        let mut harmed = Ok(());
        for fault in &step.faults {
            harmed = harmed.and(self.world.begin(*fault).await.map_err(failed));
        }
        let begun = Instant::now();
        self.pause(step.hold).await;
        let ended = Instant::now();
        let undone = self.world.end(&step.faults).await.map_err(failed);
        let recovered = match undone {
            Ok(()) => recovery::wait(self.world, &self.control.counters, ended).await,
            Err(error) => Err(error),
        };
        harmed?;
        let recovery_seconds = recovered.as_ref().ok().map(Duration::as_secs_f64);
        self.steps.push(Taken {
            faults: step.faults.clone(),
            at_seconds: at.as_secs_f64(),
            hold_seconds: ended.duration_since(begun).as_secs_f64(),
            recovery_seconds,
        });
        let number: usize = self.steps.iter().map(|step| step.faults.len()).sum();
        eprintln!(
            "{:>6.1} s  {number:>4}  {name:<44} {:>5.1} s, recovered after {}",
            at.as_secs_f64(),
            step.hold.as_secs_f64(),
            recovery_seconds.map_or_else(|| "- not -".to_owned(), |seconds| format!("{seconds:.2} s")),
        );
        recovered
            .map(drop)
            .map_err(|missing| format!("{name}, {:.0} s after the first fault: {missing}", at.as_secs_f64()))
    }

    async fn pause(&self, length: Duration) {
        let _stopped = self.stop.run_until_cancelled(tokio::time::sleep(length)).await;
    }
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
