//! The gateway's metrics, registered once with every label they can have, so that no request can add a series.

use domain::signature::Refusal;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use platform::amqp::PublishError;

use crate::answer::Outcome;

/// Metrics of one source.
pub struct SourceMetrics {
    requests: Vec<(Outcome, Counter)>,
    refusals: Vec<(Refusal, Counter)>,
    /// Payment events accepted.
    pub accepted: Counter,
    /// Items that carry no payment change.
    pub no_change: Counter,
    /// Items put into quarantine.
    pub quarantined: Counter,
    /// From the first byte of the request to the answer, of those accepted.
    pub ack_seconds: Histogram,
}

impl SourceMetrics {
    pub fn new(source: &str) -> Self {
        describe_counter!("tollgate_ingest_requests_total", "Webhook requests by source and outcome.");
        describe_counter!(
            "tollgate_ingest_refusals_total",
            "Requests whose signature was refused, by source and reason."
        );
        describe_counter!(
            "tollgate_ingest_events_total",
            "Items of accepted requests, by source and what became of them."
        );
        describe_histogram!("tollgate_ingest_ack_seconds", "Time from a request's header to its 2xx.");
        let label = || source.to_owned();
        let events = |outcome| counter!("tollgate_ingest_events_total", "source" => label(), "outcome" => outcome);
        Self {
            requests: Outcome::ALL
                .into_iter()
                .map(|outcome| {
                    let name = outcome.as_str();
                    (outcome, counter!("tollgate_ingest_requests_total", "source" => label(), "outcome" => name))
                })
                .collect(),
            refusals: Refusal::ALL
                .into_iter()
                .map(|refusal| {
                    let name = refusal.as_str();
                    (refusal, counter!("tollgate_ingest_refusals_total", "source" => label(), "reason" => name))
                })
                .collect(),
            accepted: events("accepted"),
            no_change: events("no_change"),
            quarantined: events("quarantined"),
            ack_seconds: histogram!("tollgate_ingest_ack_seconds", "source" => label()),
        }
    }

    pub fn count(&self, outcome: Outcome) {
        self.requests.iter().filter(|(o, _)| *o == outcome).for_each(|(_, counter)| counter.increment(1));
    }

    pub fn refuse(&self, refusal: Refusal) {
        self.refusals.iter().filter(|(r, _)| *r == refusal).for_each(|(_, counter)| counter.increment(1));
    }
}

/// Requests under way.
pub fn in_flight() -> Gauge {
    describe_gauge!("tollgate_ingest_in_flight", "Requests under way.");
    gauge!("tollgate_ingest_in_flight")
}

/// Metrics of publishing.
#[derive(Clone)]
pub struct PublishMetrics {
    errors: Vec<(PublishError, Counter)>,
    /// Records a frame.
    pub frame_size: Histogram,
    /// From publish to confirm.
    pub confirm_seconds: Histogram,
}

impl PublishMetrics {
    pub fn new() -> Self {
        describe_counter!("tollgate_ingest_publish_errors_total", "Frames that RabbitMQ did not take, by reason.");
        describe_histogram!("tollgate_ingest_frame_size", "Records in a frame.");
        describe_histogram!("tollgate_ingest_confirm_seconds", "Time from a frame's publish to its confirm.");
        Self {
            errors: PublishError::ALL
                .into_iter()
                .map(|error| (error, counter!("tollgate_ingest_publish_errors_total", "reason" => error.as_str())))
                .collect(),
            frame_size: histogram!("tollgate_ingest_frame_size"),
            confirm_seconds: histogram!("tollgate_ingest_confirm_seconds"),
        }
    }

    pub fn fail(&self, error: PublishError) {
        self.errors.iter().filter(|(e, _)| *e == error).for_each(|(_, counter)| counter.increment(1));
    }
}
