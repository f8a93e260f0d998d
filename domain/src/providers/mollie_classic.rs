//! Mollie's classic webhooks: a form with the id of a payment to which something happened, unsigned. What happened is asked of
//! the Payments API, with all refunds, captures and chargebacks of the payment.
//!
//! They are the same payments as those of the signed webhooks, so events carry that provider's name, and a shop that changes
//! from one to the other counts nothing twice.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json::parse;
use super::mollie::{Entity, read_bare};
use super::{ANY, Delivery, Fetch, Header, Item, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret};

pub static PROVIDER: Provider = Provider {
    name: "mollie-classic",
    media: &["application/x-www-form-urlencoded"],
    body: ANY,
    prepare_secret,
    authenticate,
    normalise,
    answer: "",
    challenge: None,
    fetch: Some(Fetch { api: "https://api.mollie.com", path, is_about, read }),
    event_headers: &[],
    refunds_name_captures: false,
    headers,
    signed: "nothing is signed: the payment that the form names is asked of Mollie's API",
    sign: Some(sign),
    samples: include_str!("samples/mollie_classic.txt"),
};

/// An API key or an access token.
fn prepare_secret(secret: &str, _: &Source) -> Result<Key, &'static str> {
    Key::token(secret).ok_or("is empty, or has characters that no API key has")
}

/// Anybody may send it. Only an id that can be one is let in.
fn authenticate(delivery: &Delivery<'_>, _: &Source, _: &[Secret], _: i64) -> Result<usize, Refusal> {
    payment(delivery.body).map(|_| 0).ok_or(Refusal::Unreadable)
}

/// Ids are short and need no escapes, so that the name of the field and the id are all there is.
fn payment(body: &[u8]) -> Option<&str> {
    let id = std::str::from_utf8(body.trim_ascii()).ok()?.strip_prefix("id=")?;
    let rest = id.strip_prefix("tr_")?;
    let is_id = (1..=64).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_id.then_some(id)
}

fn normalise<'a>(delivery: &Delivery<'a>, _: &'a Source, _: i64) -> Vec<Item<'a>> {
    match payment(delivery.body) {
        Some(id) => vec![Item::Claim(id)],
        None => vec![Item::Quarantine { reason: "no payment id".into(), body: delivery.body }],
    }
}

/// "Get payment" of the Payments API, with what happened to its money.
fn path(id: &str) -> String {
    format!("/v2/payments/{id}?embed=captures,refunds,chargebacks")
}

/// Only "Get payment" itself, of this payment.
fn is_about(body: &[u8], id: &str) -> bool {
    parse::<Named<'_>>(body).is_ok_and(|named| named.resource == "payment" && named.id == id)
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Payment<'a> {
    #[serde(borrow)]
    resource: Cow<'a, str>,
    #[serde(borrow, default, rename = "_embedded")]
    embedded: Option<Embedded<'a>>,
}

#[derive(Deserialize, Default)]
struct Embedded<'a> {
    #[serde(borrow, default)]
    captures: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    refunds: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    chargebacks: Option<Vec<&'a RawValue>>,
}

/// The payment's own state, and that of everything in it.
fn read<'a>(body: &'a [u8], source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    let payment: Payment<'a> = match parse(body) {
        Ok(payment) => payment,
        Err(reason) => return vec![Item::Quarantine { reason, body }],
    };
    let one = |resource: &str, body| item(read_bare(resource, body, key, source, now_ms), body);
    let many = |resource: &'static str, entities: Option<Vec<&'a RawValue>>| {
        entities.unwrap_or_default().into_iter().map(move |entity| one(resource, entity.get().as_bytes()))
    };
    let Embedded { captures, refunds, chargebacks } = payment.embedded.unwrap_or_default();
    let own = match &*payment.resource {
        // As quarantine keeps one of them.
        entity @ ("capture" | "refund" | "chargeback") => return vec![one(entity, body)],
        "payment" => one("payment", body),
        _ => Item::Quarantine { reason: "not a payment".into(), body },
    };
    [own]
        .into_iter()
        .chain(many("capture", captures))
        .chain(many("refund", refunds))
        .chain(many("chargeback", chargebacks))
        .collect()
}

/// A payment stays `paid` while more of it is captured: each total is an event of its own.
fn key(entity: &Entity<'_>, status: &str) -> String {
    match &entity.amount_captured {
        Some(total) if status == "paid" => format!("{}:{status}:{}", entity.id, total.value),
        _ => format!("{}:{status}", entity.id),
    }
}

fn headers(_: &Source) -> Vec<Header> {
    Vec::new()
}

fn sign(request: Unsigned<'_>, _: &Source, _: &Secret, _: i64) -> Option<Signed> {
    payment(&request.body)?;
    Some(Signed { headers: Vec::new(), body: request.body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_about_the_payment_that_was_asked_for_or_it_is_none() {
        let payment = br#"{"resource":"payment","id":"tr_1","status":"paid"}"#;
        assert!(is_about(payment, "tr_1") && !is_about(payment, "tr_2") && !is_about(payment, "tr_"));
        for other in [
            &b"<html>Welcome to the proxy</html>"[..],
            b"",
            b"[]",
            b"{}",
            br#"{"resource":"payment"}"#,
            br#"{"resource":"refund","id":"tr_1"}"#,
            br#"{"id":"tr_1"}"#,
            br#"{"resource":"payment","id":"tr_1""#,
        ] {
            assert!(!is_about(other, "tr_1"), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn only_ids_of_payments_are_let_in() {
        assert_eq!(payment(b"id=tr_5B8cwPMGnU6qLbRvo7qEZo"), Some("tr_5B8cwPMGnU6qLbRvo7qEZo"));
        assert_eq!(payment(b"id=tr_1\r\n"), Some("tr_1"));
        for refused in [
            "",
            "id=",
            "id=tr_",
            "id=ord_1",
            "tr_1",
            "id=tr_1&id=tr_2",
            "id=tr_..%2Fme",
            "id=tr_1/../x",
            "id=tr_\u{e4}",
        ] {
            assert_eq!(payment(refused.as_bytes()), None, "{refused}");
        }
        assert_eq!(payment(format!("id=tr_{}", "x".repeat(65)).as_bytes()), None);
    }
}
