//! Reading the record of truth: the events of a region and day in Cassandra, page by page, as the records they came in.

use bytes::Bytes;
use domain::frame::Record;
use domain::partition::Layout;
use domain::{ContentHash, Currency, Kind, Money, PaymentEvent};
use platform::cassandra::{CassandraError, cql_date, prepare};
use platform::config::Cassandra;
use scylla::DeserializeRow;
use scylla::client::session::Session;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::statement::prepared::PreparedStatement;
use scylla::value::{CqlDecimal, CqlTimestamp};
use uuid::Uuid;

/// Rows of one page.
const PAGE_ROWS: i32 = 1000;

/// The tables `payment_events` and `days`, and the shop's view.
pub struct Archive {
    days: PreparedStatement,
    layout: PreparedStatement,
    partition: PreparedStatement,
    payment: PreparedStatement,
    events: PreparedStatement,
    stored: PreparedStatement,
    view: PreparedStatement,
}

/// An event's id, its content hash, and when its row was written, Unix microseconds.
pub type StoredAt = (Uuid, Vec<u8>, Option<i64>);

#[derive(DeserializeRow)]
struct EventRow<'r> {
    region: &'r str,
    payment_id: Uuid,
    event_id: Uuid,
    content_hash: &'r [u8],
    user_id: Option<Uuid>,
    order_ref: Option<&'r str>,
    amount: Option<CqlDecimal>,
    currency: Option<&'r str>,
    kind: &'r str,
    timestamp: CqlTimestamp,
    version: Option<CqlTimestamp>,
    provider: &'r str,
    source: &'r str,
    account: Option<&'r str>,
    transaction_id: Option<&'r str>,
    provider_payment_id: &'r str,
    provider_event_id: &'r str,
    provider_event_type: &'r str,
    received_at: CqlTimestamp,
}

impl EventRow<'_> {
    fn record(&self) -> Result<Bytes, String> {
        let wrong = |what: &str| format!("event {}: {what}", self.event_id);
        let amount = match (&self.amount, self.currency) {
            (Some(amount), Some(currency)) => {
                let currency = Currency::parse(currency).map_err(|_| wrong("unknown currency"))?;
                Some(money(amount, currency).ok_or_else(|| wrong("unreadable amount"))?)
            }
            _ => None,
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.as_str() == self.kind);
        Ok(Record::event(&PaymentEvent {
            event_id: self.event_id,
            content_hash: ContentHash(self.content_hash.try_into().map_err(|_| wrong("unreadable hash"))?),
            payment_id: self.payment_id,
            kind: kind.ok_or_else(|| wrong("unknown kind"))?,
            amount,
            event_time_ms: self.timestamp.0,
            version_ms: self.version.unwrap_or(self.timestamp).0,
            received_at_ms: self.received_at.0,
            provider: self.provider.into(),
            source: self.source.into(),
            account: self.account.unwrap_or_default().into(),
            region: self.region.into(),
            provider_event_id: self.provider_event_id.into(),
            provider_event_type: self.provider_event_type.into(),
            provider_payment_id: self.provider_payment_id.into(),
            transaction_id: self.transaction_id.map(Into::into),
            order_ref: self.order_ref.map(Into::into),
            user_ref: self.user_id.map(|id| id.to_string().into()),
        }))
    }
}

fn money(amount: &CqlDecimal, currency: Currency) -> Option<Money> {
    let (bytes, scale) = amount.as_signed_be_bytes_slice_and_exponent();
    // Written with the currency's digits: the unscaled value is the minor units.
    if scale != i32::from(currency.exponent()) || bytes.is_empty() || bytes.len() > 8 {
        return None;
    }
    let negative = bytes[0] & 0x80 != 0;
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[8 - bytes.len()..].copy_from_slice(bytes);
    Money::new(i64::from_be_bytes(wide), currency).ok()
}

impl Archive {
    pub async fn new(session: &Session, config: &Cassandra) -> Result<Self, CassandraError> {
        let events = "SELECT region, payment_id, event_id, content_hash, user_id, order_ref, amount, currency, kind, \
                      timestamp, version, provider, source, account, transaction_id, provider_payment_id, \
                      provider_event_id, provider_event_type, received_at FROM {keyspace}.payment_events \
                      WHERE region = ? AND day = ? AND bucket = ?";
        let mut partition = prepare(session, config, events).await?;
        partition.set_page_size(PAGE_ROWS);
        let payment = "SELECT event_id FROM {keyspace}.payment_events \
                       WHERE region = ? AND day = ? AND bucket = ? AND payment_id = ? LIMIT 1";
        let stored = "SELECT event_id, content_hash, writetime(kind) FROM {keyspace}.payment_events \
                      WHERE region = ? AND day = ? AND bucket = ? AND payment_id = ? LIMIT ?";
        let layout = "SELECT slot_minutes, lanes FROM {keyspace}.days WHERE region = ? AND day = ?";
        Ok(Self {
            days: prepare(
                session,
                config,
                "SELECT day FROM {keyspace}.days WHERE region = ? AND day >= ? AND day <= ?",
            )
            .await?,
            layout: prepare(session, config, layout).await?,
            partition,
            payment: prepare(session, config, payment).await?,
            events: prepare(session, config, &format!("{events} AND payment_id = ? LIMIT ?")).await?,
            stored: prepare(session, config, stored).await?,
            view: prepare(
                session,
                config,
                "SELECT payment_id, writetime(status) FROM {keyspace}.payments WHERE payment_id IN ?",
            )
            .await?,
        })
    }

