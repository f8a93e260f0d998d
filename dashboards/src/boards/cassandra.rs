//! Cassandra: is it fast enough, and when does it need another node?

use super::uid;
use crate::board::{Board, Row, Variable};
use crate::panel::{Color, Levels, Panel, Unit};
use crate::promql::{INSTANCE, rate};

const GONE: &str = "Cassandra does not answer";

pub fn board() -> Board {
    Board {
        uid: uid::CASSANDRA,
        title: "Cassandra",
        description: "Add a node when, at usual load, compactions keep waiting, mutations wait or are dropped, the \
                      heap does not get empty, or a disk is more than half full (a compaction needs room).",
        variables: vec![Variable::new("instance", "Node", "label_values(up{job=\"cassandra\"}, instance)")],
        rows: vec![
            glance(),
            Row::graphs("Requests of clients", [latencies(), errors()]),
            Row::graphs("Tollgate's tables", [writes(), reads()]),
            Row::graphs("", [table_disk(), partitions(), files()]),
            Row::graphs("Is it keeping up?", [compactions(), waiting(), dropped()]),
            Row::graphs("Commit log", [commit_wait(), commit_log()]),
            Row::graphs("Memory and CPU", [heap(), collections(), cpu()]),
            Row::graphs("Nodes", [load(), hints()]),
        ],
    }
}

fn glance() -> Row {
    Row::stats(
        "At a glance",
        [
            Panel::stat("Nodes up", Unit::Count, "As the chosen nodes see the cluster; the lowest word counts.")
                .query("", format!("min(cassandra_nodes{{{INSTANCE}, state=\"Up\"}})"))
                .levels(Levels::Below(1.0, 1.0))
                .no_value(GONE),
            Panel::stat("Nodes down", Unit::Count, "As the chosen nodes see the cluster; the highest word counts.")
                .query("", format!("max(cassandra_nodes{{{INSTANCE}, state=\"Down\"}})"))
                .levels(Levels::Above(1.0, 1.0))
                .no_value(GONE),
            Panel::stat("Writes", Unit::RequestsPerSecond, "Requests that write: batches of one partition count once.")
                .query("", rate("", "cassandra_client_requests_total", &format!("{INSTANCE}, request=\"Write\"")))
                .no_value(GONE),
            Panel::stat(
                "Write, p99",
                Unit::Seconds,
                "Of the slowest node. With `commitlog_sync: group` it has the wait for the disk in it.",
            )
            .query(
                "",
                format!(
                    "max(cassandra_client_request_latency_seconds{{{INSTANCE}, request=\"Write\", quantile=\"0.99\"}})"
                ),
            )
            .levels(Levels::Above(0.5, 2.0))
            .no_value(GONE),
            Panel::stat(
                "Compactions pending",
                Unit::Count,
                "Of the node with the most. A few are usual; dozens for hours are not.",
            )
            .query("", format!("max(cassandra_compactions_pending{{{INSTANCE}}})"))
            .levels(Levels::Above(20.0, 100.0))
            .no_value(GONE),
        ],
    )
}

fn latencies() -> Panel {
    let p99 = |request: &str| {
        format!("max(cassandra_client_request_latency_seconds{{{INSTANCE}, request=\"{request}\", quantile=\"0.99\"}})")
    };
    Panel::series(
        "p99 by kind",
        Unit::Seconds,
        "Of the slowest node, over the last minutes. `CASWrite` pins the layout of a new day.",
    )
    .query("Write", p99("Write"))
    .query("Read", p99("Read"))
    .query("RangeSlice", p99("RangeSlice"))
    .query("CASWrite", p99("CASWrite"))
    .levels(Levels::Above(0.5, 2.0))
    .no_value(GONE)
}

fn errors() -> Panel {
    Panel::stack(
        "Failed",
        Unit::RequestsPerSecond,
        "`Timeouts`: too slow. `Unavailables`: too few nodes up. The programs try again.",
    )
    .query("{{request}}, {{error}}", rate("request, error", "cassandra_client_request_errors_total", INSTANCE))
    .no_value(GONE)
}

fn writes() -> Panel {
    Panel::stack("Mutations", Unit::RowsPerSecond, "By table, on all chosen nodes: a replica counts each.")
        .query("{{table}}", rate("table", "cassandra_table_writes_total", INSTANCE))
        .no_value("no tables yet")
}

fn reads() -> Panel {
    Panel::stack(
        "Reads",
        Unit::RequestsPerSecond,
        "By table. `payment_events` is read by sweeps and replays, `payments` by the shop.",
    )
    .query("{{table}}", rate("table", "cassandra_table_reads_total", INSTANCE))
    .no_value("no tables yet")
}

fn table_disk() -> Panel {
    Panel::stack("Size by table", Unit::Bytes, "Files in use, on all chosen nodes.")
        .query("{{table}}", format!("sum by (table) (cassandra_table_disk_bytes{{{INSTANCE}}})"))
        .no_value("no tables yet")
}

