//! The last, common step of every provider: check what was read and make the event of it.

use std::borrow::Cow;

use super::{Misunderstood, Source};
use crate::ids::is_id;
use crate::{ContentHash, Currency, Kind, Money, PaymentEvent, ids};

/// An event time further ahead of the gateway's clock is not believed.
const AHEAD_MS_MAX: i64 = 24 * 3600 * 1000;
/// An event time further back is not believed.
const BACK_MS_MAX: i64 = 400 * 24 * 3600 * 1000;

/// What a provider's module reads out of one item.
pub struct Draft<'a> {
    pub kind: Kind,
    pub event_key: Cow<'a, str>,
    pub event_type: Cow<'a, str>,
    pub account: Cow<'a, str>,
    pub payment: Cow<'a, str>,
    pub transaction: Option<Cow<'a, str>>,
    pub amount: Option<Money>,
    pub time_ms: i64,
    /// The provider's time of the object's version, where it says one; else the event's time orders the events.
    pub version_ms: Option<i64>,
    pub order: Option<Cow<'a, str>>,
    pub user: Option<Cow<'a, str>>,
}

impl<'a> Draft<'a> {
    /// Checks ids, amount and time, and gives the event its ids, region and hash.
    pub fn finish(
        self,
        provider: &'static str,
        source: &'a Source,
        now_ms: i64,
    ) -> Result<PaymentEvent<'a>, Misunderstood> {
        let check = |text: &str, what: &'static str| if is_id(text) { Ok(()) } else { Err(what) };
        check(&self.event_key, "malformed event id")?;
        check(&self.event_type, "malformed event type")?;
        check(&self.payment, "malformed payment id")?;
        if !self.account.is_empty() {
            check(&self.account, "malformed account")?;
        }
        for (text, what) in [
            (&self.transaction, "malformed transaction id"),
            (&self.order, "malformed order reference"),
            (&self.user, "malformed user reference"),
        ] {
            text.as_deref().map_or(Ok(()), |text| check(text, what))?;
        }
        if self.transaction.is_none() && self.kind.needs_transaction() {
            return Err("missing transaction id".into());
        }
        if self.amount.is_none() && self.kind.needs_amount() {
            return Err("missing amount".into());
        }
        let version_ms = self.version_ms.unwrap_or(self.time_ms);
        if self.time_ms.max(version_ms) > now_ms.saturating_add(AHEAD_MS_MAX) {
            return Err("event time is in the future".into());
        }
        if self.time_ms.min(version_ms) < now_ms.saturating_sub(BACK_MS_MAX) {
            return Err("event time is too long ago".into());
        }
        let is_paid = source.authorized_is_paid_from_ms.is_some_and(|from_ms| self.time_ms >= from_ms);
        let kind = match self.kind {
            // A total, so that a capture which is reported after all is not counted once more.
            Kind::Authorized if is_paid => Kind::CapturedTotal,
            kind => kind,
        };
        let mut event = PaymentEvent {
            event_id: ids::event_id(provider, &self.account, &self.event_key),
            content_hash: ContentHash([0; 16]),
            payment_id: ids::payment_id(provider, &self.account, &self.payment),
            kind,
            amount: self.amount,
            event_time_ms: self.time_ms,
            version_ms,
            received_at_ms: now_ms,
            provider: provider.into(),
            source: source.name.as_str().into(),
            region: source.region_of(&self.account).into(),
            account: self.account,
            provider_event_id: self.event_key,
            provider_event_type: self.event_type,
            provider_payment_id: self.payment,
            transaction_id: self.transaction,
            order_ref: self.order,
            user_ref: self.user,
        };
        event.hash_content();
        Ok(event)
    }
}

/// Reads an amount as decimal text: `19.99`.
pub fn decimal(text: &str, currency: &str) -> Result<Money, Misunderstood> {
    let error = |error: crate::money::MoneyError| Misunderstood::Owned(error.to_string());
    Money::parse(text, Currency::parse(currency).map_err(error)?).map_err(error)
}

/// Reads an amount in minor units as this provider counts them; `exponents` lists where it differs from ISO 4217.
pub fn money(minor: i64, currency: &str, exponents: &[(&str, u8)]) -> Result<Money, Misunderstood> {
    let error = |error: crate::money::MoneyError| Misunderstood::Owned(error.to_string());
    let currency = Currency::parse(currency).map_err(error)?;
    let differing = exponents.iter().find(|(code, _)| *code == currency.as_str());
    let exponent = differing.map_or(currency.exponent(), |(_, exponent)| *exponent);
    Money::from_provider(minor, exponent, currency).map_err(error)
}