    /// The days of a region that have events, first and last included.
    pub async fn days(&self, session: &Session, region: &str, from: i32, to: i32) -> Result<Vec<i32>, CassandraError> {
        let result = session.execute_unpaged(&self.days, (region, cql_date(from), cql_date(to))).await?;
        let rows = result.into_rows_result().map_err(unexpected)?;
        let days = rows.rows::<(scylla::value::CqlDate,)>().map_err(unexpected)?;
        let mut days: Vec<i32> =
            days.filter_map(|row| row.ok().map(|(day,)| day.0.wrapping_sub(1 << 31).cast_signed())).collect();
        days.sort_unstable();
        Ok(days)
    }

    /// How a day is cut, if it has events.
    pub async fn layout(&self, session: &Session, region: &str, day: i32) -> Result<Option<Layout>, CassandraError> {
        let result = session.execute_unpaged(&self.layout, (region, cql_date(day))).await?;
        let row = result.into_rows_result().map_err(unexpected)?.maybe_first_row::<(i32, i32)>().map_err(unexpected)?;
        Ok(row.and_then(|(slot_minutes, lanes)| Layout::new(slot_minutes, lanes)))
    }

    /// One page of a partition: its records, ordered by payment and event, and where the next page begins.
    pub async fn page(
        &self,
        session: &Session,
        (region, day, bucket): (&str, i32, i32),
        from: PagingState,
    ) -> Result<(Vec<Bytes>, Option<PagingState>), CassandraError> {
        let values = (region, cql_date(day), bucket);
        let (result, next) = session.execute_single_page(&self.partition, values, from).await?;
        let rows = result.into_rows_result().map_err(unexpected)?;
        let mut records = Vec::with_capacity(rows.rows_num());
        for row in rows.rows::<EventRow<'_>>().map_err(unexpected)? {
            records.push(row.map_err(unexpected)?.record().map_err(unexpected)?);
        }
        let next = match next {
            PagingStateResponse::HasMorePages { state } => Some(state),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((records, next))
    }

    /// Whether a partition holds any event of a payment.
    pub async fn holds(
        &self,
        session: &Session,
        (region, day, bucket): (&str, i32, i32),
        payment_id: Uuid,
    ) -> Result<bool, CassandraError> {
        let result = session.execute_unpaged(&self.payment, (region, cql_date(day), bucket, payment_id)).await?;
        Ok(result.into_rows_result().map_err(unexpected)?.rows_num() > 0)
    }

    /// The events of a payment in a partition as records, and when each was stored (event, content, Unix microseconds).
    pub async fn events_of(
        &self,
        session: &Session,
        (region, day, bucket): (&str, i32, i32),
        payment_id: Uuid,
        limit: i32,
    ) -> Result<(Vec<Bytes>, Vec<StoredAt>), CassandraError> {
        let values = (region, cql_date(day), bucket, payment_id, limit);
        let rows = session.execute_unpaged(&self.events, values).await?.into_rows_result().map_err(unexpected)?;
        let mut records = Vec::with_capacity(rows.rows_num());
        for row in rows.rows::<EventRow<'_>>().map_err(unexpected)? {
            records.push(row.map_err(unexpected)?.record().map_err(unexpected)?);
        }
        if records.is_empty() {
            return Ok((records, Vec::new()));
        }
        let rows = session.execute_unpaged(&self.stored, values).await?.into_rows_result().map_err(unexpected)?;
        let stored = rows.rows::<StoredAt>().map_err(unexpected)?.collect::<Result<_, _>>().map_err(unexpected)?;
        Ok((records, stored))
    }

    /// The versions of payments in the shop's view; those that are not there are left out.
    pub async fn view_versions(
        &self,
        session: &Session,
        payments: &[Uuid],
    ) -> Result<Vec<(Uuid, i64)>, CassandraError> {
        let result = session.execute_unpaged(&self.view, (payments,)).await?;
        let rows = result.into_rows_result().map_err(unexpected)?;
        let rows = rows.rows::<(Uuid, Option<i64>)>().map_err(unexpected)?;
        Ok(rows.filter_map(|row| row.ok().and_then(|(id, version)| Some((id, version?)))).collect())
    }
}

fn unexpected(error: impl std::fmt::Display) -> CassandraError {
    CassandraError::Answer(error.to_string())
}
