//! A payment event: what one provider notification says about one payment, in Tollgate's own terms.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::money::{Currency, Money};
use crate::wire::{Reader, put_text};
use crate::{DecodeError, ids, providers};

/// What an event says happened. The numbers are written to queues and to Postgres and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// The payment was started and is being processed.
    Pending = 1,
    /// An attempt failed; another may follow.
    Failed = 2,
    /// Money is reserved.
    Authorized = 3,
    /// Money of one capture (`transaction_id`) was taken.
    Captured = 4,
    /// Money taken so far, over all captures.
    CapturedTotal = 5,
    /// A capture (`transaction_id`) did not happen, or was reversed by the scheme.
    CaptureFailed = 6,
    /// The payment was cancelled before it was captured.
    Cancelled = 7,
    /// The authorization ran out.
    Expired = 8,
    /// A refund (`transaction_id`) is under way.
    RefundPending = 9,
    /// A refund (`transaction_id`) reached the customer.
    Refunded = 10,
    /// Money refunded so far, over all refunds.
    RefundedTotal = 11,
    /// A refund (`transaction_id`) failed or came back.
    RefundFailed = 12,
    /// A dispute (`transaction_id`) takes the money back for now.
    Disputed = 13,
    /// The dispute was decided for the shop.
    DisputeWon = 14,
    /// The dispute was decided for the customer.
    DisputeLost = 15,
}

impl Kind {
    /// Every kind, in order of its number.
    pub const ALL: [Self; 15] = [
        Self::Pending,
        Self::Failed,
        Self::Authorized,
        Self::Captured,
        Self::CapturedTotal,
        Self::CaptureFailed,
        Self::Cancelled,
        Self::Expired,
        Self::RefundPending,
        Self::Refunded,
        Self::RefundedTotal,
        Self::RefundFailed,
        Self::Disputed,
        Self::DisputeWon,
        Self::DisputeLost,
    ];

    /// The number on the wire; also the rank in the life cycle among events of the same time.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The kind of a number on the wire.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }

    /// The name in Cassandra's `kind` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Authorized => "authorized",
            Self::Captured => "captured",
            Self::CapturedTotal => "captured_total",
            Self::CaptureFailed => "capture_failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::RefundPending => "refund_pending",
            Self::Refunded => "refunded",
            Self::RefundedTotal => "refunded_total",
            Self::RefundFailed => "refund_failed",
            Self::Disputed => "disputed",
            Self::DisputeWon => "dispute_won",
            Self::DisputeLost => "dispute_lost",
        }
    }

    /// The canonical state that the event reports (Cassandra's `status` column).
    #[must_use]
    pub fn status(self) -> &'static str {
        match self {
            Self::CapturedTotal => Self::Captured.as_str(),
            Self::CaptureFailed => Self::Failed.as_str(),
            Self::RefundedTotal => Self::Refunded.as_str(),
            Self::DisputeWon => "won",
            Self::DisputeLost => "lost",
            other => other.as_str(),
        }
    }

    /// Whether an event of this kind is about one capture, refund or dispute, and must say which: two without an id
    /// could not be told from one that is reported twice.
    #[must_use]
    pub fn needs_transaction(self) -> bool {
        !matches!(
            self,
            Self::Pending
                | Self::Failed
                | Self::Authorized
                | Self::CapturedTotal
                | Self::Cancelled
                | Self::Expired
                | Self::RefundedTotal
        )
    }

    /// Whether an event of this kind means nothing without an amount.
    #[must_use]
    pub fn needs_amount(self) -> bool {
        matches!(
            self,
            Self::Authorized
                | Self::Captured
                | Self::CapturedTotal
                | Self::CaptureFailed
                | Self::Refunded
                | Self::RefundedTotal
                | Self::Disputed
        )
    }
}

/// A hash over what an event says of money: SHA-256 of a frozen list of fields, cut to 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub [u8; 16]);