fn partitions() -> Panel {
    Panel::series("Largest partition", Unit::Bytes, "In files, by table. Beyond 100 MB reads and compactions get slow.")
        .query("{{table}}", format!("max by (table) (cassandra_table_partition_bytes_max{{{INSTANCE}}})"))
        .levels(Levels::Above(50e6, 100e6))
        .no_value("no tables yet")
}

fn files() -> Panel {
    Panel::series(
        "Files",
        Unit::Count,
        "SSTables by table, of the node with the most. Growing without end: compactions do not keep up.",
    )
    .query("{{table}}", format!("max by (table) (cassandra_table_sstables{{{INSTANCE}}})"))
    .no_value("no tables yet")
}

fn compactions() -> Panel {
    Panel::series("Compactions", Unit::Count, "That wait, by node.")
        .query("{{instance}}", format!("cassandra_compactions_pending{{{INSTANCE}}}"))
        .levels(Levels::Above(20.0, 100.0))
        .no_value(GONE)
}

fn waiting() -> Panel {
    Panel::series(
        "Tasks that wait",
        Unit::Count,
        "By thread pool, all chosen nodes. `MutationStage` for long: more comes in than the disk takes.",
    )
    .query("{{pool}}", format!("sum by (pool) (cassandra_thread_pool_tasks{{{INSTANCE}, state=\"Pending\"}})"))
    .levels(Levels::Above(1000.0, 10000.0))
    .no_value(GONE)
}

fn dropped() -> Panel {
    Panel::series(
        "Dropped and blocked",
        Unit::PerSecond,
        "Messages too old to be worked on, and tasks that a full thread pool held up.",
    )
    .query("dropped {{message}}", rate("message", "cassandra_messages_dropped_total", INSTANCE))
    .query("blocked {{pool}}", rate("pool", "cassandra_thread_pool_blocked_total", INSTANCE))
    .levels(Levels::Above(1.0, 10.0))
    .no_value(GONE)
}

fn commit_wait() -> Panel {
    let wait = |of: &str, quantile: &str| {
        format!("max(cassandra_commitlog_wait_seconds{{{INSTANCE}, for=\"{of}\", quantile=\"{quantile}\"}})")
    };
    Panel::series(
        "Wait for the disk",
        Unit::Seconds,
        "What a mutation waits for the next sync of the commit log, or for a new segment.",
    )
    .query("sync, p50", wait("Commit", "0.50"))
    .query("sync, p99", wait("Commit", "0.99"))
    .query("segment, p99", wait("SegmentAllocation", "0.99"))
    .levels(Levels::Above(0.1, 1.0))
    .no_value(GONE)
}

fn commit_log() -> Panel {
    Panel::series(
        "Size of the commit log",
        Unit::Bytes,
        "By node. It is read again after a crash: a restart takes that long.",
    )
    .query("{{instance}}", format!("cassandra_commitlog_bytes{{{INSTANCE}}}"))
    .no_value(GONE)
}

fn heap() -> Panel {
    let memory = |what: &str| format!("jvm_memory_{what}_bytes{{{INSTANCE}, job=\"cassandra\", area=\"heap\"}}");
    Panel::series("Heap", Unit::Bytes, "Used, by node, and the limit. A saw is well; a line near the limit is not.")
        .query("{{instance}}", memory("used"))
        .query("limit", format!("min({})", memory("max")))
        .color("limit", Color::Red)
        .no_value(GONE)
}

fn collections() -> Panel {
    Panel::series("Time in garbage collection", Unit::Share, "By node. Requests wait meanwhile.")
        .query(
            "{{instance}}",
            rate("instance", "jvm_gc_collection_seconds_sum", &format!("{INSTANCE}, job=\"cassandra\"")),
        )
        .levels(Levels::Above(0.05, 0.15))
        .no_value(GONE)
}

fn cpu() -> Panel {
    Panel::series("Cores in use", Unit::Factor, "By node.")
        .query("{{instance}}", rate("instance", "process_cpu_seconds_total", &format!("{INSTANCE}, job=\"cassandra\"")))
        .no_value(GONE)
}

fn load() -> Panel {
    Panel::series(
        "Data on each node",
        Unit::Bytes,
        "The nodes should be alike. Leave half of the disk free for compactions.",
    )
    .query("{{instance}}", format!("cassandra_storage_load_bytes{{{INSTANCE}}}"))
    .no_value(GONE)
}

fn hints() -> Panel {
    Panel::series(
        "Hints and exceptions",
        Unit::PerSecond,
        "Mutations kept for a node that is away, and errors that nothing in Cassandra handled.",
    )
    .query("hints", rate("", "cassandra_hints_total", INSTANCE))
    .query("exceptions", rate("", "cassandra_storage_exceptions_total", INSTANCE))
    .color("exceptions", Color::Red)
    .no_value(GONE)
}
