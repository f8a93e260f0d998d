//! Adyen payments: notification requests with one or more items, each signed on its own.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::{Map, RawValue, Value};

use super::draft::{Draft, money};
use super::json::{Text, integer, parse, time_ms};
use super::{Delivery, Header, Item, JSON, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, hex_bytes, verify};
use crate::{Kind, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "adyen",
    media: JSON,
    body: BODY,
    prepare_secret,
    authenticate,
    normalise,
    answer: "[accepted]",
    challenge: None,
    fetch: None,
    event_headers: &[],
    refunds_name_captures: false,
    headers,
    signed: "HMAC-SHA256 in base64 over eight fields of each item joined by colons (pspReference, originalReference, \
             merchantAccountCode, merchantReference, value, currency, eventCode, success), in the item's \
             additionalData.hmacSignature; the key is given in hexadecimal",
    sign: Some(sign),
    samples: include_str!("samples/adyen.txt"),
};

/// What is read before a signature is found: a body without it is a malformed request.
const BODY: &str = r#"{
    "type": "object",
    "required": ["notificationItems"],
    "properties": {"notificationItems": {"type": "array", "minItems": 1, "items": {
        "type": "object",
        "required": ["NotificationRequestItem"],
        "properties": {"NotificationRequestItem": {
            "type": "object",
            "required": ["eventCode", "pspReference", "merchantAccountCode", "amount", "success"],
            "properties": {
                "eventCode": {"type": "string"},
                "pspReference": {"type": "string"},
                "originalReference": {"type": ["string", "null"]},
                "merchantAccountCode": {"type": "string"},
                "merchantReference": {"type": ["string", "null"]},
                "eventDate": {"type": ["string", "null"]},
                "success": {"type": "string"},
                "amount": {
                    "type": "object",
                    "required": ["value", "currency"],
                    "properties": {
                        "value": {"type": "integer", "format": "int64", "minimum": 0, "maximum": 1000000000000},
                        "currency": {"type": "string"}
                    }
                },
                "additionalData": {"type": "object", "properties": {
                    "hmacSignature": {"type": ["string", "null"]},
                    "modification.action": {"type": ["string", "null"]}
                }}
            }
        }}
    }}}
}"#;

/// Currencies whose minor unit is not ISO 4217's (Adyen, "Currency codes and minor units").
const EXPONENTS: [(&str, u8); 4] = [("CLP", 2), ("CVE", 0), ("IDR", 0), ("ISK", 2)];

/// The key is given in hexadecimal.
fn prepare_secret(secret: &str, _: &Source) -> Result<Key, &'static str> {
    hex_bytes(secret).as_deref().and_then(Key::hmac_sha256).ok_or("is not hexadecimal")
}

#[derive(Deserialize)]
struct Request<T> {
    #[serde(rename = "notificationItems")]
    items: Vec<Wrapper<T>>,
}

#[derive(Deserialize)]
struct Wrapper<T> {
    #[serde(rename = "NotificationRequestItem")]
    item: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notification<'a> {
    #[serde(borrow)]
    event_code: Cow<'a, str>,
    #[serde(borrow)]
    psp_reference: Cow<'a, str>,
    #[serde(borrow, default)]
    original_reference: Option<Text<'a>>,
    #[serde(borrow)]
    merchant_account_code: Cow<'a, str>,
    #[serde(borrow, default)]
    merchant_reference: Option<Text<'a>>,
    #[serde(borrow)]
    amount: Amount<'a>,
    #[serde(borrow)]
    success: Cow<'a, str>,
    #[serde(borrow, default)]
    event_date: Option<Text<'a>>,
    #[serde(borrow, default)]
    additional_data: AdditionalData<'a>,
}

#[derive(Deserialize)]
struct Amount<'a> {
    #[serde(deserialize_with = "integer")]
    value: i64,
    #[serde(borrow)]
    currency: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
struct AdditionalData<'a> {
    #[serde(borrow, default, rename = "hmacSignature")]
    signature: Option<Text<'a>>,
    #[serde(borrow, default, rename = "modification.action")]
    action: Option<Text<'a>>,
}

fn text<'t>(value: Option<&'t Text<'_>>) -> &'t str {
    value.map_or("", |text| &text.0)
}

