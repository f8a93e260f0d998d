//! PayPal: events of authorizations, captures, refunds and disputes (Payments v2, Disputes v1).
//!
//! A capture of an authorization belongs to that payment, one without is a payment of its own. Refunds and disputes name
//! the capture only. Every capture and refund has its own amount; the cumulative figure of a refund is not read. An order
//! is not a payment: it is paid by its captures, which are reported as such.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::draft::{Draft, decimal};
use super::json::{First, Text, filled, parse, time_ms};
use super::{ANY, Delivery, Header, Item, JSON, Misunderstood, Provider, Source, item};
use crate::signature::{Certificate, Key, Refusal, Secret, is_under, verify};
use crate::{Kind, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "paypal",
    media: JSON,
    body: ANY,
    prepare_secret,
    authenticate,
    normalise,
    answer: "{\"received\":true}",
    challenge: None,
    fetch: None,
    event_headers: &[],
    refunds_name_captures: true,
    headers,
    signed: "SHA256withRSA in base64 over `{transmission id}|{transmission time}|{webhook_id}|{CRC-32 of the raw body, decimal}`; \
             the secret is the certificate under paypal-cert-url",
    sign: None,
    samples: include_str!("samples/paypal.txt"),
};

const DOMAIN: &str = "paypal.com";

/// A certificate in PEM, as PayPal serves it under `PAYPAL-CERT-URL`: the gateway fetches nothing.
fn prepare_secret(secret: &str, source: &Source) -> Result<Key, &'static str> {
    if source.webhook_id.is_empty() {
        return Err("needs the source's webhook_id, which is signed");
    }
    Ok(Key::Rsa(Box::new(Certificate::parse(secret, DOMAIN)?)))
}

/// `PAYPAL-TRANSMISSION-SIG`: SHA256withRSA, base64, over `id|time|webhook id|crc32(raw)`, the checksum in decimal.
fn authenticate(delivery: &Delivery<'_>, source: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let id = delivery.header("paypal-transmission-id")?;
    let time = delivery.header("paypal-transmission-time")?;
    let signature = delivery.header("paypal-transmission-sig")?;
    let algorithm = delivery.header("paypal-auth-algo")?;
    if algorithm != "SHA256withRSA" || !is_paypal(delivery.header("paypal-cert-url")?) {
        return Err(Refusal::Malformed);
    }
    let signature = STANDARD.decode(signature).map_err(|_| Refusal::Malformed)?;
    let signed = format!("{id}|{time}|{}|{}", source.webhook_id, crc32fast::hash(delivery.body));
    verify(secrets, now_unix, &[signed.as_bytes()], &[signature])
}

fn headers(_: &Source) -> Vec<Header> {
    vec![
        Header::new("paypal-transmission-id", "the transmission's id", "5f0b3a40-c94e-11f0-9d2c-0242ac120002"),
        Header::new("paypal-transmission-time", "the transmission's time", "2026-11-24T10:00:00Z"),
        Header::new("paypal-transmission-sig", "base64", &STANDARD.encode([0; 256])),
        Header::new("paypal-auth-algo", "SHA256withRSA", "SHA256withRSA"),
        Header::new(
            "paypal-cert-url",
            "https and a host under paypal.com",
            "https://api.paypal.com/v1/notifications/certs/CERT",
        ),
    ]
}

/// Whether a certificate's address is `https` and of a host under paypal.com.
fn is_paypal(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("https://") else { return false };
    let host = rest.split('/').next().unwrap_or_default();
    let is_name = host.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
    is_name && is_under(host, DOMAIN)
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    create_time: Cow<'a, str>,
    #[serde(borrow)]
    resource: &'a RawValue,
}

/// An authorization, capture or refund.
#[derive(Deserialize)]
struct Payment<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    amount: Amount<'a>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    custom_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    invoice_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    links: Parents<'a>,
    #[serde(borrow, default)]
    supplementary_data: Option<Supplement<'a>>,
}

#[derive(Deserialize)]
struct Amount<'a> {
    #[serde(borrow)]
    value: Cow<'a, str>,
    #[serde(borrow)]
    currency_code: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Link<'a> {
    #[serde(borrow)]
    href: Cow<'a, str>,
    #[serde(borrow)]
    rel: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Supplement<'a> {
    #[serde(borrow, default)]
    related_ids: Option<Related<'a>>,
}

#[derive(Deserialize)]
struct Related<'a> {
    #[serde(borrow, default)]
    authorization_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    capture_id: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Dispute<'a> {
    #[serde(borrow)]
    dispute_id: Cow<'a, str>,
    #[serde(borrow, default)]
    disputed_transactions: First<Disputed<'a>>,
    #[serde(borrow)]
    dispute_amount: Amount<'a>,
    #[serde(borrow, default)]
    status: Option<Text<'a>>,
    #[serde(borrow, default)]
    dispute_outcome: Option<Outcome<'a>>,
}

