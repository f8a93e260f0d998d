//! RabbitMQ: topology, publishing with confirms, consuming in batches. Publishing and consuming use connections of
//! their own, so that an alarm which blocks publishers never stops consumers.

mod consume;
mod depths;
mod drain;
mod link;
mod publish;
mod topology;

pub use consume::{Batch, Collect, Handler, Subscription, consume};
pub use depths::{Depths, Waiting};
pub use drain::{Deliveries, drain};
pub use link::Link;
pub use publish::{Outlet, PublishError, publish_frame};
pub use topology::{Queues, Stage, declare};

use std::io;
use std::time::Duration;

use lapin::{Channel, Connection, ConnectionProperties};

use crate::config::RabbitMq;

/// How long it may take until a connection can be used. One whose other end accepts it and then says nothing would be
/// waited for without end: heartbeats begin behind the handshake.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// Connects, and declares the queues of a stage.
async fn open(config: &RabbitMq, name: &str, stage: Stage) -> lapin::Result<(Connection, Channel)> {
    let opening = async {
        let connection = connect(config, name).await?;
        let channel = declare(&connection, config, stage).await?;
        Ok((connection, channel))
    };
    let timeout = || io::Error::new(io::ErrorKind::TimedOut, "it accepts the connection but does not answer");
    tokio::time::timeout(OPEN_WITHIN, opening).await.unwrap_or_else(|_| Err(timeout().into()))
}

/// An error in words that say what a person can do.
fn explain(error: &lapin::Error) -> String {
    let text = error.to_string();
    match text.contains("PRECONDITION") && text.contains("inequivalent arg") {
        true => format!(
            "{text}; the queue was made with another configuration: set rabbitmq.group_size (and what else is named) to \
             what the queue has, take another rabbitmq.queue_prefix, or delete the empty queue"
        ),
        false => text,
    }
}

async fn connect(config: &RabbitMq, name: &str) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    // The heartbeat finds a half-open connection within 2 × its seconds.
    let uri = config.url.expose();
    let separator = if uri.contains('?') { '&' } else { '?' };
    let uri = if uri.contains("heartbeat=") {
        uri.to_owned()
    } else {
        format!("{uri}{separator}heartbeat=5&connection_timeout=5000")
    };
    Connection::connect(&uri, properties).await
}
