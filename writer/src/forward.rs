//! Handing stored events on to the reconciler's queues; a record is handed on as the bytes it came in.

use domain::event::shard_of;
use domain::frame;
use futures_util::{StreamExt, TryStreamExt, stream};
use platform::amqp::{Link, Outlet, Queues, Stage, publish_frame};
use platform::clock::now_ms;
use platform::config::RabbitMq;
use platform::retry::{Backoff, Stopped};
use tokio_util::sync::CancellationToken;

use crate::store::Incoming;

/// Publishes stored events.
pub struct Forwarder<O = Link> {
    config: RabbitMq,
    queues: Queues,
    outlet: O,
}

impl<O: Outlet> Forwarder<O> {
    pub fn new(config: RabbitMq, outlet: O) -> Self {
        Self { queues: Queues::of(&config), config, outlet }
    }

    /// Publishes events to their shards' queues; returns when every one is confirmed.
    pub async fn forward(&self, events: &[&Incoming<'_>], give_up: &CancellationToken) -> Result<(), Stopped> {
        stream::iter(self.frames(events))
            .map(|(shard, frame)| self.publish(shard, frame, give_up))
            .buffer_unordered(self.config.publishes_in_flight_max)
            .try_collect::<()>()
            .await
    }

    fn frames(&self, events: &[&Incoming<'_>]) -> Vec<(u16, Vec<u8>)> {
        let staged_at_ms = now_ms();
        let mut full = Vec::new();
        let mut open: Vec<Option<Vec<u8>>> = vec![None; usize::from(self.config.shards)];
        for incoming in events {
            let shard = shard_of(incoming.event.payment_id, self.config.shards);
            let Some(slot) = open.get_mut(usize::from(shard)) else { continue };
            if let Some(frame) = slot.take_if(|frame| frame.len() + incoming.raw.len() > self.config.frame_bytes_max) {
                full.push((shard, frame));
            }
            slot.get_or_insert_with(|| frame::begin(staged_at_ms, 16 * 1024)).extend_from_slice(incoming.raw);
        }
        let rest = (0..self.config.shards).zip(open).filter_map(|(shard, frame)| Some((shard, frame?)));
        full.extend(rest);
        full
    }

    async fn publish(&self, shard: u16, frame: Vec<u8>, give_up: &CancellationToken) -> Result<(), Stopped> {
        let queue = self.queues.name(&Stage::Reconcile, shard);
        let mut backoff = Backoff::for_services();
        while let Err(error) = publish_frame(&self.outlet, &self.config, &queue, &frame).await {
            tracing::warn!(%error, queue, "stored frame not published; trying again");
            backoff.pause(give_up).await?;
        }
        Ok(())
    }
}
