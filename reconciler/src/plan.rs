//! The deciding part of a transaction, free of I/O: events and the rows they concern go in, the rows to write come out.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::PaymentEvent;
use domain::fold::{Difference, DifferenceKind, Facts, Order, Payment, Terms, Version};
use domain::money::decimal_text;
use domain::partition::day_of;
use platform::config::Orders;
use uuid::Uuid;

use crate::breaks::{self, Break};
use crate::orders::settle_status;

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
    /// Whether the columns beside the facts say what the facts say: not after a rule was corrected, or by another hand.
    pub in_line: bool,
}

/// An order's row.
#[derive(Debug, Clone)]
pub struct OrderRow {
    pub terms: Terms,
    /// The shop's word; empty where the table has none.
    pub status: String,
    /// Minor units: paid, refunded, disputed; none where the table has no such column.
    pub amounts: [Option<i64>; 3],
}

/// An order's new status and amounts.
#[derive(Debug)]
pub struct OrderChange {
    pub reference: String,
    pub from_status: String,
    /// The shop's word to write, if its own is to be replaced.
    pub word: Option<String>,
    pub order: Order,
    /// The latest event that concerns the order.
    pub cause: Uuid,
}

/// What a transaction is to write.
#[derive(Debug, Default)]
pub struct Plan<'e, 'a> {
    /// Payments whose facts changed or whose columns say something else, with the version that their row must still have.
    pub payments: Vec<(PaymentRow, i64)>,
    /// Payments that known events concern: unchanged, but their view may not have been written.
    pub unchanged: Vec<PaymentRow>,
    /// Orders whose status or amounts change.
    pub orders: Vec<OrderChange>,
    /// Differences of the orders looked at.
    pub breaks: Vec<Break>,
    /// Events that came before with another content; nothing closes these but a person.
    pub conflicts: Vec<Break>,
    /// Orders whose differences were looked at; others of theirs are closed.
    pub examined: Vec<String>,
    /// Ids that later events may name a payment by, with the payment.
    pub links: Vec<(Uuid, Uuid)>,
    /// Events whose order or payment is not known.
    pub parked: Vec<&'e Arrived<'a>>,
    /// For each event, in order, whether it was merged.
    pub merged: Vec<bool>,
    /// Events that were new to their payment.
    pub news: usize,
    /// Payments written only because their columns said something else than their facts.
    pub mended: usize,
}

/// What a plan is made of, besides events.
pub struct Known<'k> {
    /// Every payment that an event names, by its own id or another, or that belongs to one of `orders`.
    pub payments: HashMap<Uuid, PaymentRow>,
    /// What the ids that events name stand for, where that is another payment.
    pub links: HashMap<Uuid, Uuid>,
    /// The orders concerned, locked if the plan is to be written.
    pub orders: &'k BTreeMap<String, OrderRow>,
    /// Orders to look at although no event names them.
    pub examine: &'k [&'k str],
    /// The shop's words.
    pub words: &'k Orders,
}

