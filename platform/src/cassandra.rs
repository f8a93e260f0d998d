//! Reaching Cassandra: the session, the schema, and which errors are worth another try.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::cluster::Node;
use scylla::cluster::metadata::Strategy;
use scylla::errors::{DbError, ExecutionError, NewSessionError, PrepareError, RequestAttemptError};
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::Consistency;
use scylla::statement::batch::{Batch, BatchStatement, BatchType};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDate, CqlDecimal};
use uuid::Uuid;

use crate::config::Cassandra;
use crate::tls::client_config;

const TABLES: &str = include_str!("../../schema/cassandra/tables.cql");

/// Why Cassandra cannot be used; worth another try unless the configuration is wrong.
#[derive(Debug, thiserror::Error)]
pub enum CassandraError {
    /// No node answers, or it refuses the credentials.
    #[error("cannot connect to Cassandra: {0}")]
    Connect(#[from] NewSessionError),
    /// What is needed for it cannot be read.
    #[error("cannot connect to Cassandra: {0}")]
    Setup(String),
    /// A statement failed.
    #[error("Cassandra refused a statement: {0}")]
    Execute(#[from] ExecutionError),
    /// A statement cannot be prepared: the tables are not those of this version.
    #[error("cannot prepare a statement: {0}")]
    Prepare(#[from] PrepareError),
    /// The keyspace wants more replicas than there are nodes: nothing could be written.
    #[error(
        "keyspace {keyspace} has replication factor {wanted} in {datacenter}, where Cassandra has {nodes} nodes: \
         `ALTER KEYSPACE {keyspace} WITH replication = …`, and set cassandra.replication before the keyspace is created"
    )]
    Replication {
        /// The configured keyspace.
        keyspace: String,
        /// Where.
        datacenter: String,
        /// Replicas.
        wanted: usize,
        /// Nodes, up or not.
        nodes: usize,
    },
    /// An answer has other columns than the tables of this version.
    #[error("Cassandra's answer cannot be read: {0}")]
    Answer(String),
}

/// Connects. Requests have `LOCAL_QUORUM` and are never repeated by the driver: who sends them knows better.
///
/// # Errors
/// [`CassandraError::Connect`].
pub async fn connect(config: &Cassandra) -> Result<Session, CassandraError> {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .request_timeout(Some(Duration::from_millis(config.timeout_ms)))
        .retry_policy(Arc::new(FallthroughRetryPolicy))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&config.nodes)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(Duration::from_millis(config.timeout_ms))
        // A killed node is noticed within seconds, not when the kernel gives up.
        .keepalive_interval(Duration::from_secs(2))
        .keepalive_timeout(Duration::from_secs(4))
        .pool_size(PoolSize::PerHost(NonZeroUsize::MIN));
    if !config.user.is_empty() {
        let password = config.current_password().map_err(CassandraError::Setup)?;
        builder = builder.user(&config.user, password.expose());
    }
    if config.tls {
        let tls = client_config(&config.ca_file).map_err(|error| CassandraError::Setup(error.to_string()))?;
        builder = builder.tls_context(Some(tls));
    }
    Ok(builder.build().await?)
}

/// Creates the keyspace, the tables and the columns that are not there; with `cassandra.create = false` it does not.
///
/// # Errors
/// What Cassandra says.
pub async fn create_schema(session: &Session, config: &Cassandra) -> Result<(), CassandraError> {
    if !config.create {
        return check_replication(session, &config.keyspace).await;
    }
    let keyspace =
        format!("CREATE KEYSPACE IF NOT EXISTS {} WITH replication = {}", config.keyspace, config.replication);
    session.query_unpaged(keyspace, ()).await?;
    let statements: String =
        TABLES.lines().filter(|line| !line.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
    for statement in statements.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
        let before_name = if statement.starts_with("ALTER") { "ALTER TABLE " } else { "IF NOT EXISTS " };
        let qualified = statement.replacen(before_name, &format!("{before_name}{}.", config.keyspace), 1);
        session.query_unpaged(qualified, ()).await?;
    }
    check_replication(session, &config.keyspace).await
}

