//! Square: events of payments, refunds and disputes.
//!
//! A payment is captured once, so its amount is a total. `refunded_money` of a payment is left alone: refunds are
//! reported as events of their own, and only those say which refund succeeded.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::draft::{Draft, money};
use super::json::{Text, filled, parse, time_ms};
use super::{ANY, Delivery, Header, Item, JSON, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, verify};
use crate::{Kind, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "square",
    media: JSON,
    body: ANY,
    prepare_secret,
    authenticate,
    normalise,
    answer: "{\"received\":true}",
    challenge: None,
    fetch: None,
    event_headers: &[],
    refunds_name_captures: false,
    headers,
    signed: "HMAC-SHA256 in base64 over the notification URL, exactly as registered at Square, and the raw body behind it",
    sign: Some(sign),
    samples: include_str!("samples/square.txt"),
};

/// The signature key is used whole.
fn prepare_secret(secret: &str, source: &Source) -> Result<Key, &'static str> {
    if source.notification_url.is_empty() {
        return Err("needs the source's notification_url, which is signed");
    }
    Key::hmac_sha256(secret.as_bytes()).ok_or("is empty")
}

/// `x-square-hmacsha256-signature`: HMAC-SHA256, base64, over the URL as registered at Square and the raw body.
fn authenticate(delivery: &Delivery<'_>, source: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let signature = delivery.header("x-square-hmacsha256-signature")?;
    let signature = STANDARD.decode(signature).map_err(|_| Refusal::Malformed)?;
    verify(secrets, now_unix, &[source.notification_url.as_bytes(), delivery.body], &[signature])
}

fn headers(_: &Source) -> Vec<Header> {
    vec![Header::new("x-square-hmacsha256-signature", "base64 of 32 bytes", &STANDARD.encode([0; 32]))]
}

fn sign(request: Unsigned<'_>, source: &Source, secret: &Secret, _: i64) -> Option<Signed> {
    let signature = request.signature(secret, &[source.notification_url.as_bytes()])?;
    Some(request.signed("x-square-hmacsha256-signature", STANDARD.encode(signature)))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(borrow)]
    merchant_id: Cow<'a, str>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    /// Only looked into for the families that are read: that of others may be missing or null.
    #[serde(borrow, default)]
    object: Option<&'a RawValue>,
}

/// A refund or payment stands under its name; a dispute under `object` too (so its type in Square's SDKs).
#[derive(Deserialize)]
struct Wrapper<'a> {
    #[serde(borrow, alias = "payment", alias = "refund", alias = "dispute")]
    object: Object<'a>,
}

/// The fields that Tollgate reads of a Payment, PaymentRefund or Dispute.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, alias = "state")]
    status: Cow<'a, str>,
    #[serde(borrow)]
    amount_money: Money<'a>,
    #[serde(borrow, default)]
    total_money: Option<Money<'a>>,
    #[serde(borrow, default)]
    payment_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    disputed_payment: Option<DisputedPayment<'a>>,
    #[serde(borrow, default)]
    reference_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    updated_at: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct DisputedPayment<'a> {
    #[serde(borrow, default)]
    payment_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Money<'a> {
    amount: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery.body, source, now_ms), delivery.body)]
}

fn read<'a>(body: &'a [u8], source: &'a Source, now_ms: i64) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let event: Envelope<'a> = parse(body)?;
    let meaning = match &*event.kind {
        "payment.created" | "payment.updated" => of_payment,
        "refund.created" | "refund.updated" => of_refund,
        "dispute.created" | "dispute.state.updated" | "dispute.state.changed" => of_dispute,
        kind if kind.starts_with("dispute.evidence.") => return Ok(None),
        kind if ["payment.", "refund.", "dispute."].iter().any(|family| kind.starts_with(family)) => {
            return Err("unknown payment type".into());
        }
        _ => return Ok(None),
    };
    let raw = event.data.object.ok_or("missing object")?;
    let Wrapper { object } = parse::<Wrapper<'a>>(raw.get().as_bytes())?;
    let kind = meaning(&object.status)?;
    let is_payment = event.kind.starts_with("payment.");
    let amount = object.total_money.filter(|_| is_payment).unwrap_or(object.amount_money);
    let link = filled(object.payment_id).or_else(|| filled(object.disputed_payment?.payment_id));
    let (payment, transaction) = match is_payment {
        true => (object.id, None),
        // An unlinked refund belongs to no payment: it stands for its own.
        false => (link.unwrap_or_else(|| object.id.clone()), Some(object.id)),
    };
    let draft = Draft {
        kind,
        event_key: event.event_id,
        event_type: event.kind,
        account: event.merchant_id,
        payment,
        transaction,
        amount: Some(money(amount.amount, &amount.currency, &[])?),
        time_ms: time_ms(&event.created_at)?,
        version_ms: filled(object.updated_at).map(|text| time_ms(&text)).transpose()?,
        order: filled(object.reference_id),
        user: None,
    };
    draft.finish(PROVIDER.name, source, now_ms).map(Some)
}

fn of_payment(status: &str) -> Result<Kind, Misunderstood> {
    match status {
        "PENDING" => Ok(Kind::Pending),
        "APPROVED" => Ok(Kind::Authorized),
        "COMPLETED" => Ok(Kind::CapturedTotal),
        "CANCELED" => Ok(Kind::Cancelled),
        "FAILED" => Ok(Kind::Failed),
        _ => Err("unknown payment status".into()),
    }
}

fn of_refund(status: &str) -> Result<Kind, Misunderstood> {
    match status {
        "PENDING" => Ok(Kind::RefundPending),
        "COMPLETED" => Ok(Kind::Refunded),
        "REJECTED" | "FAILED" => Ok(Kind::RefundFailed),
        _ => Err("unknown refund status".into()),
    }
}

fn of_dispute(state: &str) -> Result<Kind, Misunderstood> {
    match state {
        "INQUIRY_EVIDENCE_REQUIRED" | "INQUIRY_PROCESSING" | "EVIDENCE_REQUIRED" | "PROCESSING" => Ok(Kind::Disputed),
        "WON" | "INQUIRY_CLOSED" => Ok(Kind::DisputeWon),
        "LOST" | "ACCEPTED" => Ok(Kind::DisputeLost),
        _ => Err("unknown dispute state".into()),
    }
}
