//! Judging: what the threads recorded and what the audit found, put together into the report.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::audit::Audit;
use crate::client::{Latency, Recorder, Totals};
use crate::cpu::Bill;
use crate::facts::Run;
use crate::journal::Fate;
use crate::options::Options;
use crate::plan::Plan;
use crate::report::{LoadShape, Machine, Report};

/// What all threads recorded.
pub struct Results {
    latency: Latency,
    warm_up: Totals,
    pub measured: Totals,
    last_accepted: Duration,
    wrong: Vec<String>,
    wrong_count: u64,
}

impl Results {
    pub fn of(recorders: &[Arc<Mutex<Recorder>>]) -> Self {
        let mut results = Self {
            latency: Latency::default(),
            warm_up: Totals::default(),
            measured: Totals::default(),
            last_accepted: Duration::ZERO,
            wrong: Vec::new(),
            wrong_count: 0,
        };
        let mut latency = None;
        for recorder in recorders {
            let recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
            results.warm_up.merge(&recorder.warm_up);
            results.measured.merge(&recorder.measured);
            results.last_accepted = results.last_accepted.max(recorder.last_accepted);
            results.wrong.extend(recorder.wrong.iter().cloned());
            results.wrong_count += recorder.wrong_count;
            match &mut latency {
                None => latency = Some(recorder.latency.clone()),
                // All have the same bounds, so that nothing is too large to add.
                Some(sum) => drop(sum.add(&recorder.latency)),
            }
        }
        results.latency = latency.as_ref().map(Latency::of).unwrap_or_default();
        results
    }
}

/// Everything in one report. `lasted` is shorter than the schedule if the load was stopped.
pub fn judge(
    options: &Options,
    run: &Run,
    results: Results,
    audit: Audit,
    cpu: Bill,
    lasted: Duration,
    drained_after: Option<Duration>,
) -> Report {
    let Results { latency, warm_up, measured, last_accepted, wrong, wrong_count } = results;
    let mut failures = wrong;
    let mut failure_count = wrong_count + audit.findings.count;
    let events = 0..u32::try_from(run.schedule.event_count()).unwrap_or(u32::MAX);
    let unaccepted = events.filter(|event| {
        run.schedule.order_of(*event).plan != Plan::Forged && run.journal.fate(*event) == Fate::Uncertain
    });
    let unaccepted = unaccepted.count() as u64;
    if unaccepted > 0 && !options.expect_refusals {
        failures.push(format!("{unaccepted} events were refused until the end"));
        failure_count += unaccepted;
    }
    if drained_after.is_none() {
        failures.push(format!("not everything accepted was applied within {} s", options.drain_timeout));
        failure_count += 1;
    }
    failures.extend(audit.findings.first.iter().cloned());
    let measured_start = run.schedule.due_after(run.schedule.warm_up_slots());
    let seconds = lasted.saturating_sub(measured_start).as_secs_f64().max(0.001);
    let accepted_in = last_accepted.saturating_sub(measured_start).as_secs_f64().max(seconds);
    let count = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let statuses = measured.by_status.iter().chain(&warm_up.by_status);
    Report {
        clean: failure_count == 0,
        failures,
        failure_count,
        run: run.name.as_str().to_owned(),
        seed: run.seed,
        load: LoadShape {
            rate: options.rate,
            seconds: options.seconds,
            warm_up_seconds: options.warm_up,
            connections: options.connections,
            threads: options.threads,
        },
        offered_per_second: count(measured.requests) / seconds,
        accepted_per_second: count(measured.accepted_payments) / accepted_in,
        accepted: measured.accepted_payments,
        refused_5xx: statuses.filter(|(status, _)| **status >= 500).map(|(_, count)| count).sum(),
        unaccepted,
        latency,
        measured,
        warm_up,
        drained_after_seconds: drained_after.map(|after| after.as_secs_f64()),
        audit,
        cpu,
        flood: None,
        traces: None,
        limits: None,
        efficiency: None,
        machine: Machine::this(),
    }
}
