//! What a chaos run is told.

use std::path::PathBuf;

use super::faults::{Kind, Only, Target};
use super::schedule::{Schedule, Step};

/// What a step is expected to take besides hold and pause; where Cassandra is started again, more.
const STEP_SECONDS: u32 = 12;
const CASSANDRA_SECONDS: u32 = 40;
/// The load lasts longer than the faults are expected to, and is ended with them.
const SPARE_SECONDS: u32 = 300;

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

impl ChaosOptions {
    pub(super) fn command(&self, seed: u64) -> String {
        let only = self.only.as_ref().map(|only| format!(" --only {only}")).unwrap_or_default();
        let config = self.config.as_ref().map(|file| format!(" --config {}", file.display())).unwrap_or_default();
        let length = match self.minutes {
            Some(minutes) => format!("--minutes {minutes}"),
            None => format!("--faults {}", self.fault_count()),
        };
        format!("loadtest chaos --seed {seed} {length} --rate {}{only}{config}", self.rate)
    }

    pub(super) fn fault_count(&self) -> usize {
        match (self.minutes, self.faults) {
            (Some(_), _) => usize::MAX,
            (None, faults) => faults.unwrap_or(40) as usize,
        }
    }

    /// How long the load must last, by what the schedule holds.
    pub(super) fn load_seconds(&self, seed: u64, only: &Only) -> u32 {
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