/// Every item must carry a signature that one of the secrets gives; the index of the last item's.
fn authenticate(delivery: &Delivery<'_>, _: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let request: Request<Notification<'_>> = parse(delivery.body).map_err(|_| Refusal::Unreadable)?;
    if request.items.is_empty() {
        return Err(Refusal::Missing);
    }
    request.items.iter().try_fold(0, |_, wrapper| authenticate_item(&wrapper.item, secrets, now_unix))
}

fn headers(_: &Source) -> Vec<Header> {
    Vec::new()
}

/// Each item of the body gets its signature.
fn sign(request: Unsigned<'_>, _: &Source, secret: &Secret, _: i64) -> Option<Signed> {
    let mut document: Value = serde_json::from_slice(&request.body).ok()?;
    for wrapper in document.get_mut("notificationItems")?.as_array_mut()? {
        let item = wrapper.get_mut("NotificationRequestItem")?;
        let text = item.to_string();
        let notification: Notification<'_> = parse(text.as_bytes()).ok()?;
        let signature = sign_item(signed_fields(&notification, &notification.amount.value.to_string()), secret);
        let additional = item.as_object_mut()?.entry("additionalData").or_insert_with(|| Value::Object(Map::new()));
        additional.as_object_mut()?.insert("hmacSignature".into(), signature.into());
    }
    Some(Signed { headers: Vec::new(), body: serde_json::to_vec(&document).ok()? })
}

/// HMAC-SHA256, base64, over [`SignedFields`] joined by `:`, unescaped; what is missing is empty.
fn authenticate_item(item: &Notification<'_>, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let signature = item.additional_data.signature.as_ref().ok_or(Refusal::Missing)?;
    let signature = STANDARD.decode(&*signature.0).map_err(|_| Refusal::Malformed)?;
    // Fields are joined unescaped: only the shop's own reference may hold a colon, or one signature would fit several items.
    let names = [&*item.psp_reference, text(item.original_reference.as_ref()), &item.merchant_account_code];
    if names.into_iter().any(|name| name.contains(':')) {
        return Err(Refusal::Malformed);
    }
    let value = item.amount.value.to_string();
    verify(secrets, now_unix, &[&signed_text(signed_fields(item, &value))], &[signature])
}

/// pspReference, originalReference, merchantAccountCode, merchantReference, value, currency, eventCode, success.
type SignedFields<'t> = [&'t [u8]; 8];

fn signed_fields<'t>(item: &'t Notification<'_>, value: &'t str) -> SignedFields<'t> {
    [
        &*item.psp_reference,
        text(item.original_reference.as_ref()),
        &item.merchant_account_code,
        text(item.merchant_reference.as_ref()),
        value,
        &item.amount.currency,
        &item.event_code,
        &item.success,
    ]
    .map(str::as_bytes)
}

fn signed_text(fields: SignedFields<'_>) -> Vec<u8> {
    fields.join(&b':')
}

/// The `hmacSignature` of an item with these fields, in the order in which Adyen signs them; what it lacks is empty.
#[must_use]
pub fn sign_item(fields: SignedFields<'_>, secret: &Secret) -> String {
    STANDARD.encode(secret.sign(&[&signed_text(fields)]))
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    match parse::<Request<&'a RawValue>>(delivery.body) {
        Ok(request) if request.items.is_empty() => vec![item(Err("no items".into()), delivery.body)],
        Ok(request) => request
            .items
            .into_iter()
            .map(|wrapper| {
                let raw = wrapper.item.get().as_bytes();
                item(read(raw, source, now_ms), raw)
            })
            .collect(),
        // One item by itself, as quarantine keeps it; a request like this is never authenticated.
        Err(_) => vec![item(read(delivery.body, source, now_ms), delivery.body)],
    }
}

