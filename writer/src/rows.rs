//! The rows of Cassandra's tables, in the order of their statements' markers; absent columns are unset, never null.

use std::collections::BTreeMap;

use domain::PaymentEvent;
use domain::partition::{Layout, day_of};
use domain::quarantine::Quarantined;
use platform::cassandra::{cql_date, decimal, spread};
use scylla::SerializeRow;
use scylla::value::{CqlDate, CqlDecimal, CqlTimestamp, MaybeUnset};
use uuid::Uuid;

/// The insert of an [`EventRow`].
pub const INSERT_EVENT: &str = "INSERT INTO {keyspace}.payment_events (region, day, bucket, payment_id, event_id, content_hash, \
     user_id, order_id, order_ref, amount, currency, status, kind, timestamp, version, provider, source, account, \
     transaction_id, provider_payment_id, provider_event_id, provider_event_type, received_at) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// A row of `payment_events`.
#[derive(SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub struct EventRow<'a> {
    pub region: &'a str,
    pub day: CqlDate,
    pub bucket: i32,
    pub payment_id: Uuid,
    pub event_id: Uuid,
    pub content_hash: &'a [u8],
    pub user_id: MaybeUnset<Uuid>,
    pub order_id: MaybeUnset<Uuid>,
    pub order_ref: MaybeUnset<&'a str>,
    pub amount: MaybeUnset<CqlDecimal>,
    pub currency: MaybeUnset<&'a str>,
    pub status: &'static str,
    pub kind: &'static str,
    pub timestamp: CqlTimestamp,
    pub version: MaybeUnset<CqlTimestamp>,
    pub provider: &'a str,
    pub source: &'a str,
    pub account: MaybeUnset<&'a str>,
    pub transaction_id: MaybeUnset<&'a str>,
    pub provider_payment_id: &'a str,
    pub provider_event_id: &'a str,
    pub provider_event_type: &'a str,
    pub received_at: CqlTimestamp,
}

impl<'a> EventRow<'a> {
    /// The row of an event in a day of this layout.
    pub fn new(event: &'a PaymentEvent<'_>, layout: Layout) -> Self {
        let unset = MaybeUnset::from_option;
        Self {
            region: &event.region,
            day: cql_date(day_of(event.event_time_ms)),
            bucket: layout.bucket(event.event_time_ms, event.payment_id),
            payment_id: event.payment_id,
            event_id: event.event_id,
            content_hash: &event.content_hash.0,
            user_id: MaybeUnset::from_option(event.user_id()),
            order_id: MaybeUnset::from_option(event.order_id()),
            order_ref: unset(event.order_ref.as_deref()),
            amount: MaybeUnset::from_option(event.amount.map(|m| decimal(m.minor, m.currency.exponent()))),
            currency: unset(event.amount.as_ref().map(|money| money.currency.as_str())),
            status: event.kind.status(),
            kind: event.kind.as_str(),
            timestamp: CqlTimestamp(event.event_time_ms),
            version: MaybeUnset::from_option(
                (event.version_ms != event.event_time_ms).then_some(CqlTimestamp(event.version_ms)),
            ),
            provider: &event.provider,
            source: &event.source,
            account: unset((!event.account.is_empty()).then_some(&event.account)),
            transaction_id: unset(event.transaction_id.as_deref()),
            provider_payment_id: &event.provider_payment_id,
            provider_event_id: &event.provider_event_id,
            provider_event_type: &event.provider_event_type,
            received_at: CqlTimestamp(event.received_at_ms),
        }
    }
}

/// The insert of a [`QuarantineRow`].
pub const INSERT_QUARANTINED: &str = "INSERT INTO {keyspace}.quarantine (source, bucket, id, provider, region, reason, \
     received_at, body, headers) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)";

/// A row of `quarantine`.
#[derive(SerializeRow)]
#[scylla(flavor = "enforce_order", skip_name_checks)]
pub struct QuarantineRow<'a> {
    source: &'a str,
    bucket: i32,
    pub id: Uuid,
    provider: &'a str,
    region: &'a str,
    reason: &'a str,
    received_at: CqlTimestamp,
    body: &'a [u8],
    /// Not unset: a body that comes again has other headers, or none.
    headers: BTreeMap<&'a str, &'a str>,
}

impl<'a> QuarantineRow<'a> {
    /// The row of a quarantined body.
    pub fn new(quarantined: &'a Quarantined<'_>) -> Self {
        let id = quarantined.id();
        Self {
            source: &quarantined.source,
            bucket: spread(id),
            id,
            provider: &quarantined.provider,
            region: &quarantined.region,
            reason: &quarantined.reason,
            received_at: CqlTimestamp(quarantined.received_at_ms),
            body: &quarantined.body,
            headers: quarantined.headers.iter().map(|(name, value)| (&**name, &**value)).collect(),
        }
    }
}
