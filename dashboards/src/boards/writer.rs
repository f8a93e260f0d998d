//! Writer: from the queue into Cassandra.

use super::uid;
use crate::board::{Board, Row, Variable};
use crate::panel::{Color, Levels, Panel, Unit};
use crate::promql::{INSTANCE, increase, mean, quantile, rate};

const ROWS: &str = "tollgate_writer_rows_total";
const STORED: &str = "tollgate_writer_stored_seconds";
const FLUSH: &str = "tollgate_writer_flush_seconds";
const BATCH: &str = "tollgate_writer_batch_seconds";
const CHOSEN: &str = "instance=~\"$instance\", region=~\"$region\"";

pub fn board() -> Board {
    Board {
        uid: uid::WRITER,
        title: "Writer",
        description: "Frames from RabbitMQ into Cassandra's payment_events, then on to the reconciler's queues.",
        variables: vec![
            Variable::new("instance", "Writer", "label_values(up{job=\"writer\"}, instance)"),
            Variable::new("region", "Region", "label_values(tollgate_writer_rows_total, region)"),
        ],
        rows: vec![
            glance(),
            Row::graphs("Rows", [rows(), stored()]),
            Row::graphs("Flushes", [flush_time(), flush_size()]),
            Row::graphs("Cassandra batches", [batch_time(), batch_size(), in_flight()]),
            Row::graphs("Trouble", [trouble(), put_aside()]),
            Row::graphs("Partitions and backlog", [partitions(), backlog()]),
        ],
    }
}

fn glance() -> Row {
    Row::stats(
        "At a glance",
        [
            Panel::stat("Stored", Unit::RowsPerSecond, "Payment events that Cassandra has.")
                .query("", rate("", ROWS, CHOSEN)),
            Panel::stat(
                "Queued to stored, p99",
                Unit::Seconds,
                "From the gateway's queueing of a frame to its rows in Cassandra, the slowest frame of a batch.",
            )
            .query("", quantile("0.99", "", STORED, INSTANCE))
            .levels(Levels::Above(5.0, 30.0))
            .no_value("no frames"),
            Panel::stat("Backlog", Unit::Count, "Frames in the write queues, those under way included.")
                .query("", "tollgate:backlog_frames{stage=\"write\"}")
                .levels(Levels::Above(500.0, 5000.0))
                .link(uid::RABBITMQ),
            Panel::stat(
                "Tried again",
                Unit::PerSecond,
                "Requests to Cassandra that failed for now and were tried again.",
            )
            .query("", rate("", "tollgate_writer_retries_total", INSTANCE))
            .levels(Levels::Above(0.1, 10.0))
            .link(uid::CASSANDRA),
        ],
    )
}

fn rows() -> Panel {
    Panel::stack(
        "By region",
        Unit::RowsPerSecond,
        "Payment events stored. `other` is a region that is no longer configured.",
    )
    .query("{{region}}", rate("region", ROWS, CHOSEN))
    .no_value("no rows")
}

fn stored() -> Panel {
    Panel::series(
        "Queued to stored",
        Unit::Seconds,
        "From the gateway's queueing of a frame to its rows in Cassandra, the slowest frame of a batch.",
    )
    .query("p50", quantile("0.5", "", STORED, INSTANCE))
    .query("p99", quantile("0.99", "", STORED, INSTANCE))
    .levels(Levels::Above(5.0, 30.0))
    .logarithmic()
    .no_value("no frames")
}

fn flush_time() -> Panel {
    Panel::series(
        "Time of a flush",
        Unit::Seconds,
        "Cassandra's writes and RabbitMQ's confirms of the frames handed on.",
    )
    .query("p50", quantile("0.5", "", FLUSH, INSTANCE))
    .query("p99", quantile("0.99", "", FLUSH, INSTANCE))
    .levels(Levels::Above(1.0, 10.0))
    .logarithmic()
    .no_value("no flushes")
}

