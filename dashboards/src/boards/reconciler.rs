//! Reconciler: from stored events to orders, and what does not fit.

use super::uid;
use crate::board::{Board, Row, Variable};
use crate::panel::{Color, Levels, Panel, Unit};
use crate::promql::{INSTANCE, increase, mean, quantile, rate};

const EVENTS: &str = "tollgate_reconciler_events_total";
const LAG: &str = "tollgate_reconciler_stored_applied_seconds";
const APPLIED: &str = "tollgate_reconciler_received_applied_seconds";
const TRANSACTION: &str = "tollgate_reconciler_transaction_seconds";
const VIEW: &str = "tollgate_reconciler_projection_seconds";

pub fn board() -> Board {
    Board {
        uid: uid::RECONCILER,
        title: "Reconciler",
        description: "Stored events into payments and orders in Postgres; parked events, breaks and sweeps.",
        variables: vec![Variable::new("instance", "Reconciler", "label_values(up{job=\"reconciler\"}, instance)")],
        rows: vec![
            glance(),
            Row::graphs("Events and time", [events(), lag()]),
            Row::graphs("Transactions", [transactions(), size(), conflicts()]),
            Row::graphs("Orders and the shop's view", [transitions(), view()]),
            Row::graphs("What waits", [parked(), age()]),
            Row::graphs("", [breaks(), backlog()]),
            Row::graphs("Sweeps", [swept(), pending(), found()]),
        ],
    }
}

fn glance() -> Row {
    Row::stats(
        "At a glance",
        [
            Panel::stat(
                "Applied",
                Unit::EventsPerSecond,
                "Payment events merged into their payment and order, duplicates included.",
            )
            .query("", rate("", EVENTS, &format!("{INSTANCE}, outcome=\"applied\""))),
            Panel::stat(
                "Received to applied, p99",
                Unit::Seconds,
                "From the webhook's arrival to the commit in Postgres.",
            )
            .query("", quantile("0.99", "", APPLIED, INSTANCE))
            .levels(Levels::Above(30.0, 60.0))
            .no_value("no payment events"),
            Panel::stat("Backlog", Unit::Count, "Frames in the reconcile queues, those under way included.")
                .query("", "tollgate:backlog_frames{stage=\"reconcile\"}")
                .levels(Levels::Above(500.0, 5000.0))
                .link(uid::RABBITMQ),
            Panel::stat("Breaks", Unit::Count, "Differences that only a person may settle: `reconciler breaks list`.")
                .query("", format!("sum(max by (kind) (tollgate_reconciler_breaks{{{INSTANCE}}}))"))
                .levels(Levels::Above(1.0, 100.0)),
            Panel::stat(
                "Dead-lettered",
                Unit::Count,
                "Records in the time shown that could not be applied: table `dead_letters`.",
            )
            .as_it_is_now()
            .query("", increase("", "tollgate_dead_letters_total", &format!("{INSTANCE}, stage=\"reconcile\"")))
            .levels(Levels::Above(1.0, 1.0)),
        ],
    )
}

fn events() -> Panel {
    Panel::stack(
        "By what became of them",
        Unit::EventsPerSecond,
        "`parked` events wait for their order and are counted as applied later.",
    )
    .query("{{outcome}}", rate("outcome", EVENTS, INSTANCE))
    .color("applied", Color::Green)
    .color("parked", Color::Orange)
    .no_value("no events")
}

fn lag() -> Panel {
    Panel::series(
        "Time to the commit",
        Unit::Seconds,
        "From the webhook's arrival, and from the row in Cassandra (the slowest frame of a batch). The line is the \
         objective: a minute.",
    )
    .query("received, p50", quantile("0.5", "", APPLIED, INSTANCE))
    .query("received, p99", quantile("0.99", "", APPLIED, INSTANCE))
    .query("stored, p50", quantile("0.5", "", LAG, INSTANCE))
    .query("stored, p99", quantile("0.99", "", LAG, INSTANCE))
    .levels(Levels::Above(30.0, 60.0))
    .logarithmic()
    .no_value("no events")
}

fn transactions() -> Panel {
    Panel::series(
        "Time of a transaction",
        Unit::Seconds,
        "Lock, read, fold, write, commit. Long ones wait for locks, or for the disk.",
    )
    .query("p50", quantile("0.5", "", TRANSACTION, INSTANCE))
    .query("p99", quantile("0.99", "", TRANSACTION, INSTANCE))
    .levels(Levels::Above(0.5, 2.0))
    .logarithmic()
    .link(uid::POSTGRES)
    .no_value("no transactions")
}

