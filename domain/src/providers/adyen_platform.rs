//! Adyen's webhooks of the balance platform, of management and of tokens: authenticated, and none changes a payment.
//!
//! They are about accounts, transfers between them, cards that the shop itself issues and settings. What happens to a
//! payment is told by the payments' own webhooks (see `adyen`), also where its money then moves on the platform.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::json::parse;
use super::{ANY, Delivery, Header, Item, JSON, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, hex_bytes, verify};

pub static PROVIDER: Provider = Provider {
    name: "adyen-platform",
    media: JSON,
    body: ANY,
    prepare_secret,
    authenticate,
    normalise,
    answer: "[accepted]",
    challenge: None,
    fetch: None,
    event_headers: &[],
    refunds_name_captures: false,
    headers,
    signed: "HMAC-SHA256 in base64 over the raw body; the key is given in hexadecimal",
    sign: Some(sign),
    samples: include_str!("samples/adyen_platform.txt"),
};

/// Families of event types (`@adyen/api-library`, the typings of its `…Webhooks`).
const NO_CHANGE: [&str; 6] =
    ["balancePlatform.", "merchant.", "paymentMethod.", "paymentMethodRequest.", "recurring.token.", "terminal"];

/// The key is given in hexadecimal.
fn prepare_secret(secret: &str, _: &Source) -> Result<Key, &'static str> {
    hex_bytes(secret).as_deref().and_then(Key::hmac_sha256).ok_or("is not hexadecimal")
}

/// `HmacSignature`: HMAC-SHA256, base64, over the raw body.
fn authenticate(delivery: &Delivery<'_>, _: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let signature = STANDARD.decode(delivery.header("hmacsignature")?).map_err(|_| Refusal::Malformed)?;
    verify(secrets, now_unix, &[delivery.body], &[signature])
}

fn headers(_: &Source) -> Vec<Header> {
    vec![Header::new("hmacsignature", "base64 of 32 bytes", &STANDARD.encode([0; 32]))]
}

fn sign(request: Unsigned<'_>, _: &Source, secret: &Secret, _: i64) -> Option<Signed> {
    let signature = request.signature(secret, &[])?;
    Some(request.signed("hmacsignature", STANDARD.encode(signature)))
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

fn normalise<'a>(delivery: &Delivery<'a>, _: &'a Source, _: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery.body).map(|()| None), delivery.body)]
}

fn read(body: &[u8]) -> Result<(), Misunderstood> {
    let event: Event<'_> = parse(body)?;
    let is_known = NO_CHANGE.iter().any(|family| event.kind.starts_with(family));
    if is_known { Ok(()) } else { Err("unknown event type".into()) }
}
