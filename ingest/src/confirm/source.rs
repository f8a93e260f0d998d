//! What is kept of one source whose provider is asked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use platform::counters::Counters;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::api::Answer;
use super::breaker::Breaker;
use crate::publisher::Publisher;

/// How a question ended; a label in metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Confirmed,
    Unknown,
    Unauthorized,
    Limited,
    Failed,
    TimedOut,
}

impl Ended {
    const ALL: [Self; 6] =
        [Self::Confirmed, Self::Unknown, Self::Unauthorized, Self::Limited, Self::Failed, Self::TimedOut];

    pub fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Found(_) => Self::Confirmed,
            Answer::Unknown => Self::Unknown,
            Answer::Unauthorized => Self::Unauthorized,
            Answer::Limited(_) => Self::Limited,
            Answer::Failed(_) | Answer::Unusable(_) => Self::Failed,
            Answer::TimedOut => Self::TimedOut,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unknown => "unknown",
            Self::Unauthorized => "unauthorized",
            Self::Limited => "limited",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Its way through RabbitMQ; closed when it is dropped.
pub struct Lane {
    /// To its own queue.
    pub claims: Publisher,
    begun: AtomicBool,
    stop: CancellationToken,
    _stop: [DropGuard; 2],
}

impl Lane {
    /// `stop` ends who asks, `link_stop` who publishes.
    pub fn new(claims: Publisher, stop: CancellationToken, link_stop: CancellationToken) -> Self {
        let guards = [stop.clone().drop_guard(), link_stop.drop_guard()];
        Self { claims, begun: AtomicBool::new(false), stop, _stop: guards }
    }

    /// For the first who would ask: what ends it.
    pub fn begin(&self) -> Option<CancellationToken> {
        (!self.begun.swap(true, Ordering::Relaxed)).then(|| self.stop.clone())
    }
}

/// Its bounds and metrics.
pub struct Asked {
    pub lane: Lane,
    /// Questions at once: of one batch, and there is one at a time.
    pub in_flight_max: usize,
    /// Questions by how they ended.
    pub fetches: Counters<Ended>,
    /// From a question to its answer.
    pub seconds: Histogram,
    /// From the webhook until what it is about is durable, or known to be nothing.
    pub settled_seconds: Histogram,
    /// Claims that wait for another try.
    pub deferred: Counter,
    breaker: Mutex<Breaker>,
    open: Gauge,
}

impl Asked {
    pub fn new(source: &str, in_flight_max: usize, lane: Lane) -> Self {
        describe_counter!(
            "tollgate_ingest_fetches_total",
            "Questions to a provider's API, by source and how they ended; all but confirmed and unknown are asked again."
        );
        describe_histogram!("tollgate_ingest_fetch_seconds", "Time from a question to a provider's API to its answer.");
        describe_histogram!(
            "tollgate_ingest_claim_seconds",
            "Time from a webhook that only names a payment until what happened is durable."
        );
        describe_counter!("tollgate_ingest_claims_deferred_total", "Claims put back into their queue for another try.");
        describe_gauge!(
            "tollgate_ingest_fetch_breaker_open",
            "1 while a provider's API is left alone because it fails again and again."
        );
        let label = || source.to_owned();
        Self {
            lane,
            in_flight_max,
            fetches: Counters::of(
                &Ended::ALL,
                |ended| counter!("tollgate_ingest_fetches_total", "source" => label(), "outcome" => ended.as_str()),
            ),
            seconds: histogram!("tollgate_ingest_fetch_seconds", "source" => label()),
            settled_seconds: histogram!("tollgate_ingest_claim_seconds", "source" => label()),
            deferred: counter!("tollgate_ingest_claims_deferred_total", "source" => label()),
            breaker: Mutex::default(),
            open: gauge!("tollgate_ingest_fetch_breaker_open", "source" => label()),
        }
    }

    /// Whether the API may be asked now; else how long to wait.
    pub fn admit(&self) -> Result<(), Duration> {
        self.breaker().admit(Instant::now())
    }

    /// Whether the API is left alone, but for one question now and then.
    pub fn is_left_alone(&self) -> bool {
        self.breaker().is_open()
    }

    /// Learns from an answer; every admitted question must come here.
    pub fn learn(&self, answer: &Answer) {
        let mut breaker = self.breaker();
        match answer {
            Answer::Found(_) | Answer::Unknown | Answer::Unusable(_) => breaker.succeeded(),
            Answer::Limited(wait) => breaker.failed(Instant::now(), Some(*wait)),
            Answer::Unauthorized | Answer::Failed(_) | Answer::TimedOut => breaker.failed(Instant::now(), None),
        }
        self.open.set(if breaker.is_open() { 1.0 } else { 0.0 });
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A source that is taken away has no API that is left alone.
impl Drop for Asked {
    fn drop(&mut self) {
        self.open.set(0.0);
    }
}
