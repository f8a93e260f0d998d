//! Dead letters: records that a program cannot process, each alone, kept as they were until a person has looked.

use std::sync::Arc;

use domain::frame::Record;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use metrics::{Counter, counter, describe_counter};
use scylla::SerializeRow;
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlTimestamp, MaybeUnset};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::amqp::Stage;
use crate::cassandra::{CassandraError, prepare, spread};
use crate::clock::now_ms;
use crate::config::Cassandra;
use crate::retry::{Backoff, Stopped};

/// Records written at once.
const IN_FLIGHT_MAX: usize = 64;

/// Writes dead letters of one stage.
pub struct DeadLetters<T = Table> {
    table: T,
    stage: Stage,
    stored: Counter,
}

/// Where dead letters are written: [`Table`], or its model in the simulation.
pub trait Inserts: Send + Sync + 'static {
    /// Writes a row.
    fn insert(&self, row: &DeadRow<'_>) -> impl Future<Output = Result<(), ExecutionError>> + Send;
}

/// The table `dead_letters` in Cassandra.
pub struct Table {
    session: Arc<Session>,
    insert: PreparedStatement,
}

impl Inserts for Table {
    async fn insert(&self, row: &DeadRow<'_>) -> Result<(), ExecutionError> {
        self.session.execute_unpaged(&self.insert, row).await.map(|_| ())
    }
}

/// A row of the table.
#[derive(SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub struct DeadRow<'a> {
    stage: &'a str,
    bucket: i32,
    /// A function of the record.
    pub id: Uuid,
    queue: &'a str,
    reason: &'a str,
    failed_at: CqlTimestamp,
    /// The record as it was, or the frame that is none.
    pub record: &'a [u8],
    source: MaybeUnset<&'a str>,
    region: MaybeUnset<&'a str>,
    program_version: &'static str,
}

/// The source and region of a record that can be read.
fn of_whom<'a>(record: &'a Option<Record<'_>>) -> (MaybeUnset<&'a str>, MaybeUnset<&'a str>) {
    match record {
        Some(Record::Event(event)) => (MaybeUnset::Set(&event.source), MaybeUnset::Set(&event.region)),
        Some(Record::Quarantined(body)) => (MaybeUnset::Set(&body.source), MaybeUnset::Set(&body.region)),
        Some(Record::Claim(claim)) => (MaybeUnset::Set(&claim.source), MaybeUnset::Unset),
        None => (MaybeUnset::Unset, MaybeUnset::Unset),
    }
}

impl DeadLetters {
    /// Prepares the statement.
    ///
    /// # Errors
    /// What Cassandra says.
    pub async fn new(session: &Arc<Session>, config: &Cassandra, stage: Stage) -> Result<Self, CassandraError> {
        let insert = "INSERT INTO {keyspace}.dead_letters (stage, bucket, id, queue, reason, failed_at, record, \
                      source, region, program_version) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
        let insert = prepare(session, config, insert).await?;
        Ok(Self::of(Table { session: Arc::clone(session), insert }, stage))
    }
}

impl<T: Inserts> DeadLetters<T> {
    /// Writes those of a stage to a table.
    pub fn of(table: T, stage: Stage) -> Self {
        describe_counter!("tollgate_dead_letters_total", "Records stored in the dead_letters table, by stage.");
        let stored = counter!("tollgate_dead_letters_total", "stage" => stage.as_str());
        Self { table, stage, stored }
    }

    /// Stores records with their reasons, many at once: others wait behind them.
    ///
    /// # Errors
    /// [`Stopped`] once `give_up` is cancelled.
    pub async fn store_all(
        &self,
        queue: &str,
        records: &[(&[u8], String)],
        give_up: &CancellationToken,
    ) -> Result<(), Stopped> {
        let places = Semaphore::new(IN_FLIGHT_MAX);
        let mut writes = FuturesUnordered::new();
        for (record, reason) in records {
            writes.push(self.store(queue, record, reason, &places, give_up));
        }
        while let Some(written) = writes.next().await {
            written?;
        }
        Ok(())
    }

    /// Stores a record. Nothing is behind the dead letters, so this tries until it succeeds; meanwhile the frame stays
    /// in RabbitMQ.
    ///
    /// # Errors
    /// [`Stopped`] once `give_up` is cancelled.
    async fn store(
        &self,
        queue: &str,
        record: &[u8],
        reason: &str,
        places: &Semaphore,
        give_up: &CancellationToken,
    ) -> Result<(), Stopped> {
        let _place = places.acquire().await.map_err(|_| Stopped)?;
        let trace_id = domain::frame::context(record).map(tracing::field::display);
        tracing::error!(queue, reason, trace_id, "dead-lettered");
        // The same bytes are the same row, however often they come.
        let id = domain::ids::record_id("dead", record);
        let decoded = Record::decode(record).ok();
        let (source, region) = of_whom(&decoded);
        let row = DeadRow {
            stage: self.stage.as_str(),
            bucket: spread(id),
            id,
            queue,
            reason,
            failed_at: CqlTimestamp(now_ms()),
            record,
            source,
            region,
            program_version: env!("CARGO_PKG_VERSION"),
        };
        let mut backoff = Backoff::for_services();
        while let Err(error) = self.table.insert(&row).await {
            tracing::error!(%error, "cannot store a dead letter; trying again");
            backoff.pause(give_up).await?;
        }
        self.stored.increment(1);
        Ok(())
    }
}
