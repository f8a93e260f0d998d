//! Stripe: events of PaymentIntents, Charges, Refunds and Disputes.
//!
//! Amounts captured are cumulative in every Stripe object (`amount_received`, `amount_captured`), so they become
//! totals; a refund or dispute has an id of its own and is folded by it.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::draft::{Draft, money};
use super::json::{Metadata, Text, parse};
use super::{ANY, Delivery, Header, Item, JSON, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, check_time, from_hex, to_hex, verify};
use crate::{Kind, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "stripe",
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
    signed: "HMAC-SHA256 in hexadecimal over `{t}.{raw body}`; the secret is the key as it stands, whsec_ included",
    sign: Some(sign),
    samples: include_str!("samples/stripe.txt"),
};

/// Currencies whose minor unit is not ISO 4217's (Stripe, "Supported currencies").
const EXPONENTS: [(&str, u8); 3] = [("ISK", 2), ("MGA", 0), ("UGX", 2)];

/// More `v1` entries than any rotation needs only cost time.
const SIGNATURES_MAX: usize = 8;

/// The secret is used whole, `whsec_` included.
fn prepare_secret(secret: &str, _: &Source) -> Result<Key, &'static str> {
    Key::hmac_sha256(secret.as_bytes()).ok_or("is empty")
}

/// `Stripe-Signature: t=…,v1=…[,v1=…]`: HMAC-SHA256 over `{t}.{raw}`.
fn authenticate(delivery: &Delivery<'_>, source: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let header = delivery.header("stripe-signature")?;
    let mut time = None;
    let mut candidates = Vec::with_capacity(2);
    for (name, value) in header.split(',').filter_map(|pair| pair.trim().split_once('=')) {
        match name {
            "t" if time.is_none() => time = Some(value),
            "t" => return Err(Refusal::Malformed),
            "v1" if candidates.len() < SIGNATURES_MAX => candidates.extend(from_hex(value)),
            _ => {}
        }
    }
    let time = time.ok_or(Refusal::Malformed)?;
    let signed_unix: i64 = time.parse().map_err(|_| Refusal::Malformed)?;
    if candidates.is_empty() {
        return Err(Refusal::Malformed);
    }
    let secret = verify(secrets, now_unix, &[time.as_bytes(), b".", delivery.body], &candidates)?;
    check_time(signed_unix, now_unix, source.tolerance_seconds)?;
    Ok(secret)
}

fn headers(_: &Source) -> Vec<Header> {
    let form = "t=<Unix seconds>,v1=<64 hexadecimal digits>, v1 once or more";
    vec![Header::new("stripe-signature", form, &format!("t=1795514400,v1={}", "0".repeat(64)))]
}

fn sign(request: Unsigned<'_>, _: &Source, secret: &Secret, now_unix: i64) -> Option<Signed> {
    let time = now_unix.to_string();
    let signature = request.signature(secret, &[time.as_bytes(), b"."])?;
    Some(request.signed("stripe-signature", format!("t={time},v1={}", to_hex(&signature))))
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    created: i64,
    #[serde(borrow, default)]
    account: Option<Text<'a>>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow)]
    object: &'a RawValue,
}

/// The fields that Tollgate reads of a PaymentIntent, Charge, Refund or Dispute.
#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    amount: i64,
    #[serde(default)]
    amount_capturable: Option<i64>,
    #[serde(default)]
    amount_captured: Option<i64>,
    #[serde(default)]
    amount_received: Option<i64>,
    #[serde(default)]
    amount_refunded: Option<i64>,
    #[serde(default)]
    captured: Option<bool>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    payment_intent: Option<Text<'a>>,
    #[serde(borrow, default)]
    charge: Option<Text<'a>>,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
}

impl Object<'_> {
    fn status(&self) -> &str {
        self.status.as_ref().map_or("", |status| &status.0)
    }
}

/// What an event's object is, which says where its payment and order are found.
enum Family {
    PaymentIntent,
    Charge,
    Refund,
    Dispute,
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery.body, source, now_ms), delivery.body)]
}

