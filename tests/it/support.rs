//! The databases and queues of one test, seen from outside; dropped with it.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::frame;
use it::{eventually, send};
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection};
use platform::config::Config;
use scylla::client::session::Session;
use scylla::deserialize::row::DeserializeRow;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use stack::Stack;

pub struct World {
    pub config: Config,
    pub channel: Channel,
    pub cassandra: Session,
    pub postgres: PgPool,
    _connection: Connection,
}

impl World {
    pub async fn new(config: Config) -> Result<Self> {
        let connection = platform::amqp::connect(&config.rabbitmq, "test").await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self {
            channel,
            cassandra: platform::cassandra::connect(&config.cassandra).await?,
            postgres: platform::postgres::pool(&config.postgres, std::time::Duration::from_secs(5))?,
            config,
            _connection: connection,
        })
    }

    pub fn queue(&self, stage: &str) -> String {
        format!("{}.{stage}", self.config.rabbitmq.queue_prefix)
    }

    /// Publishes records as one frame to a queue that its program has declared.
    pub async fn publish(&self, stage: &str, records: &[&[u8]]) -> Result<()> {
        let mut bytes = frame::begin(platform::clock::now_ms(), 1024);
        records.iter().for_each(|record| bytes.extend_from_slice(record));
        self.publish_bytes(stage, &bytes).await
    }

    pub async fn publish_bytes(&self, stage: &str, bytes: &[u8]) -> Result<()> {
        let queue = self.queue(stage);
        let properties = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let confirm =
            self.channel.basic_publish("".into(), queue.as_str().into(), options, bytes, properties).await?.await?;
        ensure!(confirm.is_ack() && confirm.take_message().is_none(), "not taken");
        Ok(())
    }

    /// Messages ready in a queue.
    pub async fn depth(&self, stage: &str) -> Result<u32> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
        let queue =
            self.channel.queue_declare(self.queue(stage).as_str().into(), options, FieldTable::default()).await?;
        Ok(queue.message_count())
    }

    /// Takes all frames that are ready in a queue.
    pub async fn take(&self, stage: &str) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while let Some(message) =
            self.channel.basic_get(self.queue(stage).as_str().into(), BasicGetOptions { no_ack: true }).await?
        {
            frames.push(message.delivery.data);
        }
        Ok(frames)
    }

    /// Rows of a query against this test's keyspace, written as `{ks}`.
    pub async fn rows<T>(&self, query: &str) -> Result<Vec<T>>
    where
        T: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let query = query.replace("{ks}", &self.config.cassandra.keyspace);
        let result = self.cassandra.query_unpaged(query, ()).await?.into_rows_result()?;
        Ok(result.rows::<T>()?.collect::<Result<Vec<_>, _>>()?)
    }

    /// Drops what the test made.
    pub async fn clean(self) -> Result<()> {
        let asking = self.config.sources.iter().filter(|(_, source)| source.asks());
        let fetch: Vec<String> = asking.map(|(name, _)| format!("fetch.{name}")).collect();
        for queue in ["write.0", "reconcile.0", "dead"].into_iter().chain(fetch.iter().map(String::as_str)) {
            self.channel.queue_delete(self.queue(queue).as_str().into(), Default::default()).await?;
        }
        let keyspace = &self.config.cassandra.keyspace;
        self.cassandra.query_unpaged(format!("DROP KEYSPACE IF EXISTS {keyspace}"), ()).await?;
        let schema = &self.config.postgres.schema;
        sqlx::query(AssertSqlSafe(format!("DROP SCHEMA IF EXISTS \"{schema}\" CASCADE")))
            .execute(&self.postgres)
            .await?;
        Ok(())
    }
}

/// Waits until a program says that it is ready.
pub async fn ready(internal: SocketAddr) -> Result<()> {
    eventually("ready", async || {
        let answer = send(internal, "GET", "/readyz", &[], b"").await?;
        ensure!(answer.status == 200, "{}", answer.body);
        Ok(())
    })
    .await
}

/// What RabbitMQ's management API says.
pub async fn management(path: &str) -> Result<Value> {
    let url = Stack::open()?.endpoints()?.rabbitmq_management_url;
    let authorization = format!("Basic {}", STANDARD.encode("guest:guest"));
    let address = url.trim_start_matches("http://").trim_end_matches('/').parse()?;
    let answer = send(address, "GET", path, &[("authorization", &authorization)], b"").await?;
    ensure!(answer.status == 200, "{path}: {answer:?}");
    Ok(serde_json::from_str(&answer.body)?)
}
