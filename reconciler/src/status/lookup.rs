//! One payment or order and its way through the stages, for the page: read-only, bounded, and with nothing of a person.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::frame::Record;
use domain::money::decimal_text;
use domain::{Currency, ids};
use platform::config::{Config, KeyType};
use scylla::client::session::Session;
use serde::Serialize;
use sqlx::postgres::{PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, PgPool, Row};
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::trail::{Event, Trail};
use crate::archive::Archive;
use crate::orders::OrdersTable;
use crate::plan::PaymentRow;
use crate::sql::{PAYMENT_COLUMNS, payment_of};

/// Look-ups at once; more are told to come again.
const AT_ONCE: usize = 4;
/// Of a whole look-up.
const WITHIN: Duration = Duration::from_secs(3);
/// Rows of each kind that are shown.
pub const ROWS_MAX: usize = 100;
/// Payments of one order that are shown.
const PAYMENTS_MAX: usize = 20;
/// Latest payments of a region whose accounts are known, to find a payment by its provider's own id.
const RECENT_PAYMENTS: i64 = 1000;
/// Ids that a provider's id may stand for: one for each account.
const IDS_MAX: usize = 200;

/// Why there is no answer, in words for people; what a database said goes to the log only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("Not an id or reference: 1 to 255 bytes without control characters.")]
    Invalid,
    #[error("Nothing is known under this id or reference.")]
    NotFound,
    #[error("Too many look-ups at once; try again.")]
    Busy,
    #[error("The reconciler is still waiting for its databases; try again.")]
    Starting,
    #[error("Postgres does not answer; try again.")]
    Postgres,
}

/// What look-ups need: connections to both databases of their own size.
pub struct Lookup {
    pool: PgPool,
    orders: Arc<OrdersTable>,
    session: Arc<Session>,
    archive: Arc<Archive>,
    places: Semaphore,
    regions: Vec<String>,
    /// Provider and account that the configuration names.
    accounts: BTreeSet<(String, String)>,
    projects: bool,
}

/// What is known. Times are Unix milliseconds, amounts decimal text in whole units.
#[derive(Serialize)]
pub struct Found {
    orders: Vec<Order>,
    payments: Vec<Payment>,
    events: Vec<Event>,
    transitions: Vec<Transition>,
    breaks: Vec<Break>,
    /// Whether Cassandra answered; without it, events are those that are parked.
    cassandra: bool,
    /// Whether there is more than is shown.
    truncated: bool,
}

#[derive(Serialize)]
struct Order {
    reference: String,
    status: String,
    currency: String,
    total: String,
    paid: Option<String>,
    refunded: Option<String>,
    disputed: Option<String>,
}

#[derive(Serialize)]
struct Payment {
    payment_id: Uuid,
    order_ref: String,
    provider: String,
    provider_ref: String,
    region: String,
    status: &'static str,
    currency: Option<String>,
    captured: String,
    refunded: String,
    disputed: String,
    /// When it was last written.
    applied_at_ms: i64,
    /// Whether the shop's view has this state; null where there is no view or Cassandra does not answer.
    in_view: Option<bool>,
}

#[derive(Serialize)]
struct Transition {
    order_ref: String,
    from: String,
    to: String,
    event_id: Uuid,
    at_ms: i64,
}

#[derive(Serialize)]
struct Break {
    kind: String,
    subject: String,
    currency: Option<String>,
    expected: Option<String>,
    actual: Option<String>,
    detail: String,
    first_seen_ms: i64,
    last_seen_ms: i64,
    /// `open`, `resolved` or `closed`.
    state: &'static str,
}

impl Lookup {
    pub fn new(
        config: &Config,
        pool: &PgPool,
        orders: Arc<OrdersTable>,
        session: Arc<Session>,
        archive: Arc<Archive>,
    ) -> Self {
        let options = (*pool.connect_options())
            .clone()
            .options([("statement_timeout", "1000ms"), ("default_transaction_read_only", "on")]);
        // Of its own: those who look must not take connections from those who work.
        let pool = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(Duration::from_secs(1))
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(options);
        let accounts = config.sources.values().flat_map(|source| {
            let named = source.account_regions.keys().cloned();
            named.chain([String::new()]).map(|account| (source.provider.clone(), account))
        });
        Self {
            pool,
            orders,
            session,
            archive,
            places: Semaphore::new(AT_ONCE),
            regions: config.regions.clone(),
            accounts: accounts.collect(),
            projects: config.reconciler.project_payments,
        }
    }

