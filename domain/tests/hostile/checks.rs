//! What holds for any input at all, one function for each fuzz target; the property tests here run them too.
//!
//! A check panics where something does not hold. Memory is part of it: see [`heap::bounded`].

use std::borrow::Cow;
use std::fmt;
use std::str::from_utf8;

use domain::explain::{Configured as Asked, Received, Verdict, explain};
use domain::fold::{Facts, Order, Payment, Terms};
use domain::frame::{Frame, Record};
use domain::money::{MINOR_MAX, decimal_text, parse_decimal};
use domain::providers::{self, Delivery, Item, Unsigned};
use domain::quarantine::{self, Quarantined};
use domain::signature::{Certificate, Refusal, Secret, from_hex, hex_bytes, to_hex};
use domain::{Currency, Money, PaymentEvent, ids};
use http::HeaderMap;

use super::configured::{CONFIGURED, Configured};
use super::heap;

/// A request to one of the configured sources, as bytes: the source, the time, header lines, an empty line, the body.
pub struct Request<'a> {
    pub which: u8,
    pub now_unix: i64,
    pub headers: HeaderMap,
    pub body: Cow<'a, [u8]>,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { which, now_unix, headers, body } = self;
        write!(f, "source {which} at {now_unix}, {headers:?}, b\"{}\"", body.escape_ascii())
    }
}

impl<'a> Request<'a> {
    /// Any bytes are a request.
    pub fn decode(input: &'a [u8]) -> Self {
        let (which, rest) = input.split_first().unwrap_or((&0, &[]));
        let (now, mut rest) = rest.split_first_chunk::<8>().unwrap_or((&[0; 8], rest));
        let mut headers = HeaderMap::new();
        while let Some((line, after)) = rest.iter().position(|byte| *byte == b'\n').map(|at| rest.split_at(at)) {
            rest = &after[1..];
            if line.is_empty() {
                break;
            }
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let name = parts.next().and_then(|name| name.try_into().ok());
            let value = parts.next().and_then(|value| value.try_into().ok());
            if let (Some(name), Some(value)) = (name, value) {
                headers.append::<http::HeaderName>(name, value);
            }
        }
        Self { which: *which, now_unix: i64::from_le_bytes(*now), headers, body: Cow::Borrowed(rest) }
    }

    /// The bytes that are this request.
    #[allow(dead_code)]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.which];
        out.extend(self.now_unix.to_le_bytes());
        for (name, value) in &self.headers {
            out.extend([name.as_str().as_bytes(), b":", value.as_bytes(), b"\n"].concat());
        }
        out.push(b'\n');
        out.extend(&*self.body);
        out
    }
}

/// A delivery to any source: as it came, and signed as the provider would.
pub fn deliveries(input: &[u8]) {
    delivery(&Request::decode(input));
}

/// The input as an answer of an API that is asked, and as the form that asks for it.
pub fn answers(input: &[u8]) {
    let source = &CONFIGURED[0].source;
    let (headers, now_ms) = (HeaderMap::new(), 1_795_514_400_000);
    for provider in providers::ALL.iter().filter(|provider| provider.fetch.is_some()) {
        let delivery = Delivery { headers: &headers, body: input };
        let items = heap::bounded(input.len(), || provider.read(&delivery, source, now_ms));
        assert!(!items.is_empty() && items.len() <= input.len() / 2 + 1);
        for item in &items {
            let Item::Event(event) = item else { continue };
            believable(event, &event.provider, now_ms);
        }
        let asked = (provider.normalise)(&delivery, source, now_ms);
        let let_in = (provider.authenticate)(&delivery, source, &[], now_ms / 1000).is_ok();
        assert_eq!(let_in, matches!(asked[..], [Item::Claim(_)]));
    }
}

/// The input as a form and as the XML in one (Braintree).
pub fn forms_and_xml(input: &[u8]) {
    let which = CONFIGURED.iter().position(|configured| configured.provider.name == "braintree").unwrap();
    let which = u8::try_from(which).unwrap();
    let now_unix = CONFIGURED[usize::from(which)].recorded[0].now_unix;
    delivery(&Request { which, now_unix, headers: HeaderMap::new(), body: Cow::Borrowed(input) });
    let query = String::from_utf8_lossy(input);
    for configured in CONFIGURED.iter() {
        let challenge = configured.provider.challenge.as_ref();
        let answer =
            challenge.and_then(|challenge| (challenge.answer)(&query, std::slice::from_ref(&configured.secret), 0));
        assert!(answer.is_none_or(|answer| answer.len() < 256));
    }
}