/// There are as many nodes as the keyspace wants replicas.
async fn check_replication(session: &Session, keyspace: &str) -> Result<(), CassandraError> {
    // Also right after the keyspace was created. What cannot be read is not judged.
    let _stale = session.refresh_metadata().await;
    let cluster = session.get_cluster_state();
    let Some(Strategy::NetworkTopologyStrategy { datacenter_repfactors }) =
        cluster.get_keyspace(keyspace).map(|found| &found.strategy)
    else {
        return Ok(());
    };
    for (datacenter, wanted) in datacenter_repfactors {
        let of_datacenter = |node: &&Arc<Node>| node.datacenter.as_ref() == Some(datacenter);
        let nodes = cluster.get_nodes_info().iter().filter(of_datacenter).count();
        if nodes < *wanted {
            let (keyspace, datacenter) = (keyspace.to_owned(), datacenter.clone());
            return Err(CassandraError::Replication { keyspace, datacenter, wanted: *wanted, nodes });
        }
    }
    Ok(())
}

/// Prepares an idempotent statement, in which `{keyspace}` stands for the configured keyspace.
///
/// # Errors
/// What Cassandra says.
pub async fn prepare(
    session: &Session,
    config: &Cassandra,
    statement: &str,
) -> Result<PreparedStatement, CassandraError> {
    let mut prepared = session.prepare(statement.replace("{keyspace}", &config.keyspace)).await?;
    prepared.set_is_idempotent(true);
    Ok(prepared)
}

/// An unlogged batch of `len` times the same statement.
#[must_use]
pub fn batch_of(statement: &PreparedStatement, len: usize) -> Batch {
    let statements = vec![BatchStatement::PreparedStatement(statement.clone()); len];
    let mut batch = Batch::new_with_statements(BatchType::Unlogged, statements);
    batch.set_is_idempotent(true);
    batch
}

/// An amount in minor units as Cassandra's `decimal`, with the currency's digits.
#[must_use]
pub fn decimal(minor: i64, exponent: u8) -> CqlDecimal {
    CqlDecimal::from_signed_be_bytes_and_exponent(minor.to_be_bytes().to_vec(), i32::from(exponent))
}

/// A day since 1970-01-01 as Cassandra counts it.
#[must_use]
pub fn cql_date(day: i32) -> CqlDate {
    CqlDate((1_u32 << 31).wrapping_add_signed(day))
}

/// The number of buckets of [`spread`].
pub const BUCKETS: i32 = 16;

/// One of [`BUCKETS`] buckets, so that a flood of quarantined or dead-lettered records fills no single partition.
#[must_use]
pub fn spread(id: Uuid) -> i32 {
    i32::from(id.as_bytes()[15]) % BUCKETS
}

/// Whether the same request can succeed later: everything but a request that Cassandra understood and refuses.
#[must_use]
pub fn is_retriable(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_) => false,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => !matches!(
            error,
            DbError::SyntaxError
                | DbError::Invalid
                | DbError::Unauthorized
                | DbError::ConfigError
                | DbError::FunctionFailure { .. }
        ),
        ExecutionError::LastAttemptError(
            RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_),
        ) => false,
        _ => true,
    }
}

/// Why a request to Cassandra failed for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// No answer in time, from a node or from enough of them.
    Timeout,
    /// Fewer nodes are up than the consistency level needs.
    Unavailable,
    /// A node says that it has too much to do.
    Overloaded,
    /// No connection, or one that broke.
    Disconnected,
    /// Anything else that may pass.
    Other,
}

impl Trouble {
    /// Every trouble, for counters that exist before the first one.
    pub const ALL: [Self; 5] = [Self::Timeout, Self::Unavailable, Self::Overloaded, Self::Disconnected, Self::Other];

    /// What an error is.
    #[must_use]
    pub fn of(error: &ExecutionError) -> Self {
        match error {
            ExecutionError::RequestTimeout(_) => Self::Timeout,
            ExecutionError::ConnectionPoolError(_) | ExecutionError::EmptyPlan => Self::Disconnected,
            ExecutionError::LastAttemptError(RequestAttemptError::BrokenConnectionError(_)) => Self::Disconnected,
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => match error {
                DbError::WriteTimeout { .. } | DbError::ReadTimeout { .. } => Self::Timeout,
                DbError::Unavailable { .. } => Self::Unavailable,
                DbError::Overloaded | DbError::RateLimitReached { .. } => Self::Overloaded,
                _ => Self::Other,
            },
            _ => Self::Other,
        }
    }

    /// The label in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Disconnected => "disconnected",
            Self::Other => "other",
        }
    }
}
