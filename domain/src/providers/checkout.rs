//! Checkout.com: events of payments and disputes.
//!
//! Every capture and refund has an action id and its own amount, so amounts are single ones; the cumulative `balances`
//! are only read where an authorization was raised. Events of a payment and of its disputes name different accounts
//! (entity, processing channel), so no account is taken: a payment's id would depend on it.

use std::borrow::Cow;

use serde::Deserialize;

use super::draft::{Draft, money};
use super::json::{Metadata, Text, filled, parse, time_ms};
use super::{ANY, Delivery, Header, Item, JSON, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, from_hex, to_hex, verify};
use crate::{Kind, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "checkout",
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
    signed: "HMAC-SHA256 in hexadecimal over the raw body; the signature key is used as it stands",
    sign: Some(sign),
    samples: include_str!("samples/checkout.txt"),
};

/// Currencies whose minor unit is not ISO 4217's (Checkout.com, "Format the amount value").
const EXPONENTS: [(&str, u8); 1] = [("CLP", 2)];

/// The signature key is used whole.
fn prepare_secret(secret: &str, _: &Source) -> Result<Key, &'static str> {
    Key::hmac_sha256(secret.as_bytes()).ok_or("is empty")
}

/// `Cko-Signature`: HMAC-SHA256, hexadecimal, over the raw body.
fn authenticate(delivery: &Delivery<'_>, _: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let signature = from_hex(delivery.header("cko-signature")?).ok_or(Refusal::Malformed)?;
    verify(secrets, now_unix, &[delivery.body], &[signature])
}

fn headers(_: &Source) -> Vec<Header> {
    vec![Header::new("cko-signature", "64 hexadecimal digits", &"0".repeat(64))]
}

fn sign(request: Unsigned<'_>, _: &Source, secret: &Secret, _: i64) -> Option<Signed> {
    let signature = request.signature(secret, &[])?;
    Some(request.signed("cko-signature", to_hex(&signature)))
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    created_on: Option<Text<'a>>,
    #[serde(borrow, default)]
    timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    data: Data<'a>,
}

#[derive(Deserialize)]
struct Data<'a> {
    /// The payment's; the dispute's in events of disputes.
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow, default)]
    action_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    payment_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    reference: Option<Text<'a>>,
    #[serde(borrow, default)]
    metadata: Metadata<'a>,
    #[serde(default)]
    amount: Option<i64>,
    #[serde(borrow, default)]
    currency: Option<Text<'a>>,
    #[serde(borrow, default)]
    processed_on: Option<Text<'a>>,
    #[serde(default)]
    balances: Option<Balances>,
}

#[derive(Deserialize)]
struct Balances {
    #[serde(default)]
    total_authorized: Option<i64>,
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery.body, source, now_ms), delivery.body)]
}

fn read<'a>(body: &'a [u8], source: &'a Source, now_ms: i64) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let Envelope { kind: event_type } = parse::<Envelope<'a>>(body)?;
    let Some(kind) = meaning(&event_type)? else { return Ok(None) };
    let Event { id, created_on, timestamp, data } = parse::<Event<'a>>(body)?;
    let is_dispute = event_type.starts_with("dispute_");
    let minor = match &*event_type {
        "payment_authorization_incremented" => data.balances.and_then(|balances| balances.total_authorized),
        _ => data.amount,
    };
    let amount = minor.zip(filled(data.currency)).map(|(minor, currency)| money(minor, &currency, &EXPONENTS));
    let (payment, transaction) = match is_dispute {
        true => (filled(data.payment_id).unwrap_or_else(|| data.id.clone()), Some(data.id)),
        false if kind.needs_transaction() => (data.id, filled(data.action_id)),
        false => (data.id, None),
    };
    // A refund, void or dispute may have a reference of its own: their order is found through the payment.
    let [order, user] = data.metadata.texts([&source.order_key, &source.user_key])?;
    let order = match &*event_type {
        "payment_voided" | "payment_refunded" | "payment_refund_declined" => None,
        _ if is_dispute => None,
        _ => order.or_else(|| filled(data.reference)),
    };
    let user = user.filter(|_| order.is_some());
    let draft = Draft {
        kind,
        event_key: id,
        event_type,
        account: Cow::Borrowed(""),
        payment,
        transaction,
        amount: amount.transpose()?,
        time_ms: time_ms(&filled(created_on).or_else(|| filled(timestamp)).ok_or("missing time")?)?,
        version_ms: filled(data.processed_on).map(|text| time_ms(&text)).transpose()?,
        order,
        user,
    };
    draft.finish(PROVIDER.name, source, now_ms).map(Some)
}

/// What a type means; `None` where it carries no payment change (Checkout.com, "Event types").
fn meaning(event_type: &str) -> Result<Option<Kind>, Misunderstood> {
    let kind = match event_type {
        "payment_pending" => Kind::Pending,
        "payment_approved" | "payment_authorization_incremented" => Kind::Authorized,
        "payment_captured" => Kind::Captured,
        "payment_declined" | "payment_authentication_failed" => Kind::Failed,
        "payment_voided" | "payment_canceled" => Kind::Cancelled,
        "payment_expired" => Kind::Expired,
        "payment_refunded" => Kind::Refunded,
        "payment_refund_declined" => Kind::RefundFailed,
        "dispute_received"
        | "dispute_evidence_required"
        | "dispute_evidence_submitted"
        | "dispute_evidence_acknowledged_by_scheme"
        | "dispute_arbitration_sent_to_scheme"
        | "dispute_arbitration_evidence_submitted" => Kind::Disputed,
        // Resolved: the shop had refunded the payment before, and the dispute takes nothing.
        "dispute_won" | "dispute_canceled" | "dispute_arbitration_won" | "dispute_resolved" => Kind::DisputeWon,
        "dispute_lost" | "dispute_accepted" | "dispute_expired" | "dispute_arbitration_lost" => Kind::DisputeLost,
        // The payment stays as it was.
        "payment_capture_pending"
        | "payment_capture_declined"
        | "payment_refund_pending"
        | "payment_void_declined"
        | "payment_authorization_increment_declined" => return Ok(None),
        other if other.starts_with("payment_instrument_") => return Ok(None),
        other if other.starts_with("payment_") || other.starts_with("dispute_") => {
            return Err("unknown payment type".into());
        }
        _ => return Ok(None),
    };
    Ok(Some(kind))
}
