//! `writer setup`.

use std::process::ExitCode;

use platform::amqp::{Stage, connect, declare, explain};
use platform::cassandra;
use platform::config::Config;

use super::Outcome;

/// Make the queues, and Cassandra's keyspace and tables, and exit
///
/// For programs whose own users may not (`rabbitmq.create = false`, `cassandra.create = false`): run it once, and after each
/// update, as users who may. What is there already stays. The reconciler makes its tables in Postgres by itself.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  TOLLGATE_RABBITMQ_PASSWORD=… TOLLGATE_CASSANDRA_PASSWORD=… writer setup --config deploy.toml

Exit status: 0 all is there, 2 it could not be made.")]
pub struct Setup {}

impl Setup {
    pub(super) async fn run(self, mut config: Config) -> Outcome {
        config.rabbitmq.create = true;
        config.cassandra.create = true;
        let failed = |error| format!("cannot make the queues: {}", explain(&error));
        let connection = connect(&config.rabbitmq, "tollgate setup").await.map_err(failed)?;
        let asking = config.sources.iter().filter(|(_, source)| source.asks());
        let fetch = asking.map(|(name, _)| Stage::Fetch(name.as_str().into()));
        for stage in [Stage::Write, Stage::Reconcile].into_iter().chain(fetch) {
            let channel = declare(&connection, &config.rabbitmq, &stage).await.map_err(failed)?;
            // One that is dropped still closes when its connection is to be closed, which is then refused.
            channel.close(200, "bye".into()).await.map_err(failed)?;
        }
        connection.close(200, "bye".into()).await.map_err(failed)?;
        println!("queues {}.* are there", config.rabbitmq.queue_prefix);
        let session = cassandra::connect(&config.cassandra).await?;
        cassandra::create_schema(&session, &config.cassandra).await?;
        println!("keyspace {} is there with its tables", config.cassandra.keyspace);
        Ok(ExitCode::SUCCESS)
    }
}
