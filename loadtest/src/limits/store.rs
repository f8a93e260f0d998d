//! Raw cost of Cassandra: unlogged batches of one partition into a table like `payment_events`, and batches of many
//! partitions into one like the shop's view.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use platform::cassandra::{CassandraError, batch_of, connect, cql_date, create_schema, decimal, prepare};
use platform::config::{Cassandra, Config};
use scylla::client::session::Session;
use scylla::serialize::row::SerializeRow;
use scylla::value::{CqlDate, CqlDecimal, CqlTimestamp};
use uuid::Uuid;

use super::{LimitsError, Step, client_and};
use crate::cpu::Place;
use crate::seeded::Seeded;

const BATCH_ROWS: u16 = 100;
const IN_FLIGHT: usize = 16;
/// With `commitlog_sync: group` Cassandra runs the rows of such a batch one after another, each waiting for the next
/// sync, so that only many batches at once show the cost instead of the wait.
const VIEW_IN_FLIGHT: usize = 128;
const LANES: u64 = 8;

#[derive(scylla::SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct EventRow {
    region: &'static str,
    day: CqlDate,
    bucket: i32,
    payment_id: Uuid,
    event_id: Uuid,
    content_hash: [u8; 16],
    user_id: Uuid,
    order_id: Uuid,
    order_ref: &'static str,
    amount: CqlDecimal,
    currency: &'static str,
    status: &'static str,
    kind: &'static str,
    timestamp: CqlTimestamp,
    provider: &'static str,
    source: &'static str,
    provider_payment_id: &'static str,
    provider_event_id: &'static str,
    provider_event_type: &'static str,
    received_at: CqlTimestamp,
}

const INSERT_EVENT: &str = "INSERT INTO {keyspace}.payment_events (region, day, bucket, payment_id, event_id, \
    content_hash, user_id, order_id, order_ref, amount, currency, status, kind, timestamp, provider, source, \
    provider_payment_id, provider_event_id, provider_event_type, received_at) \
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

#[derive(scylla::SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
struct ViewRow {
    payment_id: Uuid,
    user_id: Uuid,
    order_id: Uuid,
    amount: CqlDecimal,
    status: &'static str,
    timestamp: CqlTimestamp,
    currency: &'static str,
    region: &'static str,
    day: CqlDate,
}

const INSERT_VIEW: &str = "INSERT INTO {keyspace}.payments (payment_id, user_id, order_id, amount, status, timestamp, \
    currency, region, day) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

pub async fn measure(config: &Config, keyspace: &str, length: Duration) -> Result<Vec<Step>, LimitsError> {
    let own = Cassandra { keyspace: keyspace.to_owned(), ..config.cassandra.clone() };
    let session = connect(&own).await?;
    create_schema(&session, &own).await?;
    let outcome = measure_in(&session, &own, config, length).await;
    let drop = session.query_unpaged(format!("DROP KEYSPACE {keyspace}"), ()).await;
    let steps = outcome?;
    drop.map_err(CassandraError::from)?;
    Ok(steps)
}

async fn measure_in(
    session: &Session,
    own: &Cassandra,
    config: &Config,
    length: Duration,
) -> Result<Vec<Step>, CassandraError> {
    let mut seeded = Seeded::new(platform::clock::now_us().unsigned_abs());
    let mut id = || Uuid::from_u64_pair(seeded.next(), seeded.next());
    let meter = client_and("cassandra", Place::cassandra(config));
    let rows = write(session, own, INSERT_EVENT, IN_FLIGHT, length, |batch| event_row(batch, id(), id())).await?;
    let mut steps = vec![Step::of("stored: batches of 100 rows, one partition", 1, rows, meter)];
    if config.reconciler.project_payments {
        let meter = client_and("cassandra", Place::cassandra(config));
        let rows = write(session, own, INSERT_VIEW, VIEW_IN_FLIGHT, length, |_| view_row(id(), id())).await?;
        steps.push(Step::of("shop's view: batches of 100 rows, 100 partitions", 1, rows, meter));
    }
    Ok(steps)
}

fn event_row(batch: u64, payment_id: Uuid, event_id: Uuid) -> EventRow {
    EventRow {
        region: "eu",
        day: cql_date(20_000),
        bucket: i32::try_from(batch % LANES).unwrap_or(0),
        payment_id,
        event_id,
        content_hash: *payment_id.as_bytes(),
        user_id: payment_id,
        order_id: event_id,
        order_ref: "lt-abcdefgh-00000001",
        amount: decimal(1999, 2),
        currency: "EUR",
        status: "captured",
        kind: "captured_total",
        timestamp: CqlTimestamp(1_795_514_400_000),
        provider: "stripe",
        source: "stripe",
        provider_payment_id: "pi_LTABCDEFGHABCDEFGH",
        provider_event_id: "evt_LTABCDEFGHABCDEFGH",
        provider_event_type: "payment_intent.succeeded",
        received_at: CqlTimestamp(1_795_514_400_000),
    }
}

fn view_row(payment_id: Uuid, order_id: Uuid) -> ViewRow {
    ViewRow {
        payment_id,
        user_id: order_id,
        order_id,
        amount: decimal(1999, 2),
        status: "captured",
        timestamp: CqlTimestamp(1_795_514_400_000),
        currency: "EUR",
        region: "eu",
        day: cql_date(20_000),
    }
}

/// Writes batches for `length`; returns the number of rows.
async fn write<R: SerializeRow>(
    session: &Session,
    config: &Cassandra,
    insert: &str,
    in_flight: usize,
    length: Duration,
    mut row: impl FnMut(u64) -> R,
) -> Result<u64, CassandraError> {
    let insert = prepare(session, config, insert).await?;
    let batch = batch_of(&insert, usize::from(BATCH_ROWS));
    let end = Instant::now() + length;
    let mut batches = 0;
    let mut writes = FuturesUnordered::new();
    loop {
        while writes.len() < in_flight && Instant::now() < end {
            let rows: Vec<R> = (0..BATCH_ROWS).map(|_| row(batches)).collect();
            let batch = &batch;
            writes.push(async move { session.batch(batch, rows).await });
            batches += 1;
        }
        match writes.next().await {
            Some(written) => drop(written?),
            None => return Ok(batches * u64::from(BATCH_ROWS)),
        }
    }
}
