//! The progress line: what was sent and answered, every few seconds, on standard error.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::{Counters, Recorder};

/// Prints lines until dropped or aborted.
pub async fn print(every: Duration, counters: Arc<Counters>, recorders: Vec<Arc<Mutex<Recorder>>>, warm_up: Duration) {
    let start = Instant::now();
    let mut before = 0;
    let mut ticks = tokio::time::interval(every);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let acknowledged = Counters::read(&counters.acknowledged);
        let rate = f64::from(u32::try_from(acknowledged - before).unwrap_or(u32::MAX)) / every.as_secs_f64();
        before = acknowledged;
        let recent = take_recent(&recorders);
        let at = |quantile| recent.as_ref().map_or(0.0, |r| milliseconds(r.value_at_quantile(quantile)));
        let elapsed = start.elapsed();
        eprintln!(
            "{:>4} s{}  sent {:>9}  acknowledged {acknowledged:>9}  {rate:>7.0}/s  p50 {:>7.1} ms  p99 {:>7.1} ms  \
             in flight {:>4}  to send again {}",
            elapsed.as_secs(),
            if elapsed < warm_up { "  warm-up" } else { "" },
            Counters::read(&counters.sent),
            at(0.5),
            at(0.99),
            Counters::read(&counters.in_flight),
            Counters::read(&counters.waiting),
        );
    }
}

fn milliseconds(micros: u64) -> f64 {
    f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0
}

fn take_recent(recorders: &[Arc<Mutex<Recorder>>]) -> Option<Histogram<u32>> {
    let mut sum: Option<Histogram<u32>> = None;
    for recorder in recorders {
        let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut sum {
            // All have the same bounds, so that nothing is too large to add.
            Some(sum) => drop(sum.add(&recorder.recent)),
            None => sum = Some(recorder.recent.clone()),
        }
        recorder.recent.reset();
    }
    sum
}
