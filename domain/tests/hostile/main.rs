//! Hostile input: what holds for any bytes, checked on recorded requests that were changed, and on random ones.
//!
//! The checks themselves are in `checks.rs`, which the fuzz targets in `fuzz/` run too.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bodies;
mod checks;
mod configured;
mod heap;
mod mutate;
mod xml;

use domain::PaymentEvent;
use domain::fold::Facts;
use domain::frame::{Record, begin};
use domain::providers::{Delivery, Item};
use proptest::prelude::*;
use proptest::sample::Index;

use configured::CONFIGURED;

/// Cases of each property; TEST_CASES asks for more. A failure prints its seed.
fn cases() -> u32 {
    std::env::var("TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

/// The events of all recorded requests.
fn events() -> Vec<PaymentEvent<'static>> {
    let mut events = Vec::new();
    for configured in CONFIGURED.iter() {
        for recorded in &configured.recorded {
            let delivery = Delivery { headers: &recorded.headers, body: &recorded.body };
            let now_ms = recorded.now_unix * 1000;
            for item in (configured.provider.normalise)(&delivery, &configured.source, now_ms) {
                if let Item::Event(event) = item {
                    let record = Record::event(&event).to_vec();
                    let Ok(Record::Event(event)) = Record::decode(record.leak()) else { panic!("not an event") };
                    events.push(event);
                }
            }
        }
    }
    assert!(events.len() > 200);
    events
}

/// A frame of recorded events, and what Postgres keeps of them.
fn stored(from: Index, count: usize) -> (Vec<u8>, Vec<u8>) {
    static EVENTS: std::sync::LazyLock<Vec<PaymentEvent<'static>>> = std::sync::LazyLock::new(events);
    let (mut frame, mut facts) = (begin(7, 64), Facts::default());
    for event in EVENTS.iter().cycle().skip(from.index(EVENTS.len())).take(count) {
        frame.extend(Record::event(event));
        facts.merge(event);
    }
    (frame, facts.encode())
}

fn changed(mut bytes: Vec<u8>, changes: &[(Index, u8)], cut: Option<Index>) -> Vec<u8> {
    for (at, byte) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *byte;
    }
    bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn recorded_requests_however_changed_are_refused_quarantined_or_believable(request in mutate::requests()) {
        checks::delivery(&request);
        checks::answers(&request.body);
    }

    #[test]
    fn any_bytes_are_a_delivery(input in prop::collection::vec(any::<u8>(), 0..400)) {
        checks::deliveries(&input);
        checks::forms_and_xml(&input);
        checks::answers(&input);
        checks::frames(&input);
        checks::facts(&input);
        checks::texts(&input);
    }

    #[test]
    fn frames_and_facts_however_changed_are_read_or_refused(
        from in any::<Index>(),
        count in 1..6_usize,
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..5),
        cut in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let (frame, facts) = stored(from, count);
        checks::frames(&changed(frame.clone(), &changes, cut));
        checks::frames(&changed(frame[domain::frame::HEADER_BYTES..].to_vec(), &changes, cut));
        checks::facts(&changed(facts, &changes, cut));
    }

    #[test]
    fn texts_are_read_or_refused(text in "[-+.:TZ0-9a-fA-F_=|/ ]{0,40}|\\PC{0,60}") {
        checks::texts(text.as_bytes());
    }
}

proptest! {
    // Each asks the provider's check hundreds of times.
    #![proptest_config(ProptestConfig::with_cases(cases() / 20))]

    #[test]
    fn explanations_of_changed_requests_agree_with_the_verdict(request in mutate::requests()) {
        checks::explanations(&request.encode());
    }
}

#[test]
fn a_notification_without_items_is_quarantined() {
    let configured = CONFIGURED.iter().find(|configured| configured.provider.name == "adyen").unwrap();
    let delivery = Delivery { headers: &http::HeaderMap::new(), body: b"{\"notificationItems\":[]}" };
    let items = (configured.provider.normalise)(&delivery, &configured.source, 0);
    assert_eq!(items, [Item::Quarantine { reason: "no items".into(), body: delivery.body }]);
}

/// Whatever a body is made of, its memory is a small multiple of its size.
#[test]
fn hostile_bodies_take_no_more_memory_than_their_size_allows() {
    const BYTES: usize = 256 * 1024;
    let plain = bodies::sources().map(|(which, _)| bodies::plain(which, BYTES));
    let mut worst = Vec::new();
    for made in plain.chain(bodies::hostile(BYTES)) {
        let (delivery, configured) = (made.delivery(), made.configured());
        let (provider, source) = (configured.provider, &configured.source);
        let secrets = std::slice::from_ref(&configured.secret);
        let (_, checked) = heap::peak_bytes(|| (provider.authenticate)(&delivery, source, secrets, made.now_unix));
        let (_, read) = heap::peak_bytes(|| (provider.normalise)(&delivery, source, made.now_unix * 1000));
        worst.push((checked.max(read) * 10 / made.body.len(), provider.name, made.what));
    }
    worst.sort_unstable();
    let above: Vec<_> = worst.iter().rev().take_while(|(tenths, ..)| *tenths > 10 * heap::FACTOR).collect();
    println!("tenths of a body: {:?}", worst.iter().rev().take(8).collect::<Vec<_>>());
    assert!(above.is_empty(), "tenths of a body: {above:?}");
}

/// The requests that the benchmark and the test above are made of do what they say.
#[test]
fn plain_requests_are_let_in_and_understood() {
    for (which, name) in bodies::sources() {
        for made in [bodies::event(which, 2048), bodies::plain(which, 64 * 1024)] {
            let (delivery, configured) = (made.delivery(), made.configured());
            let secrets = std::slice::from_ref(&configured.secret);
            let verdict = (configured.provider.authenticate)(&delivery, &configured.source, secrets, made.now_unix);
            assert_eq!(verdict.is_err(), bodies::only_provider_signs(which), "{name}: {verdict:?}");
            let items = (configured.provider.normalise)(&delivery, &configured.source, made.now_unix * 1000);
            let is_understood = |item: &Item<'_>| matches!(item, Item::Event(_)) || name == "adyen-platform";
            assert!(items.iter().all(is_understood), "{name}: {items:?}");
        }
    }
}

#[test]
fn a_request_is_read_from_its_bytes() {
    for (which, configured) in CONFIGURED.iter().enumerate() {
        let recorded = &configured.recorded[0];
        let which = u8::try_from(which).unwrap();
        let (now_unix, headers) = (recorded.now_unix, recorded.headers.clone());
        let bytes = checks::Request { which, now_unix, headers, body: (&recorded.body[..]).into() }.encode();
        let read = checks::Request::decode(&bytes);
        assert_eq!((read.which, read.now_unix, &read.headers), (which, recorded.now_unix, &recorded.headers));
        assert_eq!(&*read.body, &recorded.body[..]);
        checks::deliveries(&bytes);
    }
}
