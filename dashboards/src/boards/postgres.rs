//! Postgres: transactions, locks and growth.

use super::uid;
use crate::board::{Board, Row, Variable};
use crate::panel::{Color, Levels, Panel, Unit};
use crate::promql::{INSTANCE, rate};

const CHOSEN: &str = "instance=~\"$instance\", datname=~\"$database\"";
const GONE: &str = "the exporter does not answer";

pub fn board() -> Board {
    Board {
        uid: uid::POSTGRES,
        title: "Postgres",
        description: "The shop's orders and Tollgate's own tables, as seen by the Postgres exporter.",
        variables: vec![
            Variable::new("instance", "Exporter", "label_values(pg_up, instance)"),
            Variable::new(
                "database",
                "Database",
                "label_values(pg_database_size_bytes{datname!~\"template.*|postgres\"}, datname)",
            )
            .only_listed(),
        ],
        rows: vec![
            glance(),
            Row::graphs("Work", [transactions(), rows()]),
            Row::graphs("Waiting", [longest(), locks(), deadlocks()]),
            Row::graphs("Connections and memory", [connections(), hits()]),
            Row::graphs("Disk", [size(), checkpoints(), spilled()]),
            Row::graphs("Tables", [dead_rows()]),
        ],
    }
}

fn glance() -> Row {
    let longest = "max(pg_stat_activity_max_tx_duration";
    Row::stats(
        "At a glance",
        [
            Panel::stat("Postgres", Unit::Health, "Whether it answers its exporter.")
                .query("", format!("min(pg_up{{{INSTANCE}}})"))
                .levels(Levels::Below(1.0, 1.0))
                .no_value(GONE),
            Panel::stat(
                "Commits",
                Unit::PerSecond,
                "Transactions of all clients of the chosen databases. Tollgate has few and large ones.",
            )
            .query("", rate("", "pg_stat_database_xact_commit", CHOSEN))
            .no_value(GONE),
            Panel::stat("Connections in use", Unit::Share, "Of `max_connections`. At 100% nobody else gets in.")
                .query(
                    "",
                    format!(
                        "sum(pg_stat_activity_count{{{INSTANCE}}}) / sum(pg_settings_max_connections{{{INSTANCE}}})"
                    ),
                )
                .levels(Levels::Above(0.7, 0.9))
                .no_value(GONE),
            Panel::stat(
                "Longest transaction",
                Unit::Seconds,
                "Open now. Its locks hold up others, and nothing that it may still see is cleaned up.",
            )
            .query("", format!("{longest}{{{CHOSEN}}})"))
            .levels(Levels::Above(10.0, 300.0))
            .no_value(GONE),
        ],
    )
}

fn transactions() -> Panel {
    Panel::series(
        "Transactions",
        Unit::PerSecond,
        "A rollback now and then is a conflict, tried again; many are not usual.",
    )
    .query("commit", rate("", "pg_stat_database_xact_commit", CHOSEN))
    .query("rollback", rate("", "pg_stat_database_xact_rollback", CHOSEN))
    .color("commit", Color::Green)
    .color("rollback", Color::Red)
    .no_value(GONE)
}

fn rows() -> Panel {
    Panel::stack("Rows written", Unit::RowsPerSecond, "Of all tables of the chosen databases, the shop's own included.")
        .query("inserted", rate("", "pg_stat_database_tup_inserted", CHOSEN))
        .query("updated", rate("", "pg_stat_database_tup_updated", CHOSEN))
        .query("deleted", rate("", "pg_stat_database_tup_deleted", CHOSEN))
        .no_value(GONE)
}

fn longest() -> Panel {
    Panel::series(
        "Longest transaction, by state",
        Unit::Seconds,
        "`idle in transaction`: a client has begun and does nothing: the shop's, as a rule.",
    )
    .query("{{state}}", format!("max by (state) (pg_stat_activity_max_tx_duration{{{CHOSEN}}})"))
    .levels(Levels::Above(10.0, 300.0))
    .no_value(GONE)
}

fn locks() -> Panel {
    Panel::series("Locks", Unit::Count, "Held or waited for, by mode.")
        .query("{{mode}}", format!("sum by (mode) (pg_locks_count{{{CHOSEN}}})"))
        .no_value(GONE)
}

fn deadlocks() -> Panel {
    Panel::series(
        "Deadlocks",
        Unit::PerSecond,
        "Tollgate locks orders in the order of their keys: look at what else locks several orders.",
    )
    .query("{{datname}}", rate("datname", "pg_stat_database_deadlocks", CHOSEN))
    .levels(Levels::Above(0.01, 0.1))
    .no_value(GONE)
}

fn connections() -> Panel {
    Panel::stack(
        "Connections, by state",
        Unit::Count,
        "A reconciler has up to `postgres.connections_max` (4 by default).",
    )
    .query("{{state}}", format!("sum by (state) (pg_stat_activity_count{{{CHOSEN}}})"))
    .no_value(GONE)
}

fn hits() -> Panel {
    let blocks = |what: &str| rate("datname", &format!("pg_stat_database_blks_{what}"), CHOSEN);
    Panel::series(
        "Found in memory",
        Unit::Share,
        "Blocks that were in Postgres's own buffers. Far less than 99%: more `shared_buffers`.",
    )
    .query("{{datname}}", format!("{0} / clamp_min({0} + {1}, 1e-9)", blocks("hit"), blocks("read")))
    .levels(Levels::Below(0.99, 0.9))
    .no_value(GONE)
}

fn size() -> Panel {
    Panel::series("Size", Unit::Bytes, "Of each database. `payments` keeps a row for every payment, for ever.")
        .query("{{datname}}", format!("pg_database_size_bytes{{{CHOSEN}}}"))
        .no_value(GONE)
}

fn checkpoints() -> Panel {
    // Postgres 17 has them in a view of their own.
    let count = |old: &str, new: &str| {
        format!(
            "{} or {}",
            rate("", &format!("pg_stat_bgwriter_checkpoints_{old}_total"), INSTANCE),
            rate("", &format!("pg_stat_checkpointer_num_{new}_total"), INSTANCE)
        )
    };
    Panel::series(
        "Checkpoints",
        Unit::PerSecond,
        "On time is well; those on demand come from too small a `max_wal_size`.",
    )
    .query("on time", count("timed", "timed"))
    .query("on demand", count("req", "requested"))
    .color("on demand", Color::Orange)
    .no_value(GONE)
}

fn spilled() -> Panel {
    Panel::series(
        "Spilled to disk",
        Unit::BytesPerSecond,
        "Temporary files of queries for which `work_mem` is too small.",
    )
    .query("{{datname}}", rate("datname", "pg_stat_database_temp_bytes", CHOSEN))
    .no_value(GONE)
}

fn dead_rows() -> Panel {
    Panel::series(
        "Dead rows",
        Unit::Count,
        "By table. Growing without end: autovacuum does not keep up, or a long transaction holds it.",
    )
    .query("{{relname}}", format!("topk(10, sum by (relname) (pg_stat_user_tables_n_dead_tup{{{CHOSEN}}}))"))
    .no_value("this exporter does not tell")
    .may_be_empty("older exporters tell nothing about tables")
}
