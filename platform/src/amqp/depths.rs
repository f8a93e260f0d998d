//! How many frames wait in the queues, asked of the broker itself.

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Channel, Connection};

use super::topology::count;
use super::{Queues, Stage, connect, explain};
use crate::config::RabbitMq;

/// Frames that are ready in the queues; those that a program holds are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// For a writer, all shards.
    pub write: u64,
    /// For a reconciler, all shards.
    pub reconcile: u64,
    /// Given up after `rabbitmq.delivery_limit` deliveries, not yet taken by the writer.
    pub dead: u64,
}

/// Asks for depths on a connection of its own, opened by the first question.
pub struct Depths {
    config: RabbitMq,
    open: Option<Open>,
}

struct Open {
    _connection: Connection,
    channel: Channel,
    write: u16,
    reconcile: u16,
}

impl Depths {
    /// Of the queues of this configuration.
    #[must_use]
    pub fn of(config: &RabbitMq) -> Self {
        Self { config: config.clone(), open: None }
    }

    /// Asks now. A question that fails or is given up has the next one connect anew.
    ///
    /// # Errors
    /// What RabbitMQ says, in words; also that a queue is not there (yet).
    pub async fn ask(&mut self) -> Result<Waiting, String> {
        let open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.config).await.map_err(|error| explain(&error))?,
        };
        let waiting = open.ask(&Queues::of(&self.config)).await.map_err(|error| explain(&error))?;
        self.open = Some(open);
        Ok(waiting)
    }
}

impl Open {
    async fn new(config: &RabbitMq) -> lapin::Result<Self> {
        let connection = connect(config, "tollgate status").await?;
        let channel = connection.create_channel().await?;
        let write = count(&connection, config, &Stage::Write).await?;
        let reconcile = count(&connection, config, &Stage::Reconcile).await?;
        Ok(Self { _connection: connection, channel, write, reconcile })
    }

    async fn ask(&self, queues: &Queues) -> lapin::Result<Waiting> {
        Ok(Waiting {
            write: self.stage(queues, &Stage::Write, self.write).await?,
            reconcile: self.stage(queues, &Stage::Reconcile, self.reconcile).await?,
            dead: self.ready(&queues.dead()).await?,
        })
    }

    async fn stage(&self, queues: &Queues, stage: &Stage, shards: u16) -> lapin::Result<u64> {
        let mut waiting = 0;
        for shard in 0..shards {
            waiting += self.ready(&queues.name(stage, shard)).await?;
        }
        Ok(waiting)
    }

    async fn ready(&self, queue: &str) -> lapin::Result<u64> {
        // Passive: it asks, and never makes a queue.
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue = self.channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
        Ok(u64::from(queue.message_count()))
    }
}