fn read<'a>(raw: &'a [u8], source: &'a Source, now_ms: i64) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let item: Notification<'a> = parse(raw)?;
    let success = match &*item.success {
        "true" => true,
        "false" => false,
        _ => return Err("malformed success".into()),
    };
    let action = text(item.additional_data.action.as_ref());
    let Some(kind) = meaning(&item.event_code, success, action)? else { return Ok(None) };
    let event_key = format!("{}:{}:{}", item.event_code, item.psp_reference, item.success);
    let original = item.original_reference.map(|text| text.0).filter(|text| !text.is_empty());
    if item.event_code == "TECHNICAL_CANCEL" && original.is_none() {
        return Err("names its payment only by the shop's reference".into());
    }
    // A modification or dispute has a pspReference of its own and names its payment by originalReference.
    let (payment, transaction) = match (kind, original) {
        (Kind::Pending | Kind::Failed | Kind::Authorized | Kind::Cancelled | Kind::Expired, original) => {
            (original.unwrap_or(item.psp_reference), None)
        }
        (_, Some(original)) => (original, Some(item.psp_reference)),
        (_, None) => (item.psp_reference.clone(), Some(item.psp_reference)),
    };
    let draft = Draft {
        kind,
        event_key: event_key.into(),
        event_type: item.event_code,
        account: item.merchant_account_code,
        payment,
        transaction,
        amount: Some(money(item.amount.value, &item.amount.currency, &EXPONENTS)?),
        time_ms: time_ms(text(item.event_date.as_ref()))?,
        version_ms: None,
        order: item.merchant_reference.map(|text| text.0).filter(|text| !text.is_empty()),
        user: None,
    };
    draft.finish(PROVIDER.name, source, now_ms).map(Some)
}

/// What an event code means; `None` where it carries no payment change. The codes are Adyen's "Webhook types".
fn meaning(event_code: &str, success: bool, action: &str) -> Result<Option<Kind>, Misunderstood> {
    let happened = |kind| Ok(success.then_some(kind));
    match event_code {
        "PENDING" => happened(Kind::Pending),
        "AUTHORISATION" => Ok(Some(if success { Kind::Authorized } else { Kind::Failed })),
        "AUTHORISATION_ADJUSTMENT" => happened(Kind::Authorized),
        // A request that failed leaves the payment as it was; CAPTURE_FAILED takes a capture back.
        "CAPTURE" => happened(Kind::Captured),
        "CAPTURE_FAILED" => happened(Kind::CaptureFailed),
        "CANCELLATION" | "TECHNICAL_CANCEL" => happened(Kind::Cancelled),
        "OFFER_CLOSED" | "EXPIRE" => happened(Kind::Expired),
        "REFUND" | "REFUND_WITH_DATA" => Ok(Some(if success { Kind::Refunded } else { Kind::RefundFailed })),
        "POSTPONED_REFUND" => happened(Kind::RefundPending),
        "REFUND_FAILED" | "REFUNDED_REVERSED" | "VOID_PENDING_REFUND" => happened(Kind::RefundFailed),
        "CANCEL_OR_REFUND" => match action {
            "cancel" => happened(Kind::Cancelled),
            "refund" => Ok(Some(if success { Kind::Refunded } else { Kind::RefundFailed })),
            _ if success => Err("unknown modification action".into()),
            _ => Ok(None),
        },
        "REQUEST_FOR_INFORMATION"
        | "NOTIFICATION_OF_CHARGEBACK"
        | "CHARGEBACK"
        | "PREARBITRATION_OPEN"
        | "SCHEME_ARBITRATION" => happened(Kind::Disputed),
        "CHARGEBACK_REVERSED"
        | "PREARBITRATION_WON"
        | "SCHEME_ARBITRATION_WON"
        | "ISSUER_RESPONSE_TIMEFRAME_EXPIRED" => happened(Kind::DisputeWon),
        "SECOND_CHARGEBACK" | "PREARBITRATION_LOST" | "SCHEME_ARBITRATION_LOST" | "DISPUTE_DEFENSE_PERIOD_ENDED" => {
            happened(Kind::DisputeLost)
        }
        "REPORT_AVAILABLE"
        | "RECURRING_CONTRACT"
        | "ORDER_OPENED"
        | "ORDER_CLOSED"
        | "AUTORESCUE"
        | "CANCEL_AUTORESCUE"
        | "NOTIFICATION_OF_FRAUD"
        | "INFORMATION_SUPPLIED"
        | "ISSUER_COMMENTS" => Ok(None),
        code if code.starts_with("MANUAL_REVIEW_") || code.starts_with("PAYOUT_") => Ok(None),
        _ => Err("unknown payment type".into()),
    }
}
