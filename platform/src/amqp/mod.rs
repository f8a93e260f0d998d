//! RabbitMQ: topology, publishing with confirms, consuming in batches. Publishing and consuming use connections of
//! their own, so that an alarm which blocks publishers never stops consumers.

mod consume;
mod link;
mod publish;
mod topology;

pub use consume::{Batch, Collect, Handler, Subscription, consume};
pub use link::Link;
pub use publish::{PublishError, publish_frame};
pub use topology::{Queues, Stage, declare};

use lapin::{Connection, ConnectionProperties};

use crate::config::RabbitMq;

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
