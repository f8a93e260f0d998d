//! The writer: consume frames, store each event in Cassandra, publish it as stored, and only then acknowledge.

mod commands;
mod days;
// Open to the simulation only.
#[doc(hidden)]
pub mod forward;
#[doc(hidden)]
pub mod handler;
#[doc(hidden)]
pub mod metrics;
#[doc(hidden)]
pub mod rows;
#[doc(hidden)]
pub mod store;
#[doc(hidden)]
pub mod tables;

use std::sync::Arc;
use std::time::Duration;

use platform::amqp::{Collect, Link, Stage, Subscription, consume, watch_members};
use platform::cassandra::{self, CassandraError};
use platform::config::Config;
use platform::http::ServeError;
use platform::retry::{Backoff, give_up_after};
use platform::telemetry::{self, Readiness};
use platform::trace::Tracer;
use tokio_util::sync::CancellationToken;

pub use crate::commands::Command;
use crate::forward::Forwarder;
use crate::handler::WriteHandler;
use crate::metrics::Metrics;
use crate::store::Store;

/// Runs the writer until `stop`; batches under way are then finished.
///
/// # Errors
/// When the internal listener or the traces' address cannot be used. Services that are away are waited for.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), ServeError> {
    platform::program::outlive_hangups(&stop);
    let readiness = Readiness::of(&["rabbitmq", "rabbitmq_consumer", "cassandra"]);
    telemetry::serve_internal(config.writer.internal_listen, readiness.clone(), stop.clone()).await?;
    // Behind the recorder of metrics: it has some.
    let tracer = Tracer::open(&config.trace, "writer")?;
    let Some(store) = connect(&config, &stop).await else { return Ok(()) };
    let give_up = give_up_after(&stop);
    tokio::spawn(watch(Arc::clone(&store), readiness.clone(), give_up.clone()));
    let link = Link::open(
        config.rabbitmq.clone(),
        "tollgate writer: publish".into(),
        Stage::Reconcile,
        readiness.clone(),
        give_up.clone(),
    );
    watch_members(&config.rabbitmq, || vec![Stage::Reconcile], &readiness, &stop);
    let metrics = Arc::new(Metrics::new(&config.regions));
    let handler = WriteHandler {
        store,
        forwarder: Arc::new(Forwarder::new(config.rabbitmq.clone(), link)),
        metrics,
        tracer: tracer.clone(),
        give_up: give_up.clone(),
    };
    let collect = Collect {
        gather: Duration::ZERO,
        prefetch: config.writer.prefetch_frames,
        flush: Duration::from_millis(config.writer.flush_ms),
        records_max: config.writer.flush_rows_max,
    };
    let subscription = Subscription { name: "tollgate writer: consume", stage: Stage::Write, dead: true, collect };
    consume(&config.rabbitmq, subscription, handler, &readiness, &stop).await;
    give_up.cancel();
    tracer.close().await;
    Ok(())
}

/// Connects, creates what is missing and prepares the statements; tries until it succeeds or `stop`.
async fn connect(config: &Config, stop: &CancellationToken) -> Option<Arc<Store>> {
    let mut backoff = Backoff::for_services();
    loop {
        let connected: Result<Store, CassandraError> = async {
            let session = cassandra::connect(&config.cassandra).await?;
            cassandra::create_schema(&session, &config.cassandra).await?;
            Store::new(session, config).await
        }
        .await;
        match connected {
            Ok(store) => return Some(Arc::new(store)),
            Err(error) => tracing::warn!(%error, "cassandra is not ready; trying again"),
        }
        backoff.pause(stop).await.ok()?;
    }
}

/// Asks Cassandra once a second whether it answers.
async fn watch(store: Arc<Store>, readiness: Readiness, stop: CancellationToken) {
    loop {
        readiness.set("cassandra", store.ping().await);
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_none() {
            return;
        }
    }
}
