//! The statements: set-based, over arrays, a few a transaction however many events it has.

use std::collections::{BTreeMap, HashMap};

use domain::fold::{Facts, Payment, Terms};
use domain::money::{decimal_text, parse_decimal};
use domain::{Currency, Money};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use crate::plan::{Arrived, OrderChange, OrderRow, PaymentRow};

/// Locks the orders that the events name and those of the payments they name, in key order; others wait, and nobody
/// waits in a circle. `FOR NO KEY UPDATE` leaves the shop's foreign keys on orders alone.
pub async fn lock_orders(
    tx: &mut PgConnection,
    references: &[&str],
    payment_ids: &[Uuid],
) -> Result<BTreeMap<String, OrderRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT reference, currency, total::text, status, paid::text, refunded::text, disputed::text FROM orders \
         WHERE reference = ANY (ARRAY(SELECT unnest($1::text[]) \
                                UNION SELECT order_ref FROM payments WHERE payment_id = ANY ($2))) \
         ORDER BY reference COLLATE \"C\" FOR NO KEY UPDATE",
    )
    .bind(references)
    .bind(payment_ids)
    .fetch_all(tx)
    .await?;
    let mut orders = BTreeMap::new();
    for row in &rows {
        let reference: String = row.try_get(0)?;
        match order_row(row) {
            Ok(order) => {
                orders.insert(reference, order);
            }
            // The shop's row is not Tollgate's to mend: its events wait, which opens a break, and hold up nobody.
            Err(error) => tracing::error!(reference, %error, "an order cannot be read"),
        }
    }
    Ok(orders)
}

fn order_row(row: &PgRow) -> Result<OrderRow, sqlx::Error> {
    let unreadable = |what: &str| sqlx::Error::Decode(what.into());
    let currency = Currency::parse(row.try_get(1)?).map_err(|_| unreadable("unknown currency"))?;
    let minor = |index: usize| {
        let text: &str = row.try_get(index)?;
        parse_decimal(text, currency.exponent()).map_err(|error| unreadable(&error.to_string()))
    };
    let total = Money::new(minor(2)?, currency).map_err(|error| unreadable(&error.to_string()))?;
    Ok(OrderRow { terms: Terms { total }, status: row.try_get(3)?, amounts: [minor(4)?, minor(5)?, minor(6)?] })
}

/// Reads the payments that the events name, and all others of the locked orders.
pub async fn read_payments(
    tx: &mut PgConnection,
    payment_ids: &[Uuid],
    references: &[&str],
) -> Result<HashMap<Uuid, PaymentRow>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT payment_id, order_ref, provider, account, provider_ref, region, facts, version FROM payments \
         WHERE payment_id = ANY ($1) OR order_ref = ANY ($2)",
    )
    .bind(payment_ids)
    .bind(references)
    .fetch_all(tx)
    .await?;
    rows.iter()
        .map(|row| {
            let facts: &[u8] = row.try_get(6)?;
            let payment = PaymentRow {
                payment_id: row.try_get(0)?,
                order_ref: row.try_get(1)?,
                provider: row.try_get(2)?,
                account: row.try_get(3)?,
                provider_ref: row.try_get(4)?,
                region: row.try_get(5)?,
                facts: Facts::decode(facts).map_err(|error| sqlx::Error::Decode(error.into()))?,
                version: row.try_get(7)?,
            };
            Ok((payment.payment_id, payment))
        })
        .collect()
}

/// Writes payments whose rows still have the version they were read with; returns how many had.
pub async fn write_payments(tx: &mut PgConnection, payments: &[(PaymentRow, i64)]) -> Result<u64, sqlx::Error> {
    let (new, known): (Vec<_>, Vec<_>) = payments.iter().partition(|(_, expected)| *expected == 0);
    let mut written = 0;
    if !new.is_empty() {
        let c = Columns::of(&new);
        let inserted = sqlx::query(
            "INSERT INTO payments (payment_id, order_ref, currency, status, captured, refunded, disputed, facts, \
                 version, provider, account, provider_ref, region) \
             SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], \
                 $7::bigint[], $8::bytea[], $9::bigint[], $10::text[], $11::text[], $12::text[], $13::text[]) \
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
                 version = u.version \
             FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], \
                 $8::bytea[], $9::bigint[], $10::bigint[]) \
                 AS u (id, order_ref, currency, status, captured, refunded, disputed, facts, version, expected) \
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
}

