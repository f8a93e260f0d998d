//! Consuming in batches: frames are collected, handed on together, and acknowledged together once all is settled.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, Consumer};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::nodes::Nodes;
use super::topology::count;
use super::{Queues, Stage, explain};
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
    /// Or as soon as it has this many records.
    pub records_max: usize,
}

/// What a program consumes, and how.
#[derive(Debug, Clone, Copy)]
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
    let Subscription { name, stage, .. } = subscription;
    let mut backoff = Backoff::for_services();
    let mut nodes = Nodes::of(config);
    while !stop.is_cancelled() {
        let session = async {
            let Some(opened) = stop.run_until_cancelled(nodes.open(config, name, stage)).await else { return Ok(()) };
            let (connection, _declared) = opened?;
            tracing::info!(name, stage = stage.as_str(), "consuming");
            readiness.set("rabbitmq_consumer", true);
            backoff = Backoff::for_services();
            let outcome = session(&connection, config, subscription, &handler, stop).await;
            let _closing = tokio::time::timeout(Duration::from_secs(1), connection.close(200, "bye".into())).await;
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
    Subscription { stage, dead, collect, .. }: Subscription<'_>,
    handler: &impl Handler,
    stop: &CancellationToken,
) -> lapin::Result<()> {
    let queues = Queues::of(config);
    let mut tasks = JoinSet::new();
    let ended = stop.child_token();
    if dead {
        let channel = connection.create_channel().await?;
        tasks.spawn(drain(channel, queues.dead(), None, collect, handler.clone(), ended.clone()));
    }
    let mut shards = 0;
    loop {
        let counted = count(connection, config, stage).await?;
        for shard in shards..counted {
            let channel = connection.create_channel().await?;
            let queue = queues.name(stage, shard);
            tasks.spawn(drain(channel, queue, Some(shard), collect, handler.clone(), ended.clone()));
        }
        shards = shards.max(counted);
        tokio::select! {
            joined = tasks.join_next() => {
                // One queue's end ends all: at a stop they all end; after an error the whole session starts anew.
                ended.cancel();
                let mut outcome = joined.and_then(Result::ok).unwrap_or(Ok(()));
                while let Some(joined) = tasks.join_next().await {
                    outcome = outcome.and(joined.unwrap_or(Ok(())));
                }
                return outcome;
            }
            () = tokio::time::sleep(RECOUNT) => {}
        }
    }
}

/// Consumes one queue until `stop`.
async fn drain(
    channel: Channel,
    queue: String,
    shard: Option<u16>,
    collect: Collect,
    handler: impl Handler,
    stop: CancellationToken,
) -> lapin::Result<()> {
    channel.basic_qos(collect.prefetch, BasicQosOptions::default()).await?;
    let tag = queue.clone();
    let mut consumer = channel
        .basic_consume(queue.clone().into(), tag.as_str().into(), BasicConsumeOptions::default(), FieldTable::default())
        .await?;
    let mut flushed_at = Instant::now();
    loop {
        let collected = collect_batch(&mut consumer, collect, flushed_at, &stop).await?;
        flushed_at = Instant::now();
        let stopping = stop.is_cancelled();
        if stopping {
            channel.basic_cancel(tag.as_str().into(), BasicCancelOptions::default()).await?;
        }
        if let Some(last) = collected.last().map(|delivery| delivery.delivery_tag) {
            let frames = collected.into_iter().map(|delivery| delivery.data).collect();
            let batch = Batch { shard, queue: queue.clone(), frames };
            if handler.settle(batch).await.is_err() {
                // Nothing more from here: a later acknowledgement would take this batch with it.
                return Ok(());
            }
            // All up to the last: batches of a queue are settled one after another.
            channel.basic_ack(last, BasicAckOptions { multiple: true }).await?;
        }
        if stopping {
            return Ok(());
        }
    }
}

/// Collects until there are enough records, or the flush is due and there is at least one frame, or `stop`.
async fn collect_batch(
    consumer: &mut Consumer,
    collect: Collect,
    flushed_at: Instant,
    stop: &CancellationToken,
) -> lapin::Result<Vec<Delivery>> {
    let mut deliveries = Vec::new();
    let mut records = 0;
    let closed = || lapin::Error::from(std::io::Error::other("the consumer was cancelled by the broker"));
    while records < collect.records_max && deliveries.len() < usize::from(collect.prefetch) {
        let flush_at = flushed_at + collect.flush;
        let next = tokio::select! {
            biased;
            next = consumer.next() => next,
            () = tokio::time::sleep_until(flush_at), if !deliveries.is_empty() => break,
            () = stop.cancelled() => break,
        };
        let delivery = next.ok_or_else(closed)??;
        records += domain::frame::Frame::parse(&delivery.data).map_or(1, |frame| frame.records().count());
        deliveries.push(delivery);
    }
    Ok(deliveries)
}
