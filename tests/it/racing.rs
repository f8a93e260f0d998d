//! Two reconcilers over the same orders: whatever the order, the duplicates and the batches, the rows are those that the
//! fold gives for the set of events.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use domain::fold::{Facts, Order, Payment, Terms};
use domain::frame::Record;
use domain::money::decimal_text;
use domain::{ContentHash, Currency, Kind, Money, PaymentEvent, ids};
use it::{Running, eventually, own_config, services_up};
use platform::config::Config;
use sqlx::Row;
use uuid::Uuid;

use crate::support::{World, ready};

/// Orders of a run; TEST_CASES asks for more.
const ORDERS: u64 = 2000;
const TOTAL: i64 = 3000;

/// A small generator (xorshift), so that a printed seed gives the same run again.
pub struct Draw(u64);

impl Draw {
    /// By TEST_SEED, or anew; the seed is printed.
    pub fn seeded() -> Result<Self> {
        let seed = match std::env::var("TEST_SEED") {
            Ok(seed) => seed.parse().context("TEST_SEED")?,
            Err(_) => u64::from_le_bytes(Uuid::new_v4().into_bytes()[..8].try_into()?) | 1,
        };
        println!("TEST_SEED={seed}");
        Ok(Self(seed))
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, usize::try_from(self.below(i as u64 + 1)).unwrap());
        }
    }
}

fn number(reference: u64) -> String {
    format!("A-{reference}")
}

/// The events of one order: one to three payments, each with a few reports of any kind, in a few seconds; some name no
/// order, some come again with another content, some name the neighbour's order.
pub fn events_of(draw: &mut Draw, order: u64, orders: u64, now_ms: i64) -> Vec<PaymentEvent<'static>> {
    let eur = Currency::parse("EUR").unwrap();
    let usd = Currency::parse("USD").unwrap();
    let mut events = Vec::new();
    for payment in 0..=draw.below(3) {
        let payment = format!("p{order}-{payment}");
        for report in 0..=draw.below(6) {
            let kind = Kind::ALL[usize::try_from(draw.below(Kind::ALL.len() as u64)).unwrap()];
            let key = format!("{payment}-{report}");
            let currency = if draw.one_in(60) { usd } else { eur };
            let named = if draw.one_in(40) { (order + 1) % orders } else { order };
            let at_ms = now_ms - 60_000 + i64::try_from(draw.below(6)).unwrap() * 1000;
            let amount = [TOTAL, TOTAL / 2, TOTAL / 3, 100][usize::try_from(draw.below(4)).unwrap()];
            let mut event = PaymentEvent {
                event_id: ids::event_id("tollgate", "", &key),
                content_hash: ContentHash([0; 16]),
                payment_id: ids::payment_id("tollgate", "", &payment),
                kind,
                amount: Some(Money::new(amount, currency).unwrap()),
                event_time_ms: at_ms,
                version_ms: at_ms,
                received_at_ms: now_ms,
                provider: "tollgate".into(),
                source: "shop".into(),
                account: "".into(),
                region: "eu".into(),
                provider_event_id: key.clone().into(),
                provider_event_type: kind.as_str().into(),
                provider_payment_id: payment.clone().into(),
                transaction_id: kind.needs_transaction().then(|| format!("t{}", draw.below(2)).into()),
                // The first report names the order, or nothing ever would.
                order_ref: (report == 0 || !draw.one_in(3)).then(|| number(named).into()),
                user_ref: None,
            };
            event.hash_content();
            if draw.one_in(30) {
                let mut other = event.clone();
                other.amount = Some(Money::new(amount + 1, currency).unwrap());
                other.hash_content();
                events.push(other);
            }
            events.push(event);
        }
    }
    events
}

/// What the fold says of a set of events: facts by payment, orders by reference with their differences.
#[derive(Default)]
pub struct Expected {
    facts: HashMap<Uuid, Facts>,
    orders: BTreeMap<String, Order>,
}

impl Expected {
    pub fn of(events: &[PaymentEvent<'static>], orders: u64) -> Self {
        let mut facts: HashMap<Uuid, Facts> = HashMap::new();
        for event in events {
            facts.entry(event.payment_id).or_default().merge(event);
        }
        let mut payments: HashMap<String, Vec<Payment>> = HashMap::new();
        for facts in facts.values() {
            let order = facts.order.as_ref().map(|named| named.text.clone()).unwrap_or_default();
            payments.entry(order).or_default().push(Payment::of(facts));
        }
        let terms = Terms { total: Money::new(TOTAL, Currency::parse("EUR").unwrap()).unwrap() };
        let of = |reference: &String| Order::of(terms, payments.get(reference).into_iter().flatten());
        Self { orders: (0..orders).map(number).map(|reference| (reference.clone(), of(&reference))).collect(), facts }
    }
}

/// The shop's orders `A-0`…, of [`TOTAL`] each.
pub async fn insert_orders(world: &World, orders: u64) -> Result<()> {
    sqlx::query(
        "INSERT INTO orders (reference, total, currency) SELECT 'A-' || n, 30, 'EUR' FROM generate_series(0, $1 - 1) n",
    )
    .bind(i64::try_from(orders)?)
    .execute(&world.postgres)
    .await?;
    Ok(())
}

/// Publishes events in frames of any size. Neighbours stay near each other, so that several programs have the same orders
/// at the same time.
pub async fn publish<'e>(
    world: &World,
    draw: &mut Draw,
    events: impl Iterator<Item = &'e PaymentEvent<'static>>,
) -> Result<()> {
    let mut records: Vec<_> = events.map(Record::event).collect();
    records.chunks_mut(400).for_each(|records| draw.shuffle(records));
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        let size = usize::try_from(draw.below(30) + 1)?.min(rest.len());
        let frame: Vec<&[u8]> = rest[..size].iter().map(|record| &record[..]).collect();
        world.publish("reconcile.0", &frame).await?;
        rest = &rest[size..];
    }
    Ok(())
}