/// One provider notification about one payment. Texts borrow from the request or from the frame they came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaymentEvent<'a> {
    /// UUIDv5 of provider, account and the provider's semantic event key.
    pub event_id: Uuid,
    /// Over the money fields, see [`PaymentEvent::hash_content`].
    pub content_hash: ContentHash,
    /// UUIDv5 of provider, account and `provider_payment_id`.
    pub payment_id: Uuid,
    /// What happened.
    pub kind: Kind,
    /// How much, where the event says so.
    pub amount: Option<Money>,
    /// The provider's time of the event, Unix milliseconds; gives the Cassandra day and bucket.
    pub event_time_ms: i64,
    /// Orders the events of one payment: the provider's version time where it has one, else `event_time_ms`.
    pub version_ms: i64,
    /// When the gateway took it, Unix milliseconds.
    pub received_at_ms: i64,
    /// `stripe`, `adyen`, …
    pub provider: Cow<'a, str>,
    /// The configured source it came through.
    pub source: Cow<'a, str>,
    /// The merchant's account at the provider; empty where the provider names none.
    pub account: Cow<'a, str>,
    /// The region of source and account.
    pub region: Cow<'a, str>,
    /// The provider's semantic event key.
    pub provider_event_id: Cow<'a, str>,
    /// The provider's event type.
    pub provider_event_type: Cow<'a, str>,
    /// The payment id that the event names.
    pub provider_payment_id: Cow<'a, str>,
    /// The provider's id of the capture, refund or dispute.
    pub transaction_id: Option<Cow<'a, str>>,
    /// The shop's own order reference.
    pub order_ref: Option<Cow<'a, str>>,
    /// The shop's own user reference.
    pub user_ref: Option<Cow<'a, str>>,
}

impl PaymentEvent<'_> {
    /// The version of the list of hashed fields; a new list gets a new number and keeps the old events' hashes.
    const CONTENT_VERSION: u8 = 1;

    /// Sets `content_hash` over the money fields that every provider's signature covers: type, payment,
    /// transaction, order, amount and currency. Times and metadata stay out: some providers do not sign them.
    pub fn hash_content(&mut self) {
        let mut hash = Sha256::new();
        hash.update([Self::CONTENT_VERSION]);
        let texts = [
            &*self.provider_event_type,
            &*self.provider_payment_id,
            self.transaction_id.as_deref().unwrap_or_default(),
            self.order_ref.as_deref().unwrap_or_default(),
        ];
        for text in texts {
            hash.update(text.as_bytes());
            hash.update([0]);
        }
        if let Some(money) = self.amount {
            hash.update(money.minor.to_le_bytes());
            hash.update(money.currency.as_bytes());
        }
        let digest: [u8; 32] = hash.finalize().into();
        self.content_hash.0.copy_from_slice(&digest[..16]);
    }

    /// The id of the shop's order, if the event names one.
    #[must_use]
    pub fn order_id(&self) -> Option<Uuid> {
        self.order_ref.as_deref().map(ids::reference_id)
    }

    /// The id of the shop's user, if the event names one.
    #[must_use]
    pub fn user_id(&self) -> Option<Uuid> {
        self.user_ref.as_deref().map(ids::reference_id)
    }

    /// The id under which later events may name this payment, where that is not its own: a dispute's, and a capture's at
    /// providers whose refunds name nothing else.
    #[must_use]
    pub fn alias(&self) -> Option<Uuid> {
        let transaction = self.transaction_id.as_deref().filter(|id| *id != self.provider_payment_id)?;
        let named_alone = match self.kind {
            Kind::Disputed | Kind::DisputeWon | Kind::DisputeLost => true,
            Kind::Captured | Kind::CaptureFailed => providers::refunds_name_captures(&self.provider),
            _ => false,
        };
        named_alone.then(|| ids::payment_id(&self.provider, &self.account, transaction))
    }

    /// Whether the event never makes a payment of its own, since the id by which it names one may be that of a dispute or
    /// of a capture: which payment that is, another event must tell.
    #[must_use]
    pub fn must_find_its_payment(&self) -> bool {
        match self.kind {
            Kind::Disputed | Kind::DisputeWon | Kind::DisputeLost
                if self.transaction_id.as_deref() == Some(&*self.provider_payment_id) =>
            {
                true
            }
            kind => kind >= Kind::RefundPending && providers::refunds_name_captures(&self.provider),
        }
    }

    /// The queue shard of this event: all events that name the same payment share one.
    #[must_use]
    pub fn shard(&self, shards: u16) -> u16 {
        shard_of(self.payment_id, shards)
    }

    /// Appends the event as the body of a frame's record.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_slice(self.event_id.as_bytes());
        out.put_slice(&self.content_hash.0);
        out.put_slice(self.payment_id.as_bytes());
        out.put_u8(self.kind.code());
        match self.amount {
            Some(money) => {
                out.put_slice(&money.currency.as_bytes());
                out.put_i64_le(money.minor);
            }
            None => out.put_slice(&[0; 11]),
        }
        out.put_i64_le(self.event_time_ms);
        out.put_i64_le(self.version_ms);
        out.put_i64_le(self.received_at_ms);
        for text in [
            &self.provider,
            &self.source,
            &self.account,
            &self.region,
            &self.provider_event_id,
            &self.provider_event_type,
            &self.provider_payment_id,
        ] {
            put_text(out, text);
        }
        for text in [&self.transaction_id, &self.order_ref, &self.user_ref] {
            put_text(out, text.as_deref().unwrap_or_default());
        }
    }

    /// Reads an event back; texts borrow from `bytes`.
    ///
    /// # Errors
    /// [`DecodeError`] for anything that [`PaymentEvent::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<PaymentEvent<'_>, DecodeError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let event = PaymentEvent {
            event_id: r.uuid()?,
            content_hash: ContentHash(r.array()?),
            payment_id: r.uuid()?,
            kind: Kind::from_code(r.u8()?).ok_or(DecodeError::Invalid("kind"))?,
            amount: read_money(r)?,
            event_time_ms: r.i64()?,
            version_ms: r.i64()?,
            received_at_ms: r.i64()?,
            provider: r.text()?.into(),
            source: r.text()?.into(),
            account: r.text()?.into(),
            region: r.text()?.into(),
            provider_event_id: r.text()?.into(),
            provider_event_type: r.text()?.into(),
            provider_payment_id: r.text()?.into(),
            transaction_id: r.optional_text()?.map(Into::into),
            order_ref: r.optional_text()?.map(Into::into),
            user_ref: r.optional_text()?.map(Into::into),
        };
        reader.finish()?;
        Ok(event)
    }
}