pub fn delivery(request: &Request<'_>) {
    let configured = &CONFIGURED[usize::from(request.which) % CONFIGURED.len()];
    let Configured { provider, source, secret, .. } = configured;
    let (secrets, now_unix) = (std::slice::from_ref(secret), request.now_unix);
    let check = |headers: &HeaderMap, body: &[u8]| {
        let delivery = Delivery { headers, body };
        let asked = || (provider.authenticate)(&delivery, source, secrets, now_unix);
        let verdict = heap::bounded(body.len(), asked);
        assert_eq!(verdict, asked());
        let items = meaning(configured, &delivery, now_unix.saturating_mul(1000));
        // Nothing that is let in comes to nothing.
        assert!(verdict.is_err() || !items.is_empty());
        verdict
    };
    let _refused_or_not = check(&request.headers, &request.body);
    let Some(sign) = provider.sign else { return };
    let unsigned = Unsigned { event_key: "evt_1", body: request.body.to_vec() };
    let Some(signed) = sign(unsigned, source, secret, now_unix) else { return };
    let headers = signed.header_map();
    match (provider.name, check(&headers, &signed.body)) {
        // No items, or a colon in an id.
        ("adyen", Err(Refusal::Missing | Refusal::Malformed)) => return,
        (_, verdict) => assert_eq!(verdict, Ok(0), "{} refuses what it signed", provider.name),
    }
    let other = [Secret::new(b"another", None, None).unwrap()];
    let delivery = Delivery { headers: &headers, body: &signed.body };
    assert_eq!((provider.authenticate)(&delivery, source, &other, now_unix), Err(Refusal::Wrong));
}

/// Normalises twice: the items are those of a body of this length, believable, survive the wire, and keep their ids.
fn meaning<'a>(configured: &'a Configured, delivery: &Delivery<'a>, now_ms: i64) -> Vec<Item<'a>> {
    let Configured { provider, source, .. } = configured;
    let body = delivery.body;
    let items = heap::bounded(body.len(), || (provider.normalise)(delivery, source, now_ms));
    assert!(!items.is_empty());
    assert!(items.len() <= body.len() / 16 + 1, "{} items of {} bytes", items.len(), body.len());
    for item in &items {
        match item {
            Item::Event(event) => believable(event, provider.name, now_ms),
            Item::NoChange | Item::Claim(_) => {}
            Item::Quarantine { reason, body: raw } => {
                assert!(!reason.is_empty() && reason.len() < 200 && reason.is_ascii(), "{reason}");
                assert!(body.as_ptr_range().contains(&raw.as_ptr()) || raw.is_empty());
                let quarantined = Quarantined {
                    source: "s".into(),
                    region: "eu".into(),
                    provider: provider.name.into(),
                    reason: reason.clone(),
                    received_at_ms: now_ms,
                    body: Cow::Borrowed(raw),
                    headers: quarantine::keep(delivery.headers, source),
                };
                let record = Record::quarantined(&quarantined);
                assert_eq!(Record::decode(&record), Ok(Record::Quarantined(quarantined)));
            }
        }
    }
    let again = (provider.normalise)(delivery, source, now_ms.saturating_add(1));
    assert_eq!(items.len(), again.len());
    for pair in items.iter().zip(again) {
        // A second on, a time may be just too long ago, or no longer in the future.
        if let (Item::Event(first), Item::Event(second)) = pair {
            assert_eq!(**first, PaymentEvent { received_at_ms: now_ms, ..*second });
        }
    }
    items
}

fn believable(event: &PaymentEvent<'_>, provider: &str, now_ms: i64) {
    const DAY_MS: i64 = 24 * 3600 * 1000;
    assert!(event.amount.is_none_or(|amount| (0..=MINOR_MAX).contains(&amount.minor)));
    assert!(event.amount.is_none_or(|amount| Currency::parse(amount.currency.as_str()) == Ok(amount.currency)));
    assert!(event.amount.is_some() || !event.kind.needs_amount());
    assert!(event.transaction_id.is_some() || !event.kind.needs_transaction());
    let believed = now_ms.saturating_sub(400 * DAY_MS)..=now_ms.saturating_add(DAY_MS);
    assert!(believed.contains(&event.event_time_ms) && believed.contains(&event.version_ms));
    let texts = [&event.provider_event_id, &event.provider_event_type, &event.provider_payment_id];
    let optional = [&event.transaction_id, &event.order_ref, &event.user_ref].into_iter().flatten();
    assert!(texts.into_iter().chain(optional).all(|text| ids::is_id(text)));
    assert!(event.account.is_empty() || ids::is_id(&event.account));
    assert_eq!(event.event_id, ids::event_id(provider, &event.account, &event.provider_event_id));
    assert_eq!(event.payment_id, ids::payment_id(provider, &event.account, &event.provider_payment_id));
    let record = Record::event(event);
    assert_eq!(Record::decode(&record), Ok(Record::Event(event.clone())));
    let mut facts = Facts::default();
    assert!(facts.merge(event) && !facts.merge(event));
    assert_eq!(Facts::decode(&facts.encode()), Ok(facts));
}

