//! Consuming: a connection, and a task for each queue of a stage.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::drain::{Deliveries, drain};
use super::nodes::Nodes;
use super::topology::count;
use super::{Queues, STEADY_AFTER, Stage, explain};
use crate::config::RabbitMq;
use crate::retry::{Backoff, Stopped};
use crate::telemetry::Readiness;

/// Frames of one queue that are settled together.
#[derive(Debug)]
pub struct Batch {
    /// The shard they came from; `None` for the queue of dead frames.
    pub shard: Option<u16>,
    /// The queue they came from.
    pub queue: String,
    /// The frames' bytes, in order.
    pub frames: Vec<Vec<u8>>,
}

/// What a program does with its frames.
pub trait Handler: Clone + Send + Sync + 'static {
    /// Settles a batch: returns when every record is where it belongs, however long that takes.
    ///
    /// An error leaves all frames unacknowledged; RabbitMQ delivers them again.
    fn settle(&self, batch: Batch) -> impl Future<Output = Result<(), Stopped>> + Send;
}

/// How frames are collected.
#[derive(Debug, Clone, Copy)]
pub struct Collect {
    /// Unacknowledged frames a queue.
    pub prefetch: u16,
    /// A batch is handed on at the latest this long after the previous one.
    pub flush: Duration,
    /// But not before it has waited this long for others behind its first frame: what was acknowledged a moment ago makes room for
    /// frames that are still on their way.
    pub gather: Duration,
    /// Or as soon as it has this many records.
    pub records_max: usize,
}

/// What a program consumes, and how.
#[derive(Debug, Clone)]
pub struct Subscription<'a> {
    /// The connection's name, in RabbitMQ's management and in logs.
    pub name: &'a str,
    /// The stage whose queues are consumed.
    pub stage: Stage,
    /// Whether the queue of dead frames is consumed too.
    pub dead: bool,
    /// How frames are collected.
    pub collect: Collect,
}

/// How often queues of an earlier, larger number of shards are looked for.
const RECOUNT: Duration = Duration::from_secs(30);

/// Consumes until `stop`; batches under way then end.
pub async fn consume(
    config: &RabbitMq,
    subscription: Subscription<'_>,
    handler: impl Handler,
    readiness: &Readiness,
    stop: &CancellationToken,
) {
    let Subscription { name, stage, .. } = &subscription;
    let mut backoff = Backoff::for_services();
    let mut nodes = Nodes::of(config);
    while !stop.is_cancelled() {
        let session = async {
            let Some(opened) = stop.run_until_cancelled(nodes.open(config, name, stage)).await else { return Ok(()) };
            let (connection, _declared) = opened?;
            tracing::info!(name, stage = stage.as_str(), "consuming");
            readiness.set("rabbitmq_consumer", true);
            let opened = Instant::now();
            let outcome = session(&connection, config, &subscription, &handler, stop).await;
            let _closing = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "bye".into())).await;
            if opened.elapsed() > STEADY_AFTER {
                backoff = Backoff::for_services();
            }
            outcome
        };
        if let Err(error) = session.await {
            tracing::warn!(error = explain(&error), name, "not consuming; trying again");
        }
        readiness.set("rabbitmq_consumer", false);
        if backoff.pause(stop).await.is_err() {
            return;
        }
    }
}

/// One connection's life: a task a queue; the first to fail ends all.
async fn session(
    connection: &Connection,
    config: &RabbitMq,
    Subscription { stage, dead, collect, .. }: &Subscription<'_>,
    handler: &impl Handler,
    stop: &CancellationToken,
) -> lapin::Result<()> {
    let (queues, collect) = (Queues::of(config), *collect);
    let mut tasks = JoinSet::new();
    let ended = stop.child_token();
    if *dead {
        let channel = connection.create_channel().await?;
        let subscribed = subscribe(channel, queues.dead(), collect.prefetch);
        let (handler, ended) = (handler.clone(), ended.clone());
        tasks.spawn(async move { drain(subscribed.await?, None, collect, handler, ended).await });
    }
    let mut shards = 0;
    let mut outcome = loop {
        let more = async {
            let counted = count(connection, config, stage).await?;
            let mut channels = Vec::new();
            for shard in shards..counted {
                channels.push((shard, connection.create_channel().await?));
            }
            Ok(channels)
        };
        match more.await {
            Ok(channels) => {
                for (shard, channel) in channels {
                    shards = shard + 1;
                    let subscribed = subscribe(channel, queues.name(stage, shard), collect.prefetch);
                    let (handler, ended) = (handler.clone(), ended.clone());
                    tasks.spawn(async move { drain(subscribed.await?, Some(shard), collect, handler, ended).await });
                }
            }
            Err(error) => break Err(error),
        }
        tokio::select! {
            joined = tasks.join_next() => break joined.and_then(Result::ok).unwrap_or(Ok(())),
            () = tokio::time::sleep(RECOUNT) => {}
        }
    };
    // One queue's end ends all: at a stop they all end; after an error the whole session starts anew.
    ended.cancel();
    while let Some(joined) = tasks.join_next().await {
        outcome = outcome.and(joined.unwrap_or(Ok(())));
    }
    outcome
}

/// A queue's consumer at RabbitMQ.
struct Subscribed {
    channel: Channel,
    consumer: Consumer,
    /// Also the consumer's tag.
    queue: String,
}

async fn subscribe(channel: Channel, queue: String, prefetch: u16) -> lapin::Result<Subscribed> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue.as_str().into(), queue.as_str().into(), options, table).await?;
    Ok(Subscribed { channel, consumer, queue })
}

impl Deliveries for Subscribed {
    fn queue(&self) -> &str {
        &self.queue
    }

    async fn next(&mut self) -> lapin::Result<(u64, Vec<u8>)> {
        let closed = || std::io::Error::other("the consumer was cancelled by the broker");
        let delivery = self.consumer.next().await.ok_or_else(closed)??;
        Ok((delivery.delivery_tag, delivery.data))
    }

    async fn ack_up_to(&mut self, tag: u64) -> lapin::Result<()> {
        self.channel.basic_ack(tag, BasicAckOptions { multiple: true }).await
    }

    async fn cancel(&mut self) -> lapin::Result<()> {
        self.channel.basic_cancel(self.queue.as_str().into(), BasicCancelOptions::default()).await
    }
}
