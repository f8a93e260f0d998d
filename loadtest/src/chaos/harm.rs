//! Doing the harm: step after step, each held, undone and recovered from.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::faults::Fault;
use super::schedule::{Schedule, Step};
use super::world::World;
use super::{ChaosError, Taken, recovery};
use crate::client::Counters;
use crate::run::Control;

/// The one who does the harm.
pub struct Harm<'a> {
    pub world: &'a World,
    pub control: &'a Control,
    /// No more harm.
    pub stop: &'a CancellationToken,
    pub steps: Vec<Taken>,
    /// What was not survived, in words.
    pub failures: Vec<String>,
    /// When the first step was taken.
    pub start: Instant,
}

impl Harm<'_> {
    /// Takes step after step, until there were enough faults, time is up, or something does not recover.
    pub async fn run(&mut self, schedule: Schedule, faults: usize, end: Instant) {
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