    /// A payment by its id or its provider's own.
    pub async fn payment(&self, id: &str) -> Result<Found, LookupError> {
        self.bounded(id, async { self.look(&[], self.payment_ids(id).await?).await }).await
    }

    /// An order by its reference, with all of its payments.
    pub async fn order(&self, reference: &str) -> Result<Found, LookupError> {
        let reference = match self.orders.words().key_type {
            // Only the canonical form is the key.
            KeyType::Uuid => Uuid::try_parse(reference).map_or_else(|_| reference.to_owned(), |key| key.to_string()),
            KeyType::Text | KeyType::BigInt => reference.to_owned(),
        };
        let references = [reference];
        self.bounded(&references[0], self.look(&references, Vec::new())).await
    }

    async fn bounded(
        &self,
        text: &str,
        look: impl Future<Output = Result<Found, sqlx::Error>>,
    ) -> Result<Found, LookupError> {
        if !ids::is_id(text) {
            return Err(LookupError::Invalid);
        }
        let _place = self.places.try_acquire().map_err(|_| LookupError::Busy)?;
        let looked = tokio::time::timeout(WITHIN, look).await.unwrap_or(Err(sqlx::Error::PoolTimedOut));
        let found = looked.map_err(|error| {
            tracing::warn!(%error, "a look-up failed");
            LookupError::Postgres
        })?;
        let empty = found.orders.is_empty() && found.payments.is_empty() && found.events.is_empty();
        if empty && found.breaks.is_empty() { Err(LookupError::NotFound) } else { Ok(found) }
    }

    /// The ids of payments that a text may stand for.
    async fn payment_ids(&self, text: &str) -> Result<Vec<Uuid>, sqlx::Error> {
        let mut accounts = self.accounts.clone();
        for region in &self.regions {
            let rows = sqlx::query(
                "SELECT DISTINCT provider, account FROM \
                 (SELECT provider, account FROM payments WHERE region = $1 ORDER BY day DESC LIMIT $2) AS recent",
            )
            .bind(region)
            .bind(RECENT_PAYMENTS)
            .fetch_all(&self.pool)
            .await?;
            for row in &rows {
                accounts.insert((row.try_get(0)?, row.try_get(1)?));
            }
        }
        let named = accounts.iter().map(|(provider, account)| ids::payment_id(provider, account, text));
        let mut ids: Vec<Uuid> = Uuid::try_parse(text).ok().into_iter().chain(named).take(IDS_MAX).collect();
        let linked = sqlx::query("SELECT payment_id FROM links WHERE alias = ANY ($1)").bind(&ids);
        for row in &linked.fetch_all(&self.pool).await? {
            ids.push(row.try_get(0)?);
        }
        Ok(ids)
    }

