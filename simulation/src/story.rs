//! What happens at the shop and at its providers: orders, payments with their events, and the requests that tell them.

use std::collections::BTreeMap;

use bytes::Bytes;
use domain::fold::Terms;
use domain::quarantine::Quarantined;
use domain::{ContentHash, Currency, Kind, Money, PaymentEvent, ids};
use uuid::Uuid;

use crate::seeded::Seeded;
use crate::world::BEGIN_MS;

/// An event and its content.
pub type EventKey = (Uuid, [u8; 16]);

/// The key of an event.
pub fn key_of(event: &PaymentEvent<'_>) -> EventKey {
    (event.event_id, event.content_hash.0)
}

/// The type of events whose rows the model of Cassandra refuses.
pub const STORE_REFUSES: &str = "refused by the store";
/// The type of events whose values the model of Postgres refuses.
pub const BOOKS_REFUSE: &str = "refused by the books";

/// The longest time until a request is sent first, milliseconds.
const REQUESTS_WITHIN_MS: u32 = 6000;
const HOUR_MS: i64 = 3_600_000;

/// An order of the shop.
#[derive(Debug, Clone)]
pub struct OrderTold {
    pub reference: String,
    pub terms: Terms,
    /// When the shop inserts it, milliseconds after the begin; never where none.
    pub at_ms: Option<u32>,
    /// Whether the shop's own constraint refuses every change of it.
    pub refuses: bool,
}

/// A part of a request.
#[derive(Debug, Clone)]
pub enum Item {
    Event(PaymentEvent<'static>),
    Body(Quarantined<'static>),
    /// A record of a version that nobody knows.
    Unreadable(Bytes),
}

/// A request of a provider, sent until it is answered with 2xx.
#[derive(Debug, Clone)]
pub struct Request {
    pub items: Vec<Item>,
    /// When it is sent first, milliseconds after the begin.
    pub at_ms: u32,
}

/// All of it.
#[derive(Debug, Clone)]
pub struct Story {
    pub orders: Vec<OrderTold>,
    pub requests: Vec<Request>,
    pub events: BTreeMap<EventKey, PaymentEvent<'static>>,
}

impl Story {
    pub fn of(seeded: &mut Seeded, eur: Currency, usd: Currency) -> Self {
        let orders: Vec<OrderTold> = (0..seeded.within(1, 4)).map(|number| order(seeded, number, eur)).collect();
        let mut events = Vec::new();
        for number in 0..seeded.within(3, 10) {
            let foreign = seeded.per_mille(50);
            let currency = if foreign { usd } else { eur };
            Teller::new(seeded, number, &orders, currency).tell(seeded, &mut events);
        }
        let mut items: Vec<Item> = events.iter().cloned().map(Item::Event).collect();
        // Mostly near their time, as providers send; else anywhere.
        if seeded.per_mille(500) {
            seeded.shuffle(&mut items);
        }
        for number in 0..seeded.within(0, 2) {
            let place = seeded.index(items.len() + 1);
            items.insert(place, Item::Body(body(number)));
        }
        if seeded.per_mille(200) {
            let place = seeded.index(items.len() + 1);
            items.insert(place, Item::Unreadable(Bytes::from_static(b"\x02\0\0\0\x7f\x01")));
        }
        let mut requests = Vec::new();
        while !items.is_empty() {
            let count = if seeded.per_mille(700) { 1 } else { seeded.index(4) + 1 }.min(items.len());
            let at_ms = seeded.within(0, REQUESTS_WITHIN_MS);
            requests.push(Request { items: items.drain(..count).collect(), at_ms });
        }
        Self { orders, requests, events: events.into_iter().map(|event| (key_of(&event), event)).collect() }
    }
}

fn order(seeded: &mut Seeded, number: u32, currency: Currency) -> OrderTold {
    let minor = [1000, 2500, 4000][seeded.index(3)];
    let late_ms = seeded.within(0, REQUESTS_WITHIN_MS * 2);
    let at_ms = match seeded.within(0, 9) {
        0..=3 => Some(0),
        4..=7 => Some(late_ms),
        _ => None,
    };
    let total = Money::new(minor, currency).unwrap_or(Money { minor, currency });
    OrderTold { reference: format!("A-{number}"), terms: Terms { total }, at_ms, refuses: seeded.per_mille(80) }
}

fn body(number: u32) -> Quarantined<'static> {
    Quarantined {
        source: "stripe-eu".into(),
        region: "eu".into(),
        provider: "stripe".into(),
        reason: "unknown".into(),
        received_at_ms: BEGIN_MS,
        body: format!("{{\"body\":{number}}}").into_bytes().into(),
        headers: Vec::new(),
    }
}

/// Tells the events of one payment.
struct Teller {
    payment: String,
    provider: &'static str,
    order: String,
    total: i64,
    currency: Currency,
    other_order: Option<String>,
    at_ms: i64,
    count: u32,
}

impl Teller {
    fn new(seeded: &mut Seeded, number: u32, orders: &[OrderTold], currency: Currency) -> Self {
        let order = &orders[seeded.index(orders.len())];
        // Both must come, since which of two orders a payment belongs to is not to depend on a missing one.
        let others: Vec<&OrderTold> = orders.iter().filter(|other| other.at_ms.is_some()).collect();
        let moves = order.at_ms.is_some() && seeded.per_mille(80);
        Self {
            payment: format!("pi_{number}"),
            provider: if seeded.per_mille(250) { "paypal" } else { "stripe" },
            order: order.reference.clone(),
            total: order.terms.total.minor,
            currency,
            other_order: moves.then(|| others[seeded.index(others.len())].reference.clone()),
            at_ms: BEGIN_MS + (i64::from(seeded.within(0, 72)) - 36) * HOUR_MS,
            count: 0,
        }
    }

