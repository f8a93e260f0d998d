//! Razorpay: events of payments, orders, refunds and disputes.
//!
//! A payment is captured once, and `order.paid` repeats that capture: both report a total, so it counts once.

use std::borrow::Cow;

use serde::Deserialize;

use super::draft::{Draft, money};
use super::json::{Metadata, Text, filled, parse};
use super::{ANY, Delivery, Header, Item, JSON, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, from_hex, to_hex, verify};
use crate::{Kind, Money, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "razorpay",
    media: JSON,
    body: ANY,
    prepare_secret,
    authenticate,
    normalise,
    answer: "{\"received\":true}",
    challenge: None,
    fetch: None,
    event_headers: &["x-razorpay-event-id"],
    refunds_name_captures: false,
    headers,
    signed: "HMAC-SHA256 in hexadecimal over the raw body; the webhook secret (not the API secret) is used as it stands",
    sign: Some(sign),
    samples: include_str!("samples/razorpay.txt"),
};

/// The webhook secret is used whole.
fn prepare_secret(secret: &str, _: &Source) -> Result<Key, &'static str> {
    Key::hmac_sha256(secret.as_bytes()).ok_or("is empty")
}

/// `X-Razorpay-Signature`: HMAC-SHA256, hexadecimal, over the raw body.
fn authenticate(delivery: &Delivery<'_>, _: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let signature = from_hex(delivery.header("x-razorpay-signature")?).ok_or(Refusal::Malformed)?;
    verify(secrets, now_unix, &[delivery.body], &[signature])
}

fn headers(_: &Source) -> Vec<Header> {
    vec![
        Header::new("x-razorpay-signature", "64 hexadecimal digits", &"0".repeat(64)),
        Header::new("x-razorpay-event-id", "the event's id", "TRWnKiF1ss8zhB"),
    ]
}

fn sign(request: Unsigned<'_>, _: &Source, secret: &Secret, _: i64) -> Option<Signed> {
    let signature = request.signature(secret, &[])?;
    let key = request.event_key.to_owned();
    Some(request.signed("x-razorpay-signature", to_hex(&signature)).with("x-razorpay-event-id", key))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    account_id: Cow<'a, str>,
    created_at: i64,
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Deserialize)]
struct Payload<'a> {
    #[serde(borrow, default)]
    payment: Option<Wrapper<Payment<'a>>>,
    #[serde(borrow, default)]
    order: Option<Wrapper<Order<'a>>>,
    #[serde(borrow, default)]
    refund: Option<Wrapper<Part<'a>>>,
    #[serde(borrow, default)]
    dispute: Option<Wrapper<Part<'a>>>,
}

#[derive(Deserialize)]
struct Wrapper<T> {
    entity: T,
}

#[derive(Deserialize)]
struct Payment<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    amount: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    #[serde(default)]
    captured: Option<bool>,
    #[serde(borrow, default)]
    notes: Metadata<'a>,
}

#[derive(Deserialize)]
struct Order<'a> {
    #[serde(borrow, default)]
    receipt: Option<Text<'a>>,
}

/// A refund or dispute.
#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    payment_id: Option<Text<'a>>,
    amount: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
    #[serde(default)]
    amount_deducted: i64,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
}

/// What is read of an event before its ids and times.
struct Reading<'a> {
    kind: Kind,
    payment: Cow<'a, str>,
    transaction: Option<Cow<'a, str>>,
    amount: Money,
    order: Option<Cow<'a, str>>,
    user: Option<Cow<'a, str>>,
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery, source, now_ms), delivery.body)]
}