impl<'e, 'a> Plan<'e, 'a> {
    /// Decides.
    pub fn of(events: &'e [Arrived<'a>], known: Known<'_>, now_us: i64) -> Self {
        let Known { mut payments, mut links, orders, examine, words } = known;
        for event in events.iter().map(|arrived| &arrived.event) {
            if let Some(alias) = event.alias() {
                links.entry(alias).or_insert(event.payment_id);
            }
        }
        let mut plan = Self { merged: vec![false; events.len()], ..Self::default() };
        let mut expected: HashMap<Uuid, i64> = HashMap::new();
        let mut seen = BTreeSet::new();
        let mut touched: BTreeMap<String, Option<Version>> =
            examine.iter().map(|reference| ((*reference).to_owned(), None)).collect();
        // Those that name an order, and may make a payment, first: others find both through them.
        let (naming, others): (Vec<_>, Vec<_>) = events
            .iter()
            .enumerate()
            .partition(|(_, arrived)| arrived.event.order_ref.is_some() && !arrived.event.must_find_its_payment());
        for (index, arrived) in naming.into_iter().chain(others) {
            let event = &arrived.event;
            let payment_id = links.get(&event.payment_id).copied().unwrap_or(event.payment_id);
            let known = payments.get(&payment_id);
            if known.is_none() && (payment_id != event.payment_id || event.must_find_its_payment()) {
                plan.parked.push(arrived);
                continue;
            }
            let mut facts = known.map(|row| row.facts.clone()).unwrap_or_default();
            let conflict = contradicts(&facts, event);
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
            plan.merged[index] = true;
            seen.insert(payment_id);
            plan.links.extend(event.alias().map(|alias| (alias, payment_id)));
            if conflict {
                plan.conflicts.push(conflicting(event));
            }
            // A payment that moves to another order changes both.
            for reference in known.map(|row| row.order_ref.clone()).into_iter().chain([order_ref.clone()]) {
                let version = Some(Version::of(event));
                touched.entry(reference).and_modify(|latest| *latest = version.max(*latest)).or_insert(version);
            }
            if changed {
                plan.news += 1;
                let row = payments.entry(payment_id).or_insert_with(|| PaymentRow::new(event));
                let before = *expected.entry(payment_id).or_insert(row.version);
                row.version = now_us.max(before + 1);
                row.order_ref = order_ref;
                row.facts = facts;
            }
        }
        for row in payments.values_mut().filter(|row| !row.in_line && touched.contains_key(&row.order_ref)) {
            if let Entry::Vacant(entry) = expected.entry(row.payment_id) {
                entry.insert(row.version);
                row.version = now_us.max(row.version + 1);
                plan.mended += 1;
                seen.insert(row.payment_id);
            }
        }
        let mut by_order: BTreeMap<&str, Vec<&PaymentRow>> = BTreeMap::new();
        for row in payments.values().filter(|row| touched.contains_key(&row.order_ref)) {
            by_order.entry(&row.order_ref).or_default().push(row);
        }
        for (reference, cause) in &touched {
            if let Some(row) = orders.get(reference) {
                let rows = by_order.get(reference.as_str()).map(Vec::as_slice).unwrap_or_default();
                plan.settle_order(reference, row, rows, *cause, words);
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

    fn settle_order(
        &mut self,
        reference: &str,
        row: &OrderRow,
        payments: &[&PaymentRow],
        cause: Option<Version>,
        words: &Orders,
    ) {
        let folded: Vec<Payment> = payments.iter().map(|payment| Payment::of(&payment.facts)).collect();
        let order = Order::of(row.terms, &folded);
        let currency = row.terms.total.currency;
        // They come in no order: the same one each time, whoever looks.
        let first = payments.iter().min_by_key(|payment| payment.payment_id);
        let place = Break {
            subject: reference.to_owned(),
            order_ref: Some(reference.to_owned()),
            payment_id: first.map(|payment| payment.payment_id),
            region: first.map(|payment| payment.region.clone()),
            day: first.map(|payment| payment.day()),
            currency: Some(currency.as_str().to_owned()),
            ..Break::default()
        };
        for difference in &order.differences {
            let detail = in_words(difference, row.terms, payments, &folded);
            let amounts = (Some(difference.expected), Some(difference.actual));
            let kind = difference.kind.as_str();
            self.breaks.push(Break { kind, expected: amounts.0, actual: amounts.1, detail, ..place.clone() });
        }
        let (word, refused) = settle_status(words, &row.status, order.status);
        if refused {
            let detail = format!("the payments say {}, the shop says {}", order.status.as_str(), row.status);
            self.breaks.push(Break { kind: breaks::STATUS, detail, ..place });
        }
        self.examined.push(reference.to_owned());
        let amounts = [order.paid, order.refunded, order.disputed];
        let differs = row.amounts.iter().zip(amounts).any(|(there, due)| there.is_some_and(|there| there != due));
        if word.is_some() || differs {
            let cause = cause.or_else(|| payments.iter().filter_map(|payment| payment.facts.latest()).max());
            let cause = cause.map_or(Uuid::nil(), |version| version.event_id);
            let from_status = row.status.clone();
            self.orders.push(OrderChange { reference: reference.to_owned(), from_status, word, order, cause });
        }
    }
}

/// What a difference means, in whole units.
fn in_words(difference: &Difference, terms: Terms, payments: &[&PaymentRow], folded: &[Payment]) -> String {
    let currency = terms.total.currency;
    let money = |minor: i64| format!("{} {}", decimal_text(minor, currency.exponent()), currency.as_str());
    let Difference { kind, expected, actual } = *difference;
    match kind {
        DifferenceKind::Currency => {
            let is_foreign = |payment: &Payment| payment.mixed_currency || payment.currency != Some(currency);
            let mut foreign: Vec<&str> =
                payments.iter().zip(folded).filter(|(_, p)| is_foreign(p)).map(|(row, _)| &*row.provider_ref).collect();
            foreign.sort_unstable();
            format!("not in {}, and so not counted: payment {}", currency.as_str(), foreign.join(", "))
        }
        DifferenceKind::Amount if actual < expected => format!("{} missing", money(expected - actual)),
        DifferenceKind::Amount => format!("{} too much", money(actual - expected)),
        DifferenceKind::DuplicateCapture => {
            let taken = folded.iter().filter(|payment| payment.net_captured() > 0).count();
            format!("{taken} payments took {} for {}", money(actual), money(expected))
        }
        DifferenceKind::OrphanRefund => format!("{} given back, {} taken", money(actual), money(expected)),
        DifferenceKind::CaptureFailed => {
            format!("money that was taken failed; {} of {} is paid", money(actual), money(expected))
        }
    }
}

/// Whether these facts hold the same event with another content.
fn contradicts(facts: &Facts, event: &PaymentEvent<'_>) -> bool {
    let versions = facts.entries.values().flat_map(|fact| [fact.first, fact.latest]);
    versions.into_iter().any(|v| v.event_id == event.event_id && v.content_hash != event.content_hash)
}

/// The break of an event that came before with another content.
pub fn conflicting(event: &PaymentEvent<'_>) -> Break {
    Break {
        kind: breaks::CONFLICTING_DUPLICATE,
        subject: event.event_id.to_string(),
        order_ref: event.order_ref.as_deref().map(str::to_owned),
        payment_id: Some(event.payment_id),
        region: Some(event.region.to_string()),
        day: Some(day_of(event.event_time_ms)),
        currency: event.amount.map(|money| money.currency.as_str().to_owned()),
        expected: None,
        actual: event.amount.map(|money| money.minor),
        detail: format!("{} {} came again with another content", event.provider, event.provider_event_id),
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
            in_line: true,
        }
    }

    /// Event time of the latest report, Unix milliseconds: with the region, where the payment is in Cassandra.
    pub fn latest_event_ms(&self) -> i64 {
        self.facts.entries.values().max_by_key(|fact| fact.latest).map_or(0, |fact| fact.event_time_ms)
    }

    /// The UTC day of the latest report.
    pub fn day(&self) -> i32 {
        day_of(self.latest_event_ms())
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
        OrderRow { terms: Terms { total }, status: "pending".into(), amounts: [Some(0); 3] }
    }

    /// A plan with the default words.
    fn plan<'e, 'a>(
        events: &'e [Arrived<'a>],
        payments: HashMap<Uuid, PaymentRow>,
        orders: &BTreeMap<String, OrderRow>,
    ) -> Plan<'e, 'a> {
        let config = platform::config::parse("test", "", &BTreeMap::new()).unwrap();
        let known = Known { payments, links: HashMap::new(), orders, examine: &[], words: &config.orders };
        Plan::of(events, known, 5)
    }

