//! Braintree: notifications of transactions that settle late, local payments and disputes.
//!
//! A request is a form with a signature and XML in base64. A transaction is captured once and stands for its payment; a
//! local payment has an id of its own, and names its transaction as soon as there is one.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

use super::draft::{Draft, decimal};
use super::form::{encoded, field};
use super::json::time_ms;
use super::xml::Texts;
use super::{Challenge, Delivery, Header, Item, Misunderstood, Provider, Signed, Source, Unsigned, item};
use crate::signature::{Key, Refusal, Secret, hex_bytes, to_hex, verify_with};
use crate::{Kind, Money, PaymentEvent};

pub static PROVIDER: Provider = Provider {
    name: "braintree",
    media: &["application/x-www-form-urlencoded"],
    body: BODY,
    prepare_secret,
    authenticate,
    normalise,
    answer: "{\"received\":true}",
    challenge: Some(Challenge { parameter: "bt_challenge", pattern: "^[0-9a-f]{20,32}$", answer: challenge }),
    fetch: None,
    event_headers: &[],
    refunds_name_captures: false,
    headers,
    signed: "HMAC-SHA1 in hexadecimal over bt_payload; bt_signature has `public key|signature` pairs joined by &; \
             the secret is `public key:private key`",
    sign: Some(sign),
    samples: include_str!("samples/braintree.txt"),
};

/// The form's fields.
const BODY: &str = r#"{
    "type": "object",
    "required": ["bt_signature", "bt_payload"],
    "properties": {"bt_signature": {"type": "string"}, "bt_payload": {"type": "string"}}
}"#;

/// More pairs than any account has keys only cost time.
const SIGNATURES_MAX: usize = 16;

/// `public key:private key`: the public one says which of a request's signatures is ours.
fn prepare_secret(secret: &str, _: &Source) -> Result<Key, &'static str> {
    let (public, private) = secret.split_once(':').ok_or("is not a public and a private key with : between")?;
    if public.is_empty() || private.is_empty() {
        return Err("is not a public and a private key with : between");
    }
    Key::hmac_sha1(public, &Sha1::digest(private.as_bytes())).ok_or("is empty")
}

/// `bt_signature` has pairs `public key|hexadecimal`: HMAC-SHA1 over `bt_payload` as it stands, or with one line end more.
fn authenticate(delivery: &Delivery<'_>, _: &Source, secrets: &[Secret], now_unix: i64) -> Result<usize, Refusal> {
    let signature = field(delivery.body, "bt_signature").ok_or(Refusal::Missing)?;
    let payload = field(delivery.body, "bt_payload").ok_or(Refusal::Missing)?;
    let signature = std::str::from_utf8(&signature).map_err(|_| Refusal::Malformed)?;
    let pairs = signature.split('&').filter_map(|pair| pair.split_once('|')).take(SIGNATURES_MAX);
    let pairs: Vec<_> = pairs.filter_map(|(public, digits)| Some((public, hex_bytes(digits)?))).collect();
    // Anybody has a challenge signed.
    if pairs.is_empty() || !payload.iter().all(is_base64) || is_challenge(&payload) {
        return Err(Refusal::Malformed);
    }
    verify_with(secrets, now_unix, |key| {
        let Key::HmacSha1 { owner, .. } = key else { return false };
        let ours: Vec<_> = pairs.iter().filter(|(public, _)| public == owner).map(|(_, digest)| digest).collect();
        key.accepts(&[&payload], &ours) || key.accepts(&[&payload, b"\n"], &ours)
    })
}

fn is_base64(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'+' | b'=' | b'/' | b'\n')
}

fn headers(_: &Source) -> Vec<Header> {
    Vec::new()
}

/// The body to sign is the notification's XML.
fn sign(request: Unsigned<'_>, _: &Source, secret: &Secret, _: i64) -> Option<Signed> {
    let Key::HmacSha1 { owner, .. } = secret.key() else { return None };
    let payload = STANDARD.encode(&request.body);
    let digits = to_hex(&secret.sign(&[payload.as_bytes()]));
    let body = format!("bt_signature={}%7C{digits}&bt_payload={}", encoded(owner), encoded(&payload));
    Some(Signed { headers: Vec::new(), body: body.into_bytes() })
}

/// `bt_challenge`, 20 to 32 hexadecimal digits, is answered by `public key|hexadecimal`: the digits' HMAC-SHA1.
fn challenge(query: &str, secrets: &[Secret], now_unix: i64) -> Option<String> {
    let challenge = field(query.as_bytes(), "bt_challenge")?;
    if !is_challenge(&challenge) {
        return None;
    }
    let secret = secrets.iter().find(|secret| secret.is_valid_at(now_unix))?;
    let Key::HmacSha1 { owner, .. } = secret.key() else { return None };
    Some(format!("{owner}|{}", to_hex(&secret.sign(&[&challenge]))))
}

