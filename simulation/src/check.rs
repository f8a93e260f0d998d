//! What must hold once everything has come to rest: the contract.

use std::collections::{BTreeMap, BTreeSet};

use domain::PaymentEvent;
use domain::fold::{Facts, Order, Payment};
use domain::frame::Record;
use uuid::Uuid;

use crate::broker::Broker;
use crate::cassandra::Cassandra;
use crate::postgres::Postgres;
use crate::story::{BOOKS_REFUSE, EventKey, Item, STORE_REFUSES, Story, key_of};
use crate::world::{World, locked};

/// Where accepted events must be, by the story alone.
struct Expected<'s> {
    /// By payment: its order and facts.
    payments: BTreeMap<Uuid, (String, Facts)>,
    parked: BTreeSet<EventKey>,
    applied: BTreeMap<EventKey, &'s PaymentEvent<'static>>,
}

impl<'s> Expected<'s> {
    /// Of these events, and orders that exist.
    fn of(events: &[&'s PaymentEvent<'static>], orders: &BTreeSet<&str>) -> Self {
        let links: BTreeMap<Uuid, Uuid> =
            events.iter().filter_map(|event| Some((event.alias()?, event.payment_id))).collect();
        let mut groups: BTreeMap<Uuid, Vec<&PaymentEvent<'static>>> = BTreeMap::new();
        for event in events {
            let payment_id = links.get(&event.payment_id).copied().unwrap_or(event.payment_id);
            groups.entry(payment_id).or_default().push(event);
        }
        let mut expected = Self { payments: BTreeMap::new(), parked: BTreeSet::new(), applied: BTreeMap::new() };
        for (payment_id, events) in groups {
            // Something must make the payment: an event of its own that names an order which is there.
            let is_made = events.iter().any(|event| {
                event.payment_id == payment_id
                    && !event.must_find_its_payment()
                    && event.order_ref.as_deref().is_some_and(|reference| orders.contains(reference))
            });
            if is_made {
                let mut facts = Facts::default();
                for event in &events {
                    facts.merge(event);
                }
                expected.applied.extend(events.iter().map(|event| (key_of(event), *event)));
                let order = facts.order.as_ref().map(|named| named.text.clone()).unwrap_or_default();
                expected.payments.insert(payment_id, (order, facts));
            } else {
                expected.parked.extend(events.iter().map(|event| key_of(event)));
            }
        }
        expected
    }
}

/// Checks everything; says what is wrong first.
pub fn check(world: &World) -> Result<(), String> {
    let (story, broker) = (&world.story, locked(&world.broker));
    let (cassandra, postgres) = (locked(&world.cassandra), locked(&world.postgres));
    check_stored(story, &broker, &cassandra)?;
    let dead = dead_events(&cassandra);
    // Frames that were returned too often are dead letters, whatever became of their records before.
    let counts = |event: &&PaymentEvent<'_>| {
        let key = key_of(event);
        !is_refused(event) && (!dead.contains(&key) || postgres.applied.contains(&key))
    };
    let counted: Vec<&PaymentEvent<'static>> = story.events.values().filter(counts).collect();
    let orders: BTreeSet<&str> = postgres.orders.keys().map(String::as_str).collect();
    let expected = Expected::of(&counted, &orders);
    check_places(story, &expected, &dead, &broker, &postgres)?;
    check_payments(&expected, &postgres)?;
    // A transaction that is committed after its frame was given up has nobody left to write the view but the sweep.
    if broker.limit_reached.is_empty() {
        check_view(&expected, &cassandra, &postgres)?;
    }
    check_orders(world, &expected, &postgres)
}

fn is_refused(event: &PaymentEvent<'_>) -> bool {
    [STORE_REFUSES, BOOKS_REFUSE].contains(&&*event.provider_event_type)
}

fn dead_events(cassandra: &Cassandra) -> BTreeSet<EventKey> {
    let event = |raw: &Vec<u8>| match Record::decode(raw) {
        Ok(Record::Event(event)) => Some(key_of(&event)),
        _ => None,
    };
    cassandra.dead.values().filter_map(event).collect()
}

