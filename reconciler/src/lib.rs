//! The reconciler: consume stored events, fold them into payments and orders in one transaction a batch, write the
//! shop's view, and only then acknowledge.

mod apply;
mod handler;
mod metrics;
mod migrate;
mod parked;
mod plan;
mod project;
mod sql;

use std::sync::Arc;
use std::time::Duration;

use platform::amqp::{Collect, Stage, Subscription, consume};
use platform::cassandra;
use platform::config::Config;
use platform::dead_letters::DeadLetters;
use platform::http::ServeError;
use platform::postgres;
use platform::retry::{Backoff, give_up_after};
use platform::telemetry::{self, Readiness};
use scylla::client::session::Session;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::handler::ReconcileHandler;
use crate::metrics::Metrics;
use crate::project::Projection;

/// Why the reconciler cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ReconcilerError {
    /// The internal listener cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// `postgres.url` is not a URL.
    #[error("postgres.url cannot be used: {0}")]
    Postgres(#[from] sqlx::Error),
}

/// Runs the reconciler until `stop`; batches under way are then finished.
///
/// # Errors
/// When the configuration or the internal listener cannot be used. Services that are away are waited for.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), ReconcilerError> {
    let readiness = Readiness::of(&["rabbitmq_consumer", "postgres", "cassandra"]);
    telemetry::serve_internal(config.reconciler.internal_listen, readiness.clone(), stop.clone()).await?;
    let pool = postgres::pool(&config.postgres, Duration::from_millis(config.reconciler.lock_timeout_ms))?;
    if !migrate_when_ready(&pool, &config, &stop).await {
        return Ok(());
    }
    let Some((session, dead_letters, projection)) = connect_when_ready(&config, &stop).await else { return Ok(()) };
    let give_up = give_up_after(&stop);
    let session = Arc::new(session);
    let handler = ReconcileHandler {
        pool: pool.clone(),
        session: Arc::clone(&session),
        dead_letters: Arc::new(dead_letters),
        projection: projection.map(Arc::new),
        metrics: Arc::new(Metrics::new()),
        parked: Arc::new(Notify::new()),
        give_up: give_up.clone(),
    };
    tokio::spawn(watch(pool, session, readiness.clone(), give_up.clone()));
    let poller = tokio::spawn(parked::poll(handler.clone(), config.reconciler.clone(), stop.clone()));
    let collect = Collect {
        prefetch: config.reconciler.prefetch_frames,
        flush: Duration::from_millis(config.reconciler.flush_ms),
        records_max: config.reconciler.flush_rows_max,
    };
    let subscription = Subscription { name: "tollgate reconciler", stage: Stage::Reconcile, dead: false, collect };
    consume(&config.rabbitmq, subscription, handler, &readiness, &stop).await;
    let _ended = poller.await;
    give_up.cancel();
    Ok(())
}

/// Brings Tollgate's tables up to date; tries until it succeeds (true) or `stop`.
async fn migrate_when_ready(pool: &PgPool, config: &Config, stop: &CancellationToken) -> bool {
    let mut backoff = Backoff::for_services();
    loop {
        match migrate::run(pool, &config.postgres.schema).await {
            Ok(()) => return true,
            Err(error) => tracing::warn!(%error, "postgres is not ready; trying again"),
        }
        if backoff.pause(stop).await.is_err() {
            return false;
        }
    }
}

async fn connect_when_ready(
    config: &Config,
    stop: &CancellationToken,
) -> Option<(Session, DeadLetters, Option<Projection>)> {
    let mut backoff = Backoff::for_services();
    loop {
        let connected = async {
            let session = cassandra::connect(&config.cassandra).await?;
            cassandra::create_schema(&session, &config.cassandra).await?;
            let dead_letters = DeadLetters::new(&session, &config.cassandra, Stage::Reconcile).await?;
            let projection = match config.reconciler.project_payments {
                true => Some(Projection::new(&session, &config.cassandra).await?),
                false => None,
            };
            Ok::<_, cassandra::CassandraError>((session, dead_letters, projection))
        };
        match connected.await {
            Ok(connected) => return Some(connected),
            Err(error) => tracing::warn!(%error, "cassandra is not ready; trying again"),
        }
        backoff.pause(stop).await.ok()?;
    }
}

/// Asks both databases once a second whether they answer.
async fn watch(pool: PgPool, session: Arc<Session>, readiness: Readiness, stop: CancellationToken) {
    loop {
        let postgres = tokio::time::timeout(Duration::from_secs(3), sqlx::query("SELECT 1").execute(&pool)).await;
        readiness.set("postgres", matches!(postgres, Ok(Ok(_))));
        let cassandra = session.query_unpaged("SELECT key FROM system.local", ()).await;
        readiness.set("cassandra", cassandra.is_ok());
        if stop.run_until_cancelled(tokio::time::sleep(Duration::from_secs(1))).await.is_none() {
            return;
        }
    }
}