fn is_challenge(text: &[u8]) -> bool {
    (20..=32).contains(&text.len()) && text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn normalise<'a>(delivery: &Delivery<'a>, source: &'a Source, now_ms: i64) -> Vec<Item<'a>> {
    vec![item(read(delivery.body, source, now_ms), delivery.body)]
}

/// The fields that are read of a subject.
const FIELDS: [&str; 14] = [
    "id",
    "type",
    "amount",
    "amount-disputed",
    "currency-iso-code",
    "order-id",
    "refunded-transaction-id",
    "payment-id",
    "transaction/id",
    "transaction/type",
    "transaction/amount",
    "transaction/currency-iso-code",
    "transaction/order-id",
    "transaction/refunded-transaction-id",
];

/// The elements that notifications are about.
const ELEMENTS: [&str; 6] = [
    "transaction",
    "dispute",
    "local-payment",
    "local-payment-expired",
    "local-payment-funded",
    "local-payment-reversed",
];

/// A notification, read.
struct Notification {
    kind: String,
    time_ms: i64,
    texts: Texts,
    /// The path of the subject's element, up to its last slash.
    subject: String,
}

impl Notification {
    fn read(body: &[u8]) -> Result<Self, Misunderstood> {
        let mut payload = field(body, "bt_payload").ok_or("missing payload")?;
        payload.retain(|byte| *byte != b'\n');
        let xml = STANDARD.decode(&payload).map_err(|_| "broken base64")?;
        let xml = std::str::from_utf8(&xml).map_err(|_| "broken XML")?;
        let texts = Texts::read(xml, |path| match path.strip_prefix("notification/") {
            Some("kind" | "timestamp") => true,
            Some(rest) => element_and_field(rest)
                .is_some_and(|(element, field)| ELEMENTS.contains(&element) && FIELDS.contains(&field)),
            None => false,
        })?;
        let kind = texts.get("notification/kind").ok_or("missing kind")?.to_owned();
        let time_ms = time_ms(texts.get("notification/timestamp").ok_or("missing time")?)?;
        let element = subject(&kind);
        let plain = format!("notification/subject/{element}/");
        let wrapped = format!("notification/subject/api-error-response/{element}/");
        let is_plain = ["id", "payment-id"].iter().any(|field| texts.get(&format!("{plain}{field}")).is_some());
        Ok(Self { kind, time_ms, texts, subject: if is_plain { plain } else { wrapped } })
    }

    fn get(&self, field: &str) -> Option<&str> {
        self.texts.get(&format!("{}{field}", self.subject))
    }

    fn owned(&self, field: &str) -> Option<Cow<'static, str>> {
        self.get(field).map(|text| Cow::Owned(text.to_owned()))
    }

    fn money(&self, amount: &str, currency: &str) -> Result<Option<Money>, Misunderstood> {
        self.get(amount).zip(self.get(currency)).map(|(amount, currency)| decimal(amount, currency)).transpose()
    }
}

/// `subject/dispute/transaction/id` is the field `transaction/id` of a `dispute`, wrapped or not.
fn element_and_field(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("subject/")?;
    rest.strip_prefix("api-error-response/").unwrap_or(rest).split_once('/')
}

/// The element that a kind of notification is about.
fn subject(kind: &str) -> &'static str {
    match kind {
        "local_payment_completed" => "local-payment",
        "local_payment_expired" => "local-payment-expired",
        "local_payment_funded" => "local-payment-funded",
        "local_payment_reversed" => "local-payment-reversed",
        kind if kind.starts_with("dispute_") => "dispute",
        _ => "transaction",
    }
}

fn read<'a>(body: &'a [u8], source: &'a Source, now_ms: i64) -> Result<Option<PaymentEvent<'a>>, Misunderstood> {
    let notification = Notification::read(body)?;
    let reading = match &*notification.kind {
        "transaction_settled" | "transaction_settlement_declined" | "refund_failed" => of_transaction(&notification)?,
        kind if kind.starts_with("local_payment_") => of_local_payment(&notification)?,
        kind if kind.starts_with("dispute_") => of_dispute(&notification)?,
        kind if carries_no_change(kind) => return Ok(None),
        _ => return Err("unknown payment type".into()),
    };
    let subject = reading.transaction.as_ref().filter(|_| !reading.is_local).unwrap_or(&reading.payment);
    let written = notification.texts.get("notification/timestamp").unwrap_or_default();
    let draft = Draft {
        kind: reading.kind,
        event_key: format!("{}:{subject}:{written}", notification.kind).into(),
        event_type: notification.kind.into(),
        // Expired and reversed local payments name no merchant account: a payment's id would depend on it.
        account: Cow::Borrowed(""),
        payment: reading.payment,
        transaction: reading.transaction,
        amount: reading.amount,
        time_ms: notification.time_ms,
        version_ms: None,
        order: reading.order,
        user: None,
    };
    draft.finish(PROVIDER.name, source, now_ms).map(Some)
}

/// What is read of a subject.
struct Reading {
    kind: Kind,
    payment: Cow<'static, str>,
    transaction: Option<Cow<'static, str>>,
    amount: Option<Money>,
    order: Option<Cow<'static, str>>,
    is_local: bool,
}

