//! Tollgate's own source: events of a shop's or partner's system, signed by Standard Webhooks.
//!
//! ```json
//! {"type": "payment.captured", "timestamp": "2026-11-24T10:00:00Z",
//!  "data": {"payment_id": "pay_1", "order_id": "A-1001", "amount": 1999, "currency": "EUR", "transaction_id": "cap_1"}}
//! ```
//! `amount` is an integer of minor units or a decimal string; `user_id` and `account` may be absent, and `transaction_id`
//! where the event is not about a capture, refund or dispute.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use super::draft::{Draft, decimal, money};
use super::json::{Scalar, Text, parse, time_ms};
use super::{ANY, Delivery, Header, Item, JSON, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, check_time, verify_with};
use crate::{Kind, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "tollgate",
    media: JSON,
    body: ANY,
    prepare_secret,
    authenticate,
    normalise,
    answer: "{\"received\":true}",
    challenge: None,
    fetch: None,
    event_headers: &["webhook-id"],
    refunds_name_captures: false,
    headers,
    signed: "HMAC-SHA256 (v1, whsec_ secrets) or Ed25519 (v1a, whpk_ keys) in base64 over \
             `{webhook-id}.{webhook-timestamp}.{raw body}`; behind whsec_ the key is in base64",
    sign: Some(sign),
    samples: include_str!("samples/tollgate.txt"),
};

/// More entries than any rotation needs only cost time.
const SIGNATURES_MAX: usize = 8;

/// `whsec_` (HMAC) or `whpk_` (an Ed25519 public key), and base64.
fn prepare_secret(secret: &str, _: &Source) -> Result<Key, &'static str> {
    let decoded = |prefix| secret.strip_prefix(prefix).and_then(|text| STANDARD.decode(text).ok());
    if let Some(key) = decoded("whpk_") {
        return Key::ed25519(&key).ok_or("is not an Ed25519 public key");
    }
    decoded("whsec_").as_deref().and_then(Key::hmac_sha256).ok_or("is neither whsec_ nor whpk_, and base64")
}

/// Standard Webhooks: over `{webhook-id}.{webhook-timestamp}.{raw}`, in a list split by spaces: `v1,` HMAC-SHA256 or `v1a,`
/// Ed25519, base64.
fn authenticate(delivery: &Delivery<'_>, source: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let id = delivery.header("webhook-id")?;
    let time = delivery.header("webhook-timestamp")?;
    let signed_unix: i64 = time.parse().map_err(|_| Refusal::Malformed)?;
    let signatures = delivery.header("webhook-signature")?;
    let of = |version: &str| -> Vec<Vec<u8>> {
        let entries = signatures.split(' ').filter_map(|entry| entry.strip_prefix(version));
        entries.take(SIGNATURES_MAX).filter_map(|signature| STANDARD.decode(signature).ok()).collect()
    };
    let (symmetric, asymmetric) = (of("v1,"), of("v1a,"));
    if symmetric.is_empty() && asymmetric.is_empty() {
        return Err(Refusal::Malformed);
    }
    let parts = [id.as_bytes(), b".", time.as_bytes(), b".", delivery.body];
    let secret = verify_with(secrets, now_unix, |key| match key {
        Key::HmacSha256(_) => key.accepts(&parts, &symmetric),
        Key::Ed25519(_) => key.accepts(&parts, &asymmetric),
        _ => false,
    })?;
    check_time(signed_unix, now_unix, source.tolerance_seconds)?;
    Ok(secret)
}

fn headers(_: &Source) -> Vec<Header> {
    let form = "v1,<base64> or v1a,<base64>, several split by spaces";
    vec![
        Header::new("webhook-id", "the event's id, the same at each attempt", "msg_1"),
        Header::new("webhook-timestamp", "Unix seconds", "1795514400"),
        Header::new("webhook-signature", form, &format!("v1,{}", STANDARD.encode([0; 32]))),
    ]
}

fn sign(request: Unsigned<'_>, _: &Source, secret: &Secret, now_unix: i64) -> Option<Signed> {
    let (id, time) = (request.event_key.to_owned(), now_unix.to_string());
    let signature = request.signature(secret, &[id.as_bytes(), b".", time.as_bytes(), b"."])?;
    let signature = format!("v1,{}", STANDARD.encode(signature));
    Some(request.signed("webhook-signature", signature).with("webhook-id", id).with("webhook-timestamp", time))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    payment_id: Cow<'a, str>,
    #[serde(borrow, default)]
    order_id: Option<Scalar<'a>>,
    #[serde(borrow, default)]
    user_id: Option<Scalar<'a>>,
    #[serde(borrow, default)]
    transaction_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    account: Option<Text<'a>>,
    #[serde(borrow, default)]
    amount: Option<Amount<'a>>,
    #[serde(borrow, default)]
    currency: Option<Text<'a>>,
}

enum Amount<'a> {
    Minor(i64),
    Decimal(Cow<'a, str>),
}

impl<'de: 'a, 'a> Deserialize<'de> for Amount<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "expected amount to be an integer of minor units or a decimal text";
        match Scalar::deserialize(deserializer)? {
            Scalar::Text(text) => Ok(Self::Decimal(text)),
            Scalar::Integer(minor) => i64::try_from(minor).map(Self::Minor).map_err(|_| D::Error::custom(EXPECTED)),
            Scalar::Null | Scalar::Other => Err(D::Error::custom(EXPECTED)),
        }
    }
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery, source, now_ms), delivery.body)]
}

fn read<'a>(
    delivery: &Delivery<'a>,
    source: &'a Source,
    now_ms: i64,
) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let Envelope { kind: event_type } = parse(delivery.body)?;
    let kind = match &*event_type {
        "payment.pending" => Kind::Pending,
        "payment.authorized" => Kind::Authorized,
        "payment.captured" => Kind::Captured,
        "payment.capture_failed" => Kind::CaptureFailed,
        "payment.failed" => Kind::Failed,
        "payment.cancelled" => Kind::Cancelled,
        "payment.expired" => Kind::Expired,
        "refund.pending" => Kind::RefundPending,
        "refund.succeeded" => Kind::Refunded,
        "refund.failed" => Kind::RefundFailed,
        "dispute.opened" => Kind::Disputed,
        "dispute.won" => Kind::DisputeWon,
        "dispute.lost" => Kind::DisputeLost,
        other if ["payment.", "refund.", "dispute."].iter().any(|family| other.starts_with(family)) => {
            return Err("unknown payment type".into());
        }
        _ => return Ok(None),
    };
    let Event { timestamp, data } = parse(delivery.body)?;
    let event_key = delivery.header("webhook-id").map_err(|_| "malformed event id")?;
    let amount = match (data.amount, data.currency) {
        (None, _) => None,
        (Some(_), None) => return Err("missing currency".into()),
        (Some(Amount::Minor(minor)), Some(currency)) => Some(money(minor, &currency.0, &[])?),
        (Some(Amount::Decimal(text)), Some(currency)) => Some(decimal(&text, &currency.0)?),
    };
    let draft = Draft {
        kind,
        event_key: event_key.into(),
        event_type,
        account: data.account.map(|account| account.0).unwrap_or_default(),
        payment: data.payment_id,
        transaction: data.transaction_id.map(|id| id.0),
        amount,
        time_ms: time_ms(&timestamp)?,
        version_ms: None,
        order: data.order_id.and_then(Scalar::text),
        user: data.user_id.and_then(Scalar::text),
    };
    draft.finish(PROVIDER.name, source, now_ms).map(Some)
}
