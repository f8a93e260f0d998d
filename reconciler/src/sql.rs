//! The statements: set-based, over arrays, a few a transaction however many events it has.

use std::collections::HashMap;

use domain::Currency;
use domain::fold::{Facts, Payment};
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use uuid::Uuid;

use crate::plan::{Arrived, OrderChange, PaymentRow};

/// The columns that [`payment_of`] reads, in its order.
pub const PAYMENT_COLUMNS: &str = "payment_id, order_ref, provider, account, provider_ref, region, facts, version, \
                                   currency, status, captured, refunded, disputed";

/// Reads the payments that the events name, and all others of the locked orders.
pub async fn read_payments(
    tx: &mut PgConnection,
    payment_ids: &[Uuid],
    references: &[&str],
) -> Result<HashMap<Uuid, PaymentRow>, sqlx::Error> {
    let select = format!("SELECT {PAYMENT_COLUMNS} FROM payments WHERE payment_id = ANY ($1) OR order_ref = ANY ($2)");
    let rows = sqlx::query(AssertSqlSafe(select)).bind(payment_ids).bind(references).fetch_all(tx).await?;
    rows.iter().map(|row| payment_of(row).map(|payment| (payment.payment_id, payment))).collect()
}

/// A payment's row of [`PAYMENT_COLUMNS`].
pub fn payment_of(row: &PgRow) -> Result<PaymentRow, sqlx::Error> {
    let facts: &[u8] = row.try_get(6)?;
    let facts = Facts::decode(facts).map_err(|error| sqlx::Error::Decode(error.into()))?;
    let folded = Payment::of(&facts);
    let currency: Option<&str> = row.try_get(8)?;
    let in_line = currency == folded.currency.as_ref().map(Currency::as_str)
        && row.try_get::<&str, _>(9)? == folded.shop_status()
        && row.try_get::<i64, _>(10)? == folded.captured
        && row.try_get::<i64, _>(11)? == folded.refunded
        && row.try_get::<i64, _>(12)? == folded.disputed;
    Ok(PaymentRow {
        payment_id: row.try_get(0)?,
        order_ref: row.try_get(1)?,
        provider: row.try_get(2)?,
        account: row.try_get(3)?,
        provider_ref: row.try_get(4)?,
        region: row.try_get(5)?,
        facts,
        version: row.try_get(7)?,
        in_line,
    })
}

