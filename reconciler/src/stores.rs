//! What the deciding parts ask of both databases: the seam at which the simulation puts its models.

use std::sync::Arc;

use domain::PaymentEvent;
use platform::dead_letters::DeadLetters;
use platform::postgres::in_time;
use platform::retry::Stopped;
use scylla::client::session::Session;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::apply::{Applied, ApplyError, Books};
use crate::metrics::Metrics;
use crate::parked;
use crate::plan::{Arrived, PaymentRow};
use crate::project::Projection;

/// A parked event as it is kept: its id, its content's hash, its record.
pub type Parked = (Uuid, Vec<u8>, Vec<u8>);

/// Both databases, or their models in the simulation.
pub trait Stores: Clone + Send + Sync + 'static {
    /// Applies events in one transaction.
    fn apply(&self, events: &[Arrived<'_>]) -> impl Future<Output = Result<Applied, ApplyError>> + Send;

    /// [`Stores::apply`] for one event whose order's row may be refused.
    fn apply_refused(&self, event: &Arrived<'_>) -> impl Future<Output = Result<Applied, ApplyError>> + Send;

    /// Writes the shop's view of payments; tries until all are written. False where the shop has no view.
    fn write_view(
        &self,
        payments: &[PaymentRow],
        give_up: &CancellationToken,
    ) -> impl Future<Output = Result<bool, Stopped>> + Send;

    /// Stores records that cannot be processed, with their reasons; tries until all are stored.
    fn dead_letter(
        &self,
        origin: &str,
        records: &[(&[u8], String)],
        give_up: &CancellationToken,
    ) -> impl Future<Output = Result<(), Stopped>> + Send;

    /// Parked events whose order or payment is known by now, ordered by their key, behind this one; a page.
    fn parked(&self, after: &(Uuid, Vec<u8>)) -> impl Future<Output = Result<Vec<Parked>, ApplyError>> + Send;

    /// Parks an event that waits for nothing but others at its rows.
    fn park(&self, event: &Arrived<'_>) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Deletes parked events, which are applied or dead letters.
    fn unpark(&self, events: &[&PaymentEvent<'_>]) -> impl Future<Output = Result<(), ApplyError>> + Send;

    /// Opens and closes breaks for events that wait longer than this, and sets the gauges.
    fn report(&self, metrics: &Metrics, break_after_ms: i64) -> impl Future<Output = Result<(), ApplyError>> + Send;
}

/// Postgres and Cassandra.
#[derive(Clone)]
pub struct Services {
    pub books: Books,
    pub session: Arc<Session>,
    pub dead_letters: Arc<DeadLetters>,
    /// None where the shop wants no view.
    pub projection: Option<Arc<Projection>>,
}

impl Stores for Services {
    async fn apply(&self, events: &[Arrived<'_>]) -> Result<Applied, ApplyError> {
        self.books.apply(events).await
    }

    async fn apply_refused(&self, event: &Arrived<'_>) -> Result<Applied, ApplyError> {
        self.books.apply_refused(event).await
    }

    async fn write_view(&self, payments: &[PaymentRow], give_up: &CancellationToken) -> Result<bool, Stopped> {
        match &self.projection {
            Some(projection) => projection.write(&self.session, payments, give_up).await.map(|()| true),
            None => Ok(false),
        }
    }

    async fn dead_letter(
        &self,
        origin: &str,
        records: &[(&[u8], String)],
        give_up: &CancellationToken,
    ) -> Result<(), Stopped> {
        self.dead_letters.store_all(origin, records, give_up).await
    }

    async fn parked(&self, after: &(Uuid, Vec<u8>)) -> Result<Vec<Parked>, ApplyError> {
        parked::read(&self.books, after).await
    }

    async fn park(&self, event: &Arrived<'_>) -> Result<(), ApplyError> {
        parked::add(&self.books, event).await
    }

    async fn unpark(&self, events: &[&PaymentEvent<'_>]) -> Result<(), ApplyError> {
        parked::delete(&self.books, events).await
    }

    async fn report(&self, metrics: &Metrics, break_after_ms: i64) -> Result<(), ApplyError> {
        in_time(parked::report(&self.books, metrics, break_after_ms)).await
    }
}