fn read<'a>(
    delivery: &Delivery<'a>,
    source: &'a Source,
    now_ms: i64,
) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let Envelope { event: event_type } = parse::<Envelope<'a>>(delivery.body)?;
    match &*event_type {
        kind if ["payment.downtime.", "order.notification."].iter().any(|no_change| kind.starts_with(no_change)) => {
            return Ok(None);
        }
        kind if !["payment.", "order.", "refund."].iter().any(|family| kind.starts_with(family)) => return Ok(None),
        _ => {}
    }
    let event: Event<'a> = parse(delivery.body)?;
    let payload = event.payload;
    let reading = match &*event_type {
        kind if kind.starts_with("payment.dispute.") => of_dispute(kind, payload)?,
        kind if kind.starts_with("refund.") => of_refund(kind, payload)?,
        kind => of_payment(kind, payload, source)?,
    };
    let draft = Draft {
        kind: reading.kind,
        // Not signed, but it only tells repetitions apart: what an event says is in the signed body.
        event_key: delivery.header("x-razorpay-event-id").map_err(|_| "malformed event id")?.into(),
        event_type,
        account: event.account_id,
        payment: reading.payment,
        transaction: reading.transaction,
        amount: Some(reading.amount),
        time_ms: event.created_at.checked_mul(1000).ok_or("malformed time")?,
        version_ms: None,
        order: reading.order,
        user: reading.user,
    };
    draft.finish(PROVIDER.name, source, now_ms).map(Some)
}

fn of_payment<'a>(event_type: &str, payload: Payload<'a>, source: &Source) -> Result<Reading<'a>, Misunderstood> {
    let kind = match event_type {
        "payment.authorized" => Kind::Authorized,
        "payment.captured" | "order.paid" => Kind::CapturedTotal,
        "payment.failed" => Kind::Failed,
        _ => return Err("unknown payment type".into()),
    };
    let payment = payload.payment.ok_or("missing payment")?.entity;
    let receipt = payload.order.and_then(|order| filled(order.entity.receipt));
    let [order, user] = payment.notes.texts([&source.order_key, &source.user_key])?;
    Ok(Reading {
        kind,
        payment: payment.id,
        transaction: None,
        amount: money(payment.amount, &payment.currency, &[])?,
        order: order.or(receipt),
        user,
    })
}

fn of_refund<'a>(event_type: &str, payload: Payload<'a>) -> Result<Reading<'a>, Misunderstood> {
    let refund = payload.refund.ok_or("missing refund")?.entity;
    let kind = match (event_type, status(&refund)) {
        ("refund.processed", _) | ("refund.created" | "refund.speed_changed", "processed") => Kind::Refunded,
        ("refund.failed", _) | ("refund.created" | "refund.speed_changed", "failed") => Kind::RefundFailed,
        ("refund.created" | "refund.speed_changed", "pending") => Kind::RefundPending,
        ("refund.created" | "refund.speed_changed", _) => return Err("unknown refund status".into()),
        _ => return Err("unknown payment type".into()),
    };
    of_part(kind, refund, payload.payment)
}

fn of_dispute<'a>(event_type: &str, payload: Payload<'a>) -> Result<Reading<'a>, Misunderstood> {
    let dispute = payload.dispute.ok_or("missing dispute")?.entity;
    let kind = match event_type {
        "payment.dispute.created" | "payment.dispute.under_review" | "payment.dispute.action_required" => {
            Kind::Disputed
        }
        "payment.dispute.won" => Kind::DisputeWon,
        "payment.dispute.lost" => Kind::DisputeLost,
        // Closed without a verdict: what was deducted tells whose money it is.
        "payment.dispute.closed" if dispute.amount_deducted > 0 => Kind::DisputeLost,
        "payment.dispute.closed" => Kind::DisputeWon,
        _ => return Err("unknown payment type".into()),
    };
    of_part(kind, dispute, payload.payment)
}

/// A refund or dispute; the order is found through the payment.
fn of_part<'a>(
    kind: Kind,
    part: Part<'a>,
    payment: Option<Wrapper<Payment<'a>>>,
) -> Result<Reading<'a>, Misunderstood> {
    let amount = money(part.amount, &part.currency, &[])?;
    let payment = payment.map(|payment| payment.entity);
    // Razorpay gives back by itself what was authorized and not captured in time: no money was taken.
    let kind = match payment.as_ref().and_then(|payment| payment.captured) {
        Some(false) if kind == Kind::Refunded => Kind::Cancelled,
        _ => kind,
    };
    let link = filled(part.payment_id).or(payment.map(|payment| payment.id));
    Ok(Reading {
        kind,
        payment: link.unwrap_or_else(|| part.id.clone()),
        transaction: Some(part.id),
        amount,
        order: None,
        user: None,
    })
}

fn status<'t>(part: &'t Part<'_>) -> &'t str {
    part.status.as_ref().map_or("", |status| &status.0)
}
