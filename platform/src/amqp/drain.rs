//! Draining a queue in batches: frames are collected, handed on together, and acknowledged together once all is settled.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Batch, Collect, Handler};

/// The deliveries of one queue: RabbitMQ's, or its model's in the simulation.
pub trait Deliveries: Send {
    /// The queue's name.
    fn queue(&self) -> &str;

    /// The next frame with its delivery tag. Nothing is lost when the wait is given up.
    fn next(&mut self) -> impl Future<Output = lapin::Result<(u64, Vec<u8>)>> + Send;

    /// Acknowledges all frames up to this tag.
    fn ack_up_to(&mut self, tag: u64) -> impl Future<Output = lapin::Result<()>> + Send;

    /// Asks for no more frames.
    fn cancel(&mut self) -> impl Future<Output = lapin::Result<()>> + Send;
}

/// Consumes one queue until `stop`, or until a batch cannot be settled.
///
/// # Errors
/// What RabbitMQ says; frames that are not acknowledged are delivered again.
pub async fn drain(
    mut deliveries: impl Deliveries,
    shard: Option<u16>,
    collect: Collect,
    handler: impl Handler,
    stop: CancellationToken,
) -> lapin::Result<()> {
    let mut flushed_at = Instant::now();
    loop {
        let (last, frames) = collect_batch(&mut deliveries, collect, flushed_at, &stop).await?;
        flushed_at = Instant::now();
        let stopping = stop.is_cancelled();
        if stopping {
            deliveries.cancel().await?;
        }
        if let Some(last) = last {
            let batch = Batch { shard, queue: deliveries.queue().to_owned(), frames };
            if handler.settle(batch).await.is_err() {
                // Nothing more from here: a later acknowledgement would take this batch with it.
                return Ok(());
            }
            // All up to the last: batches of a queue are settled one after another.
            deliveries.ack_up_to(last).await?;
        }
        if stopping {
            return Ok(());
        }
    }
}

/// Collects until there are enough records, or the flush is due and there is at least one frame, or `stop`; returns
/// the frames and the last one's tag.
async fn collect_batch(
    deliveries: &mut impl Deliveries,
    collect: Collect,
    flushed_at: Instant,
    stop: &CancellationToken,
) -> lapin::Result<(Option<u64>, Vec<Vec<u8>>)> {
    let (mut last, mut frames) = (None, Vec::new());
    let mut records = 0;
    let mut flush_at = flushed_at + collect.flush;
    while records < collect.records_max && frames.len() < usize::from(collect.prefetch) {
        let next = tokio::select! {
            biased;
            next = deliveries.next() => next,
            () = tokio::time::sleep_until(flush_at), if !frames.is_empty() => break,
            () = stop.cancelled() => break,
        };
        let (tag, frame) = next?;
        records += domain::frame::Frame::parse(&frame).map_or(1, |frame| frame.records().count());
        if last.is_none() {
            flush_at = flush_at.max(Instant::now() + collect.gather);
        }
        last = Some(tag);
        frames.push(frame);
    }
    Ok((last, frames))
}