#[derive(Deserialize)]
struct Disputed<'a> {
    #[serde(borrow, default)]
    seller_transaction_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    custom: Option<Text<'a>>,
    #[serde(borrow, default)]
    invoice_number: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Outcome<'a> {
    #[serde(borrow, default)]
    outcome_code: Option<Text<'a>>,
}

#[derive(Deserialize)]
struct Approval<'a> {
    #[serde(borrow, alias = "id")]
    order_id: Cow<'a, str>,
    #[serde(borrow, default)]
    purchase_units: First<Unit<'a>>,
}

#[derive(Deserialize)]
struct Unit<'a> {
    #[serde(borrow, default)]
    custom_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    invoice_id: Option<Text<'a>>,
}

/// What is read of a resource.
struct Reading<'a> {
    kind: Kind,
    payment: Cow<'a, str>,
    transaction: Option<Cow<'a, str>>,
    amount: Option<Amount<'a>>,
    order: Option<Cow<'a, str>>,
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery.body, source, now_ms), delivery.body)]
}

fn read<'a>(body: &'a [u8], source: &'a Source, now_ms: i64) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let event: Event<'a> = parse(body)?;
    let resource = event.resource.get().as_bytes();
    let reading = match &*event.event_type {
        "PAYMENT.AUTHORIZATION.CREATED" => of_authorization(Kind::Authorized, parse(resource)?),
        "PAYMENT.AUTHORIZATION.VOIDED" => of_authorization(Kind::Cancelled, parse(resource)?),
        "PAYMENT.CAPTURE.COMPLETED" => of_capture(Kind::Captured, parse(resource)?),
        "PAYMENT.CAPTURE.PENDING" => of_capture(Kind::Pending, parse(resource)?),
        "PAYMENT.CAPTURE.DENIED" | "PAYMENT.CAPTURE.DECLINED" => of_capture(Kind::Failed, parse(resource)?),
        "PAYMENT.CAPTURE.REFUNDED" | "PAYMENT.CAPTURE.REVERSED" => of_refund(parse(resource)?)?,
        "CUSTOMER.DISPUTE.CREATED" | "CUSTOMER.DISPUTE.UPDATED" => of_dispute(false, parse(resource)?)?,
        "CUSTOMER.DISPUTE.RESOLVED" => of_dispute(true, parse(resource)?)?,
        "CHECKOUT.PAYMENT-APPROVAL.REVERSED" => of_approval(parse(resource)?),
        other if carries_no_change(other) => return Ok(None),
        _ => return Err("unknown payment type".into()),
    };
    let amount = reading.amount.map(|amount| decimal(&amount.value, &amount.currency_code)).transpose()?;
    let draft = Draft {
        kind: reading.kind,
        event_key: event.id,
        event_type: event.event_type,
        // Captures name their payee and refunds do not: a payment's id would depend on it.
        account: Cow::Borrowed(""),
        payment: reading.payment,
        transaction: reading.transaction,
        amount,
        time_ms: time_ms(&event.create_time)?,
        version_ms: None,
        order: reading.order,
        user: None,
    };
    draft.finish(PROVIDER.name, source, now_ms).map(Some)
}

/// An order is approved before and completed after its payments are; payouts are the shop's own; `RISK.DISPUTE` repeats
/// `CUSTOMER.DISPUTE` (PayPal, "Webhook event names").
fn carries_no_change(event_type: &str) -> bool {
    let no_change = ["CHECKOUT.ORDER.APPROVED", "CHECKOUT.ORDER.COMPLETED"];
    let payouts = ["PAYMENT.PAYOUTSBATCH.", "PAYMENT.PAYOUTS-ITEM.", "PAYMENT.REFERENCED-PAYOUT-ITEM."];
    let families = ["PAYMENT.", "CHECKOUT.", "CUSTOMER.DISPUTE."];
    let is_of = |families: &[&str]| families.iter().any(|family| event_type.starts_with(family));
    no_change.contains(&event_type) || is_of(&payouts) || !is_of(&families)
}