fn of_transaction(notification: &Notification) -> Result<Reading, Misunderstood> {
    let is_refund = notification.get("type") == Some("credit") || notification.kind == "refund_failed";
    let kind = match (&*notification.kind, is_refund) {
        ("transaction_settled", false) => Kind::Captured,
        ("transaction_settled", true) => Kind::Refunded,
        (_, false) => Kind::CaptureFailed,
        (_, true) => Kind::RefundFailed,
    };
    let id = notification.owned("id").ok_or("missing transaction id")?;
    let refunded = notification.owned("refunded-transaction-id").filter(|_| is_refund);
    Ok(Reading {
        kind,
        payment: refunded.unwrap_or_else(|| id.clone()),
        transaction: Some(id),
        amount: notification.money("amount", "currency-iso-code")?,
        // A refund may have an order id of its own: the order is found through the payment.
        order: notification.owned("order-id").filter(|_| !is_refund),
        is_local: false,
    })
}

fn of_local_payment(notification: &Notification) -> Result<Reading, Misunderstood> {
    let kind = match &*notification.kind {
        "local_payment_completed" => Kind::Pending,
        "local_payment_funded" => Kind::Captured,
        "local_payment_expired" => Kind::Expired,
        "local_payment_reversed" => Kind::Cancelled,
        _ => return Err("unknown payment type".into()),
    };
    Ok(Reading {
        kind,
        payment: notification.owned("payment-id").ok_or("missing payment id")?,
        transaction: notification.owned("transaction/id"),
        amount: notification.money("transaction/amount", "transaction/currency-iso-code")?,
        order: notification.owned("transaction/order-id"),
        is_local: true,
    })
}

fn of_dispute(notification: &Notification) -> Result<Reading, Misunderstood> {
    let kind = match &*notification.kind {
        "dispute_opened" | "dispute_under_review" | "dispute_disputed" => Kind::Disputed,
        "dispute_won" => Kind::DisputeWon,
        "dispute_lost" | "dispute_accepted" | "dispute_auto_accepted" | "dispute_expired" => Kind::DisputeLost,
        _ => return Err("unknown payment type".into()),
    };
    let id = notification.owned("id").ok_or("missing transaction id")?;
    let disputed = notification.money("amount-disputed", "currency-iso-code")?;
    Ok(Reading {
        kind,
        payment: notification.owned("transaction/id").unwrap_or_else(|| id.clone()),
        transaction: Some(id),
        amount: disputed.map_or_else(|| notification.money("amount", "currency-iso-code"), |money| Ok(Some(money)))?,
        order: notification.owned("transaction/order-id"),
        is_local: false,
    })
}

/// Kinds about the shop's own accounts and money, or about stored payment methods (Braintree, "Webhooks").
fn carries_no_change(kind: &str) -> bool {
    let families = [
        "account_updater_",
        "connected_merchant_",
        "disbursement",
        "grant",
        "oauth_",
        "partner_merchant_",
        "payment_method_",
        "recipient_updated_",
    ];
    families.iter().any(|family| kind.starts_with(family))
        || matches!(
            kind,
            "check"
                | "transaction_disbursed"
                | "transaction_reviewed"
                | "subscription_billing_skipped"
                | "subscription_canceled"
                | "subscription_expired"
                | "subscription_trial_ended"
                | "subscription_went_active"
                | "subscription_went_past_due"
        )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Made with braintree (PyPI) 4.48.0: `WebhookNotificationGateway.verify`.
    #[test]
    fn a_challenge_is_answered_as_the_library_does() {
        let key = prepare_secret("FAKE_public:FAKE_private", &Source::default()).unwrap();
        let secrets = [Secret::of(key, None, Some(100))];
        let query = "bt_challenge=20f9f8ed05f77439fe955c977e4c8a53";
        assert_eq!(
            challenge(query, &secrets, 100).as_deref(),
            Some("FAKE_public|fc713ddcec92596533e3aba848f666e0a29d7db6")
        );
        assert_eq!(challenge(query, &secrets, 101), None);
        for refused in ["", "bt_challenge=", "bt_challenge=20f9f8ed05f77439fe9", "bt_challenge=20f9f8ed05f77439fe955g"]
        {
            assert_eq!(challenge(refused, &secrets, 100), None, "{refused}");
        }
    }

    /// What a challenge is answered with is no signature of a webhook, or anybody could have one.
    #[test]
    fn the_answer_to_a_challenge_signs_no_webhook() {
        let key = prepare_secret("FAKE_public:FAKE_private", &Source::default()).unwrap();
        let secrets = [Secret::of(key, None, None)];
        let digits = "20f9f8ed05f77439fe955c977e4c8a53";
        for digits in [digits, &digits[..20]] {
            let answer = challenge(&format!("bt_challenge={digits}"), &secrets, 0).unwrap();
            for payload in [digits.to_owned(), format!("{digits}\n"), format!("{digits}+")] {
                let body = format!("bt_signature={}&bt_payload={}", encoded(&answer), encoded(&payload));
                let delivery = Delivery { headers: &http::HeaderMap::new(), body: body.as_bytes() };
                assert!(authenticate(&delivery, &Source::default(), &secrets, 0).is_err(), "{payload}");
            }
        }
    }
}
