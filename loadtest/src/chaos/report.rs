//! The report of a chaos run: what was done, how long it took to recover, and what the audit says.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::faults::{Fault, Kind};
use crate::report::Report;

/// One step that was taken.
#[derive(Debug, Clone, Serialize)]
pub struct Taken {
    /// One fault, or two at once.
    pub faults: Vec<Fault>,
    /// Seconds since the first step.
    pub at_seconds: f64,
    /// How long it was held.
    pub hold_seconds: f64,
    /// From its end (started again, continued, link whole) until the system was itself again; absent if that was not
    /// seen.
    pub recovery_seconds: Option<f64>,
}

/// How long recovery took after the faults of one target, or of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Recovery {
    /// How many.
    pub steps: usize,
    /// Half of them took no longer.
    pub p50_seconds: f64,
    /// None took longer.
    pub max_seconds: f64,
}

/// The outcome of one chaos run.
#[derive(Debug, Clone, Serialize)]
pub struct ChaosReport {
    /// Whether nothing was lost, doubled or left over, and everything recovered.
    pub clean: bool,
    /// What failed, in words; those of the load are in `load.failures`.
    pub failures: Vec<String>,
    /// Decides every fault and the load.
    pub seed: u64,
    /// How to do the same again.
    pub command: String,
    /// All faults; a pair has two.
    pub faults: usize,
    /// SIGKILLs among them.
    pub kills: usize,
    /// Steps with two faults at once.
    pub pairs: usize,
    /// How long the faults lasted together, from the first to the last recovery.
    pub seconds: f64,
    /// Faults by target and kind.
    pub by_target: BTreeMap<&'static str, BTreeMap<&'static str, usize>>,
    /// Recovery times by target; steps with two faults are under `pairs`.
    pub recovery: BTreeMap<&'static str, Recovery>,
    /// Frames that were left in the queues after the programs had stopped.
    pub left_in_queues: u64,
    /// Every step, in order.
    pub steps: Vec<Taken>,
    /// The load and its audit.
    pub load: Report,
}

impl ChaosReport {
    /// Puts together what was done and found.
    pub fn of(
        seed: u64,
        command: String,
        steps: Vec<Taken>,
        lasted: Duration,
        load: Report,
        left_in_queues: u64,
        mut failures: Vec<String>,
    ) -> Self {
        if left_in_queues > 0 {
            failures.push(format!("{left_in_queues} frames are left in the queues"));
        }
        let all = || steps.iter().flat_map(|step| step.faults.iter());
        let mut by_target: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
        for fault in all() {
            *by_target.entry(fault.target.as_str()).or_default().entry(fault.kind.as_str()).or_default() += 1;
        }
        Self {
            clean: failures.is_empty() && load.clean,
            failures,
            seed,
            command,
            faults: all().count(),
            kills: all().filter(|fault| fault.kind == Kind::Kill).count(),
            pairs: steps.iter().filter(|step| step.faults.len() > 1).count(),
            seconds: lasted.as_secs_f64(),
            by_target,
            recovery: recovery(&steps),
            left_in_queues,
            steps,
            load,
        }
    }
}

fn recovery(steps: &[Taken]) -> BTreeMap<&'static str, Recovery> {
    let mut times: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for step in steps {
        let name = if let [fault] = step.faults[..] { fault.target.as_str() } else { "pairs" };
        times.entry(name).or_default().extend(step.recovery_seconds);
    }
    let of = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let at = |index: usize| times.get(index).copied().unwrap_or_default();
        let last = times.len().saturating_sub(1);
        Recovery { steps: times.len(), p50_seconds: at(last / 2), max_seconds: at(last) }
    };
    times.into_iter().map(|(name, times)| (name, of(times))).collect()
}

impl fmt::Display for ChaosReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.load)?;
        let Self { seed, faults, kills, pairs, seconds, .. } = self;
        writeln!(f, "\nchaos      {faults} faults ({kills} kills, {pairs} pairs) in {seconds:.0} s, seed {seed}")?;
        writeln!(f, "recovery    steps   p50 s   max s")?;
        for (name, Recovery { steps, p50_seconds, max_seconds }) in &self.recovery {
            let kinds = self.by_target.get(name).into_iter().flatten();
            let kinds: Vec<String> = kinds.map(|(kind, count)| format!("{kind} {count}")).collect();
            writeln!(f, "  {name:<15} {steps:>3} {p50_seconds:>7.2} {max_seconds:>7.2}   {}", kinds.join(", "))?;
        }
        let (measured, unaccepted) = (&self.load.measured, self.load.unaccepted);
        let refused =
            |range: std::ops::Range<u16>| -> u64 { measured.by_status.range(range).map(|(_, count)| count).sum() };
        writeln!(
            f,
            "providers  saw {} × 5xx, {} × 429, {} broken connections, {} time-outs; sent {} times again; {unaccepted} never taken",
            refused(500..600),
            refused(429..430),
            measured.broken,
            measured.timed_out,
            measured.retries
        )?;
        writeln!(f, "queues     {} frames left", self.left_in_queues)?;
        if self.clean {
            return writeln!(f, "outcome    clean: nothing lost, nothing applied twice, nothing left over");
        }
        writeln!(f, "outcome    FAILED")?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "  - {failure}"))?;
        writeln!(f, "again      {}", self.command)
    }
}

#[cfg(test)]
mod tests {
    use super::super::faults::Target;
    use super::*;

    #[test]
    fn recovery_is_told_by_target_and_pairs_apart() {
        let one = |target, recovery_seconds| Taken {
            faults: vec![Fault { kind: Kind::Kill, target }],
            at_seconds: 0.0,
            hold_seconds: 1.0,
            recovery_seconds,
        };
        let mut pair = one(Target::Writer, Some(9.0));
        pair.faults.push(Fault { kind: Kind::Cut, target: Target::CassandraLink });
        let times = [Some(3.0), Some(1.0), Some(2.0), None];
        let mut steps: Vec<Taken> = times.map(|time| one(Target::Writer, time)).into();
        steps.push(pair);
        let told = recovery(&steps);
        assert_eq!(told.get("writer"), Some(&Recovery { steps: 3, p50_seconds: 2.0, max_seconds: 3.0 }));
        assert_eq!(told.get("pairs"), Some(&Recovery { steps: 1, p50_seconds: 9.0, max_seconds: 9.0 }));
        assert_eq!(told.len(), 2);
    }
}