impl<'a> Columns<'a> {
    fn of(rows: &[&'a (PaymentRow, i64)]) -> Self {
        let folded: Vec<Payment> = rows.iter().map(|(row, _)| Payment::of(&row.facts)).collect();
        Self {
            ids: rows.iter().map(|(row, _)| row.payment_id).collect(),
            order_refs: rows.iter().map(|(row, _)| row.order_ref.as_str()).collect(),
            currencies: folded.iter().map(|p| p.currency.map(|c| c.as_str().to_owned())).collect(),
            statuses: folded.iter().map(|p| p.status.as_str()).collect(),
            captured: folded.iter().map(|p| p.captured).collect(),
            refunded: folded.iter().map(|p| p.refunded).collect(),
            disputed: folded.iter().map(|p| p.disputed).collect(),
            facts: rows.iter().map(|(row, _)| row.facts.encode()).collect(),
            versions: rows.iter().map(|(row, _)| row.version).collect(),
        }
    }
}

/// Writes orders, which are locked, and a transition for each whose status changes.
pub async fn write_orders(
    tx: &mut PgConnection,
    changes: &[OrderChange],
    orders: &BTreeMap<String, OrderRow>,
) -> Result<usize, sqlx::Error> {
    if changes.is_empty() {
        return Ok(0);
    }
    let amounts = |amount: fn(&OrderChange) -> i64| -> Vec<String> {
        let exponent = |c: &OrderChange| orders.get(&c.reference).map_or(2, |o| o.terms.total.currency.exponent());
        changes.iter().map(|change| decimal_text(amount(change), exponent(change))).collect()
    };
    sqlx::query(
        "UPDATE orders o SET status = u.status, paid = u.paid::numeric, refunded = u.refunded::numeric, \
             disputed = u.disputed::numeric, updated_at = now() \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) \
             AS u (reference, status, paid, refunded, disputed) WHERE o.reference = u.reference",
    )
    .bind(changes.iter().map(|change| change.reference.as_str()).collect::<Vec<_>>())
    .bind(changes.iter().map(|change| change.order.status.as_str()).collect::<Vec<_>>())
    .bind(amounts(|change| change.order.paid))
    .bind(amounts(|change| change.order.refunded))
    .bind(amounts(|change| change.order.disputed))
    .execute(&mut *tx)
    .await?;
    let transitions: Vec<_> = changes.iter().filter(|c| c.from_status != c.order.status.as_str()).collect();
    sqlx::query(
        "INSERT INTO transitions (order_ref, from_status, to_status, event_id) \
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::uuid[])",
    )
    .bind(transitions.iter().map(|change| change.reference.as_str()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|change| change.from_status.as_str()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|change| change.order.status.as_str()).collect::<Vec<_>>())
    .bind(transitions.iter().map(|change| change.cause).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(transitions.len())
}

/// Opens the differences found, and closes those of the examined orders that are gone.
pub async fn write_differences(
    tx: &mut PgConnection,
    differences: &[(&'static str, String, String)],
    examined: &[String],
) -> Result<(), sqlx::Error> {
    let kinds: Vec<&str> = differences.iter().map(|(kind, _, _)| *kind).collect();
    let subjects: Vec<&str> = differences.iter().map(|(_, subject, _)| subject.as_str()).collect();
    sqlx::query(
        "UPDATE breaks SET closed_at = now() WHERE closed_at IS NULL AND subject = ANY ($1) \
         AND kind IN ('amount', 'currency') \
         AND NOT EXISTS (SELECT FROM UNNEST($2::text[], $3::text[]) AS u (kind, subject) \
                         WHERE u.kind = breaks.kind AND u.subject = breaks.subject)",
    )
    .bind(examined)
    .bind(&kinds)
    .bind(&subjects)
    .execute(&mut *tx)
    .await?;
    if differences.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO breaks (kind, subject, detail) SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[]) \
         ON CONFLICT (kind, subject) DO UPDATE \
         SET last_seen = now(), detail = excluded.detail, closed_at = NULL, \
             first_seen = CASE WHEN breaks.closed_at IS NULL THEN breaks.first_seen ELSE now() END",
    )
    .bind(&kinds)
    .bind(&subjects)
    .bind(differences.iter().map(|(_, _, detail)| detail.as_str()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}

/// Parks events; one that is parked already stays as it is.
pub async fn park(tx: &mut PgConnection, events: &[&Arrived<'_>]) -> Result<u64, sqlx::Error> {
    if events.is_empty() {
        return Ok(0);
    }
    let parked = sqlx::query(
        "INSERT INTO parked_events (event_id, content_hash, payment_id, order_ref, record) \
         SELECT * FROM UNNEST($1::uuid[], $2::bytea[], $3::uuid[], $4::text[], $5::bytea[]) \
         ON CONFLICT (event_id, content_hash) DO NOTHING",
    )
    .bind(events.iter().map(|arrived| arrived.event.event_id).collect::<Vec<_>>())
    .bind(events.iter().map(|arrived| &arrived.event.content_hash.0[..]).collect::<Vec<_>>())
    .bind(events.iter().map(|arrived| arrived.event.payment_id).collect::<Vec<_>>())
    .bind(events.iter().map(|arrived| arrived.event.order_ref.as_deref()).collect::<Vec<_>>())
    .bind(events.iter().map(|arrived| arrived.raw).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(parked.rows_affected())
}