    #[test]
    fn a_refund_finds_the_payment_that_comes_behind_it_in_the_batch() {
        let events = [arrived(event("re", Kind::Refunded, None)), arrived(event("cap", Kind::Captured, Some("A")))];
        let orders = [("A".to_owned(), order())].into();
        let planned = plan(&events, HashMap::new(), &orders);
        assert!(planned.parked.is_empty());
        assert_eq!((planned.payments.len(), planned.payments[0].1), (1, 0));
        assert_eq!(planned.orders[0].order.status.as_str(), "refunded");
    }

    #[test]
    fn an_event_of_a_payment_whose_order_is_gone_waits_instead_of_being_tried_for_ever() {
        let mut row = PaymentRow::new(&event("cap", Kind::Captured, Some("A")));
        row.facts.merge(&event("cap", Kind::Captured, Some("A")));
        row.order_ref = "A".into();
        row.version = 3;
        let events = [arrived(event("re", Kind::Refunded, None))];
        let planned = plan(&events, [(row.payment_id, row)].into(), &BTreeMap::new());
        assert_eq!((planned.parked.len(), planned.payments.len()), (1, 0));
    }

    #[test]
    fn a_known_event_changes_no_row_but_its_view_is_written_again() {
        let capture = event("cap", Kind::Captured, Some("A"));
        let mut row = PaymentRow::new(&capture);
        row.facts.merge(&capture);
        row.order_ref = "A".into();
        row.version = 3;
        let settled = OrderRow { status: "paid".into(), amounts: [Some(1000), Some(0), Some(0)], ..order() };
        let events = [arrived(capture)];
        let planned = plan(&events, [(row.payment_id, row)].into(), &[("A".to_owned(), settled)].into());
        assert_eq!((planned.payments.len(), planned.unchanged.len(), planned.orders.len()), (0, 1, 0));
    }

