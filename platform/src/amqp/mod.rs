//! RabbitMQ: topology, publishing with confirms, consuming in batches. Publishing and consuming use connections of
//! their own, so that an alarm which blocks publishers never stops consumers.

mod consume;
mod depths;
mod link;
mod management;
mod members;
mod nodes;
mod publish;
mod topology;

pub use consume::{Batch, Collect, Handler, Subscription, consume};
pub use depths::{Depths, Waiting};
pub use link::Link;
pub use members::watch_members;
pub use publish::{PublishError, publish_frame};
pub use topology::{Queues, Stage, declare};

use lapin::{Connection, ConnectionProperties};

use crate::config::RabbitMq;
use nodes::Nodes;

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

/// Connects to any node that can be used.
///
/// # Errors
/// What the last one tried says.
pub async fn connect(config: &RabbitMq, name: &str) -> lapin::Result<Connection> {
    Nodes::of(config).connect(name).await
}

/// Connects to one node.
async fn connect_to(url: &str, name: &str) -> lapin::Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    // The heartbeat finds a half-open connection within 2 × its seconds.
    let separator = if url.contains('?') { '&' } else { '?' };
    let url = if url.contains("heartbeat=") {
        url.to_owned()
    } else {
        format!("{url}{separator}heartbeat=5&connection_timeout=5000")
    };
    Connection::connect(&url, properties).await
}
