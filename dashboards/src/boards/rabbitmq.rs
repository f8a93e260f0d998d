//! RabbitMQ: what waits, what flows, and whether it has room.

use super::uid;
use crate::board::{Board, Row, Variable};
use crate::panel::{Color, Levels, Panel, Unit};
use crate::promql::{INSTANCE, rate};

pub fn board() -> Board {
    Board {
        uid: uid::RABBITMQ,
        title: "RabbitMQ",
        description: "Quorum queues between the stages: `PREFIX.write.N`, `PREFIX.reconcile.N`, and `PREFIX.dead`.",
        variables: vec![Variable::new(
            "instance",
            "Node",
            "label_values(rabbitmq_identity_info{job=\"rabbitmq\"}, instance)",
        )],
        rows: vec![
            glance(),
            Row::graphs("Queues", [ready(), unsettled()]),
            Row::graphs("", [bytes(), consumers(), members()]),
            Row::graphs("Flow", [flow(), trouble()]),
            Row::graphs("Room", [memory(), disk(), connections()]),
        ],
    }
}

/// One series a queue, whichever nodes report it.
fn per_queue(metric: &str) -> String {
    format!("max by (queue) (rabbitmq_detailed_{metric}{{{INSTANCE}}})")
}

fn glance() -> Row {
    let alarm = |metric: &str| format!("max(rabbitmq_alarms_{metric}{{{INSTANCE}}})");
    let dead = format!("sum(max by (queue) (rabbitmq_detailed_queue_messages{{{INSTANCE}, queue=~\".+\\\\.dead\"}}))");
    Row::stats(
        "At a glance",
        [
            Panel::stat("Backlog", Unit::Count, "Frames in the queues of both stages, those under way included.")
                .query("{{stage}}", "tollgate:backlog_frames")
                .levels(Levels::Above(500.0, 5000.0)),
            Panel::stat("Published", Unit::MessagesPerSecond, "Frames that programs publish.")
                .query("", rate("", "rabbitmq_global_messages_received_total", INSTANCE)),
            Panel::stat(
                "Alarms",
                Unit::Count,
                "Of memory or disk. While there is one, nobody can publish: providers get 503.",
            )
            .query("memory", alarm("memory_used_watermark"))
            .query("disk", alarm("free_disk_space_watermark"))
            .levels(Levels::Above(1.0, 1.0)),
            Panel::stat(
                "Dead frames",
                Unit::Count,
                "In the queue of frames that were delivered too often; the writer takes them into the table \
                 `dead_letters`.",
            )
            .query("", dead)
            .levels(Levels::Above(1.0, 100.0))
            .no_value("no queue"),
        ],
    )
}

fn ready() -> Panel {
    Panel::series("Ready", Unit::Count, "Frames that wait for a program.")
        .query("{{queue}}", per_queue("queue_messages_ready"))
        .no_value("no queues")
}

fn unsettled() -> Panel {
    Panel::series(
        "With a program",
        Unit::Count,
        "Frames delivered and not acknowledged yet; up to the prefetch of each consumer.",
    )
    .query("{{queue}}", per_queue("queue_messages_unacked"))
    .no_value("no queues")
}

fn bytes() -> Panel {
    Panel::series(
        "Size",
        Unit::Bytes,
        "Of the bodies in each queue. At `rabbitmq.write_queue_bytes_max` (1 GiB by default) a write queue takes \
         nothing more.",
    )
    .query("{{queue}}", per_queue("queue_messages_bytes"))
    .levels(Levels::Above(500e6, 1000e6))
    .no_value("no queues")
}

fn consumers() -> Panel {
    Panel::bars("Consumers", Unit::Count, "Programs that take from each queue. None: nobody drains it.")
        .query("{{queue}}", per_queue("queue_consumers"))
        .levels(Levels::Below(1.0, 1.0))
        .no_value("no queues")
}

fn members() -> Panel {
    let of = |state: &str| format!("min by (queue) (tollgate_queue_members{{state=\"{state}\"}})");
    Panel::series(
        "Copies online",
        Unit::Count,
        "Nodes with a copy of each queue that are known to be online, of `rabbitmq.group_size`. Without a majority nothing \
         is confirmed. None: RabbitMQ's management API does not answer.",
    )
    .query("{{queue}}", of("online"))
    .query("wanted", "max(tollgate_queue_members{state=\"wanted\"})")
    .color("wanted", Color::Red)
    .no_value("not asked for")
}

fn flow() -> Panel {
    Panel::series(
        "Frames a second",
        Unit::MessagesPerSecond,
        "Published, confirmed, delivered and acknowledged frames, of all queues together.",
    )
    .query("published", rate("", "rabbitmq_global_messages_received_total", INSTANCE))
    .query("confirmed", rate("", "rabbitmq_global_messages_confirmed_total", INSTANCE))
    .query("delivered", rate("", "rabbitmq_global_messages_delivered_total", INSTANCE))
    .query("acknowledged", rate("", "rabbitmq_global_messages_acknowledged_total", INSTANCE))
    .no_value("RabbitMQ does not answer")
}

fn trouble() -> Panel {
    Panel::series(
        "Redelivered, returned, dead-lettered",
        Unit::MessagesPerSecond,
        "Redelivered: a program ended with frames in hand. Returned: a queue is missing. Dead-lettered: delivered too \
         often.",
    )
    .query("redelivered", rate("", "rabbitmq_global_messages_redelivered_total", INSTANCE))
    .query("returned", rate("", "rabbitmq_global_messages_unroutable_returned_total", INSTANCE))
    .query("dead-lettered", rate("", "rabbitmq_global_messages_dead_lettered_delivery_limit_total", INSTANCE))
    .color("dead-lettered", Color::Red)
    .no_value("none")
}

fn memory() -> Panel {
    Panel::series("Memory", Unit::Bytes, "At the limit RabbitMQ blocks everyone who publishes.")
        .query("{{instance}}", format!("rabbitmq_process_resident_memory_bytes{{{INSTANCE}}}"))
        .query("limit", format!("min(rabbitmq_resident_memory_limit_bytes{{{INSTANCE}}})"))
        .color("limit", Color::Red)
        .no_value("RabbitMQ does not answer")
}

fn disk() -> Panel {
    Panel::series("Free disk", Unit::Bytes, "Below the limit RabbitMQ blocks everyone who publishes.")
        .query("{{instance}}", format!("rabbitmq_disk_space_available_bytes{{{INSTANCE}}}"))
        .query("limit", format!("max(rabbitmq_disk_space_available_limit_bytes{{{INSTANCE}}})"))
        .color("limit", Color::Red)
        .no_value("RabbitMQ does not answer")
}

fn connections() -> Panel {
    Panel::series(
        "Connections and channels",
        Unit::Count,
        "Each program has one connection to publish and one to consume.",
    )
    .query("connections", format!("sum(rabbitmq_connections{{{INSTANCE}}})"))
    .query("channels", format!("sum(rabbitmq_channels{{{INSTANCE}}})"))
    .no_value("RabbitMQ does not answer")
}
