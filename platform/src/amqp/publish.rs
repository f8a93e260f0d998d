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

/// Where frames are sent to: RabbitMQ through a [`Link`], or its model in the simulation.
pub trait Outlet: Send + Sync + 'static {
    /// Whether something can be sent right now.
    ///
    /// # Errors
    /// [`PublishError::Disconnected`] or [`PublishError::Blocked`].
    fn check(&self) -> Result<(), PublishError>;

    /// Sends a frame to a queue and waits for what the broker says of it.
    fn send(&self, queue: &str, frame: &[u8]) -> impl Future<Output = Result<Confirmation, PublishError>> + Send;

    /// What was opened to send with cannot be used any longer.
    fn give_up(&self);
}

impl Outlet for Link {
    fn check(&self) -> Result<(), PublishError> {
        self.usable().map(|_| ())
    }

    async fn send(&self, queue: &str, frame: &[u8]) -> Result<Confirmation, PublishError> {
        let lease = self.lease().await?;
        // Persistent, and `mandatory`: a message that no queue takes comes back instead of being dropped.
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let confirm = lease.channel().basic_publish("".into(), queue.into(), options, frame, properties).await;
        let confirm = confirm.map_err(|_| PublishError::Disconnected)?;
        let confirmation = confirm.await.map_err(|_| PublishError::Disconnected)?;
        lease.settled();
        match confirmation {
            Confirmation::Ack(_) => self.taken(queue),
            Confirmation::Nack(_) => self.refused(queue),
            Confirmation::NotRequested => {}
        }
        Ok(confirmation)
    }

    fn give_up(&self) {
        Link::give_up(self);
    }
}

/// Publishes a frame and waits until RabbitMQ has it durably.
///
/// # Errors
/// [`PublishError`] for every outcome but a positive confirm of a message that was not returned.
pub async fn publish_frame(
    outlet: &impl Outlet,
    config: &RabbitMq,
    queue: &str,
    frame: &[u8],
) -> Result<(), PublishError> {
    match tokio::time::timeout(config.confirm_timeout(), outlet.send(queue, frame)).await {
        Ok(Ok(Confirmation::Ack(None))) => Ok(()),
        Ok(Ok(Confirmation::Ack(Some(_)))) => {
            // The queue is gone: it is declared again with the next connection.
            outlet.give_up();
            Err(PublishError::Returned)
        }
        Ok(Ok(Confirmation::Nack(_) | Confirmation::NotRequested)) => Err(PublishError::Refused),
        Ok(Err(error)) => Err(error),
        // An alarm is no reason for another connection: it would be blocked, too, and this one cannot even be closed.
        Err(_) if outlet.check() == Err(PublishError::Blocked) => Err(PublishError::Blocked),
        Err(_) => {
            outlet.give_up();
            Err(PublishError::TimedOut)
        }
    }
}