fn read<'a>(body: &'a [u8], source: &'a Source, now_ms: i64) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let event: Event<'a> = parse(body)?;
    let family = match &*event.kind {
        "payment_intent.created"
        | "payment_intent.requires_action"
        | "payment_intent.partially_funded"
        | "charge.updated" => return Ok(None),
        kind if kind.starts_with("payment_intent.") => Family::PaymentIntent,
        kind if kind.starts_with("charge.dispute.") => Family::Dispute,
        kind if kind.starts_with("refund.") || kind.starts_with("charge.refund.") => Family::Refund,
        kind if kind.starts_with("charge.") => Family::Charge,
        _ => return Ok(None),
    };
    let object: Object<'a> = parse(event.data.object.get().as_bytes())?;
    let (kind, minor) = meaning(&family, &event.kind, &object)?;
    let amount = money(minor, &object.currency, &EXPONENTS)?;
    let [order, user] = object.metadata.texts([&source.order_key, &source.user_key])?;
    let link = object.payment_intent.or(object.charge).map(|link| link.0);
    let (payment, transaction, order, user) = match family {
        Family::PaymentIntent => (object.id, None, order, user),
        Family::Charge => (link.unwrap_or(object.id), None, order, user),
        // The metadata of a refund or dispute is its own: the order is found through the payment.
        Family::Refund | Family::Dispute => {
            (link.ok_or("refund or dispute of no payment")?, Some(object.id), None, None)
        }
    };
    let draft = Draft {
        kind,
        event_key: event.id,
        event_type: event.kind,
        account: event.account.map(|account| account.0).unwrap_or_default(),
        payment,
        transaction,
        amount: Some(amount),
        time_ms: event.created.checked_mul(1000).ok_or("malformed time")?,
        version_ms: None,
        order,
        user,
    };
    draft.finish(PROVIDER.name, source, now_ms).map(Some)
}

/// What an event means, and which of the object's amounts it means.
fn meaning(family: &Family, event_type: &str, object: &Object<'_>) -> Result<(Kind, i64), Misunderstood> {
    let total = |minor: Option<i64>| minor.ok_or("missing amount");
    let meaning = match (family, event_type) {
        (_, "payment_intent.processing" | "charge.pending") => (Kind::Pending, object.amount),
        (_, "payment_intent.amount_capturable_updated") => (Kind::Authorized, total(object.amount_capturable)?),
        (_, "payment_intent.succeeded") => (Kind::CapturedTotal, total(object.amount_received)?),
        (_, "payment_intent.payment_failed" | "charge.failed") => (Kind::Failed, object.amount),
        (_, "payment_intent.canceled") => (Kind::Cancelled, object.amount),
        (_, "charge.succeeded") if object.captured == Some(false) => (Kind::Authorized, object.amount),
        (_, "charge.succeeded" | "charge.captured") => (Kind::CapturedTotal, total(object.amount_captured)?),
        (_, "charge.expired") => (Kind::Expired, object.amount),
        (_, "charge.refunded") => (Kind::RefundedTotal, total(object.amount_refunded)?),
        (Family::Refund, _) => match object.status() {
            "pending" | "requires_action" => (Kind::RefundPending, object.amount),
            "succeeded" => (Kind::Refunded, object.amount),
            "failed" | "canceled" => (Kind::RefundFailed, object.amount),
            _ => return Err("unknown refund status".into()),
        },
        (Family::Dispute, _) => match object.status() {
            "won" | "warning_closed" | "prevented" => (Kind::DisputeWon, object.amount),
            "lost" => (Kind::DisputeLost, object.amount),
            "needs_response" | "under_review" | "warning_needs_response" | "warning_under_review" => {
                (Kind::Disputed, object.amount)
            }
            _ => return Err("unknown dispute status".into()),
        },
        _ => return Err("unknown payment type".into()),
    };
    Ok(meaning)
}
