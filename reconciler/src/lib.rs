//! The reconciler: consume stored events, fold them into payments and orders in one transaction a batch, write the
//! shop's view, and only then acknowledge.

// Open to the simulation only.
#[doc(hidden)]
pub mod apply;
mod archive;
mod breaks;
mod commands;
mod growth;
#[doc(hidden)]
pub mod handler;
#[doc(hidden)]
pub mod metrics;
mod migrate;
mod orders;
#[doc(hidden)]
pub mod parked;
#[doc(hidden)]
pub mod plan;
mod project;
mod replay;
mod sql;
mod status;
#[doc(hidden)]
pub mod stores;
mod sweep;

use std::sync::Arc;
use std::time::Duration;

use platform::amqp::{Collect, Stage, Subscription, consume};
use platform::cassandra::{self, CassandraError};
use platform::config::Config;
use platform::dead_letters::DeadLetters;
use platform::http::ServeError;
use platform::postgres;
use platform::retry::{Backoff, give_up_after};
use platform::telemetry::{self, Readiness};
use platform::trace::Tracer;
use scylla::client::session::Session;
use sqlx::PgPool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::apply::Books;
use crate::archive::Archive;
use crate::handler::ReconcileHandler;
use crate::metrics::Metrics;
use crate::orders::{OrdersError, OrdersTable};
use crate::project::Projection;
use crate::stores::Services;
use crate::sweep::Sweeper;

pub use breaks::KINDS as BREAK_KINDS;
pub use commands::Command;

/// Why the reconciler cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ReconcilerError {
    /// The internal listener cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// `postgres.url` is not a URL, or Postgres does not answer.
    #[error("Postgres: {0}")]
    Postgres(#[from] sqlx::Error),
    /// Cassandra does not answer.
    #[error(transparent)]
    Cassandra(Box<CassandraError>),
    /// The mapped table of orders is not as the configuration says.
    #[error("{0}")]
    Orders(String),
    /// Tollgate's tables are those of another version.
    #[error(
        "Tollgate's tables in Postgres are those of another version ({0}); drop payments, links, parked_events, breaks, \
         closed_breaks, transitions, sweeps and _sqlx_migrations (not orders), and build them again with \
         `reconciler replay`"
    )]
    Schema(String),
}

impl ReconcilerError {
    /// Whether waiting helps.
    fn is_temporary(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::Cassandra(_))
    }
}

impl From<CassandraError> for ReconcilerError {
    fn from(error: CassandraError) -> Self {
        Self::Cassandra(Box::new(error))
    }
}

impl From<OrdersError> for ReconcilerError {
    fn from(error: OrdersError) -> Self {
        match error {
            OrdersError::Mapping(message) => Self::Orders(message),
            OrdersError::Postgres(error) => Self::Postgres(error),
        }
    }
}

/// Runs the reconciler until `stop`; batches under way are then finished.
///
/// # Errors
/// When the configuration, the mapped tables or the internal listener cannot be used. Services that are away are waited
/// for.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), ReconcilerError> {
    platform::program::outlive_hangups(&stop);
    let readiness = Readiness::of(&["rabbitmq_consumer", "postgres", "cassandra"]);
    let lookup = status::Slot::default();
    let pages = status::pages(&config, Arc::clone(&lookup));
    telemetry::serve_internal_with(config.reconciler.internal_listen, readiness.clone(), pages, stop.clone()).await?;
    // Behind the recorder of metrics: it has some.
    let tracer = Tracer::open(&config.trace, "reconciler")?;
    let give_up = give_up_after(&stop);
    let Some((mut handler, archive)) = open_when_ready(&config, &stop, &give_up).await? else { return Ok(()) };
    handler.tracer = tracer.clone();
    let pool = handler.stores.books.pool.clone();
    let archive = Arc::new(archive);
    lookup.get_or_init(|| {
        status::Lookup::new(
            &config,
            &pool,
            Arc::clone(&handler.stores.books.orders),
            Arc::clone(&handler.stores.session),
            Arc::clone(&archive),
        )
    });
    tokio::spawn(watch(pool.clone(), Arc::clone(&handler.stores.session), readiness.clone(), give_up.clone()));
    let mut beside = tokio::task::JoinSet::new();
    beside.spawn(parked::poll(handler.clone(), config.reconciler.clone(), stop.clone()));
    beside.spawn(growth::keep(pool, config.reconciler.history_days, stop.clone()));
    if config.sweep.enabled {
        let sweeper = Sweeper::new(handler.clone(), archive, &config, stop.clone());
        beside.spawn(sweeper.keep(config.regions.clone()));
    }
    let collect = Collect {
        gather: Duration::ZERO,
        prefetch: config.reconciler.prefetch_frames,
        flush: Duration::from_millis(config.reconciler.flush_ms),
        records_max: config.reconciler.flush_rows_max,
    };
    let subscription = Subscription { name: "tollgate reconciler", stage: Stage::Reconcile, dead: false, collect };
    consume(&config.rabbitmq, subscription, handler, &readiness, &stop).await;
    let _ended = beside.join_all().await;
    give_up.cancel();
    tracer.close().await;
    Ok(())
}

/// [`open`], tried until it succeeds or `stop` (none).
async fn open_when_ready(
    config: &Config,
    stop: &CancellationToken,
    give_up: &CancellationToken,
) -> Result<Option<(ReconcileHandler, Archive)>, ReconcilerError> {
    let mut backoff = Backoff::for_services();
    loop {
        let opened = async {
            let handler = open(config, give_up.clone()).await?;
            let archive = Archive::new(&handler.stores.session, &config.cassandra).await?;
            Ok::<_, ReconcilerError>((handler, archive))
        };
        let Some(opened) = stop.run_until_cancelled(opened).await else { return Ok(None) };
        match opened {
            Ok(opened) => return Ok(Some(opened)),
            Err(error) if error.is_temporary() => tracing::warn!(%error, "not ready; trying again"),
            Err(error) => return Err(error),
        }
        if backoff.pause(stop).await.is_err() {
            return Ok(None);
        }
    }
}

/// Reaches both databases, brings Tollgate's tables up to date and checks the shop's.
async fn open(config: &Config, give_up: CancellationToken) -> Result<ReconcileHandler, ReconcilerError> {
    let pool = postgres::pool(&config.postgres, Duration::from_millis(config.reconciler.lock_timeout_ms))?;
    migrate::run(&pool, &config.postgres.schema).await.map_err(|error| match error {
        sqlx::Error::Migrate(error) if migrate::is_other_version(&error) => ReconcilerError::Schema(error.to_string()),
        error => error.into(),
    })?;
    growth::maintain(&pool, config.reconciler.history_days).await?;
    let orders = OrdersTable::new(config);
    orders.prepare(&pool).await?;
    let session = Arc::new(cassandra::connect(&config.cassandra).await?);
    cassandra::create_schema(&session, &config.cassandra).await?;
    let dead_letters = DeadLetters::new(&session, &config.cassandra, Stage::Reconcile).await?;
    let projection = match config.reconciler.project_payments {
        true => Some(Arc::new(Projection::new(&session, &config.cassandra).await?)),
        false => None,
    };
    Ok(ReconcileHandler {
        stores: Services {
            books: Books { pool, orders: Arc::new(orders) },
            session,
            dead_letters: Arc::new(dead_letters),
            projection,
        },
        metrics: Arc::new(Metrics::default()),
        parked: Arc::new(Notify::new()),
        tracer: Tracer::default(),
        give_up,
    })
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
