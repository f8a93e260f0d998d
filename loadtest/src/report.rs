//! The report: what was asked, what happened, what it cost, and whether everything is where it must be.

use std::fmt;

use serde::Serialize;

use crate::audit::Audit;
use crate::client::{Latency, Totals};
use crate::cpu::Bill;
use crate::flood::Flood;
use crate::limits::Limits;
use crate::traces::Traces;

/// The outcome of one load test.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whether every check passed.
    pub clean: bool,
    /// What failed, in words; the first of each kind.
    pub failures: Vec<String>,
    /// How many checks failed.
    pub failure_count: u64,
    /// The run's name, part of every id it sent.
    pub run: String,
    /// Decides every choice of the load.
    pub seed: u64,
    /// What was asked for.
    pub load: LoadShape,
    /// Requests sent for the first time, a second of the measured load.
    pub offered_per_second: f64,
    /// Payment events acknowledged, a second of the measured load (until the last of them, if that was later).
    pub accepted_per_second: f64,
    /// Payment events acknowledged in the measured load, each once.
    pub accepted: u64,
    /// Answers of 5xx, warm-up included.
    pub refused_5xx: u64,
    /// Events of the whole run that were never acknowledged.
    pub unaccepted: u64,
    /// Time from due to answered, of measured requests that were accepted at their first attempt.
    pub latency: Latency,
    /// Counts of the measured load.
    pub measured: Totals,
    /// Counts of the warm-up.
    pub warm_up: Totals,
    /// From the end of the schedule until all that was accepted was applied; absent if that was not seen in time.
    pub drained_after_seconds: Option<f64>,
    /// What became of the flood of forgeries, if one was asked for.
    pub flood: Option<Flood>,
    /// What the stores hold.
    pub audit: Audit,
    /// CPU from the start of the measured load until drained.
    pub cpu: Bill,
    /// Where traced events spent their time, if the load test was the programs' collector.
    pub traces: Option<Traces>,
    /// Raw costs of the steps on the same services, if asked for.
    pub limits: Option<Limits>,
    /// The raw costs' sum over the measured cost: 1 would be a pipeline that costs nothing itself.
    pub efficiency: Option<f64>,
    /// Where it ran.
    pub machine: Machine,
}

/// What was asked for.
#[derive(Debug, Clone, Serialize)]
pub struct LoadShape {
    /// Requests a second.
    pub rate: u32,
    /// Length of the measured load.
    pub seconds: u32,
    /// Length of the warm-up.
    pub warm_up_seconds: u32,
    /// Connections.
    pub connections: u16,
    /// Sending threads.
    pub threads: u16,
}

/// Where a load test ran.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// CPUs that this process may use.
    pub cores: usize,
    /// Their model.
    pub cpu: String,
    /// How the generator was built.
    pub build: &'static str,
}

impl Machine {
    /// This machine.
    #[must_use]
    pub fn this() -> Self {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cpu: model.map_or_else(|| "unknown".to_owned(), |(_, model)| model.trim().to_owned()),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LoadShape { rate, seconds, warm_up_seconds, connections, threads } = self.load;
        let Machine { cores, cpu, build } = &self.machine;
        writeln!(f, "\nrun        {} (seed {}), {cores} cores, {cpu}, {build} build", self.run, self.seed)?;
        writeln!(
            f,
            "load       {rate}/s for {seconds} s after {warm_up_seconds} s of warm-up, \
             {connections} connections, {threads} thread(s)"
        )?;
        writeln!(f, "offered    {:.0} webhooks/s", self.offered_per_second)?;
        writeln!(f, "accepted   {:.0} payment events/s, {} in all", self.accepted_per_second, self.accepted)?;
        write!(f, "answers    ")?;
        for (status, count) in &self.measured.by_status {
            write!(f, "{status}: {count}  ")?;
        }
        let Totals { broken, timed_out, retries, refused_forgeries, .. } = &self.measured;
        writeln!(
            f,
            "broken: {broken}  timed out: {timed_out}  sent again: {retries}  forgeries refused: {refused_forgeries}"
        )?;
        let Latency { p50_ms, p90_ms, p99_ms, p999_ms, max_ms } = self.latency;
        writeln!(
            f,
            "latency    p50 {p50_ms:.1} ms  p90 {p90_ms:.1}  p99 {p99_ms:.1}  p99.9 {p999_ms:.1}  max {max_ms:.1}"
        )?;
        if let Some(flood) = &self.flood {
            write!(f, "{flood}")?;
        }
        match self.drained_after_seconds {
            Some(seconds) => writeln!(f, "drained    {seconds:.1} s after the end of the schedule")?,
            None => writeln!(f, "drained    not in time")?,
        }
        write!(f, "{}", self.cpu)?;
        if let Some(traces) = &self.traces {
            write!(f, "{traces}")?;
        }
        if let Some(limits) = &self.limits {
            write!(f, "{limits}")?;
        }
        if let Some(efficiency) = self.efficiency {
            writeln!(f, "efficiency {:.0} % (raw costs over measured cost)", efficiency * 100.0)?;
        }
        for (index, (name, count)) in self.audit.looked_at.iter().enumerate() {
            writeln!(f, "{:<10} {count:>9} {name}", if index == 0 { "looked at" } else { "" })?;
        }
        if self.clean {
            return writeln!(f, "audit      clean");
        }
        writeln!(f, "audit      FAILED: {} differences", self.failure_count)?;
        self.failures.iter().try_for_each(|failure| writeln!(f, "  - {failure}"))
    }
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "CPU        µs a payment      seconds of {:.1} s", self.window_seconds)?;
        for line in &self.lines {
            match (line.us_per_payment, line.cpu_seconds) {
                (Some(us), Some(seconds)) => writeln!(f, "  {:<12} {us:>10.1} {seconds:>12.2}", line.process)?,
                _ => writeln!(f, "  {:<12} {}", line.process, line.note.as_deref().unwrap_or_default())?,
            }
        }
        writeln!(f, "  {:<12} {:>10.1} {:>12.2}", "sum", self.us_per_payment, self.cpu_seconds)?;
        writeln!(f, "  {:<12} {:>23.2}", "machine", self.machine_busy_seconds)
    }
}