fn size() -> Panel {
    Panel::series(
        "Events of a transaction",
        Unit::Count,
        "Up to `reconciler.flush_rows_max` (2000 by default): then the reconciler is at its limit.",
    )
    .query("mean", mean("", "tollgate_reconciler_transaction_size", INSTANCE))
    .query("p99", quantile("0.99", "", "tollgate_reconciler_transaction_size", INSTANCE))
    .levels(Levels::Above(1800.0, 2000.0))
    .no_value("no transactions")
}

fn conflicts() -> Panel {
    Panel::series(
        "Conflicts",
        Unit::PerSecond,
        "Transactions tried again in halves: a lock was held too long, or another reconciler was faster.",
    )
    .query("{{instance}}", rate("instance", "tollgate_reconciler_conflicts_total", INSTANCE))
    .levels(Levels::Above(1.0, 10.0))
    .no_value("none")
}

fn transitions() -> Panel {
    Panel::series("Changes of an order's status", Unit::PerSecond, "Each is a row in the table `transitions`.")
        .query("{{instance}}", rate("instance", "tollgate_reconciler_transitions_total", INSTANCE))
        .no_value("none")
}

fn view() -> Panel {
    Panel::series("Writing the shop's view", Unit::Seconds, "Rows of Cassandra's table `payments`, after each commit.")
        .query("p50", quantile("0.5", "", VIEW, INSTANCE))
        .query("p99", quantile("0.99", "", VIEW, INSTANCE))
        .levels(Levels::Above(0.5, 5.0))
        .logarithmic()
        .link(uid::CASSANDRA)
        .no_value("not written")
        .may_be_empty("reconciler.project_payments may be off")
}

fn parked() -> Panel {
    Panel::series(
        "Parked events",
        Unit::Count,
        "They wait for their order or payment, and go on by themselves when it is there.",
    )
    .query("parked", format!("max(tollgate_reconciler_parked{{{INSTANCE}}})"))
    .color("parked", Color::Orange)
    .no_value("no reconciler")
}

fn age() -> Panel {
    Panel::series(
        "Parked for",
        Unit::Seconds,
        "How long the one that waits longest has waited. After `reconciler.parked_break_after_ms` it is a break.",
    )
    .query("longest", format!("max(tollgate_reconciler_parked_age_seconds{{{INSTANCE}}})"))
    .levels(Levels::Above(60.0, 3600.0))
    .no_value("no reconciler")
}

fn breaks() -> Panel {
    Panel::bars("Breaks by kind", Unit::Count, "Open differences. docs/OPERATIONS.md says for each kind what to do.")
        .query("{{kind}}", format!("sort_desc(max by (kind) (tollgate_reconciler_breaks{{{INSTANCE}}}))"))
        .levels(Levels::Above(1.0, 100.0))
        .no_value("no reconciler")
}

fn backlog() -> Panel {
    Panel::series(
        "Frames in the reconcile queues",
        Unit::Count,
        "Ready ones wait for a reconciler; the others are with one.",
    )
    .query(
        "ready, {{queue}}",
        "max by (queue) (rabbitmq_detailed_queue_messages_ready{queue=~\".+\\\\.reconcile\\\\.[0-9]+\"})",
    )
    .query(
        "with a reconciler, {{queue}}",
        "max by (queue) (rabbitmq_detailed_queue_messages_unacked{queue=~\".+\\\\.reconcile\\\\.[0-9]+\"})",
    )
    .link(uid::RABBITMQ)
    .no_value("RabbitMQ does not answer")
}

fn swept() -> Panel {
    Panel::series(
        "Compared",
        Unit::EventsPerSecond,
        "Events that sweeps compared, and lanes of days that they finished.",
    )
    .query("events", rate("", "tollgate_reconciler_sweep_events_total", INSTANCE))
    .query("lanes", rate("", "tollgate_reconciler_sweep_lanes_total", INSTANCE))
    .no_value("no sweep")
}

fn pending() -> Panel {
    Panel::series(
        "Lanes to sweep",
        Unit::Count,
        "Lanes of days that are requested and not finished: falls to nothing with each sweep. What stays stands still.",
    )
    .query("lanes", format!("max(tollgate_reconciler_sweep_pending_lanes{{{INSTANCE}}})"))
    .no_value("no reconciler")
}

fn found() -> Panel {
    Panel::bars(
        "Found in the time shown",
        Unit::Count,
        "`event`, `view_row`: something was lost on the way. `order`: the shop wrote old values back. `break`: a \
         person must look.",
    )
    .query("{{found}}", increase("found", "tollgate_reconciler_sweep_found_total", INSTANCE))
    .color("event", Color::Red)
    .color("view_row", Color::Orange)
    .no_value("nothing")
}