    fn tell(mut self, seeded: &mut Seeded, out: &mut Vec<PaymentEvent<'static>>) {
        let begin = out.len();
        out.push(self.event(seeded, Kind::Authorized, "", self.total));
        match seeded.within(0, 9) {
            0 => out.push(self.event(seeded, Kind::Cancelled, "", self.total)),
            1 => out.push(self.event(seeded, Kind::Failed, "", self.total)),
            2..=3 => {
                out.push(self.event(seeded, Kind::CapturedTotal, "", self.total / 2));
                out.push(self.event(seeded, Kind::CapturedTotal, "", self.total));
            }
            _ => {
                let parts = i64::from(seeded.within(1, 2));
                for part in 0..parts {
                    let capture = format!("{}-cap{part}", self.payment);
                    out.push(self.event(seeded, Kind::Captured, &capture, self.total / parts));
                    if seeded.per_mille(100) {
                        out.push(self.event(seeded, Kind::CaptureFailed, &capture, self.total / parts));
                    }
                }
            }
        }
        for number in 0..seeded.within(0, 3) {
            let refund = format!("{}-re{number}", self.payment);
            let mut event = self.event(seeded, Kind::Refunded, &refund, 100 + i64::from(number) * 50);
            if self.provider == "paypal" {
                // It names nothing but the capture that it gives back.
                name(&mut event, format!("{}-cap0", self.payment));
            }
            out.push(event);
            if seeded.per_mille(150) {
                let failed = out.last().cloned();
                out.extend(failed.map(|event| self.later(seeded, event, Kind::RefundFailed)));
            }
        }
        if seeded.per_mille(200) {
            let dispute = format!("{}-du", self.payment);
            let opened = self.event(seeded, Kind::Disputed, &dispute, 500);
            let decided = if seeded.per_mille(500) { Kind::DisputeWon } else { Kind::DisputeLost };
            let mut decided = self.later(seeded, opened.clone(), decided);
            name(&mut decided, dispute);
            out.extend([opened, decided]);
        }
        for index in begin..out.len() {
            if seeded.per_mille(30) {
                let mut again = out[index].clone();
                again.amount = again.amount.map(|money| Money { minor: money.minor + 1, ..money });
                again.hash_content();
                out.push(again);
            }
            let refused = seeded.within(0, 99);
            if let Some(kind) = [STORE_REFUSES, BOOKS_REFUSE].get(usize::try_from(refused).unwrap_or(9)) {
                out[index].provider_event_type = (*kind).into();
                out[index].hash_content();
            }
        }
    }

    /// The next event of the payment; it may be at the same time as the one before.
    fn event(&mut self, seeded: &mut Seeded, kind: Kind, transaction: &str, minor: i64) -> PaymentEvent<'static> {
        self.count += 1;
        self.at_ms += i64::from(seeded.within(0, 8)) * HOUR_MS / 2;
        let order = match &self.other_order {
            Some(other) if seeded.per_mille(300) => other,
            _ => &self.order,
        };
        let names_order = if self.count == 1 { seeded.per_mille(850) } else { seeded.per_mille(400) };
        let key = format!("{}-{}", self.payment, self.count);
        let mut event = PaymentEvent {
            event_id: ids::event_id(self.provider, "", &key),
            content_hash: ContentHash([0; 16]),
            payment_id: ids::payment_id(self.provider, "", &self.payment),
            kind,
            amount: Some(Money { minor, currency: self.currency }),
            event_time_ms: self.at_ms,
            version_ms: self.at_ms,
            received_at_ms: 0,
            provider: self.provider.into(),
            source: "source".into(),
            account: "".into(),
            region: if self.payment.ends_with('3') { "us" } else { "eu" }.into(),
            provider_event_id: key.into(),
            provider_event_type: "t".into(),
            provider_payment_id: self.payment.clone().into(),
            transaction_id: (!transaction.is_empty()).then(|| transaction.to_owned().into()),
            order_ref: names_order.then(|| order.clone().into()),
            user_ref: None,
        };
        event.hash_content();
        event
    }

    /// Another report of the same transaction.
    fn later(&mut self, seeded: &mut Seeded, event: PaymentEvent<'static>, kind: Kind) -> PaymentEvent<'static> {
        let minor = event.amount.map_or(0, |money| money.minor);
        let transaction = event.transaction_id.as_deref().unwrap_or_default();
        let mut later = self.event(seeded, kind, transaction, minor);
        name(&mut later, event.provider_payment_id.into_owned());
        later
    }
}

/// Has an event name its payment by this id.
fn name(event: &mut PaymentEvent<'static>, id: String) {
    event.payment_id = ids::payment_id(&event.provider, &event.account, &id);
    event.provider_payment_id = id.into();
    event.hash_content();
}
