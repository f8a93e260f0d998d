//! One schedule: a seed decides the configuration, the story, the faults and every interleaving.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use domain::Currency;
use platform::config::{Config, parse};
use serde::Serialize;

use crate::chaos;
use crate::check::check;
use crate::planted::Planted;
use crate::programs::Programs;
use crate::provider;
use crate::seeded::Seeded;
use crate::story::Story;
use crate::world::World;

/// Virtual time in which everything must come to rest after the last fault.
const REST_WITHIN_MS: i64 = 120_000;

/// How a schedule ended.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// What it can be replayed by.
    pub seed: u64,
    /// Payment events of its story.
    pub events: usize,
    /// What part of the contract was broken, if any.
    pub violation: Option<String>,
    /// What happened, a line each, if it was traced.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trace: Vec<String>,
}

/// Why a schedule cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The embedded configuration is not valid.
    #[error(transparent)]
    Config(#[from] platform::config::ConfigError),
    /// No runtime.
    #[error("cannot start a runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// A currency that every version knows is not known.
    #[error("EUR or USD is not known")]
    Currency,
}

/// Runs the schedule of a seed, on a runtime and a clock of its own.
///
/// # Errors
/// [`RunError`]; a broken contract is no error but in the outcome.
pub fn run(seed: u64, planted: Option<Planted>, traced: bool) -> Result<Outcome, RunError> {
    static DEFAULTS: OnceLock<Config> = OnceLock::new();
    let defaults = match DEFAULTS.get() {
        Some(defaults) => defaults,
        None => {
            let parsed = parse("defaults", "", &BTreeMap::new())?;
            DEFAULTS.get_or_init(|| parsed)
        }
    };
    let [Ok(eur), Ok(usd)] = ["EUR", "USD"].map(Currency::parse) else { return Err(RunError::Currency) };
    let mut seeded = Seeded::new(seed);
    platform::retry::replay(seeded.next());
    let config = configure(defaults.clone(), &mut seeded);
    let story = Story::of(&mut seeded, eur, usd);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    Ok(runtime.block_on(async {
        let world = World::new(seeded, config, story, planted, traced);
        let programs = Programs::start(&world);
        let open = provider::begin(&world, &programs);
        chaos::rage(&world, &programs).await;
        let violation = loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if let Some(violation) = world.violation() {
                break Some(violation);
            }
            let unrest = if open.is_none() { world.unrest() } else { Some("a provider or the shop waits".to_owned()) };
            let wrong = unrest.map(|unrest| format!("no rest: {unrest}")).or_else(|| check(&world).err());
            match wrong {
                None => break None,
                Some(wrong) if world.elapsed_ms() > REST_WITHIN_MS => break Some(wrong),
                Some(_) => {}
            }
        };
        if let Some(violation) = &violation {
            world.violate(|| violation.clone());
        }
        Outcome { seed, events: world.story.events.len(), violation, trace: world.take_trace() }
    }))
}

/// Small limits, so that they are met.
fn configure(mut config: Config, seeded: &mut Seeded) -> Config {
    let mut of = |choices: &[u32]| choices[seeded.index(choices.len())];
    let size = |value: u32| usize::try_from(value).unwrap_or(1);
    let short = |value: u32| u16::try_from(value).unwrap_or(1);
    config.rabbitmq.shards = short(of(&[1, 2, 3]));
    config.rabbitmq.frame_bytes_max = size(of(&[300, 800, 2000, 8000]));
    config.rabbitmq.publishes_in_flight_max = size(of(&[1, 2, 4]));
    config.rabbitmq.confirm_timeout_ms = of(&[500, 2000]).into();
    config.rabbitmq.delivery_limit = i32::try_from(of(&[1, 20, 20, 20, 20, 20, 20, 20])).unwrap_or(20);
    config.writer.prefetch_frames = short(of(&[1, 3, 16]));
    config.writer.flush_ms = of(&[1, 20, 200]).into();
    config.writer.flush_rows_max = size(of(&[1, 4, 100]));
    config.writer.batch_rows_max = size(of(&[1, 2, 20]));
    config.writer.batch_bytes_max = size(of(&[300, 10_000]));
    config.writer.batches_in_flight_max = size(of(&[1, 2, 8]));
    config.reconciler.prefetch_frames = short(of(&[1, 3, 16]));
    config.reconciler.flush_ms = of(&[1, 20, 200]).into();
    config.reconciler.flush_rows_max = size(of(&[1, 4, 100]));
    config.reconciler.parked_poll_ms = of(&[100, 500]).into();
    config
}