/// Each event is stored once, in its own partition; each body and each unreadable record has its place.
fn check_stored(story: &Story, broker: &Broker, cassandra: &Cassandra) -> Result<(), String> {
    for (key, event) in &story.events {
        let id = &event.provider_event_id;
        let stored = cassandra.events.get(key).map(|places| places.iter().collect::<Vec<_>>()).unwrap_or_default();
        let refused = event.provider_event_type == STORE_REFUSES;
        match stored[..] {
            [] if refused || broker.limit_reached.contains(key) => {}
            [] => return Err(format!("event {id} was accepted and is not stored")),
            _ if refused => return Err(format!("event {id} is stored although it is refused")),
            [place]
                if Some(place) == cassandra.place(&event.region, event.event_time_ms, event.payment_id).as_ref() => {}
            [place] => return Err(format!("event {id} lies in {place:?}, where nobody looks for it")),
            _ => return Err(format!("event {id} is stored {} times", stored.len())),
        }
    }
    for item in story.requests.iter().flat_map(|request| &request.items) {
        let settled = match item {
            Item::Event(_) => true,
            Item::Body(body) => {
                cassandra.quarantined.contains(&body.id()) || cassandra.is_dead_letter(&Record::quarantined(body))
            }
            Item::Unreadable(raw) => cassandra.is_dead_letter(raw),
        };
        if !settled {
            return Err("an accepted body or record is nowhere".to_owned());
        }
    }
    Ok(())
}

/// Each event is in exactly one place.
fn check_places(
    story: &Story,
    expected: &Expected<'_>,
    dead: &BTreeSet<EventKey>,
    broker: &Broker,
    postgres: &Postgres,
) -> Result<(), String> {
    for (key, event) in &story.events {
        let id = &event.provider_event_id;
        let (applied, parked) = (postgres.applied.contains(key), postgres.parked.contains_key(key));
        let is_dead = dead.contains(key);
        let limited = broker.limit_reached.contains(key);
        let due = match () {
            () if is_refused(event) => (false, false, true),
            () if limited && is_dead => (applied, parked, true),
            () => (expected.applied.contains_key(key), expected.parked.contains(key), false),
        };
        if (applied, parked, is_dead) != due {
            return Err(format!(
                "event {id}: applied {applied}, parked {parked}, dead {is_dead}; must be {}, {}, {}",
                due.0, due.1, due.2
            ));
        }
    }
    Ok(())
}

/// Payments are the fold of their events.
fn check_payments(expected: &Expected<'_>, postgres: &Postgres) -> Result<(), String> {
    if let Some(unknown) = postgres.payments.keys().find(|id| !expected.payments.contains_key(id)) {
        return Err(format!("payment {unknown} is in Postgres and nobody told of it"));
    }
    for (id, (order_ref, facts)) in &expected.payments {
        let Some(row) = postgres.payments.get(id) else { return Err(format!("payment {id} is missing")) };
        let (name, payment) = (&row.provider_ref, Payment::of(facts));
        if row.facts != *facts || Payment::of(&row.facts) != payment || row.order_ref != *order_ref {
            return Err(format!("payment {name} is {:?}, must be {payment:?}", Payment::of(&row.facts)));
        }
    }
    Ok(())
}

/// The shop's view shows every payment as its row is.
fn check_view(expected: &Expected<'_>, cassandra: &Cassandra, postgres: &Postgres) -> Result<(), String> {
    for (id, (_, facts)) in &expected.payments {
        let Some(row) = postgres.payments.get(id) else { continue };
        let (name, payment) = (&row.provider_ref, Payment::of(facts));
        let shown = (row.version, payment.shop_status(), payment.shop_amount());
        if cassandra.view.get(id) != Some(&shown) {
            return Err(format!("the view of {name} is {:?}, must be {shown:?}", cassandra.view.get(id)));
        }
    }
    Ok(())
}

/// Orders are what their payments say, but where the shop refuses.
fn check_orders(world: &World, expected: &Expected<'_>, postgres: &Postgres) -> Result<(), String> {
    for (reference, held) in &postgres.orders {
        let payments = expected.payments.values().filter(|(order_ref, _)| order_ref == reference);
        let payments: Vec<Payment> = payments.map(|(_, facts)| Payment::of(facts)).collect();
        let order = Order::of(held.row.terms, &payments);
        let is = (held.row.status.as_str(), held.row.amounts);
        let due = match held.refuses {
            true => ("pending", [Some(0); 3]),
            false => {
                let word = world.config.orders.word(order.status).unwrap_or_default();
                (word, [order.paid, order.refunded, order.disputed].map(Some))
            }
        };
        if is != due {
            return Err(format!("order {reference} is {is:?}, must be {due:?}"));
        }
    }
    Ok(())
}