/// The queue shard of a payment.
#[must_use]
pub fn shard_of(payment_id: Uuid, shards: u16) -> u16 {
    let [.., high, low] = payment_id.into_bytes();
    u16::from_be_bytes([high, low]) % shards.max(1)
}

pub(crate) fn read_money(r: &mut Reader<'_>) -> Result<Option<Money>, DecodeError> {
    let code = r.array::<3>()?;
    let minor = r.i64()?;
    if code == [0; 3] {
        return Ok(None);
    }
    let currency = Currency::from_bytes(code).map_err(|_| DecodeError::Invalid("currency"))?;
    Money::new(minor, currency).map(Some).map_err(|_| DecodeError::Invalid("amount"))
}

/// Events for tests of this and other crates' pure parts.
#[cfg(test)]
pub(crate) mod samples {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub fn event(kind: Kind, key: &str, version_ms: i64, minor: i64) -> PaymentEvent<'static> {
        let eur = Currency::parse("EUR").unwrap();
        let mut event = PaymentEvent {
            event_id: ids::event_id("stripe", "", key),
            content_hash: ContentHash([0; 16]),
            payment_id: ids::payment_id("stripe", "", "pi_1"),
            kind,
            amount: Some(Money::new(minor, eur).unwrap()),
            event_time_ms: version_ms,
            version_ms,
            received_at_ms: version_ms + 5,
            provider: "stripe".into(),
            source: "stripe-eu".into(),
            account: "".into(),
            region: "eu".into(),
            provider_event_id: key.to_owned().into(),
            provider_event_type: "payment_intent.succeeded".into(),
            provider_payment_id: "pi_1".into(),
            transaction_id: None,
            order_ref: Some("A-1001".into()),
            user_ref: None,
        };
        event.hash_content();
        event
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kinds_keep_their_numbers() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_code(kind.code()), Some(kind));
        }
        assert_eq!(Kind::from_code(0), None);
        assert_eq!(Kind::from_code(16), None);
        assert_eq!(Kind::DisputeLost.code(), 15);
    }

    #[test]
    fn an_event_survives_the_wire() {
        let mut event = samples::event(Kind::Refunded, "evt_1", 1_700_000_000_000, 1999);
        event.transaction_id = Some("re_1".into());
        let mut bytes = BytesMut::new();
        event.encode(&mut bytes);
        assert_eq!(PaymentEvent::decode(&bytes).unwrap(), event);
        for cut in 0..bytes.len() {
            assert!(PaymentEvent::decode(&bytes[..cut]).is_err());
        }
        bytes.put_u8(0);
        assert_eq!(PaymentEvent::decode(&bytes), Err(DecodeError::Trailing));
    }

    /// A golden vector (made with Python's `hashlib`): if it moves, every duplicate of an old event looks like a conflicting one.
    #[test]
    fn the_content_hash_never_moves() {
        let event = samples::event(Kind::Captured, "evt_1", 1_700_000_000_000, 1999);
        assert_eq!(u128::from_be_bytes(event.content_hash.0), 0x814e_9eb5_6aa2_db90_bab7_9cb1_53bf_c3d2);
    }

    #[test]
    fn the_content_hash_covers_money_and_not_times() {
        let event = samples::event(Kind::Captured, "evt_1", 1_700_000_000_000, 1999);
        let later = samples::event(Kind::Captured, "evt_1", 1_700_000_000_777, 1999);
        let dearer = samples::event(Kind::Captured, "evt_1", 1_700_000_000_000, 2000);
        assert_eq!(event.content_hash, later.content_hash);
        assert_ne!(event.content_hash, dearer.content_hash);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = PaymentEvent::decode(&bytes);
        }
    }
}
