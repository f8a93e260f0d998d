//! The reconciler's metrics, registered once with every label they can have.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::breaks;
use crate::sweep::Tally;

/// The reconciler's metrics.
pub struct Metrics {
    /// Events merged into a payment.
    pub applied: Counter,
    /// Events put aside until their order is known.
    pub parked_total: Counter,
    /// Changes of an order's status.
    pub transitions: Counter,
    /// Transactions tried again after a conflict.
    pub conflicts: Counter,
    /// From the row in Cassandra to the commit in Postgres, the slowest of a batch.
    pub applied_seconds: Histogram,
    /// From the gateway to the commit in Postgres.
    pub received_applied_seconds: Histogram,
    /// Time of a transaction.
    pub transaction_seconds: Histogram,
    /// Events of a transaction.
    pub transaction_size: Histogram,
    /// Time of writing the shop's view for a batch.
    pub projection_seconds: Histogram,
    /// Events that wait now.
    pub parked: Gauge,
    /// Age of the event that waits longest.
    pub parked_age: Gauge,
    /// By kind: how many, and the age of the oldest.
    breaks: Vec<(&'static str, Gauge, Gauge)>,
    /// Lanes of days that sweeps have yet to finish.
    pub sweep_pending: Gauge,
    sweeps: Counter,
    swept_events: Counter,
    sweep_found: [Counter; 5],
}

impl Default for Metrics {
    fn default() -> Self {
        describe_counter!("tollgate_reconciler_events_total", "Stored events by what became of them.");
        describe_counter!("tollgate_reconciler_transitions_total", "Changes of an order's status.");
        describe_counter!(
            "tollgate_reconciler_conflicts_total",
            "Transactions that were tried again after a conflict."
        );
        describe_histogram!(
            "tollgate_reconciler_stored_applied_seconds",
            "Time from a stored event to its commit in Postgres."
        );
        describe_histogram!(
            "tollgate_reconciler_received_applied_seconds",
            "Time from an event's arrival at the gateway to its commit in Postgres."
        );
        describe_histogram!("tollgate_reconciler_transaction_seconds", "Time of a transaction.");
        describe_histogram!("tollgate_reconciler_transaction_size", "Events of a transaction.");
        describe_histogram!("tollgate_reconciler_projection_seconds", "Time of writing the shop's view for a batch.");
        describe_gauge!("tollgate_reconciler_parked", "Events that wait for their order or payment.");
        describe_gauge!("tollgate_reconciler_parked_age_seconds", "Age of the parked event that waits longest.");
        describe_gauge!("tollgate_reconciler_breaks", "Open differences, by kind.");
        describe_gauge!("tollgate_reconciler_breaks_age_seconds", "Age of the oldest open difference, by kind.");
        describe_counter!("tollgate_reconciler_sweep_lanes_total", "Lanes of days that a sweep finished.");
        describe_gauge!("tollgate_reconciler_sweep_pending_lanes", "Lanes of days that sweeps have yet to finish.");
        describe_counter!("tollgate_reconciler_sweep_events_total", "Events that sweeps compared.");
        describe_counter!("tollgate_reconciler_sweep_found_total", "Differences that sweeps found, by what they are.");
        Self {
            applied: counter!("tollgate_reconciler_events_total", "outcome" => "applied"),
            parked_total: counter!("tollgate_reconciler_events_total", "outcome" => "parked"),
            transitions: counter!("tollgate_reconciler_transitions_total"),
            conflicts: counter!("tollgate_reconciler_conflicts_total"),
            applied_seconds: histogram!("tollgate_reconciler_stored_applied_seconds"),
            received_applied_seconds: histogram!("tollgate_reconciler_received_applied_seconds"),
            transaction_seconds: histogram!("tollgate_reconciler_transaction_seconds"),
            transaction_size: histogram!("tollgate_reconciler_transaction_size"),
            projection_seconds: histogram!("tollgate_reconciler_projection_seconds"),
            parked: gauge!("tollgate_reconciler_parked"),
            parked_age: gauge!("tollgate_reconciler_parked_age_seconds"),
            sweep_pending: gauge!("tollgate_reconciler_sweep_pending_lanes"),
            sweeps: counter!("tollgate_reconciler_sweep_lanes_total"),
            swept_events: counter!("tollgate_reconciler_sweep_events_total"),
            sweep_found: ["event", "payment_row", "order", "view_row", "break"]
                .map(|found| counter!("tollgate_reconciler_sweep_found_total", "found" => found)),
            breaks: breaks::KINDS
                .map(|kind| {
                    let age = gauge!("tollgate_reconciler_breaks_age_seconds", "kind" => kind);
                    (kind, gauge!("tollgate_reconciler_breaks", "kind" => kind), age)
                })
                .into(),
        }
    }
}

impl Metrics {
    /// Counts a finished lane of a sweep.
    pub fn swept(&self, tally: &Tally) {
        self.sweeps.increment(1);
        self.swept_events.increment(tally.events);
        let Tally { missed_events, payment_rows, orders, view_rows, breaks, .. } = *tally;
        let found = [missed_events, payment_rows, orders, view_rows, breaks];
        self.sweep_found.iter().zip(found).for_each(|(counter, count)| counter.increment(count));
    }

    /// Sets the open breaks by kind, with how many seconds ago the oldest was first seen; a kind that is not listed has
    /// none.
    pub fn set_breaks(&self, open: &[(String, i64, f64)]) {
        for (kind, count, age) in &self.breaks {
            let (open, oldest) = open.iter().find(|(k, ..)| k == kind).map_or((0, 0.0), |(_, open, age)| (*open, *age));
            count.set(f64::from(u32::try_from(open).unwrap_or(u32::MAX)));
            age.set(oldest);
        }
    }
}
