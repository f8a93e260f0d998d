//! Overview: is every payment on its way, and in time?

use super::uid;
use crate::board::{Board, Row};
use crate::panel::{Color, Levels, Panel, Unit};
use crate::promql::{increase, quantile, rate};

const ACK: &str = "tollgate_ingest_ack_seconds";
const APPLIED: &str = "tollgate_reconciler_received_applied_seconds";

pub fn board() -> Board {
    Board {
        uid: uid::OVERVIEW,
        title: "Overview",
        description: "The way of a payment from the webhook to the order, the two objectives, and what waits for a \
                      person.",
        variables: Vec::new(),
        rows: vec![
            way(),
            health(),
            Row::graphs("Flow and time", [flow(), ack()]),
            Row::graphs("", [applied(), backlog()]),
            objectives(),
            Row::graphs("Burning of the error budgets", [burning(), alerts()]),
            waiting(),
            Row::graphs("", [breaks(), put_aside()]),
        ],
    }
}

fn way() -> Row {
    let applied = rate("", "tollgate_reconciler_events_total", "outcome=\"applied\"");
    Row::stats(
        "The way of a payment",
        [
            Panel::stat("Accepted", Unit::EventsPerSecond, "Payment events whose webhooks got their 2xx.")
                .query("", rate("", "tollgate_ingest_events_total", "outcome=\"accepted\""))
                .link(uid::INGEST),
            Panel::stat(
                "Queued",
                Unit::EventsPerSecond,
                "Records that RabbitMQ has confirmed: payment events, and bodies for the quarantine.",
            )
            .query("", rate("", "tollgate_ingest_frame_size_sum", ""))
            .link(uid::RABBITMQ),
            Panel::stat("Stored", Unit::EventsPerSecond, "Payment events that Cassandra has at LOCAL_QUORUM.")
                .query("", rate("", "tollgate_writer_rows_total", ""))
                .link(uid::WRITER),
            Panel::stat(
                "Applied",
                Unit::EventsPerSecond,
                "Payment events merged into their payment and order in Postgres, duplicates included.",
            )
            .query("", applied)
            .link(uid::RECONCILER),
        ],
    )
}

fn health() -> Row {
    Row::stats(
        "Now",
        [
            Panel::stat(
                "Alerts",
                Unit::Count,
                "Alerts that fire. The list is below; docs/OPERATIONS.md has an entry for each.",
            )
            .query("", "count(ALERTS{alertstate=\"firing\"}) or vector(0)")
            .levels(Levels::Above(1.0, 3.0))
            .width(3),
            Panel::stat(
                "Backlog",
                Unit::Count,
                "Frames in the queues of both stages; a frame has one or more payment events.",
            )
            .query("", "sum(tollgate:backlog_frames)")
            .levels(Levels::Above(500.0, 5000.0))
            .link(uid::RABBITMQ)
            .width(3),
            Panel::stat(
                "Time to drain",
                Unit::Seconds,
                "When the slower stage's backlog is gone if it goes on shrinking as in the last two minutes.",
            )
            .query("", "max(tollgate:backlog_drain_seconds)")
            .levels(Levels::Above(60.0, 600.0))
            .no_value("not shrinking")
            .may_be_empty("a backlog that does not shrink has no end")
            .width(3),
            Panel::tiles(
                "Programs and services",
                Unit::Health,
                "Whether all instances of each answer Prometheus, and Postgres its exporter.",
            )
            .query("{{job}}", "min by (job) ({__name__=~\"up|pg_up\", job!~\"prometheus|rabbitmq-queues\"})")
            .levels(Levels::Below(1.0, 1.0)),
        ],
    )
}

fn flow() -> Panel {
    Panel::series(
        "Payment events a second",
        Unit::EventsPerSecond,
        "Three lines that lie on each other: what is accepted is stored and applied. A gap between them is a backlog.",
    )
    .query("accepted", rate("", "tollgate_ingest_events_total", "outcome=\"accepted\""))
    .query("stored", rate("", "tollgate_writer_rows_total", ""))
    .query("applied", rate("", "tollgate_reconciler_events_total", "outcome=\"applied\""))
    .query("parked", rate("", "tollgate_reconciler_events_total", "outcome=\"parked\""))
    .color("accepted", Color::Blue)
    .color("stored", Color::Purple)
    .color("applied", Color::Green)
    .color("parked", Color::Orange)
}

fn ack() -> Panel {
    Panel::series(
        "Time to 2xx",
        Unit::Seconds,
        "From a request's header to its 2xx. Lines: the objective (1 s), Razorpay's deadline (5 s), Adyen's and \
         Square's (10 s).",
    )
    .query("p50", quantile("0.5", "", ACK, ""))
    .query("p99", quantile("0.99", "", ACK, ""))
    .query("p99.9", quantile("0.999", "", ACK, ""))
    .levels(Levels::Deadlines)
    .logarithmic()
    .link(uid::INGEST)
    .no_value("no webhooks")
}

fn applied() -> Panel {
    Panel::series(
        "Received to applied",
        Unit::Seconds,
        "From the webhook's arrival at the gateway to the commit in Postgres. The line is the objective: a minute.",
    )
    .query("p50", quantile("0.5", "", APPLIED, ""))
    .query("p99", quantile("0.99", "", APPLIED, ""))
    .query("p99.9", quantile("0.999", "", APPLIED, ""))
    .levels(Levels::Above(30.0, 60.0))
    .logarithmic()
    .link(uid::RECONCILER)
    .no_value("no payment events")
}

