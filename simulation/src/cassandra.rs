//! A model of Cassandra: rows by their keys; a write that timed out may have happened, or happen later.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use domain::frame::Record;
use domain::ids::record_id;
use domain::partition::{Layout, day_of};
use platform::cassandra::cql_date;
use platform::dead_letters::{DeadRow, Inserts};
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::value::CqlDate;
use uuid::Uuid;
use writer::rows::{EventRow, QuarantineRow};
use writer::tables::Tables;

use crate::broker::records;
use crate::faults::Fault;
use crate::planted::Planted;
use crate::story::{EventKey, STORE_REFUSES, key_of};
use crate::world::{World, locked};

/// How long a request is waited for.
pub const TIMEOUT: Duration = Duration::from_millis(2000);

/// Where a row of `payment_events` lies.
pub type Partition = (String, u32, i32);

/// What is stored.
#[derive(Default)]
pub struct Cassandra {
    pub events: BTreeMap<EventKey, BTreeSet<Partition>>,
    pub days: BTreeMap<(String, i32), Layout>,
    pub quarantined: BTreeSet<Uuid>,
    pub dead: BTreeMap<Uuid, Vec<u8>>,
    /// The shop's view: version, state and amount by payment.
    pub view: BTreeMap<Uuid, (i64, &'static str, i64)>,
    /// Down, as long as this is set.
    pub down: bool,
}

impl Cassandra {
    pub fn has(&self, key: EventKey) -> bool {
        self.events.contains_key(&key)
    }

    pub fn is_dead_letter(&self, raw: &[u8]) -> bool {
        self.dead.contains_key(&record_id("dead", raw))
    }

    pub fn is_quarantined(&self, raw: &[u8]) -> bool {
        matches!(Record::decode(raw), Ok(Record::Quarantined(body)) if self.quarantined.contains(&body.id()))
    }

    /// Where an event belongs.
    pub fn place(&self, region: &str, time_ms: i64, payment_id: Uuid) -> Option<Partition> {
        let day = day_of(time_ms);
        let bucket = self.days.get(&(region.to_owned(), day))?.bucket(time_ms, payment_id);
        Some((region.to_owned(), cql_date(day).0, bucket))
    }
}

impl World {
    /// What goes on to the reconciler must be stored.
    pub fn check_stored(&self, frame: &[u8]) {
        for raw in records(frame) {
            let stored =
                matches!(Record::decode(raw), Ok(Record::Event(event)) if locked(&self.cassandra).has(key_of(&event)));
            if !stored {
                self.violate(|| "a record was handed on that is not stored".to_owned());
            }
        }
    }

    /// A request to Cassandra.
    pub async fn cassandra_call<T: Send + 'static>(
        self: &Arc<Self>,
        what: &'static str,
        serve: impl FnOnce(&mut Cassandra) -> T + Send + 'static,
    ) -> Result<T, ExecutionError> {
        if self.suffers(Fault::Unavailable) || locked(&self.cassandra).down {
            self.pause().await;
            return Err(ExecutionError::EmptyPlan);
        }
        let served = self.call(TIMEOUT, move |world, _| async move {
            world.note(|| format!("cassandra: {what}"));
            serve(&mut locked(&world.cassandra))
        });
        served.await.ok_or(ExecutionError::RequestTimeout(TIMEOUT))
    }
}

/// A program's session.
#[derive(Clone)]
pub struct SimTables {
    world: Arc<World>,
    in_flight: Arc<AtomicUsize>,
    /// What a day that nobody has pinned is pinned to.
    layout: Layout,
}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SimTables {
    pub fn new(world: &Arc<World>, layout: Layout) -> Self {
        Self { world: Arc::clone(world), in_flight: Arc::default(), layout }
    }

    fn check_bounds(&self, rows: &[EventRow<'_>]) -> InFlight<'_> {
        let world = &self.world;
        let writer = &world.config.writer;
        // Every queue has batches of its own under way.
        let queues = usize::from(world.config.rabbitmq.shards) + 1;
        let count = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        if count > writer.batches_in_flight_max * queues || rows.len() > writer.batch_rows_max {
            world.violate(|| format!("{count} batches under way, of {} rows", rows.len()));
        }
        let mut partitions = rows.iter().map(|row| (row.region, row.day, row.bucket));
        let first = partitions.next();
        if partitions.any(|partition| Some(partition) != first) {
            world.violate(|| "a batch has rows of several partitions".to_owned());
        }
        InFlight(&self.in_flight)
    }
}

impl Tables for SimTables {
    async fn insert_events(&self, rows: &[EventRow<'_>]) -> Result<(), ExecutionError> {
        let _in_flight = self.check_bounds(rows);
        if rows.iter().any(|row| row.provider_event_type == STORE_REFUSES) {
            self.world.pause().await;
            let refused = RequestAttemptError::DbError(DbError::Invalid, "refused".into());
            return Err(ExecutionError::LastAttemptError(refused));
        }
        let by_arrival = self.world.is_planted(Planted::DayByArrival);
        let layout = self.layout;
        let place = |row: &EventRow<'_>| match by_arrival {
            true => (cql_date(day_of(row.received_at.0)), layout.bucket(row.received_at.0, row.payment_id)),
            false => (row.day, row.bucket),
        };
        let keyed = |row: &EventRow<'_>| {
            let (CqlDate(day), bucket) = place(row);
            let content: [u8; 16] = row.content_hash.try_into().unwrap_or_default();
            ((row.event_id, content), (row.region.to_owned(), day, bucket))
        };
        let keyed: Vec<_> = rows.iter().map(keyed).collect();
        let insert = move |cassandra: &mut Cassandra| {
            for (key, partition) in keyed {
                cassandra.events.entry(key).or_default().insert(partition);
            }
        };
        self.world.cassandra_call("events written", insert).await
    }

    async fn insert_quarantined(&self, row: &QuarantineRow<'_>) -> Result<(), ExecutionError> {
        let id = row.id;
        let insert = move |cassandra: &mut Cassandra| cassandra.quarantined.insert(id);
        self.world.cassandra_call("body quarantined", insert).await.map(|_| ())
    }

    async fn pin(&self, region: &str, day: i32) -> Result<Layout, ExecutionError> {
        let (key, layout) = ((region.to_owned(), day), self.layout);
        let pin = move |cassandra: &mut Cassandra| *cassandra.days.entry(key).or_insert(layout);
        self.world.cassandra_call("day pinned", pin).await
    }
}

impl Inserts for SimTables {
    async fn insert(&self, row: &DeadRow<'_>) -> Result<(), ExecutionError> {
        let (id, record) = (row.id, row.record.to_vec());
        let insert = move |cassandra: &mut Cassandra| cassandra.dead.insert(id, record);
        self.world.cassandra_call("dead letter written", insert).await.map(|_| ())
    }
}
