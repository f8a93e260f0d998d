//! The gateway's metrics, registered once with every label they can have, so that no request can add a series.

use domain::signature::{Refusal, Secret};
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use platform::amqp::PublishError;
use platform::counters::Counters;
use platform::tls::{Certificate, Handshake};

use crate::answer::Outcome;

/// Metrics of one source.
pub struct SourceMetrics {
    /// Requests by how they ended.
    pub requests: Counters<Outcome>,
    /// Those whose signature was refused, by why.
    pub refusals: Counters<Refusal>,
    accepted: Counter,
    claimed: Counter,
    no_change: Counter,
    quarantined: Counter,
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
            requests: Counters::of(
                &Outcome::ALL,
                |outcome| counter!("tollgate_ingest_requests_total", "source" => label(), "outcome" => outcome.as_str()),
            ),
            refusals: Counters::of(
                &Refusal::ALL,
                |refusal| counter!("tollgate_ingest_refusals_total", "source" => label(), "reason" => refusal.as_str()),
            ),
            accepted: events("accepted"),
            claimed: events("claimed"),
            no_change: events("no_change"),
            quarantined: events("quarantined"),
            ack_seconds: histogram!("tollgate_ingest_ack_seconds", "source" => label()),
        }
    }

    /// Counts items that are durable now.
    pub fn count(&self, items: &Counts) {
        self.accepted.increment(items.accepted);
        self.claimed.increment(items.claimed);
        self.no_change.increment(items.no_change);
        self.quarantined.increment(items.quarantined);
    }
}

/// What became of the items of a request.
#[derive(Default)]
pub struct Counts {
    /// Payment events accepted.
    pub accepted: u64,
    /// Items that only name a payment: its provider is asked.
    pub claimed: u64,
    /// Items that carry no payment change.
    pub no_change: u64,
    /// Items put into quarantine.
    pub quarantined: u64,
}

/// Metrics of one secret of a source, by its label.
pub struct SecretMetrics {
    configured: Gauge,
    verified: Counter,
    last_verified: Gauge,
}

impl SecretMetrics {
    pub fn new(source: &str, label: &str, secret: &Secret) -> Self {
        describe_gauge!(
            "tollgate_ingest_secret_configured",
            "1 where the secret of this label is configured, 0 after it was taken away."
        );
        describe_counter!(
            "tollgate_ingest_secret_verified_total",
            "Requests whose signature this secret verified; those of several items by the last of them."
        );
        describe_gauge!(
            "tollgate_ingest_secret_last_verified_timestamp_seconds",
            "Unix time of the last request that the secret verified; 0: none since the start."
        );
        describe_gauge!(
            "tollgate_ingest_secret_not_before_timestamp_seconds",
            "Unix time from which the secret may be used; 0 where nothing limits it."
        );
        describe_gauge!(
            "tollgate_ingest_secret_not_after_timestamp_seconds",
            "Unix time up to which the secret may be used, by its configuration and its certificate; +Inf where nothing limits it."
        );
        let gauge_of = |name: &'static str| gauge!(name, "source" => source.to_owned(), "secret" => label.to_owned());
        let (not_before, not_after) = secret.window();
        gauge_of("tollgate_ingest_secret_not_before_timestamp_seconds").set(not_before.map_or(0.0, unix));
        gauge_of("tollgate_ingest_secret_not_after_timestamp_seconds").set(not_after.map_or(f64::INFINITY, unix));
        let labels = [("source", source.to_owned()), ("secret", label.to_owned())];
        let metrics = Self {
            configured: gauge_of("tollgate_ingest_secret_configured"),
            verified: counter!("tollgate_ingest_secret_verified_total", &labels),
            last_verified: gauge_of("tollgate_ingest_secret_last_verified_timestamp_seconds"),
        };
        metrics.configured.set(1.0);
        metrics
    }

    pub fn verified(&self, now_unix: i64) {
        self.verified.increment(1);
        self.last_verified.set(unix(now_unix));
    }

    /// The secret is not configured any more.
    pub fn taken_away(&self) {
        self.configured.set(0.0);
    }
}

/// Seconds are whole numbers far below what a float holds exactly.
#[allow(clippy::cast_precision_loss)]
fn unix(seconds: i64) -> f64 {
    seconds as f64
}

/// Metrics of reading the configuration again.
pub struct ReloadMetrics {
    applied: Counter,
    /// Nothing changed.
    refused: Counter,
    refused_last: Gauge,
}

impl ReloadMetrics {
    pub fn new() -> Self {
        describe_counter!(
            "tollgate_ingest_reloads_total",
            "Times that the configuration was read again on SIGHUP, by outcome: refused ones changed nothing."
        );
        describe_gauge!(
            "tollgate_ingest_reload_refused",
            "1 from a configuration that was refused on SIGHUP until one is taken, or the gateway starts with one."
        );
        let outcome = |outcome| counter!("tollgate_ingest_reloads_total", "outcome" => outcome);
        let refused_last = gauge!("tollgate_ingest_reload_refused");
        refused_last.set(0.0);
        Self { applied: outcome("applied"), refused: outcome("refused"), refused_last }
    }

    /// Counts how a configuration was taken.
    pub fn count(&self, is_applied: bool) {
        if is_applied { &self.applied } else { &self.refused }.increment(1);
        self.refused_last.set(if is_applied { 0.0 } else { 1.0 });
    }
}

/// Metrics of the public listener's TLS.
pub struct TlsMetrics {
    /// Handshakes by how they ended.
    pub handshakes: Counters<Handshake>,
    not_after: Gauge,
}

impl TlsMetrics {
    pub fn new() -> Self {
        describe_counter!(
            "tollgate_ingest_tls_handshakes_total",
            "TLS handshakes of the public listener, by outcome: done, or why not."
        );
        describe_gauge!(
            "tollgate_ingest_certificate_not_after_timestamp_seconds",
            "Unix time at which the public listener's certificate, or the first of its chain, ends; +Inf where it is plain HTTP."
        );
        let not_after = gauge!("tollgate_ingest_certificate_not_after_timestamp_seconds");
        not_after.set(f64::INFINITY);
        Self {
            handshakes: Counters::of(
                &Handshake::ALL,
                |outcome| counter!("tollgate_ingest_tls_handshakes_total", "outcome" => outcome.as_str()),
            ),
            not_after,
        }
    }

    /// This one is shown from now on.
    pub fn shows(&self, certificate: &Certificate) {
        self.not_after.set(unix(certificate.not_after));
    }
}

/// Requests for which the proxy's own address stands.
pub fn unnamed_clients() -> Counter {
    describe_counter!(
        "tollgate_ingest_unnamed_clients_total",
        "Requests that a trusted proxy handed on without a client's address: its own stands for it."
    );
    counter!("tollgate_ingest_unnamed_clients_total")
}

/// Requests under way.
pub fn in_flight() -> Gauge {
    describe_gauge!("tollgate_ingest_in_flight", "Requests under way.");
    gauge!("tollgate_ingest_in_flight")
}

/// Metrics of publishing.
#[derive(Clone)]
pub struct PublishMetrics {
    /// Frames that were not taken, by why.
    pub errors: Counters<PublishError>,
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
            errors: Counters::of(
                &PublishError::ALL,
                |error| counter!("tollgate_ingest_publish_errors_total", "reason" => error.as_str()),
            ),
            frame_size: histogram!("tollgate_ingest_frame_size"),
            confirm_seconds: histogram!("tollgate_ingest_confirm_seconds"),
        }
    }
}
