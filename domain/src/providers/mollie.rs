//! Mollie's signed ("next-gen") webhooks with full payloads: payments, refunds, captures and chargebacks.
//!
//! An event is an envelope around its entity; some pages of the documentation show the entity alone, so that is read too.
//! Of the entities only payments name their profile, so no account is taken: a payment's id would depend on it.

use std::borrow::Cow;

use serde::Deserialize;

use super::draft::{Draft, decimal};
use super::json::{Metadata, Text, filled, parse, time_ms};
use super::{ANY, Delivery, Header, Item, JSON, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, from_hex, to_hex, verify};
use crate::{Kind, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "mollie",
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
    signed: "HMAC-SHA256 in hexadecimal over the raw body; the signing secret is used as it stands",
    sign: Some(sign),
    samples: include_str!("samples/mollie.txt"),
};

/// More signatures than any rotation needs only cost time.
const SIGNATURES_MAX: usize = 8;

/// The signing secret is used whole.
fn prepare_secret(secret: &str, _: &Source) -> Result<Key, &'static str> {
    Key::hmac_sha256(secret.as_bytes()).ok_or("is empty")
}

/// `X-Mollie-Signature: sha256=…`: HMAC-SHA256, hexadecimal, over the raw body; there may be several while a secret is
/// replaced. A request without one is a classic webhook and never let in here.
fn authenticate(delivery: &Delivery<'_>, _: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let mut values = delivery.headers.get_all("x-mollie-signature").iter().peekable();
    values.peek().ok_or(Refusal::Missing)?;
    let texts = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let digits = texts.map(|text| text.trim()).map(|text| text.strip_prefix("sha256=").unwrap_or(text));
    let candidates: Vec<_> = digits.take(SIGNATURES_MAX).filter_map(from_hex).collect();
    if candidates.is_empty() {
        return Err(Refusal::Malformed);
    }
    verify(secrets, now_unix, &[delivery.body], &candidates)
}

fn headers(_: &Source) -> Vec<Header> {
    let example = format!("sha256={}", "0".repeat(64));
    vec![Header::new(
        "x-mollie-signature",
        "sha256=<64 hexadecimal digits>, several while a secret is replaced",
        &example,
    )]
}

fn sign(request: Unsigned<'_>, _: &Source, secret: &Secret, _: i64) -> Option<Signed> {
    let signature = request.signature(secret, &[])?;
    Some(request.signed("x-mollie-signature", format!("sha256={}", to_hex(&signature))))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(borrow, default, rename = "_embedded")]
    embedded: Option<Embedded<'a>>,
}

#[derive(Deserialize)]
struct Embedded<'a> {
    #[serde(borrow, default)]
    entity: Option<Entity<'a>>,
}

/// The fields that Tollgate reads of a payment, refund, capture or chargeback.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entity<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    payment_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    amount: Option<Amount<'a>>,
    #[serde(borrow, default)]
    pub amount_captured: Option<Amount<'a>>,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(borrow)]
    created_at: Cow<'a, str>,
    #[serde(borrow, default)]
    authorized_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    paid_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    canceled_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    expired_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    failed_at: Option<Text<'a>>,
    #[serde(borrow, default)]
    reversed_at: Option<Text<'a>>,
}

#[derive(Deserialize)]
pub(super) struct Amount<'a> {
    #[serde(borrow)]
    pub value: Cow<'a, str>,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery.body, source, now_ms), delivery.body)]
}

fn read<'a>(body: &'a [u8], source: &'a Source, now_ms: i64) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let Envelope { resource, kind } = parse::<Envelope<'a>>(body)?;
    if !matches!(&*resource, "event" | "webhook-event") {
        return read_bare(&resource, body, |entity, status| format!("{}:{status}", entity.id), source, now_ms);
    }
    let event_type = filled(kind).ok_or("missing event type")?;
    let Some(kind) = meaning(&event_type)? else { return Ok(None) };
    let event: Event<'a> = parse(body)?;
    let entity = event.embedded.and_then(|embedded| embedded.entity);
    let entity = entity.ok_or("no entity: the webhook sends simple payloads, not full ones")?;
    let time_ms = time_ms(&event.created_at)?;
    finish(Reading { kind, event_key: event.id, event_type, time_ms }, entity, source, now_ms).map(Some)
}

