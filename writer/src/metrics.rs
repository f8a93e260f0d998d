//! The writer's metrics, registered once with every label they can have.

use std::collections::BTreeMap;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use platform::cassandra::Trouble;
use platform::counters::Counters;

/// The writer's metrics.
pub struct Metrics {
    rows: BTreeMap<String, Counter>,
    /// Events of a region that is no longer configured.
    other: Counter,
    /// Bodies put into quarantine.
    pub quarantined: Counter,
    /// From the gateway's publish to the row in Cassandra, the slowest of a batch.
    pub stored_seconds: Histogram,
    /// Rows of a flush.
    pub flush_size: Histogram,
    /// Time of a flush, from its start to the last confirm.
    pub flush_seconds: Histogram,
}

impl Metrics {
    pub fn new(regions: &[String]) -> Self {
        describe_counter!("tollgate_writer_rows_total", "Payment events stored in Cassandra, by region.");
        describe_counter!("tollgate_writer_quarantined_total", "Bodies stored in the quarantine table.");
        describe_histogram!(
            "tollgate_writer_stored_seconds",
            "Time from the gateway's queueing of a frame to its rows in Cassandra."
        );
        describe_histogram!("tollgate_writer_flush_size", "Records of a flush.");
        describe_histogram!(
            "tollgate_writer_flush_seconds",
            "Time of a flush: Cassandra writes and confirms of stored frames."
        );
        let rows = |region: &str| counter!("tollgate_writer_rows_total", "region" => region.to_owned());
        Self {
            rows: regions.iter().map(|region| (region.clone(), rows(region))).collect(),
            other: rows("other"),
            quarantined: counter!("tollgate_writer_quarantined_total"),
            stored_seconds: histogram!("tollgate_writer_stored_seconds"),
            flush_size: histogram!("tollgate_writer_flush_size"),
            flush_seconds: histogram!("tollgate_writer_flush_seconds"),
        }
    }

    pub fn stored(&self, region: &str, rows: usize) {
        self.rows.get(region).unwrap_or(&self.other).increment(rows as u64);
    }
}

/// Metrics of requests to Cassandra.
pub struct StoreMetrics {
    /// Rows of a batch.
    pub batch_size: Histogram,
    /// Time of a batch.
    pub batch_seconds: Histogram,
    /// Batches under way.
    pub in_flight: Gauge,
    /// Requests that are tried again, by what was wrong.
    pub retries: Counters<Trouble>,
    /// Rows that Cassandra refuses.
    pub refused: Counter,
}

impl StoreMetrics {
    pub fn new(in_flight_max: usize) -> Self {
        describe_histogram!("tollgate_writer_batch_size", "Rows of a Cassandra batch, all of one partition.");
        describe_histogram!("tollgate_writer_batch_seconds", "Time of a Cassandra batch.");
        describe_counter!(
            "tollgate_writer_retries_total",
            "Cassandra requests that were tried again, by what was wrong."
        );
        describe_gauge!("tollgate_writer_batches_in_flight", "Cassandra batches under way.");
        describe_gauge!(
            "tollgate_writer_batches_in_flight_max",
            "Cassandra batches that may be under way for one queue."
        );
        gauge!("tollgate_writer_batches_in_flight_max")
            .set(f64::from(u32::try_from(in_flight_max).unwrap_or(u32::MAX)));
        describe_counter!("tollgate_writer_refused_total", "Rows that Cassandra refuses for good.");
        Self {
            batch_size: histogram!("tollgate_writer_batch_size"),
            batch_seconds: histogram!("tollgate_writer_batch_seconds"),
            in_flight: gauge!("tollgate_writer_batches_in_flight"),
            retries: Counters::of(
                &Trouble::ALL,
                |trouble| counter!("tollgate_writer_retries_total", "error" => trouble.as_str()),
            ),
            refused: counter!("tollgate_writer_refused_total"),
        }
    }
}