    #[test]
    fn the_same_event_with_another_content_is_a_conflict_and_both_are_merged() {
        let mut dearer = event("cap", Kind::Captured, Some("A"));
        dearer.amount = Some(Money::new(2000, Currency::parse("EUR").unwrap()).unwrap());
        dearer.hash_content();
        let events = [arrived(event("cap", Kind::Captured, Some("A"))), arrived(dearer)];
        let planned = plan(&events, HashMap::new(), &[("A".to_owned(), order())].into());
        assert_eq!((planned.merged.clone(), planned.conflicts.len()), (vec![true, true], 1));
        assert_eq!(planned.conflicts[0].subject, events[0].event.event_id.to_string());
    }

    #[test]
    fn an_event_that_names_only_its_dispute_waits_for_the_one_that_names_both() {
        let opened = |payment: &str| {
            let mut event = event("opened", Kind::Disputed, None);
            event.transaction_id = Some("du".into());
            event.payment_id = ids::payment_id("stripe", "", payment);
            event.provider_payment_id = payment.to_owned().into();
            event
        };
        let mut won = opened("du");
        (won.kind, won.event_id, won.version_ms) = (Kind::DisputeWon, ids::event_id("stripe", "", "won"), 2000);
        won.order_ref = Some("A".into());
        let orders: BTreeMap<_, _> = [("A".to_owned(), order())].into();

        let alone = [arrived(won.clone())];
        let planned = plan(&alone, HashMap::new(), &orders);
        assert_eq!((planned.parked.len(), planned.payments.len()), (1, 0));

        let capture = event("cap", Kind::Captured, Some("A"));
        let events = [arrived(won), arrived(opened("pi")), arrived(capture)];
        let planned = plan(&events, HashMap::new(), &orders);
        assert_eq!((planned.parked.len(), planned.payments.len()), (0, 1));
        assert_eq!(planned.links, [(ids::payment_id("stripe", "", "du"), ids::payment_id("stripe", "", "pi"))]);
        assert_eq!((planned.orders[0].order.status.as_str(), planned.orders[0].order.disputed), ("paid", 0));
    }

    #[test]
    fn a_refund_that_names_only_a_capture_finds_the_payment_through_it() {
        let paypal = |mut event: PaymentEvent<'static>, payment: &str, transaction: &str| {
            event.provider = "paypal".into();
            event.payment_id = ids::payment_id("paypal", "", payment);
            event.provider_payment_id = payment.to_owned().into();
            event.transaction_id = Some(transaction.to_owned().into());
            event
        };
        let capture = paypal(event("cap", Kind::Captured, Some("A")), "authorization", "capture");
        let refund = paypal(event("re", Kind::Refunded, Some("A")), "capture", "refund");
        let orders: BTreeMap<_, _> = [("A".to_owned(), order())].into();
        let alone = [arrived(refund.clone())];
        assert_eq!(plan(&alone, HashMap::new(), &orders).parked.len(), 1);
        let events = [arrived(refund), arrived(capture)];
        let planned = plan(&events, HashMap::new(), &orders);
        assert_eq!((planned.payments.len(), planned.orders[0].order.status.as_str()), (1, "refunded"));
    }

    #[test]
    fn a_word_of_the_shop_is_never_turned_back() {
        let capture = event("cap", Kind::Captured, Some("A"));
        let shipped = OrderRow { status: "shipped".into(), ..order() };
        let events = [arrived(capture)];
        let planned = plan(&events, HashMap::new(), &[("A".to_owned(), shipped)].into());
        assert_eq!((planned.orders[0].word.as_deref(), planned.orders[0].order.paid), (None, 1000));
        assert_eq!(planned.breaks[0].kind, breaks::STATUS);
    }
}
