#![allow(clippy::unwrap_used, clippy::panic)]
use domain::ids;
use domain::providers::{Delivery, Item};
use domain::signature::Refusal;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::*;
use crate::facts::account;
use crate::facts::tests::{START, run};

const CONFIG: &str = r#"
[sources.s]
provider = "stripe"
region = "eu"
order_key = "shop_order"
secrets = [{ value = "whsec_FAKE_load" }]
[sources.a]
provider = "adyen"
region = "us"
secrets = [{ value = "00112233445566778899AABBCCDDEEFF" }]
[sources.t]
provider = "tollgate"
region = "eu"
secrets = [{ value = "whsec_RkFLRS1sb2FkLXNlY3JldA==" }]
"#;

fn kits() -> Kits {
    let config = platform::config::parse("test", CONFIG, &BTreeMap::new()).unwrap();
    Kits::prepare(&config.sources, Path::new(""), "127.0.0.1:8080", START).unwrap()
}

/// Reads a request as a server would.
fn received(bytes: &[u8]) -> (String, HeaderMap, Vec<u8>) {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        headers.append(
            HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    let body = bytes[end + 4..].to_vec();
    assert_eq!(headers["content-length"], body.len().to_string());
    (first, headers, body)
}

#[test]
fn the_product_reads_every_event_as_planned() {
    let (run, kits) = (run(), kits());
    let mut request = Request::default();
    let mut seen = std::collections::BTreeSet::new();
    for event in 0..u32::try_from(run.schedule.event_count()).unwrap() {
        let facts = run.facts(event);
        let kit = kits.get(facts.provider).unwrap();
        assert!(request.build(&kits, &run, event, START));
        let (first, headers, body) = received(request.bytes());
        assert_eq!(first, format!("POST /webhooks/{} HTTP/1.1", kit.source.source.name));
        serde_json::from_slice::<serde_json::Value>(&body).unwrap();
        let delivery = Delivery { headers: &headers, body: &body };
        let source = &kit.source.source;
        let authentic = (kit.source.provider.authenticate)(&delivery, source, &kit.source.secrets, START);
        let expected = if facts.plan == Plan::Forged { Err(Refusal::Wrong) } else { Ok(0) };
        assert_eq!(authentic, expected, "{facts:?}");
        let items = (kit.source.provider.normalise)(&delivery, source, START * 1000);
        check(&run, &facts, &items);
        seen.insert((facts.provider as u8, facts.plan as u8, facts.step as u8));
    }
    assert!(seen.len() > 60, "{} kinds of events seen", seen.len());
}

fn check(run: &Run, facts: &Facts, items: &[Item<'_>]) {
    let [item] = items else { panic!("one item a request") };
    match (facts.step, item) {
        (Step::NoChange, Item::NoChange) => {}
        (Step::Unknown, Item::Quarantine { reason, body }) => {
            assert_eq!(reason, "unknown payment type");
            assert_eq!(run.name.find(body), Some(Some(facts.event)));
        }
        (_, Item::Event(event)) => {
            assert_eq!(Some(event.kind.as_str()), facts.step.kind(facts.provider));
            assert_eq!(event.provider_event_id, run.provider_event_id(facts));
            let payment = run.provider_payment_id(facts);
            assert_eq!(event.payment_id, ids::payment_id(facts.provider.as_str(), account(facts.provider), &payment));
            let money = event.amount.unwrap();
            assert_eq!((money.minor, money.currency.as_str()), (facts.amount, facts.terms.currency.code));
            assert_eq!(money.currency.exponent(), facts.terms.currency.exponent);
            assert_eq!(event.event_time_ms, facts.time_ms);
            let order = facts.step.names_order(facts.provider).then(|| run.name.order_ref(facts.order));
            assert_eq!(event.order_ref.as_deref(), order.as_deref());
        }
        (step, item) => panic!("{step:?} became {item:?}"),
    }
}

/// Every order, folded by the product from what is sent, ends where its plan says: the plans and the contract agree.
#[test]
fn the_product_agrees_with_the_plans() {
    use domain::fold::{Facts as Merged, Order, Payment, Terms};
    let (run, kits) = (run(), kits());
    let mut request = Request::default();
    for (number, order) in run.schedule.orders().iter().enumerate() {
        let number = u32::try_from(number).unwrap();
        let mut payments: BTreeMap<uuid::Uuid, Merged> = BTreeMap::new();
        for event in order.events().rev() {
            let kit = kits.get(order.provider).unwrap();
            request.build(&kits, &run, event, START);
            let (_, headers, body) = received(request.bytes());
            let delivery = Delivery { headers: &headers, body: &body };
            for item in (kit.source.provider.normalise)(&delivery, &kit.source.source, START * 1000) {
                if let (Item::Event(event), true) = (item, order.plan != Plan::Forged) {
                    payments.entry(event.payment_id).or_default().merge(&event);
                }
            }
            run.journal.acknowledged(event);
        }
        let terms = run.terms(number);
        let currency = domain::Currency::parse(terms.currency.code).unwrap();
        let total = domain::Money::new(terms.total, currency).unwrap();
        let payments: Vec<Payment> = payments.values().map(Payment::of).collect();
        let folded = Order::of(Terms { total }, &payments);
        let expected = run.states(number);
        let found = crate::plan::State {
            status: folded.status.as_str(),
            paid: folded.paid,
            refunded: folded.refunded,
            disputed: folded.disputed,
        };
        assert_eq!(expected, [found], "{order:?}");
        assert!(folded.differences.is_empty(), "{order:?}");
    }
}

#[test]
fn bodies_are_as_large_as_real_ones() {
    let (run, kits) = (run(), kits());
    let mut request = Request::default();
    let mut size = |provider: Provider, plan: Plan| {
        let order =
            run.schedule.orders().iter().find(|order| order.provider == provider && order.plan == plan).unwrap();
        request.build(&kits, &run, order.first_event, START);
        received(request.bytes()).2.len()
    };
    let stripe = size(Provider::Stripe, Plan::Paid);
    let adyen = size(Provider::Adyen, Plan::Paid);
    let tollgate = size(Provider::Tollgate, Plan::Paid);
    assert!((1000..1800).contains(&stripe), "{stripe}");
    assert!((600..1000).contains(&adyen), "{adyen}");
    assert!((200..400).contains(&tollgate), "{tollgate}");
}
