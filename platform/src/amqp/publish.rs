//! Publishing one frame: the one place that says whether RabbitMQ has taken it.

use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Confirmation};

use super::Link;
use crate::config::RabbitMq;

/// Why a frame is not known to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No connection to RabbitMQ.
    #[error("not connected to rabbitmq")]
    Disconnected,
    /// RabbitMQ has an alarm (memory, disk) and takes nothing.
    #[error("rabbitmq blocks publishers")]
    Blocked,
    /// The queue is full, or has lost its majority.
    #[error("rabbitmq refused the frame")]
    Refused,
    /// The message came back: no queue took it.
    #[error("rabbitmq returned the frame")]
    Returned,
    /// No confirm in time; it may or may not be there.
    #[error("rabbitmq did not confirm in time")]
    TimedOut,
}

impl PublishError {
    /// Every error, for counters that exist before the first one.
    pub const ALL: [Self; 5] = [Self::Disconnected, Self::Blocked, Self::Refused, Self::Returned, Self::TimedOut];

    /// The label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::Blocked => "blocked",
            Self::Refused => "refused",
            Self::Returned => "returned",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Publishes a frame and waits until RabbitMQ has it durably.
///
/// # Errors
/// [`PublishError`] for every outcome but a positive confirm of a message that was not returned.
pub async fn publish_frame(link: &Link, config: &RabbitMq, queue: &str, frame: &[u8]) -> Result<(), PublishError> {
    let channel = link.channel()?;
    // Persistent, and `mandatory`: a message that no queue takes comes back instead of being dropped.
    let properties = BasicProperties::default().with_delivery_mode(2);
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    let published = async { channel.basic_publish("".into(), queue.into(), options, frame, properties).await?.await };
    match tokio::time::timeout(config.confirm_timeout(), published).await {
        Ok(Ok(Confirmation::Ack(None))) => {
            link.taken(queue);
            Ok(())
        }
        Ok(Ok(Confirmation::Ack(Some(_)))) => Err(PublishError::Returned),
        Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => {
            link.refused(queue);
            Err(PublishError::Refused)
        }
        Ok(Err(_)) => Err(PublishError::Disconnected),
        Err(_) => {
            link.give_up();
            Err(PublishError::TimedOut)
        }
    }
}