fn of_authorization(kind: Kind, authorization: Payment<'_>) -> Reading<'_> {
    Reading {
        kind,
        payment: authorization.id,
        transaction: None,
        amount: Some(authorization.amount),
        order: filled(authorization.custom_id).or_else(|| filled(authorization.invoice_id)),
    }
}

fn of_capture(kind: Kind, capture: Payment<'_>) -> Reading<'_> {
    let related = capture.supplementary_data.and_then(|data| data.related_ids);
    let authorization = capture.links.authorization.or_else(|| filled(related?.authorization_id));
    Reading {
        kind,
        payment: authorization.unwrap_or_else(|| capture.id.clone()),
        transaction: Some(capture.id),
        amount: Some(capture.amount),
        order: filled(capture.custom_id).or_else(|| filled(capture.invoice_id)),
    }
}

/// A refund's own `custom_id` and `invoice_id` may differ from the payment's: the order is found through the payment.
fn of_refund(refund: Payment<'_>) -> Result<Reading<'_>, Misunderstood> {
    let kind = match refund.status.as_ref().map(|status| &*status.0) {
        Some("COMPLETED") | None => Kind::Refunded,
        Some("PENDING") => Kind::RefundPending,
        Some("FAILED" | "CANCELLED") => Kind::RefundFailed,
        Some(_) => return Err("unknown refund status".into()),
    };
    let related = refund.supplementary_data.and_then(|data| data.related_ids);
    let capture = refund.links.capture.or_else(|| filled(related?.capture_id));
    Ok(Reading {
        kind,
        payment: capture.unwrap_or_else(|| refund.id.clone()),
        transaction: Some(refund.id),
        amount: Some(refund.amount),
        order: None,
    })
}

/// A dispute of several transactions is counted whole for the first.
fn of_dispute(is_resolved: bool, dispute: Dispute<'_>) -> Result<Reading<'_>, Misunderstood> {
    let is_resolved = is_resolved || dispute.status.is_some_and(|status| status.0 == "RESOLVED");
    let outcome = dispute.dispute_outcome.and_then(|outcome| outcome.outcome_code);
    let kind = match outcome.as_ref().map(|code| &*code.0) {
        _ if !is_resolved => Kind::Disputed,
        Some("RESOLVED_SELLER_FAVOUR" | "CANCELED_BY_BUYER" | "RESOLVED_WITH_PAYOUT" | "DENIED") => Kind::DisputeWon,
        Some("RESOLVED_BUYER_FAVOUR" | "ACCEPTED") => Kind::DisputeLost,
        _ => return Err("unknown dispute outcome".into()),
    };
    let disputed = dispute.disputed_transactions.0;
    let (capture, custom, invoice) =
        disputed.map_or((None, None, None), |d| (d.seller_transaction_id, d.custom, d.invoice_number));
    Ok(Reading {
        kind,
        payment: filled(capture).unwrap_or_else(|| dispute.dispute_id.clone()),
        transaction: Some(dispute.dispute_id),
        amount: Some(dispute.dispute_amount),
        order: filled(custom).or_else(|| filled(invoice)),
    })
}

fn of_approval(approval: Approval<'_>) -> Reading<'_> {
    let unit = approval.purchase_units.0;
    let order = unit.and_then(|unit| filled(unit.custom_id).or_else(|| filled(unit.invoice_id)));
    Reading { kind: Kind::Cancelled, payment: approval.order_id, transaction: None, amount: None, order }
}

/// The ids at the end of the links to the parents, of each collection the first.
#[derive(Default)]
struct Parents<'a> {
    authorization: Option<Cow<'a, str>>,
    capture: Option<Cow<'a, str>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Parents<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Links;
        impl<'de> Visitor<'de> for Links {
            type Value = Parents<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("links")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut links: A) -> Result<Self::Value, A::Error> {
                let mut parents = Parents::default();
                while let Some(link) = links.next_element::<Link<'de>>()? {
                    let slot = match link.collection_and_id() {
                        Some(("authorizations", _)) => &mut parents.authorization,
                        Some(("captures", _)) => &mut parents.capture,
                        _ => continue,
                    };
                    if slot.is_none() {
                        *slot = link.collection_and_id().map(|(_, id)| Cow::Owned(id.to_owned()));
                    }
                }
                Ok(parents)
            }
        }
        deserializer.deserialize_seq(Links)
    }
}

impl Link<'_> {
    fn collection_and_id(&self) -> Option<(&str, &str)> {
        let (rest, id) = self.href.rsplit_once('/').filter(|(_, id)| self.rel == "up" && !id.is_empty())?;
        let (_, collection) = rest.rsplit_once('/')?;
        Some((collection, id))
    }
}

#[cfg(test)]
mod tests {
    use super::is_paypal;

    #[test]
    fn only_paypals_own_addresses_are_taken() {
        for url in ["https://api.paypal.com/v1/notifications/certs/CERT-1", "https://api.sandbox.paypal.com/x"] {
            assert!(is_paypal(url), "{url}");
        }
        for url in [
            "http://api.paypal.com/x",
            "https://paypal.com.evil.example/x",
            "https://evil.example/paypal.com/",
            "https://api.paypal.com@evil.example/x",
            "https://evil.example#.paypal.com/x",
            "https://evil.example?.paypal.com",
            "https://evil.example\\.paypal.com/x",
            "https://notpaypal.com/x",
            "",
        ] {
            assert!(!is_paypal(url), "{url}");
        }
    }
}
