//! RabbitMQ: topology, publishing with confirms, consuming in batches. Publishing and consuming use connections of
//! their own, so that an alarm which blocks publishers never stops consumers.

mod connect;
mod consume;
mod depths;
mod drain;
mod link;
mod management;
mod members;
mod nodes;
mod publish;
mod refusals;
mod topology;

pub use consume::{Batch, Collect, Handler, Subscription, consume};
pub use depths::{Depths, Waiting};
pub use drain::{Deliveries, drain};
pub use link::Link;
pub use members::watch_members;
pub use publish::{Outlet, PublishError, publish_frame};
pub use topology::{Queues, Stage, declare};

use std::time::Duration;

use lapin::Connection;
use nodes::Nodes;

use crate::config::RabbitMq;

/// A connection that lived shorter was refused rather than lost: the pauses between tries go on growing.
const STEADY_AFTER: Duration = Duration::from_secs(3);

/// An error in words that say what a person can do.
#[must_use]
pub fn explain(error: &lapin::Error) -> String {
    let text = error.to_string();
    let hint = if text.contains("PRECONDITION") && text.contains("inequivalent arg") {
        "the queue was made with another configuration: set rabbitmq.group_size (and what else is named) to \
         what the queue has, take another rabbitmq.queue_prefix, or delete the empty queue"
    } else if text.contains("NOT_FOUND") && text.contains("no queue") {
        "make the queues with `writer setup`, as a user who may declare them"
    } else if text.contains("ACCESS_REFUSED") && text.contains("Login was refused") {
        "the user or password of rabbitmq.url, rabbitmq.password or rabbitmq.password_file is wrong"
    } else if text.contains("ACCESS_REFUSED") {
        "docs/SECURITY.md has the permissions that each program needs; without that to declare queues, set \
         rabbitmq.create = false and make them with `writer setup`"
    } else if text.contains("invalid peer certificate") {
        "rabbitmq.ca_file must hold the authority that signed RabbitMQ's certificate, which must name the host of rabbitmq.url"
    } else if text.contains("received corrupt message") || text.contains("TLS handshake") {
        "RabbitMQ does not speak TLS on this port: rabbitmq.url must name its TLS port (5671, mostly), or begin with amqp://"
    } else {
        return text;
    };
    format!("{text}; {hint}")
}

/// Connects to any node that can be used.
///
/// # Errors
/// What the last one tried says.
pub async fn connect(config: &RabbitMq, name: &str) -> lapin::Result<Connection> {
    Nodes::of(config).connect(config, name).await
}
