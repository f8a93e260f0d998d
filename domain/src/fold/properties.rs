//! Properties of the fold: the set of events decides, whatever their order, duplicates and batches.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::{DifferenceKind, Facts, Order, OrderStatus, Payment, PaymentStatus, Terms};
use crate::event::samples::event;
use crate::{Kind, Money, PaymentEvent};

fn any_event() -> impl Strategy<Value = PaymentEvent<'static>> {
    let kind = prop::sample::select(Kind::ALL.to_vec());
    let order = prop::option::of(prop::sample::select(vec!["A-1", "A-2"]));
    (kind, 0..40_u32, 0..6_i64, 1..5_i64, prop::option::of(0..3_u8), order).prop_map(
        |(kind, key, seconds, amount, transaction, order)| {
            let mut event = event(kind, &format!("evt_{key}"), seconds * 1000, amount * 100);
            event.transaction_id = transaction.map(|t| format!("tx_{t}").into());
            event.order_ref = order.map(Into::into);
            event.hash_content();
            event
        },
    )
}

fn merged<'e>(events: impl IntoIterator<Item = &'e PaymentEvent<'static>>) -> Facts {
    let mut facts = Facts::default();
    for event in events {
        facts.merge(event);
    }
    facts
}

/// Cases of each property; TEST_CASES asks for more. A failure prints its seed.
fn cases() -> u32 {
    std::env::var("TEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn order_and_duplicates_do_not_matter(
        (events, shuffled) in prop::collection::vec(any_event(), 0..12)
            .prop_flat_map(|events| (Just(events.clone()), Just([events.clone(), events].concat()).prop_shuffle()))
    ) {
        prop_assert_eq!(merged(&events), merged(&shuffled));
    }

    #[test]
    fn facts_survive_storage_between_any_two_events(events in prop::collection::vec(any_event(), 0..12)) {
        let mut stored = Facts::default().encode();
        for event in &events {
            let mut facts = Facts::decode(&stored).unwrap();
            facts.merge(event);
            stored = facts.encode();
        }
        prop_assert_eq!(Facts::decode(&stored).unwrap(), merged(&events));
    }

    #[test]
    fn a_known_event_changes_nothing(events in prop::collection::vec(any_event(), 1..12)) {
        let mut facts = merged(&events);
        for event in &events {
            prop_assert!(!facts.merge(event));
        }
    }

    #[test]
    fn amounts_are_never_negative_and_gross_captured_never_shrinks(events in prop::collection::vec(any_event(), 0..12)) {
        let mut facts = Facts::default();
        let mut gross = 0;
        for event in &events {
            facts.merge(event);
            let payment = Payment::of(&facts);
            prop_assert!(payment.captured >= gross);
            gross = payment.captured;
            for amount in [payment.authorized, payment.net_captured(), payment.refunded, payment.disputed] {
                prop_assert!(amount >= 0);
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Facts::decode(&bytes);
    }
}

#[test]
fn a_capture_that_is_taken_again_after_it_failed_counts() {
    let (taken, failed) = (at(Kind::Captured, 10, 1000, "c"), at(Kind::CaptureFailed, 20, 1000, "c"));
    let again = at(Kind::Captured, 30, 1000, "c");
    let order = order_of(&[failed.clone(), taken.clone()]);
    assert_eq!((order.status, order.differences[0].kind), (OrderStatus::Pending, DifferenceKind::CaptureFailed));
    let order = order_of(&[again, failed, taken]);
    assert_eq!((order.status, order.differences.len()), (OrderStatus::Paid, 0));
}

#[test]
fn what_was_too_much_is_settled_when_it_is_given_back() {
    let total = Money::new(1000, crate::Currency::parse("EUR").unwrap()).unwrap();
    let payment = |events: &[PaymentEvent<'static>]| Payment::of(&merged(events));
    let (first, second) = (payment(&[at(Kind::Captured, 1, 1000, "a")]), payment(&[at(Kind::Captured, 2, 1000, "b")]));
    let twice = Order::of(Terms { total }, [&first, &second]);
    assert_eq!((twice.status, twice.differences[0].kind), (OrderStatus::Overpaid, DifferenceKind::DuplicateCapture));
    let back = payment(&[at(Kind::Captured, 2, 1000, "b"), at(Kind::Refunded, 3, 1000, "r")]);
    let settled = Order::of(Terms { total }, [&first, &back]);
    assert_eq!((settled.status, settled.differences.len()), (OrderStatus::Paid, 0));
    let all_back = Order::of(Terms { total }, [&back]);
    assert_eq!((all_back.status, all_back.differences.len()), (OrderStatus::Refunded, 0));
}

fn at(kind: Kind, seconds: i64, minor: i64, transaction: &str) -> PaymentEvent<'static> {
    let mut event = event(kind, &format!("{kind:?}-{seconds}-{transaction}"), seconds * 1000, minor);
    event.transaction_id = (!transaction.is_empty()).then(|| transaction.to_owned().into());
    event
}

fn order_of(events: &[PaymentEvent<'static>]) -> Order {
    let payment = Payment::of(&merged(events));
    let total = Money::new(1000, payment.currency.unwrap()).unwrap();
    Order::of(Terms { total }, [&payment])
}

#[test]
fn a_failed_attempt_never_undoes_a_paid_order() {
    let paid = order_of(&[at(Kind::CapturedTotal, 10, 1000, ""), at(Kind::Failed, 11, 1000, "")]);
    assert_eq!(paid.status, OrderStatus::Paid);
    assert!(paid.differences.is_empty());
}

#[test]
fn a_late_authorization_after_a_failure_is_accepted() {
    assert_eq!(
        order_of(&[at(Kind::Failed, 10, 1000, ""), at(Kind::Authorized, 11, 1000, "")]).status,
        OrderStatus::Authorized
    );
    // In the same second too: the later step of the life cycle wins.
    assert_eq!(
        order_of(&[at(Kind::Authorized, 10, 1000, ""), at(Kind::Failed, 10, 1000, "")]).status,
        OrderStatus::Authorized
    );
}

#[test]
fn a_refund_reported_twice_counts_once() {
    let refund =
        [at(Kind::CapturedTotal, 1, 1000, ""), at(Kind::Refunded, 2, 400, "re_1"), at(Kind::Refunded, 5, 400, "re_1")];
    let order = order_of(&refund);
    assert_eq!((order.status, order.refunded), (OrderStatus::PartiallyRefunded, 400));
    // The charge's cumulative figure contains the refund, also when the refund is updated again after it.
    let with_total = [&refund[..], &[at(Kind::RefundedTotal, 3, 400, "")]].concat();
    assert_eq!(order_of(&with_total).refunded, 400);
    let and_another = [&with_total[..], &[at(Kind::Refunded, 4, 600, "re_2")]].concat();
    assert_eq!(order_of(&and_another).status, OrderStatus::Refunded);
    let failed_again = [&and_another[..], &[at(Kind::RefundFailed, 6, 400, "re_1")]].concat();
    assert_eq!(order_of(&failed_again).refunded, 600);
}

#[test]
fn cumulative_figures_of_one_second_keep_the_larger() {
    let refunds = [
        at(Kind::CapturedTotal, 1, 1000, ""),
        at(Kind::Refunded, 2, 500, "re_1"),
        at(Kind::Refunded, 2, 500, "re_2"),
        event(Kind::RefundedTotal, "first", 2000, 500),
        event(Kind::RefundedTotal, "second", 2000, 1000),
    ];
    assert_eq!(order_of(&refunds).refunded, 1000);
    assert_eq!(order_of(&refunds.iter().rev().cloned().collect::<Vec<_>>()).refunded, 1000);
}

#[test]
fn a_refund_counted_while_pending_that_fails_is_given_back() {
    let failed = [
        at(Kind::CapturedTotal, 1, 1000, ""),
        at(Kind::RefundPending, 2, 1000, "re_1"),
        at(Kind::RefundedTotal, 2, 1000, ""),
        at(Kind::RefundFailed, 9, 1000, "re_1"),
    ];
    let order = order_of(&failed);
    assert_eq!((order.status, order.refunded), (OrderStatus::Paid, 0));
}

#[test]
fn a_capture_that_fails_after_success_reopens_the_order() {
    let order = order_of(&[
        at(Kind::Authorized, 1, 1000, ""),
        at(Kind::Captured, 2, 1000, "cap"),
        at(Kind::CaptureFailed, 3, 1000, "cap"),
    ]);
    assert_eq!((order.status, order.paid), (OrderStatus::Pending, 0));
    // A capture that never was takes nothing away.
    let order = order_of(&[at(Kind::Captured, 2, 1000, "cap"), at(Kind::CaptureFailed, 3, 1000, "other")]);
    assert_eq!(order.status, OrderStatus::Paid);
}

#[test]
fn disputes_hold_the_money_until_they_are_won() {
    let opened = [at(Kind::CapturedTotal, 1, 1000, ""), at(Kind::Disputed, 2, 1000, "dp")];
    assert_eq!(order_of(&opened).status, OrderStatus::Disputed);
    assert_eq!(order_of(&[&opened[..], &[at(Kind::DisputeWon, 3, 1000, "dp")]].concat()).status, OrderStatus::Paid);
    assert_eq!(
        order_of(&[&opened[..], &[at(Kind::DisputeLost, 3, 1000, "dp")]].concat()).status,
        OrderStatus::Disputed
    );
}

#[test]
fn amounts_that_do_not_match_are_differences() {
    assert_eq!(order_of(&[at(Kind::CapturedTotal, 1, 999, "")]).status, OrderStatus::PartiallyPaid);
    let over = order_of(&[at(Kind::Captured, 1, 1000, "a"), at(Kind::Captured, 1, 1000, "b")]);
    assert_eq!((over.status, over.differences.len()), (OrderStatus::Overpaid, 1));
}

#[test]
fn payments_in_another_currency_do_not_pay_an_order() {
    let payment = Payment::of(&merged(&[at(Kind::CapturedTotal, 1, 1000, "")]));
    let usd = crate::Currency::parse("USD").unwrap();
    let order = Order::of(Terms { total: Money::new(1000, usd).unwrap() }, [&payment]);
    assert_eq!((order.status, order.paid, order.differences.len()), (OrderStatus::Pending, 0, 1));
    assert_eq!(payment.status, PaymentStatus::Captured);
}

/// Looked for one by one in all of them, they would take minutes.
#[test]
fn facts_of_many_refunds_are_found_by_their_ids() {
    let mut facts = merged(&[at(Kind::CapturedTotal, 1, 1000, "")]);
    for refund in 0..100_000 {
        let id = refund.to_string();
        facts.merge(&at(Kind::Refunded, 2, 1, &id));
        facts.merge(&at(Kind::RefundFailed, 3, 1, &id));
    }
    assert_eq!(Payment::of(&facts).refunded, 0);
}
