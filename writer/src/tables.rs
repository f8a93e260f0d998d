//! Cassandra's tables as the store writes them: one statement each, tried once.

use std::sync::Arc;

use domain::partition::Layout;
use platform::cassandra::{CassandraError, batch_of, prepare};
use platform::config::Cassandra;
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::statement::prepared::PreparedStatement;

use crate::days::Days;
use crate::rows::{EventRow, INSERT_EVENT, INSERT_QUARANTINED, QuarantineRow};

/// What the store asks of Cassandra, or of its model in the simulation. Each is idempotent, and may have happened
/// although it failed.
pub trait Tables: Send + Sync + 'static {
    /// Writes rows of one partition in one batch: all or none.
    fn insert_events(&self, rows: &[EventRow<'_>]) -> impl Future<Output = Result<(), ExecutionError>> + Send;

    /// Writes a row.
    fn insert_quarantined(&self, row: &QuarantineRow<'_>) -> impl Future<Output = Result<(), ExecutionError>> + Send;

    /// The layout of a day; the first who asks pins the configured one.
    fn pin(&self, region: &str, day: i32) -> impl Future<Output = Result<Layout, ExecutionError>> + Send;
}

/// Cassandra, with its statements prepared.
pub struct Prepared {
    pub session: Arc<Session>,
    insert_event: PreparedStatement,
    insert_quarantined: PreparedStatement,
    days: Days,
}

impl Prepared {
    /// Prepares the statements.
    pub async fn new(session: &Arc<Session>, config: &Cassandra) -> Result<Self, CassandraError> {
        Ok(Self {
            session: Arc::clone(session),
            insert_event: prepare(session, config, INSERT_EVENT).await?,
            insert_quarantined: prepare(session, config, INSERT_QUARANTINED).await?,
            days: Days::new(session, config).await?,
        })
    }
}

impl Tables for Prepared {
    async fn insert_events(&self, rows: &[EventRow<'_>]) -> Result<(), ExecutionError> {
        match rows {
            [row] => self.session.execute_unpaged(&self.insert_event, row).await.map(|_| ()),
            rows => self.session.batch(&batch_of(&self.insert_event, rows.len()), rows).await.map(|_| ()),
        }
    }

    async fn insert_quarantined(&self, row: &QuarantineRow<'_>) -> Result<(), ExecutionError> {
        self.session.execute_unpaged(&self.insert_quarantined, row).await.map(|_| ())
    }

    async fn pin(&self, region: &str, day: i32) -> Result<Layout, ExecutionError> {
        self.days.pin(&self.session, region, day).await
    }
}