/// One row a change: each order's transitions lead from `pending` to where it stands, none is there twice or missing, and
/// each names an event.
async fn check_transitions(world: &World) -> Result<()> {
    let broken = sqlx::query(
        "WITH steps AS (SELECT order_ref, from_status, to_status, event_id, \
             lag(to_status, 1, 'pending') OVER (PARTITION BY order_ref ORDER BY at) AS before, \
             lead(to_status) OVER (PARTITION BY order_ref ORDER BY at) IS NULL AS is_last FROM transitions) \
         SELECT s.order_ref FROM steps s JOIN orders o ON o.reference = s.order_ref \
         WHERE s.from_status <> s.before OR s.from_status = s.to_status OR (s.is_last AND s.to_status <> o.status) \
             OR s.event_id = '00000000-0000-0000-0000-000000000000' \
         UNION SELECT reference FROM orders WHERE status <> 'pending' AND reference NOT IN (SELECT order_ref FROM transitions)",
    )
    .fetch_all(&world.postgres)
    .await?;
    ensure!(broken.is_empty(), "transitions of {} orders are not a chain", broken.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_reconcilers_give_the_rows_that_the_set_of_events_gives() -> Result<()> {
    let _services = services_up().await;
    let orders = std::env::var("TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(ORDERS);
    println!("{orders} orders");
    let mut draw = Draw::seeded()?;

    // Small transactions, so that many meet.
    let small = "[reconciler]\nparked_poll_ms = 100\nflush_ms = 1\nflush_rows_max = 50";
    let config = own_config("race", small)?;
    let other = Config { reconciler: own_config("race2", small)?.reconciler, ..config.clone() };
    let running = [Running::reconciler(config.clone()), Running::reconciler(other.clone())];
    ready(config.reconciler.internal_listen).await?;
    ready(other.reconciler.internal_listen).await?;
    let world = World::new(config).await?;
    insert_orders(&world, orders).await?;

    let now_ms = platform::clock::now_ms();
    let events: Vec<_> = (0..orders).flat_map(|order| events_of(&mut draw, order, orders, now_ms)).collect();
    publish(&world, &mut draw, events.iter().chain(&events)).await?;

    let expected = Expected::of(&events, orders);
    eventually("all applied", async || {
        ensure!(world.depth("reconcile.0").await? == 0);
        let parked: i64 =
            sqlx::query("SELECT count(*) FROM parked_events").fetch_one(&world.postgres).await?.try_get(0)?;
        ensure!(parked == 0, "{parked} events are parked");
        compare(&world, &expected).await
    })
    .await?;
    for running in running {
        running.stop().await?;
    }
    compare(&world, &expected).await?;
    check_transitions(&world).await?;
    world.clean().await
}

/// The rows are those of the fold.
pub async fn compare(world: &World, expected: &Expected) -> Result<()> {
    let rows = sqlx::query("SELECT payment_id, facts FROM payments").fetch_all(&world.postgres).await?;
    ensure!(rows.len() == expected.facts.len(), "{} payments, expected {}", rows.len(), expected.facts.len());
    for row in &rows {
        let (id, facts): (Uuid, &[u8]) = (row.try_get(0)?, row.try_get(1)?);
        let merged = expected.facts.get(&id).context("a payment that no event names")?;
        ensure!(Facts::decode(facts)? == *merged, "facts of payment {id}");
    }
    let rows = sqlx::query(
        "SELECT o.reference, o.status, trim_scale(o.paid)::text, trim_scale(o.refunded)::text, \
             trim_scale(o.disputed)::text, ARRAY(SELECT b.kind || ' ' || b.expected || ' ' || b.actual FROM breaks b \
                 WHERE b.subject = o.reference ORDER BY b.kind) FROM orders o",
    )
    .fetch_all(&world.postgres)
    .await?;
    for row in &rows {
        let reference: String = row.try_get(0)?;
        let order = expected.orders.get(&reference).context("an order that nobody made")?;
        let found: [String; 4] = [row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?];
        let amount = |minor| {
            let text = decimal_text(minor, 2);
            if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
        };
        let due = [order.status.as_str().into(), amount(order.paid), amount(order.refunded), amount(order.disputed)];
        ensure!(found == due, "order {reference} is {found:?}, the fold says {due:?}");
        let mut differences: Vec<String> = order
            .differences
            .iter()
            .map(|difference| format!("{} {} {}", difference.kind.as_str(), difference.expected, difference.actual))
            .collect();
        differences.sort();
        let breaks: Vec<String> = row.try_get(5)?;
        ensure!(breaks == differences, "breaks of order {reference}: {breaks:?}, the fold says {differences:?}");
    }
    Ok(())
}
