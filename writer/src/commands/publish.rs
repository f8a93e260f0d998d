//! Putting records back into queues: each confirmed before its row is touched.

use std::time::Duration;

use domain::frame::{self, Frame};
use domain::{DecodeError, PaymentEvent};
use platform::amqp::{Link, Queues, Stage, publish_frame};
use platform::clock::now_ms;
use platform::config::RabbitMq;
use platform::telemetry::Readiness;
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Error, tried};

/// How long a connection to RabbitMQ is waited for.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Publishes to the queues of both stages; connects when the first record is to be published.
pub struct Publisher {
    config: RabbitMq,
    queues: Queues,
    write: OnceCell<Link>,
    reconcile: OnceCell<Link>,
    stop: CancellationToken,
    _stop: DropGuard,
}

impl Publisher {
    pub fn new(config: RabbitMq) -> Self {
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        Self { queues: Queues::of(&config), write: OnceCell::new(), reconcile: OnceCell::new(), config, stop, _stop }
    }

    /// The queue of an event in a stage.
    pub fn queue_of(&self, stage: &Stage, event: &PaymentEvent<'_>) -> String {
        self.queues.name(stage, event.shard(self.config.shards))
    }

    /// `name` if it is one of the stage's queues, whose program certainly reads it; else `instead`.
    pub fn queue_or(&self, stage: &Stage, name: &str, instead: impl FnOnce() -> String) -> String {
        let is_ours = self.queues.names(&self.config, stage).iter().any(|ours| ours == name);
        if is_ours { name.to_owned() } else { instead() }
    }

    /// The stage's first queue.
    pub fn first(&self, stage: &Stage) -> String {
        self.queues.name(stage, 0)
    }

    /// Publishes a raw record, or a whole frame, and returns when RabbitMQ has it durably.
    pub async fn publish(&self, stage: &Stage, queue: &str, record: &[u8]) -> Result<(), Error> {
        let link = self.link(stage).await?;
        let frame = framed(record, now_ms());
        tried("publish to RabbitMQ", async || {
            let _in_time = tokio::time::timeout(CONNECT_WITHIN, link.ready()).await;
            publish_frame(link, &self.config, queue, &frame).await
        })
        .await
    }

    async fn link(&self, stage: &Stage) -> Result<&Link, Error> {
        let cell = match stage {
            Stage::Write => &self.write,
            Stage::Reconcile => &self.reconcile,
            Stage::Fetch(_) => return Err(Error::from("what was set aside is never a claim")),
        };
        cell.get_or_try_init(async || {
            let readiness = Readiness::of(&["rabbitmq"]);
            let name = "tollgate writer: command".to_owned();
            let link = Link::open(self.config.clone(), name, stage.clone(), readiness, self.stop.clone());
            match tokio::time::timeout(CONNECT_WITHIN, link.ready()).await {
                Ok(()) => Ok(link),
                Err(_) => {
                    Err(Error::from("cannot reach RabbitMQ, or it blocks publishers: see rabbitmq.url and its log"))
                }
            }
        })
        .await
    }
}

/// A frame around a record. What is a frame itself, perhaps of a version that this one does not know, stays as it is.
fn framed(record: &[u8], staged_at_ms: i64) -> Vec<u8> {
    if matches!(Frame::parse(record), Ok(_) | Err(DecodeError::Version(_))) {
        return record.to_vec();
    }
    let mut frame = frame::begin(staged_at_ms, frame::HEADER_BYTES + record.len());
    frame.extend_from_slice(record);
    frame
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_is_framed_and_a_frame_is_not() {
        let framed_once = framed(b"\x01\0\0\0\x09", 7);
        let parsed = Frame::parse(&framed_once).unwrap();
        assert_eq!(parsed.records().collect::<Vec<_>>(), [b"\x01\0\0\0\x09"]);
        assert_eq!(framed(&framed_once, 8), framed_once);
        // Of a later version, put aside by an earlier one.
        let mut later = framed_once;
        later[3] = 99;
        assert_eq!(framed(&later, 8), later);
    }
}
