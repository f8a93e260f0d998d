//! Storing rows: batches of one partition, many in flight, each tried until it is stored or refused for good.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use domain::PaymentEvent;
use domain::partition::{Layout, day_of};
use domain::quarantine::Quarantined;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use platform::amqp::Stage;
use platform::cassandra::{CassandraError, Trouble, is_retriable};
use platform::config::Config;
use platform::counters::UnderWay;
use platform::dead_letters::{DeadLetters, Inserts, Table};
use platform::retry::{Backoff, Stopped};
use scylla::client::session::Session;
use scylla::errors::ExecutionError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::metrics::StoreMetrics;
use crate::rows::{EventRow, QuarantineRow};
use crate::tables::{Prepared, Tables};

/// Quarantined bodies written at once: payments wait behind them.
const QUARANTINES_IN_FLIGHT_MAX: usize = 64;

/// Writes rows until they are stored or refused for good.
pub struct Store<T = Prepared, D = Table> {
    tables: T,
    dead_letters: DeadLetters<D>,
    /// Layouts of days that are pinned, and never change again.
    pinned: RwLock<HashMap<(String, i32), Layout>>,
    metrics: StoreMetrics,
    rows_max: usize,
    bytes_max: usize,
    in_flight_max: usize,
}

/// An event with the raw record it came in.
pub struct Incoming<'a> {
    /// What it says.
    pub event: PaymentEvent<'a>,
    /// The record, as it goes on to the reconciler.
    pub raw: &'a [u8],
}

impl Store {
    /// Prepares the statements.
    pub async fn new(session: Session, config: &Config) -> Result<Self, CassandraError> {
        let session = Arc::new(session);
        let tables = Prepared::new(&session, &config.cassandra).await?;
        let dead_letters = DeadLetters::new(&session, &config.cassandra, Stage::Write).await?;
        Ok(Self::of(tables, dead_letters, config))
    }

    /// Whether Cassandra answers.
    pub async fn ping(&self) -> bool {
        self.tables.session.query_unpaged("SELECT key FROM system.local", ()).await.is_ok()
    }
}

impl<T: Tables, D: Inserts> Store<T, D> {
    /// Writes to these tables.
    pub fn of(tables: T, dead_letters: DeadLetters<D>, config: &Config) -> Self {
        Self {
            tables,
            dead_letters,
            pinned: RwLock::default(),
            metrics: StoreMetrics::new(config.writer.batches_in_flight_max),
            rows_max: config.writer.batch_rows_max,
            bytes_max: config.writer.batch_bytes_max,
            in_flight_max: config.writer.batches_in_flight_max,
        }
    }

    /// Stores events; returns the index of each that Cassandra refuses for good, with the reason.
    pub async fn write_events(
        &self,
        events: &[Incoming<'_>],
        give_up: &CancellationToken,
    ) -> Result<Vec<(usize, String)>, Stopped> {
        // Ordered, so that the same batch is always written in the same order.
        let mut partitions: BTreeMap<(&str, i32, i32), Vec<usize>> = BTreeMap::new();
        let mut layouts: HashMap<(&str, i32), Layout> = HashMap::new();
        for (index, incoming) in events.iter().enumerate() {
            let event = &incoming.event;
            let day = day_of(event.event_time_ms);
            let layout = match layouts.get(&(&*event.region, day)) {
                Some(layout) => *layout,
                None => {
                    let layout = self.layout(&event.region, day, give_up).await?;
                    layouts.insert((&event.region, day), layout);
                    layout
                }
            };
            let bucket = layout.bucket(event.event_time_ms, event.payment_id);
            partitions.entry((&event.region, day, bucket)).or_default().push(index);
        }
        let places = Semaphore::new(self.in_flight_max);
        let mut writes = FuturesUnordered::new();
        for ((region, day, _), indexes) in &partitions {
            let Some(layout) = layouts.get(&(*region, *day)) else { continue };
            for batch in self.cut(events, indexes) {
                writes.push(self.write_batch(events, batch, *layout, &places, give_up));
            }
        }
        let mut refused = Vec::new();
        while let Some(outcome) = writes.next().await {
            refused.extend(outcome?);
        }
        Ok(refused)
    }

    /// Cuts one partition's events into batches of bounded rows and bytes.
    fn cut<'i>(&self, events: &[Incoming<'_>], indexes: &'i [usize]) -> Vec<&'i [usize]> {
        let mut batches = Vec::with_capacity(indexes.len() / self.rows_max + 1);
        let mut start = 0;
        let mut bytes = 0;
        for (end, index) in indexes.iter().enumerate() {
            let len = events[*index].raw.len();
            if end > start && (end - start == self.rows_max || bytes + len > self.bytes_max) {
                batches.push(&indexes[start..end]);
                (start, bytes) = (end, 0);
            }
            bytes += len;
        }
        batches.push(&indexes[start..]);
        batches
    }