/// The payments that ids stand for which are not their own.
pub async fn read_links(tx: &mut PgConnection, ids: &[Uuid]) -> Result<HashMap<Uuid, Uuid>, sqlx::Error> {
    let rows =
        sqlx::query("SELECT alias, payment_id FROM links WHERE alias = ANY ($1)").bind(ids).fetch_all(tx).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Writes links; one that is there already stays.
pub async fn write_links(tx: &mut PgConnection, links: &[(Uuid, Uuid)]) -> Result<(), sqlx::Error> {
    if links.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO links (alias, payment_id) SELECT * FROM UNNEST($1::uuid[], $2::uuid[]) ON CONFLICT DO NOTHING",
    )
    .bind(links.iter().map(|(alias, _)| *alias).collect::<Vec<_>>())
    .bind(links.iter().map(|(_, payment_id)| *payment_id).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Writes payments whose rows still have the version they were read with; returns how many had.
pub async fn write_payments(tx: &mut PgConnection, payments: &[(PaymentRow, i64)]) -> Result<u64, sqlx::Error> {
    let (new, known): (Vec<_>, Vec<_>) = payments.iter().partition(|(_, expected)| *expected == 0);
    let mut written = 0;
    if !new.is_empty() {
        let c = Columns::of(&new);
        let inserted = sqlx::query(
            "INSERT INTO payments (payment_id, order_ref, currency, status, captured, refunded, disputed, facts, \
                 version, day, provider, account, provider_ref, region) \
             SELECT id, order_ref, currency, status, captured, refunded, disputed, facts, version, \
                 date '1970-01-01' + day, provider, account, provider_ref, region \
             FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], \
                 $7::bigint[], $8::bytea[], $9::bigint[], $10::int[], $11::text[], $12::text[], $13::text[], $14::text[]) \
                 AS u (id, order_ref, currency, status, captured, refunded, disputed, facts, version, day, provider, \
                       account, provider_ref, region) \
             ON CONFLICT (payment_id) DO NOTHING",
        )
        .bind(&c.ids)
        .bind(&c.order_refs)
        .bind(&c.currencies)
        .bind(&c.statuses)
        .bind(&c.captured)
        .bind(&c.refunded)
        .bind(&c.disputed)
        .bind(&c.facts)
        .bind(&c.versions)
        .bind(&c.days)
        .bind(new.iter().map(|(row, _)| row.provider.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|(row, _)| row.account.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|(row, _)| row.provider_ref.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|(row, _)| row.region.as_str()).collect::<Vec<_>>())
        .execute(&mut *tx)
        .await?;
        written += inserted.rows_affected();
    }
    if !known.is_empty() {
        let c = Columns::of(&known);
        let updated = sqlx::query(
            "UPDATE payments p SET order_ref = u.order_ref, currency = u.currency, status = u.status, \
                 captured = u.captured, refunded = u.refunded, disputed = u.disputed, facts = u.facts, \
                 version = u.version, day = date '1970-01-01' + u.day \
             FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], \
                 $8::bytea[], $9::bigint[], $10::int[], $11::bigint[]) \
                 AS u (id, order_ref, currency, status, captured, refunded, disputed, facts, version, day, expected) \
             WHERE p.payment_id = u.id AND p.version = u.expected",
        )
        .bind(&c.ids)
        .bind(&c.order_refs)
        .bind(&c.currencies)
        .bind(&c.statuses)
        .bind(&c.captured)
        .bind(&c.refunded)
        .bind(&c.disputed)
        .bind(&c.facts)
        .bind(&c.versions)
        .bind(&c.days)
        .bind(known.iter().map(|(_, expected)| *expected).collect::<Vec<_>>())
        .execute(tx)
        .await?;
        written += updated.rows_affected();
    }
    Ok(written)
}

/// Payments as one array a column.
struct Columns<'a> {
    ids: Vec<Uuid>,
    order_refs: Vec<&'a str>,
    currencies: Vec<Option<String>>,
    statuses: Vec<&'static str>,
    captured: Vec<i64>,
    refunded: Vec<i64>,
    disputed: Vec<i64>,
    facts: Vec<Vec<u8>>,
    versions: Vec<i64>,
    days: Vec<i32>,
}

impl<'a> Columns<'a> {
    fn of(rows: &[&'a (PaymentRow, i64)]) -> Self {
        let folded: Vec<Payment> = rows.iter().map(|(row, _)| Payment::of(&row.facts)).collect();
        Self {
            ids: rows.iter().map(|(row, _)| row.payment_id).collect(),
            order_refs: rows.iter().map(|(row, _)| row.order_ref.as_str()).collect(),
            currencies: folded.iter().map(|p| p.currency.map(|c| c.as_str().to_owned())).collect(),
            statuses: folded.iter().map(Payment::shop_status).collect(),
            captured: folded.iter().map(|p| p.captured).collect(),
            refunded: folded.iter().map(|p| p.refunded).collect(),
            disputed: folded.iter().map(|p| p.disputed).collect(),
            facts: rows.iter().map(|(row, _)| row.facts.encode()).collect(),
            versions: rows.iter().map(|(row, _)| row.version).collect(),
            days: rows.iter().map(|(row, _)| row.day()).collect(),
        }
    }
}

/// Writes a transition for each order whose status changes; returns how many do.
pub async fn write_transitions(tx: &mut PgConnection, changes: &[OrderChange]) -> Result<usize, sqlx::Error> {
    let transitions: Vec<_> = changes.iter().filter_map(|change| Some((change, change.word.as_deref()?))).collect();
    if transitions.is_empty() {
        return Ok(0);
    }
    sqlx::query(
        "INSERT INTO transitions (order_ref, from_status, to_status, event_id) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::uuid[])",
    )
    .bind(transitions.iter().map(|(change, _)| change.reference.as_str()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(change, _)| change.from_status.as_str()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(_, word)| *word).collect::<Vec<_>>())
    .bind(transitions.iter().map(|(change, _)| change.cause).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(transitions.len())
}

/// Parks events; one that is parked already stays as it is.
pub async fn park(tx: &mut PgConnection, events: &[&Arrived<'_>]) -> Result<u64, sqlx::Error> {
    if events.is_empty() {
        return Ok(0);
    }
    let parked = sqlx::query(
        "INSERT INTO parked_events (event_id, content_hash, payment_id, order_ref, kind, record) \
         SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::uuid[], $4::text[], $5::text[], $6::bytea[]) \
         ON CONFLICT (event_id, content_hash) DO NOTHING",
    )
    .bind(events.iter().map(|arrived| arrived.event.event_id).collect::<Vec<_>>())
    .bind(events.iter().map(|arrived| &arrived.event.content_hash.0[..]).collect::<Vec<_>>())
    .bind(events.iter().map(|arrived| arrived.event.payment_id).collect::<Vec<_>>())
    .bind(events.iter().map(|arrived| arrived.event.order_ref.as_deref()).collect::<Vec<_>>())
    .bind(events.iter().map(|arrived| arrived.event.kind.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|arrived| arrived.raw).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(parked.rows_affected())
}