/// A frame, a record and a quarantined body: no byte is lost, and what is read is written so that it is read again.
pub fn frames(input: &[u8]) {
    let again = |raw: &[u8]| {
        let Ok(record) = Record::decode(raw) else { return };
        let written = match &record {
            Record::Event(event) => Record::event(event),
            Record::Quarantined(body) => Record::quarantined(body),
            Record::Claim(claim) => Record::claim(claim),
        };
        assert_eq!(Record::decode(&written), Ok(record));
    };
    heap::bounded(input.len(), || {
        again(input);
        let _ = Quarantined::decode(input);
        if let Ok(frame) = Frame::parse(input) {
            assert_eq!(frame.records().map(<[u8]>::len).sum::<usize>() + domain::frame::HEADER_BYTES, input.len());
            frame.records().for_each(again);
        }
    });
}

/// What Postgres keeps of a payment: read, written and read again it is the same, and its sums are amounts.
pub fn facts(input: &[u8]) {
    let Ok(facts) = heap::bounded(input.len(), || Facts::decode(input)) else { return };
    assert_eq!(Facts::decode(&facts.encode()).as_ref(), Ok(&facts));
    let payment = Payment::of(&facts);
    for amount in [payment.authorized, payment.captured, payment.net_captured(), payment.refunded, payment.disputed] {
        assert!(amount >= 0);
    }
    let Some(currency) = payment.currency else { return };
    let order = Order::of(Terms { total: Money::new(1999, currency).unwrap() }, [&payment, &payment]);
    assert!(order.paid >= 0 && order.refunded >= 0);
}

/// Texts of configuration and of fields: amounts, currencies, times, digits, ids, secrets and certificates.
pub fn texts(input: &[u8]) {
    let text = from_utf8(input).unwrap_or_default();
    for exponent in 0..=4 {
        if let Ok(minor) = parse_decimal(text, exponent) {
            assert_eq!(parse_decimal(&decimal_text(minor, exponent), exponent), Ok(minor));
        }
    }
    if let Ok(currency) = Currency::parse(text) {
        assert_eq!(Currency::from_bytes(currency.as_bytes()), Ok(currency));
    }
    let _ = providers::parse_time_ms(text);
    assert_eq!(ids::reference_id(text), ids::reference_id(text));
    assert_eq!(hex_bytes(&to_hex(input)).as_deref(), Some(input));
    assert!(from_hex(text).is_none_or(|digits| hex_bytes(text) == Some(digits.to_vec())));
    for Configured { provider, source, .. } in CONFIGURED.iter() {
        let _ = (provider.prepare_secret)(text, source);
    }
    let _ = Certificate::parse(text, "paypal.com");
}

/// An explanation of a refused request agrees with the verdict, says something, and tells no secret.
pub fn explanations(input: &[u8]) {
    let request = Request::decode(input);
    let Configured { provider, source, secret, text, .. } = &CONFIGURED[usize::from(request.which) % CONFIGURED.len()];
    let (secrets, secret_texts) = (std::slice::from_ref(secret), std::slice::from_ref(text));
    let delivery = Delivery { headers: &request.headers, body: &request.body };
    let verdict = (provider.authenticate)(&delivery, source, secrets, request.now_unix);
    let asked = Asked { provider, source, secrets, texts: secret_texts };
    match (verdict, explain(&asked, &[], &Received { delivery, urls: &[], now_unix: request.now_unix })) {
        (Ok(_), Verdict::Verified(_)) => {}
        (Err(refusal), Verdict::Refused(said, findings)) => {
            assert!(refusal == said && !findings.is_empty());
            assert!(findings.iter().all(|finding| !finding.to_string().contains(text.as_str())));
        }
        (verdict, said) => panic!("{verdict:?}, and it is explained as {said:?}"),
    }
}