    async fn write_batch(
        &self,
        events: &[Incoming<'_>],
        indexes: &[usize],
        layout: Layout,
        places: &Semaphore,
        give_up: &CancellationToken,
    ) -> Result<Vec<(usize, String)>, Stopped> {
        let _place = places.acquire().await.map_err(|_| Stopped)?;
        let _under_way = UnderWay::of(&self.metrics.in_flight);
        let started = Instant::now();
        let rows: Vec<EventRow<'_>> = indexes.iter().map(|i| EventRow::new(&events[*i].event, layout)).collect();
        let outcome = self.write_rows(&rows, give_up).await?;
        self.metrics.batch_seconds.record(started.elapsed());
        self.metrics.batch_size.record(f64::from(u32::try_from(rows.len()).unwrap_or(u32::MAX)));
        match (outcome, indexes) {
            (Ok(()), _) => Ok(Vec::new()),
            (Err(reason), [index]) => Ok(vec![(*index, reason)]),
            // One of them is refused: each alone shows which.
            (Err(_), indexes) => {
                let mut refused = Vec::new();
                for (index, row) in indexes.iter().zip(rows.chunks(1)) {
                    if let Err(reason) = self.write_rows(row, give_up).await? {
                        refused.push((*index, reason));
                    }
                }
                Ok(refused)
            }
        }
    }

    async fn write_rows(
        &self,
        rows: &[EventRow<'_>],
        give_up: &CancellationToken,
    ) -> Result<Result<(), String>, Stopped> {
        let mut backoff = Backoff::for_services();
        loop {
            let outcome = self.tables.insert_events(rows).await;
            if let Some(settled) = self.settled(outcome, &mut backoff, give_up).await? {
                return Ok(settled);
            }
        }
    }

    /// Stores quarantined bodies, many at once; returns the index of each that Cassandra refuses for good, with the
    /// reason.
    pub async fn quarantine(
        &self,
        bodies: &[Quarantined<'_>],
        give_up: &CancellationToken,
    ) -> Result<Vec<(usize, String)>, Stopped> {
        let places = Semaphore::new(QUARANTINES_IN_FLIGHT_MAX);
        let mut writes = FuturesUnordered::new();
        for (index, body) in bodies.iter().enumerate() {
            writes.push(self.write_quarantined(index, body, &places, give_up));
        }
        let mut refused = Vec::new();
        while let Some(outcome) = writes.next().await {
            refused.extend(outcome?);
        }
        Ok(refused)
    }

    async fn write_quarantined(
        &self,
        index: usize,
        body: &Quarantined<'_>,
        places: &Semaphore,
        give_up: &CancellationToken,
    ) -> Result<Option<(usize, String)>, Stopped> {
        let _place = places.acquire().await.map_err(|_| Stopped)?;
        let row = QuarantineRow::new(body);
        let mut backoff = Backoff::for_services();
        loop {
            let outcome = self.tables.insert_quarantined(&row).await;
            if let Some(settled) = self.settled(outcome, &mut backoff, give_up).await? {
                return Ok(settled.err().map(|reason| (index, reason)));
            }
        }
    }

    /// Stores records that cannot be processed.
    pub async fn dead_letter(
        &self,
        queue: &str,
        records: &[(&[u8], String)],
        give_up: &CancellationToken,
    ) -> Result<(), Stopped> {
        self.dead_letters.store_all(queue, records, give_up).await
    }

    async fn layout(&self, region: &str, day: i32, give_up: &CancellationToken) -> Result<Layout, Stopped> {
        let key = (region.to_owned(), day);
        if let Some(layout) = self.pinned.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(*layout);
        }
        let mut backoff = Backoff::for_services();
        loop {
            match self.tables.pin(region, day).await {
                Ok(layout) => {
                    self.pinned.write().unwrap_or_else(PoisonError::into_inner).insert(key, layout);
                    return Ok(layout);
                }
                Err(error) => {
                    tracing::warn!(%error, region, day, "cannot pin the layout of a day; trying again");
                    self.metrics.retries.count(Trouble::of(&error));
                }
            }
            backoff.pause(give_up).await?;
        }
    }

    /// What became of a request: stored, refused for good (with the reason), or (`None`, after a pause) to be tried
    /// again. An outage is waited out in this way, with the frames held.
    async fn settled(
        &self,
        outcome: Result<(), ExecutionError>,
        backoff: &mut Backoff,
        give_up: &CancellationToken,
    ) -> Result<Option<Result<(), String>>, Stopped> {
        match outcome {
            Ok(()) => Ok(Some(Ok(()))),
            Err(error) if is_retriable(&error) => {
                tracing::warn!(%error, "cassandra write failed; trying again");
                self.metrics.retries.count(Trouble::of(&error));
                backoff.pause(give_up).await?;
                Ok(None)
            }
            Err(error) => {
                self.metrics.refused.increment(1);
                Ok(Some(Err(error.to_string())))
            }
        }
    }
}
