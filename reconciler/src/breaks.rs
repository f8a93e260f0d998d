//! Breaks: what does not fit, each with its kind, its subject and where to look.

use domain::fold::DifferenceKind;
use sqlx::PgConnection;
use uuid::Uuid;

/// Every kind of break, for gauges that exist before the first one.
pub const KINDS: [&str; 11] = [
    MISSING_ORDER,
    UNREADABLE_ORDER,
    MISSING_PAYMENT,
    "amount",
    "currency",
    STATUS,
    "duplicate_capture",
    ORPHAN_REFUND,
    CONFLICTING_DUPLICATE,
    STALE_AUTHORIZATION,
    "capture_failed",
];

/// Events or payments whose order is not there; the subject is the order's reference, or the payment's id where no
/// event names an order.
pub const MISSING_ORDER: &str = "missing_order";
/// An order whose row says what no order can be, like a total finer than its currency; events that need it wait.
pub const UNREADABLE_ORDER: &str = "unreadable_order";
/// A payment in Postgres of which Cassandra has no event; the subject is the payment's id.
pub const MISSING_PAYMENT: &str = "missing_payment";
/// More was given back than was ever taken (the subject is the order), or refunds wait whose payment is not known (the
/// subject is the payment's id).
pub const ORPHAN_REFUND: &str = "orphan_refund";
/// The order's status is the shop's own, or its row refuses what is to be written.
pub const STATUS: &str = "status";
/// How the detail of a [`STATUS`] break begins where the row refuses; what the database said follows behind a colon.
pub const ROW_REFUSES: &str = "the order's row refuses";
/// The same event came with another content; the subject is the event's id.
pub const CONFLICTING_DUPLICATE: &str = "conflicting_duplicate";
/// An authorization that nobody captured for long; the subject is the payment's id.
pub const STALE_AUTHORIZATION: &str = "stale_authorization";

/// A difference that is there now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Break {
    pub kind: &'static str,
    pub subject: String,
    pub order_ref: Option<String>,
    pub payment_id: Option<Uuid>,
    pub region: Option<String>,
    /// Days since 1970-01-01.
    pub day: Option<i32>,
    pub currency: Option<String>,
    /// Minor units.
    pub expected: Option<i64>,
    pub actual: Option<i64>,
    pub detail: String,
}

/// The kinds that the look at an order opens and closes.
pub fn of_orders() -> Vec<&'static str> {
    DifferenceKind::ALL.map(DifferenceKind::as_str).into_iter().chain([STATUS, UNREADABLE_ORDER]).collect()
}

/// Opens `found`, and closes those of `kinds` about `examined` subjects that were not found.
pub async fn write(
    tx: &mut PgConnection,
    found: &[Break],
    kinds: &[&str],
    examined: &[&str],
) -> Result<(), sqlx::Error> {
    close(tx, found, kinds, examined).await?;
    if found.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO breaks (kind, subject, order_ref, payment_id, region, day, currency, expected, actual, detail) \
         SELECT DISTINCT ON (kind, subject) kind, subject, order_ref, payment_id, region, date '1970-01-01' + day, \
             currency, expected, actual, detail \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::uuid[], $5::text[], $6::int[], $7::text[], $8::bigint[], \
             $9::bigint[], $10::text[]) \
             AS u (kind, subject, order_ref, payment_id, region, day, currency, expected, actual, detail) \
         ON CONFLICT (kind, subject) DO UPDATE SET \
             last_seen = now(), detail = excluded.detail, currency = excluded.currency, \
             expected = excluded.expected, actual = excluded.actual, \
             resolved_at = CASE WHEN (breaks.currency, breaks.expected, breaks.actual) IS NOT DISTINCT FROM \
                 (excluded.currency, excluded.expected, excluded.actual) \
                 AND (breaks.kind <> $11 OR breaks.detail = excluded.detail) THEN breaks.resolved_at END",
    )
    .bind(found.iter().map(|b| b.kind).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.subject.as_str()).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.order_ref.as_deref()).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.payment_id).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.region.as_deref()).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.day).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.currency.as_deref()).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.expected).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.actual).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.detail.as_str()).collect::<Vec<_>>())
    // Two words differ instead of two amounts.
    .bind(STATUS)
    .execute(tx)
    .await?;
    Ok(())
}

async fn close(tx: &mut PgConnection, found: &[Break], kinds: &[&str], examined: &[&str]) -> Result<(), sqlx::Error> {
    if examined.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH gone AS (DELETE FROM breaks b WHERE b.subject = ANY ($1) AND b.kind = ANY ($2) \
             AND NOT EXISTS (SELECT FROM UNNEST($3::text[], $4::text[]) AS u (kind, subject) \
                             WHERE u.kind = b.kind AND u.subject = b.subject) RETURNING b.*) \
         INSERT INTO closed_breaks SELECT gone.*, now() FROM gone",
    )
    .bind(examined)
    .bind(kinds)
    .bind(found.iter().map(|b| b.kind).collect::<Vec<_>>())
    .bind(found.iter().map(|b| b.subject.as_str()).collect::<Vec<_>>())
    .execute(tx)
    .await?;
    Ok(())
}