    async fn look(&self, references: &[String], mut ids: Vec<Uuid>) -> Result<Found, sqlx::Error> {
        let select = format!(
            "SELECT {PAYMENT_COLUMNS} FROM payments WHERE payment_id = ANY ($1) OR order_ref = ANY ($2) \
             ORDER BY payment_id LIMIT $3"
        );
        let rows = sqlx::query(AssertSqlSafe(select))
            .bind(&ids)
            .bind(references)
            .bind(limit(PAYMENTS_MAX))
            .fetch_all(&self.pool)
            .await?;
        let mut truncated = rows.len() > PAYMENTS_MAX;
        let payments: Vec<PaymentRow> =
            rows.iter().take(PAYMENTS_MAX).map(payment_of).collect::<Result<_, sqlx::Error>>()?;
        let mut references: BTreeSet<&str> = references.iter().map(String::as_str).collect();
        references.extend(payments.iter().map(|row| row.order_ref.as_str()).filter(|reference| !reference.is_empty()));
        let references: Vec<&str> = references.into_iter().collect();

        // Ids that nobody knows are only needed while nothing is found under any of them.
        if !payments.is_empty() {
            ids.clear();
        }
        ids.extend(payments.iter().map(|row| row.payment_id));
        let mut trail = Trail::new(&self.regions, &payments);
        self.read_aliases(&payments, &mut trail).await?;
        ids.extend(trail.aliases());
        let parked = sqlx::query(
            "SELECT record, (extract(epoch FROM parked_at) * 1000)::bigint FROM parked_events \
             WHERE payment_id = ANY ($1) OR order_ref = ANY ($2) ORDER BY parked_at LIMIT $3",
        )
        .bind(&ids)
        .bind(&references)
        .bind(limit(ROWS_MAX))
        .fetch_all(&self.pool)
        .await?;
        for row in &parked {
            if let Ok(Record::Event(event)) = Record::decode(row.try_get(0)?) {
                trail.parked(&event, row.try_get(1)?);
            }
        }
        let cassandra = trail.read(&self.session, &self.archive, &ids).await;
        if let Err(error) = &cassandra {
            tracing::warn!(%error, "a look-up has no answer of cassandra");
        }
        let view = match self.projects && cassandra.is_ok() {
            true => self.archive.view_versions(&self.session, &ids).await.ok(),
            false => None,
        };
        let transitions = self.transitions(&references).await?;
        let events = trail.events();
        let subjects = references.iter().map(|reference| (*reference).to_owned());
        let subjects = subjects.chain(ids.iter().map(Uuid::to_string));
        let breaks =
            self.breaks(subjects.chain(events.iter().map(|event| event.event_id.to_string())).collect()).await?;
        let mut connection = self.pool.acquire().await?;
        let orders = self.orders.read(&mut connection, &references).await?;
        truncated |= [events.len(), transitions.len(), breaks.len()].iter().any(|rows| *rows > ROWS_MAX);
        let version_in_view = |id: Uuid| view.as_ref().map(|view| view.iter().find(|(known, _)| *known == id));
        Ok(Found {
            orders: orders
                .there
                .into_iter()
                .map(|(reference, row)| {
                    let currency = row.terms.total.currency;
                    let [paid, refunded, disputed] =
                        row.amounts.map(|minor| minor.map(|minor| decimal_text(minor, currency.exponent())));
                    let (total, currency) = (row.terms.total.to_decimal(), currency.as_str().to_owned());
                    Order { reference, status: row.status, currency, total, paid, refunded, disputed }
                })
                .collect(),
            payments: payments
                .iter()
                .map(|row| {
                    let in_view =
                        version_in_view(row.payment_id).map(|found| found.is_some_and(|(_, v)| *v >= row.version));
                    Payment::of(row, in_view)
                })
                .collect(),
            events: events.into_iter().take(ROWS_MAX).collect(),
            transitions: transitions.into_iter().take(ROWS_MAX).collect(),
            breaks: breaks.into_iter().take(ROWS_MAX).collect(),
            cassandra: cassandra.is_ok(),
            truncated,
        })
    }