fn flush_size() -> Panel {
    Panel::series(
        "Records of a flush",
        Unit::Count,
        "Up to `writer.flush_rows_max` (4000 by default): then the writer is at its limit.",
    )
    .query("mean", mean("", "tollgate_writer_flush_size", INSTANCE))
    .query("p99", quantile("0.99", "", "tollgate_writer_flush_size", INSTANCE))
    .levels(Levels::Above(3500.0, 4000.0))
    .no_value("no flushes")
}

fn batch_time() -> Panel {
    Panel::series("Time of a batch", Unit::Seconds, "One request to Cassandra, all rows of one partition.")
        .query("p50", quantile("0.5", "", BATCH, INSTANCE))
        .query("p99", quantile("0.99", "", BATCH, INSTANCE))
        .levels(Levels::Above(0.5, 5.0))
        .logarithmic()
        .link(uid::CASSANDRA)
        .no_value("no batches")
}

fn in_flight() -> Panel {
    Panel::series(
        "Batches under way",
        Unit::Count,
        "Requests that the driver has sent and Cassandra has not answered. At `writer.batches_in_flight_max` a queue's \
         flush waits for Cassandra.",
    )
    .query("under way", format!("sum(tollgate_writer_batches_in_flight{{{INSTANCE}}})"))
    .query("most for one queue", format!("max(tollgate_writer_batches_in_flight_max{{{INSTANCE}}})"))
    .color("under way", Color::Blue)
    .color("most for one queue", Color::Orange)
    .link(uid::CASSANDRA)
    .no_value("no writer")
}

fn batch_size() -> Panel {
    Panel::series(
        "Rows of a batch",
        Unit::Count,
        "Dense batches are cheap; up to `writer.batch_rows_max` (100 by default).",
    )
    .query("mean", mean("", "tollgate_writer_batch_size", INSTANCE))
    .query("p99", quantile("0.99", "", "tollgate_writer_batch_size", INSTANCE))
    .no_value("no batches")
}

fn trouble() -> Panel {
    Panel::series(
        "Tried again, refused",
        Unit::PerSecond,
        "Requests that Cassandra did not take for now, and rows that it refuses for good (they become dead letters).",
    )
    .query("tried again: {{error}}", rate("error", "tollgate_writer_retries_total", INSTANCE))
    .query("refused", rate("", "tollgate_writer_refused_total", INSTANCE))
    .color("refused", Color::Red)
    .no_value("none")
}

fn put_aside() -> Panel {
    Panel::bars(
        "Put aside",
        Unit::Count,
        "In the time shown: bodies in the table `quarantine`, records in the table `dead_letters`.",
    )
    .query("quarantined", increase("", "tollgate_writer_quarantined_total", INSTANCE))
    .query("dead-lettered", increase("", "tollgate_dead_letters_total", &format!("{INSTANCE}, stage=\"write\"")))
    .color("quarantined", Color::Yellow)
    .color("dead-lettered", Color::Red)
    .no_value("none")
}

fn partitions() -> Panel {
    Panel::series(
        "Largest partition",
        Unit::Bytes,
        "Of Cassandra's files, by table. Beyond 100 MB: more `cassandra.lanes` or shorter `cassandra.slot_minutes`, \
         from the next day on.",
    )
    .query(
        "{{table}}",
        "max by (table) (cassandra_table_partition_bytes_max{table=~\"payment_events|quarantine|dead_letters\"})",
    )
    .levels(Levels::Above(50e6, 100e6))
    .link(uid::CASSANDRA)
    .no_value("Cassandra does not answer")
}

fn backlog() -> Panel {
    Panel::series("Frames in the write queues", Unit::Count, "Ready ones wait for a writer; the others are with one.")
        .query(
            "ready, {{queue}}",
            "max by (queue) (rabbitmq_detailed_queue_messages_ready{queue=~\".+\\\\.write\\\\.[0-9]+\"})",
        )
        .query(
            "with a writer, {{queue}}",
            "max by (queue) (rabbitmq_detailed_queue_messages_unacked{queue=~\".+\\\\.write\\\\.[0-9]+\"})",
        )
        .link(uid::RABBITMQ)
        .no_value("RabbitMQ does not answer")
}