/// An entity without an envelope: its status is the event, whose key is `key` of both.
pub(super) fn read_bare<'a>(
    resource: &str,
    body: &'a [u8],
    key: fn(&Entity<'_>, &str) -> String,
    source: &'a Source,
    now_ms: i64,
) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    if !matches!(resource, "payment" | "refund" | "capture" | "chargeback") {
        return Ok(None);
    }
    let entity: Entity<'a> = parse(body)?;
    let reversed = entity.reversed_at.as_ref();
    let status = match &entity.status {
        Some(status) => &*status.0,
        None if resource == "chargeback" && reversed.is_some() => "reversed",
        None if resource == "chargeback" => "received",
        None => return Err("missing status".into()),
    };
    let at = match status {
        "authorized" => &entity.authorized_at,
        "paid" => &entity.paid_at,
        "canceled" => &entity.canceled_at,
        "expired" => &entity.expired_at,
        "failed" => &entity.failed_at,
        "reversed" => &entity.reversed_at,
        _ => &None,
    };
    let time_ms = time_ms(at.as_ref().map_or(&entity.created_at, |at| &at.0))?;
    let event_type = format!("{resource}.{status}");
    let Some(kind) = meaning(&event_type)? else { return Ok(None) };
    let event_key = key(&entity, status).into();
    finish(Reading { kind, event_key, event_type: event_type.into(), time_ms }, entity, source, now_ms).map(Some)
}

struct Reading<'a> {
    kind: Kind,
    event_key: Cow<'a, str>,
    event_type: Cow<'a, str>,
    time_ms: i64,
}

fn finish<'a>(
    reading: Reading<'a>,
    entity: Entity<'a>,
    source: &'a Source,
    now_ms: i64,
) -> Result<PaymentEvent<'a>, Misunderstood> {
    let is_payment = reading.event_type.starts_with("payment.");
    let captured = entity.amount_captured.filter(|_| reading.kind == Kind::CapturedTotal);
    let amount = captured.or(entity.amount).map(|amount| decimal(&amount.value, &amount.currency)).transpose()?;
    // The metadata of a refund or capture is its own: the order is found through the payment.
    let [order, user] = match is_payment {
        true => entity.metadata.texts([&source.order_key, &source.user_key])?,
        false => [None, None],
    };
    let (payment, transaction) = match is_payment {
        true => (entity.id, None),
        false => (filled(entity.payment_id).unwrap_or_else(|| entity.id.clone()), Some(entity.id)),
    };
    let draft = Draft {
        kind: reading.kind,
        event_key: reading.event_key,
        event_type: reading.event_type,
        account: Cow::Borrowed(""),
        payment,
        transaction,
        amount,
        time_ms: reading.time_ms,
        version_ms: None,
        order,
        user,
    };
    draft.finish(PROVIDER.name, source, now_ms)
}

/// What a type means; `None` where it carries no payment change (Mollie, "Webhooks for the Payments API").
fn meaning(event_type: &str) -> Result<Option<Kind>, Misunderstood> {
    let kind = match event_type {
        "payment.open" | "payment.pending" => Kind::Pending,
        "payment.authorized" => Kind::Authorized,
        "payment.paid" => Kind::CapturedTotal,
        "payment.failed" => Kind::Failed,
        "payment.canceled" => Kind::Cancelled,
        "payment.expired" => Kind::Expired,
        "capture.succeeded" => Kind::Captured,
        // A capture that failed took nothing, and the payment stays authorized.
        "capture.failed" | "capture.pending" => return Ok(None),
        "refund.queued" | "refund.pending" | "refund.processing" => Kind::RefundPending,
        "refund.refunded" => Kind::Refunded,
        "refund.failed" | "refund.canceled" => Kind::RefundFailed,
        "chargeback.received" => Kind::Disputed,
        "chargeback.reversed" => Kind::DisputeWon,
        other if ["payment.", "capture.", "refund.", "chargeback."].iter().any(|family| other.starts_with(family)) => {
            return Err("unknown payment type".into());
        }
        _ => return Ok(None),
    };
    Ok(Some(kind))
}