    /// The other ids under which events of these payments are stored.
    async fn read_aliases(&self, payments: &[PaymentRow], trail: &mut Trail<'_>) -> Result<(), sqlx::Error> {
        let possible: Vec<Uuid> = payments
            .iter()
            .flat_map(|row| {
                let transactions = row.facts.entries.keys().map(|(_, transaction)| transaction);
                let named = transactions.filter(|transaction| !transaction.is_empty());
                named.map(|transaction| ids::payment_id(&row.provider, &row.account, transaction))
            })
            .take(ROWS_MAX)
            .collect();
        let rows = sqlx::query("SELECT alias, payment_id FROM links WHERE alias = ANY ($1)")
            .bind(&possible)
            .fetch_all(&self.pool)
            .await?;
        for row in &rows {
            trail.link(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(())
    }

    async fn transitions(&self, references: &[&str]) -> Result<Vec<Transition>, sqlx::Error> {
        let rows = sqlx::query(
            "SELECT order_ref, from_status, to_status, event_id, (extract(epoch FROM at) * 1000)::bigint \
             FROM transitions WHERE order_ref = ANY ($1) ORDER BY at LIMIT $2",
        )
        .bind(references)
        .bind(limit(ROWS_MAX))
        .fetch_all(&self.pool)
        .await?;
        let transition = |row: &PgRow| {
            Ok(Transition {
                order_ref: row.try_get(0)?,
                from: row.try_get(1)?,
                to: row.try_get(2)?,
                event_id: row.try_get(3)?,
                at_ms: row.try_get(4)?,
            })
        };
        rows.iter().map(transition).collect()
    }

    async fn breaks(&self, subjects: Vec<String>) -> Result<Vec<Break>, sqlx::Error> {
        const COLUMNS: &str = "kind, subject, currency, expected, actual, detail, \
                               (extract(epoch FROM first_seen) * 1000)::bigint, \
                               (extract(epoch FROM last_seen) * 1000)::bigint, resolved_at IS NOT NULL";
        let select = format!(
            "SELECT {COLUMNS}, false FROM breaks WHERE subject = ANY ($1) UNION ALL \
             SELECT {COLUMNS}, true FROM closed_breaks WHERE subject = ANY ($1) ORDER BY 10, 8 DESC LIMIT $2"
        );
        let rows =
            sqlx::query(AssertSqlSafe(select)).bind(subjects).bind(limit(ROWS_MAX)).fetch_all(&self.pool).await?;
        rows.iter().map(break_of).collect()
    }
}

/// One more than is shown, to know whether there is more.
fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX).saturating_add(1)
}

fn break_of(row: &PgRow) -> Result<Break, sqlx::Error> {
    let currency: Option<String> = row.try_get(2)?;
    let exponent = currency.as_deref().and_then(|code| Currency::parse(code).ok()).map_or(2, |c| c.exponent());
    let amount = |index: usize| -> Result<Option<String>, sqlx::Error> {
        Ok(row.try_get::<Option<i64>, _>(index)?.map(|minor| decimal_text(minor, exponent)))
    };
    let detail: &str = row.try_get(5)?;
    Ok(Break {
        kind: row.try_get(0)?,
        subject: row.try_get(1)?,
        expected: amount(3)?,
        actual: amount(4)?,
        currency,
        detail: without_database_words(detail).to_owned(),
        first_seen_ms: row.try_get(6)?,
        last_seen_ms: row.try_get(7)?,
        state: match (row.try_get(8)?, row.try_get(9)?) {
            (_, true) => "closed",
            (true, false) => "resolved",
            (false, false) => "open",
        },
    })
}

/// What the shop's constraint or trigger said may hold anything; `reconciler breaks show` has it.
fn without_database_words(detail: &str) -> &str {
    match detail.starts_with(crate::breaks::ROW_REFUSES) {
        true => detail.split(':').next().unwrap_or(detail),
        false => detail,
    }
}

impl Payment {
    fn of(row: &PaymentRow, in_view: Option<bool>) -> Self {
        let folded = domain::fold::Payment::of(&row.facts);
        let exponent = folded.currency.map_or(2, |currency| currency.exponent());
        Self {
            payment_id: row.payment_id,
            order_ref: row.order_ref.clone(),
            provider: row.provider.clone(),
            provider_ref: row.provider_ref.clone(),
            region: row.region.clone(),
            status: folded.shop_status(),
            currency: folded.currency.map(|currency| currency.as_str().to_owned()),
            captured: decimal_text(folded.captured, exponent),
            refunded: decimal_text(folded.refunded, exponent),
            disputed: decimal_text(folded.disputed, exponent),
            applied_at_ms: row.version / 1000,
            in_view,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_database_said_is_not_shown() {
        let detail = format!("{} paid: error returned from database: secret", crate::breaks::ROW_REFUSES);
        assert_eq!(without_database_words(&detail), "the order's row refuses paid");
        let other = "the payments say paid, the shop says lost: sure";
        assert_eq!(without_database_words(other), other);
    }
}
