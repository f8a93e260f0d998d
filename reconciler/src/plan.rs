//! The deciding part of a transaction, free of I/O: events and the rows they concern go in, the rows to write come out.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::PaymentEvent;
use domain::fold::{Facts, Order, Payment, Terms, Version};
use uuid::Uuid;

/// An event with the raw record it came in.
#[derive(Debug)]
pub struct Arrived<'a> {
    /// What it says.
    pub event: PaymentEvent<'a>,
    /// The record, kept if the event has to be parked.
    pub raw: &'a [u8],
}

/// A payment's row.
#[derive(Debug, Clone)]
pub struct PaymentRow {
    pub payment_id: Uuid,
    pub order_ref: String,
    pub provider: String,
    pub account: String,
    pub provider_ref: String,
    pub region: String,
    pub facts: Facts,
    /// Zero for a row that is not there yet.
    pub version: i64,
}

/// An order's row, locked.
#[derive(Debug, Clone)]
pub struct OrderRow {
    pub terms: Terms,
    pub status: String,
    /// Minor units: paid, refunded, disputed.
    pub amounts: [i64; 3],
}

/// An order's new status and amounts.
#[derive(Debug)]
pub struct OrderChange {
    pub reference: String,
    pub from_status: String,
    pub order: Order,
    /// The latest event of the batch that concerns the order.
    pub cause: Uuid,
}

/// What a transaction is to write.
#[derive(Debug, Default)]
pub struct Plan<'e, 'a> {
    /// Payments whose facts changed, with the version that their row must still have.
    pub payments: Vec<(PaymentRow, i64)>,
    /// Payments that known events concern: unchanged, but their view may not have been written.
    pub unchanged: Vec<PaymentRow>,
    /// Orders whose status or amounts change.
    pub orders: Vec<OrderChange>,
    /// Open differences: kind, order, detail.
    pub differences: Vec<(&'static str, String, String)>,
    /// Orders whose differences were looked at; others of theirs are closed.
    pub examined: Vec<String>,
    /// Events whose order is not known.
    pub parked: Vec<&'e Arrived<'a>>,
    /// Events merged.
    pub applied: Vec<&'e Arrived<'a>>,
}

impl<'e, 'a> Plan<'e, 'a> {
    /// Decides. `payments` holds every payment that an event names or that belongs to one of `orders`, which are
    /// locked.
    pub fn of(
        events: &'e [Arrived<'a>],
        mut payments: HashMap<Uuid, PaymentRow>,
        orders: &BTreeMap<String, OrderRow>,
        now_us: i64,
    ) -> Self {
        let mut plan = Self::default();
        let mut expected: HashMap<Uuid, i64> = HashMap::new();
        let mut seen = BTreeSet::new();
        let mut touched: BTreeMap<String, Version> = BTreeMap::new();
        // Those that name an order first: others of the same payment find it through them.
        let (naming, others): (Vec<_>, Vec<_>) = events.iter().partition(|arrived| arrived.event.order_ref.is_some());
        for arrived in naming.into_iter().chain(others) {
            let event = &arrived.event;
            let known = payments.get(&event.payment_id);
            let mut facts = known.map(|row| row.facts.clone()).unwrap_or_default();
            let changed = facts.merge(event);
            let Some(order_ref) = facts.order.as_ref().map(|named| named.text.clone()) else {
                plan.parked.push(arrived);
                continue;
            };
            // Not there, or (where the payment got its order a moment ago, or is to leave it) not locked here.
            let locked = |reference: &String| orders.contains_key(reference);
            if !locked(&order_ref) || !known.is_none_or(|row| locked(&row.order_ref)) {
                plan.parked.push(arrived);
                continue;
            }
            plan.applied.push(arrived);
            seen.insert(event.payment_id);
            // A payment that moves to another order changes both.
            for reference in known.map(|row| row.order_ref.clone()).into_iter().chain([order_ref.clone()]) {
                let version = Version::of(event);
                touched.entry(reference).and_modify(|latest| *latest = version.max(*latest)).or_insert(version);
            }
            if changed {
                let row = payments.entry(event.payment_id).or_insert_with(|| PaymentRow::new(event));
                let before = *expected.entry(event.payment_id).or_insert(row.version);
                row.version = now_us.max(before + 1);
                row.order_ref = order_ref;
                row.facts = facts;
            }
        }
        let mut by_order: BTreeMap<&str, Vec<Payment>> = BTreeMap::new();
        for row in payments.values().filter(|row| touched.contains_key(&row.order_ref)) {
            by_order.entry(&row.order_ref).or_default().push(Payment::of(&row.facts));
        }
        for (reference, cause) in touched {
            if let Some(row) = orders.get(&reference) {
                let order = Order::of(row.terms, by_order.get(reference.as_str()).into_iter().flatten());
                plan.settle_order(reference, row, order, cause.event_id);
            }
        }
        for id in seen {
            match (payments.remove(&id), expected.remove(&id)) {
                (Some(row), Some(version)) => plan.payments.push((row, version)),
                (Some(row), None) => plan.unchanged.push(row),
                (None, _) => {}
            }
        }
        plan
    }