fn backlog() -> Panel {
    Panel::series(
        "Backlog by stage",
        Unit::Count,
        "Frames of each stage that are not settled. `write` grows: the writer or Cassandra; `reconcile`: the \
         reconciler or Postgres.",
    )
    .query("{{stage}}", "tollgate:backlog_frames")
    .link(uid::RABBITMQ)
    .no_value("RabbitMQ does not answer")
}

fn objectives() -> Row {
    let left = |missed: &str, total: &str| {
        format!("1 - sum_over_time({missed}[30d]) / clamp_min(sum_over_time({total}[30d]), 1) / 0.001")
    };
    let since = "the first minute is not over, or nothing was sent";
    Row::stats(
        "Objectives: 99.9% acknowledged within a second, 99.9% applied within a minute",
        [
            Panel::stat(
                "Acknowledged in time, last hour",
                Unit::Share,
                "Webhooks with a 2xx within a second, of those that were accepted or turned away for Tollgate's own \
                 reasons.",
            )
            .query("", "1 - tollgate:ack_missed:ratio_rate1h")
            .levels(Levels::Below(0.9995, 0.999)),
            Panel::stat(
                "Budget of 30 days left: acknowledged",
                Unit::Share,
                "Of the 0.1% of 30 days' webhooks that may be late or turned away. Below zero the objective is missed.",
            )
            .query("", left("tollgate:ack_missed:increase1m", "tollgate:ack_total:increase1m"))
            .levels(Levels::Below(0.5, 0.1))
            .as_it_is_now()
            .may_be_empty(since),
            Panel::stat(
                "Applied in time, last hour",
                Unit::Share,
                "Payment events that were applied or parked in Postgres within a minute after their webhook's arrival.",
            )
            .query("", "1 - tollgate:apply_missed:ratio_rate1h")
            .levels(Levels::Below(0.9995, 0.999)),
            Panel::stat(
                "Budget of 30 days left: applied",
                Unit::Share,
                "Of the 0.1% of 30 days' payment events that may take longer than a minute.",
            )
            .query("", left("tollgate:apply_missed:increase1m", "tollgate:apply_total:increase1m"))
            .levels(Levels::Below(0.5, 0.1))
            .as_it_is_now()
            .may_be_empty(since),
        ],
    )
}

fn burning() -> Panel {
    Panel::series(
        "Burn rate",
        Unit::Factor,
        "1 uses up the budget of 30 days in 30 days. Lines: allowed (1); the fast alerts fire at 6 for six hours and \
         14.4 for an hour.",
    )
    .query("acknowledged, 5 min", "tollgate:ack_missed:ratio_rate5m / 0.001")
    .query("acknowledged, 1 h", "tollgate:ack_missed:ratio_rate1h / 0.001")
    .query("applied, 5 min", "tollgate:apply_missed:ratio_rate5m / 0.001")
    .query("applied, 1 h", "tollgate:apply_missed:ratio_rate1h / 0.001")
    .levels(Levels::BurnRates)
    .no_value("no webhooks")
}

fn alerts() -> Panel {
    Panel::table(
        "Alerts that fire",
        "docs/OPERATIONS.md has an entry for each: what it means, what to look at, which command mends it.",
        &["Time", "Value", "Value #A", "__name__", "alertstate"],
    )
    .query("", "ALERTS{alertstate=\"firing\"}")
    .no_value("none")
    .may_be_empty("nothing is wrong")
}

fn waiting() -> Row {
    Row::stats(
        "What waits for somebody",
        [
            Panel::stat(
                "Parked",
                Unit::Count,
                "Payment events that wait for their order or payment. They go on by themselves when it is there.",
            )
            .query("", "max(tollgate_reconciler_parked)")
            .levels(Levels::Above(100.0, 10000.0))
            .link(uid::RECONCILER),
            Panel::stat("Parked for", Unit::Seconds, "How long the one that waits longest has waited.")
                .query("", "max(tollgate_reconciler_parked_age_seconds)")
                .levels(Levels::Above(60.0, 3600.0))
                .link(uid::RECONCILER),
            Panel::stat("Breaks", Unit::Count, "Differences that only a person may settle: `reconciler breaks list`.")
                .query("", "sum(max by (kind) (tollgate_reconciler_breaks))")
                .levels(Levels::Above(1.0, 100.0))
                .link(uid::RECONCILER),
            Panel::stat(
                "Quarantined",
                Unit::Count,
                "Items in the time shown that were verified but not understood: table `quarantine`.",
            )
            .as_it_is_now()
            .query("", increase("", "tollgate_ingest_events_total", "outcome=\"quarantined\""))
            .levels(Levels::Above(1.0, 1000.0))
            .link(uid::INGEST),
            Panel::stat(
                "Dead-lettered",
                Unit::Count,
                "Records in the time shown that could not be processed: table `dead_letters`.",
            )
            .as_it_is_now()
            .query("", increase("", "tollgate_dead_letters_total", ""))
            .levels(Levels::Above(1.0, 1.0)),
        ],
    )
}

fn breaks() -> Panel {
    Panel::bars("Breaks by kind", Unit::Count, "Open differences. docs/OPERATIONS.md says for each kind what to do.")
        .query("{{kind}}", "sort_desc(max by (kind) (tollgate_reconciler_breaks))")
        .levels(Levels::Above(1.0, 100.0))
        .no_value("no reconciler")
}

fn put_aside() -> Panel {
    Panel::series("Put aside", Unit::EventsPerSecond, "What did not go the straight way, by where it went.")
        .query("parked", rate("", "tollgate_reconciler_events_total", "outcome=\"parked\""))
        .query("quarantined", rate("", "tollgate_ingest_events_total", "outcome=\"quarantined\""))
        .query("dead-lettered, {{stage}}", rate("stage", "tollgate_dead_letters_total", ""))
        .color("parked", Color::Orange)
        .color("quarantined", Color::Yellow)
}
