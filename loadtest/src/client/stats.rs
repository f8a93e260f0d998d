//! Counting: a few shared numbers for the progress line, and one recorder a thread for everything else.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::{CreationError, Histogram};
use serde::Serialize;

use super::outcome::Outcome;

/// What the progress line shows, counted by all threads.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests sent for the first time.
    pub sent: AtomicU64,
    /// Events acknowledged.
    pub acknowledged: AtomicU64,
    /// Requests without an answer yet.
    pub in_flight: AtomicU64,
    /// Requests that wait to be sent again.
    pub waiting: AtomicU64,
}

impl Counters {
    pub fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    pub fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn subtract(counter: &AtomicU64) {
        counter.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts of answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Answers by status, attempts of every request counted.
    pub by_status: BTreeMap<u16, u64>,
    /// Attempts whose connection broke.
    pub broken: u64,
    /// Attempts without an answer in time.
    pub timed_out: u64,
    /// Requests sent for the first time.
    pub requests: u64,
    /// Attempts to send a request again.
    pub retries: u64,
    /// Payment events acknowledged, each once.
    pub accepted_payments: u64,
    /// All events acknowledged, those of no payment too.
    pub accepted_events: u64,
    /// Forged events that were turned away.
    pub refused_forgeries: u64,
}

impl Totals {
    pub(super) fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Answered { status, .. } => *self.by_status.entry(status).or_default() += 1,
            Outcome::Broken => self.broken += 1,
            Outcome::TimedOut => self.timed_out += 1,
        }
    }

    /// Adds another thread's counts.
    pub fn merge(&mut self, other: &Self) {
        for (status, count) in &other.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
        self.broken += other.broken;
        self.timed_out += other.timed_out;
        self.requests += other.requests;
        self.retries += other.retries;
        self.accepted_payments += other.accepted_payments;
        self.accepted_events += other.accepted_events;
        self.refused_forgeries += other.refused_forgeries;
    }
}

/// Percentiles of the time from due to answered, milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Half were answered within it.
    pub p50_ms: f64,
    /// Nine of ten.
    pub p90_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1,000.
    pub p999_ms: f64,
    /// All.
    pub max_ms: f64,
}

impl Latency {
    /// Reads a histogram of microseconds.
    pub fn of(histogram: &Histogram<u32>) -> Self {
        let ms = |micros: u64| f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1000.0;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self { p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), p999_ms: at(0.999), max_ms: ms(histogram.max()) }
    }
}

/// What one thread records.
#[derive(Debug)]
pub struct Recorder {
    /// The measured part only.
    pub latency: Histogram<u32>,
    /// Since the last progress line.
    pub recent: Histogram<u32>,
    pub warm_up: Totals,
    pub measured: Totals,
    /// When the last measured event was acknowledged, from the start of the load.
    pub last_accepted: Duration,
    /// Answers that must never come, in words; the first of them.
    pub wrong: Vec<String>,
    pub wrong_count: u64,
}

impl Recorder {
    pub fn new() -> Result<Self, CreationError> {
        // Three digits, from a microsecond to two minutes; longer counts as two minutes.
        let histogram = Histogram::new_with_bounds(1, 120_000_000, 3)?;
        Ok(Self {
            latency: histogram.clone(),
            recent: histogram,
            warm_up: Totals::default(),
            measured: Totals::default(),
            last_accepted: Duration::ZERO,
            wrong: Vec::new(),
            wrong_count: 0,
        })
    }
}