    fn settle_order(&mut self, reference: String, row: &OrderRow, order: Order, cause: Uuid) {
        for difference in &order.differences {
            let detail = format!(
                "total {} {}, paid {} minor units",
                row.terms.total.to_decimal(),
                row.terms.total.currency.as_str(),
                order.paid
            );
            self.differences.push((difference.as_str(), reference.clone(), detail));
        }
        self.examined.push(reference.clone());
        if row.status != order.status.as_str() || row.amounts != [order.paid, order.refunded, order.disputed] {
            self.orders.push(OrderChange { reference, from_status: row.status.clone(), order, cause });
        }
    }
}

impl PaymentRow {
    fn new(event: &PaymentEvent<'_>) -> Self {
        Self {
            payment_id: event.payment_id,
            order_ref: String::new(),
            provider: event.provider.to_string(),
            account: event.account.to_string(),
            provider_ref: event.provider_payment_id.to_string(),
            region: event.region.to_string(),
            facts: Facts::default(),
            version: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use domain::{Currency, Kind, Money, ids};

    fn event(key: &str, kind: Kind, order: Option<&str>) -> PaymentEvent<'static> {
        let mut event = PaymentEvent {
            event_id: ids::event_id("stripe", "", key),
            content_hash: domain::ContentHash([0; 16]),
            payment_id: ids::payment_id("stripe", "", "pi"),
            kind,
            amount: Some(Money::new(1000, Currency::parse("EUR").unwrap()).unwrap()),
            event_time_ms: 1000,
            version_ms: 1000,
            received_at_ms: 1000,
            provider: "stripe".into(),
            source: "s".into(),
            account: "".into(),
            region: "eu".into(),
            provider_event_id: key.to_owned().into(),
            provider_event_type: "t".into(),
            provider_payment_id: "pi".into(),
            transaction_id: Some(key.to_owned().into()),
            order_ref: order.map(|order| order.to_owned().into()),
            user_ref: None,
        };
        event.hash_content();
        event
    }

    fn arrived(event: PaymentEvent<'static>) -> Arrived<'static> {
        Arrived { event, raw: b"" }
    }

    fn order() -> OrderRow {
        let total = Money::new(1000, Currency::parse("EUR").unwrap()).unwrap();
        OrderRow { terms: Terms { total }, status: "pending".into(), amounts: [0; 3] }
    }

    #[test]
    fn a_refund_finds_the_payment_that_comes_behind_it_in_the_batch() {
        let events = [arrived(event("re", Kind::Refunded, None)), arrived(event("cap", Kind::Captured, Some("A")))];
        let orders = [("A".to_owned(), order())].into();
        let plan = Plan::of(&events, HashMap::new(), &orders, 5);
        assert!(plan.parked.is_empty());
        assert_eq!((plan.payments.len(), plan.payments[0].1), (1, 0));
        assert_eq!(plan.orders[0].order.status.as_str(), "refunded");
    }

    #[test]
    fn an_event_of_a_payment_whose_order_is_gone_waits_instead_of_being_tried_for_ever() {
        let mut row = PaymentRow::new(&event("cap", Kind::Captured, Some("A")));
        row.facts.merge(&event("cap", Kind::Captured, Some("A")));
        row.order_ref = "A".into();
        row.version = 3;
        let events = [arrived(event("re", Kind::Refunded, None))];
        let plan = Plan::of(&events, [(row.payment_id, row)].into(), &BTreeMap::new(), 5);
        assert_eq!((plan.parked.len(), plan.payments.len()), (1, 0));
    }

    #[test]
    fn a_known_event_changes_no_row_but_its_view_is_written_again() {
        let capture = event("cap", Kind::Captured, Some("A"));
        let mut row = PaymentRow::new(&capture);
        row.facts.merge(&capture);
        row.order_ref = "A".into();
        row.version = 3;
        let settled = OrderRow { status: "paid".into(), amounts: [1000, 0, 0], ..order() };
        let events = [arrived(capture)];
        let plan = Plan::of(&events, [(row.payment_id, row)].into(), &[("A".to_owned(), settled)].into(), 5);
        assert_eq!((plan.payments.len(), plan.unchanged.len(), plan.orders.len()), (0, 1, 0));
    }
}
