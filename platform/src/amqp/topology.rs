//! The queues: quorum queues only, bounded, with every option written out and why.

use std::sync::Arc;

use lapin::Channel;
use lapin::options::{ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Connection, ErrorKind};

use crate::config::RabbitMq;

/// A stage of the pipeline that is fed by queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// From the gateway to the writer.
    Write,
    /// From the writer to the reconciler.
    Reconcile,
    /// From the gateway to itself: what the provider of this source is to be asked about. A queue of its own, not a shard of one
    /// for all, so that a provider that is away, and claims without end at one source, delay no other source.
    Fetch(Arc<str>),
}

impl Stage {
    /// The middle of a queue's name.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Reconcile => "reconcile",
            Self::Fetch(_) => "fetch",
        }
    }

    /// The AMQP frames of its connections, where they are to be smaller than usual: of claims, which are small, there are two connections
    /// a source, and each keeps 64 frames.
    pub(super) fn amqp_frame_bytes(&self) -> Option<u32> {
        match self {
            Self::Write | Self::Reconcile => None,
            Self::Fetch(_) => Some(8 * 1024),
        }
    }

    /// How many queues of it are declared.
    #[must_use]
    pub fn shards(&self, config: &RabbitMq) -> u16 {
        match self {
            Self::Write | Self::Reconcile => config.shards,
            Self::Fetch(_) => 1,
        }
    }
}

/// Names the queues of one configuration.
#[derive(Debug, Clone)]
pub struct Queues {
    prefix: String,
}

impl Queues {
    /// The queues of this configuration.
    #[must_use]
    pub fn of(config: &RabbitMq) -> Self {
        Self { prefix: config.queue_prefix.clone() }
    }

    /// The queue of a stage and shard.
    #[must_use]
    pub fn name(&self, stage: &Stage, shard: u16) -> String {
        match stage {
            Stage::Write | Stage::Reconcile => format!("{}.{}.{shard}", self.prefix, stage.as_str()),
            Stage::Fetch(source) => format!("{}.{}.{source}", self.prefix, stage.as_str()),
        }
    }

    /// All queues of a stage that are declared.
    #[must_use]
    pub fn names(&self, config: &RabbitMq, stage: &Stage) -> Vec<String> {
        (0..stage.shards(config)).map(|shard| self.name(stage, shard)).collect()
    }

    /// Where frames go that crashed their consumer too often.
    #[must_use]
    pub fn dead(&self) -> String {
        format!("{}.dead", self.prefix)
    }
}

/// Declares the queues of a stage and opens a channel with publisher confirms. With `rabbitmq.create = false` the queues are
/// only looked for: whoever may declare a queue may delete it.
///
/// # Errors
/// What RabbitMQ says; a queue that exists with other arguments is `PRECONDITION_FAILED`.
pub async fn declare(connection: &Connection, config: &RabbitMq, stage: &Stage) -> lapin::Result<Channel> {
    let channel = confirming(connection).await?;
    let queues = Queues::of(config);
    declare_queue(&channel, config, &queues.dead(), arguments(config, config.reconcile_queue_bytes_max, None)).await?;
    let bytes_max = match stage {
        Stage::Write | Stage::Fetch(_) => config.write_queue_bytes_max,
        Stage::Reconcile => config.reconcile_queue_bytes_max,
    };
    for name in queues.names(config, stage) {
        declare_queue(&channel, config, &name, arguments(config, bytes_max, Some(&queues))).await?;
    }
    Ok(channel)
}

/// Opens a channel with publisher confirms.
pub(super) async fn confirming(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// The number of queues that a stage has: those configured and those of an earlier, larger number. The broker itself
/// is the record of it: a queue that is not there holds no message.
///
/// # Errors
/// What RabbitMQ says, except that a queue does not exist.
pub(super) async fn count(connection: &Connection, config: &RabbitMq, stage: &Stage) -> lapin::Result<u16> {
    let queues = Queues::of(config);
    let mut shards = stage.shards(config);
    if let Stage::Fetch(_) = stage {
        return Ok(shards);
    }
    loop {
        // A failed passive declaration closes its channel, so each try has its own.
        let channel = connection.create_channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        match channel.queue_declare(queues.name(stage, shards).into(), options, FieldTable::default()).await {
            Ok(_) => shards += 1,
            Err(error) if matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 404) => {
                return Ok(shards);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn declare_queue(channel: &Channel, config: &RabbitMq, name: &str, arguments: FieldTable) -> lapin::Result<()> {
    let options = QueueDeclareOptions { passive: !config.create, ..QueueDeclareOptions::durable() };
    channel.queue_declare(name.into(), options, arguments).await?;
    Ok(())
}

fn arguments(config: &RabbitMq, bytes_max: i64, dead: Option<&Queues>) -> FieldTable {
    let text = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut table = FieldTable::default();
    // Replicated, fsynced before the confirm.
    table.insert("x-queue-type".into(), text("quorum"));
    // Explicit: the default depends on how many nodes happen to be up when the queue is declared.
    table.insert("x-quorum-initial-group-size".into(), AMQPValue::LongInt(config.group_size.into()));
    // Small enough that no memory or disk alarm is reached, which would block every publisher of the broker.
    table.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes_max));
    // A full queue says no to the publisher; the default drops the oldest message.
    table.insert("x-overflow".into(), text("reject-publish"));
    if let Some(queues) = dead {
        // Explicit: 4.x defaults to 20, and a consumer's crashes count too.
        table.insert("x-delivery-limit".into(), AMQPValue::LongInt(config.delivery_limit));
        table.insert("x-dead-letter-exchange".into(), text(""));
        table.insert("x-dead-letter-routing-key".into(), text(&queues.dead()));
        // The default, at-most-once, loses the message if the dead letter queue cannot take it.
        table.insert("x-dead-letter-strategy".into(), text("at-least-once"));
    }
    table
}
