//! The transition tables of docs/STATES.md, made from the fold itself: `WRITE_DOCS=1 cargo test -p domain` writes
//! them, and without it the test fails when the document says something else.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;

use domain::fold::{Facts, Order, OrderStatus, Payment, PaymentStatus, Terms};
use domain::{ContentHash, Currency, Kind, Money, PaymentEvent, ids};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/STATES.md");
const INTRODUCTION: &str = "\
# States

What events make of a payment, and payments of an order. These tables are made from the code (`domain::fold`) by a test
(`domain/tests/states.rs`), which fails when they are not true.

The state is a function of the *set* of events: each table adds one event that the provider dates later than all before
it. One that it dates earlier gives the row of the other order, whenever it arrives.
";

/// A report of one payment: kind, capture, refund or dispute, minor units.
type Report = (Kind, &'static str, i64);

const TOTAL: i64 = 1000;

/// What a payment is made of before the later event.
const BEFORE: [(&str, &[Report]); 10] = [
    ("—", &[]),
    ("pending", &[(Kind::Pending, "", TOTAL)]),
    ("failed", &[(Kind::Failed, "", TOTAL)]),
    ("authorized", &[(Kind::Authorized, "", TOTAL)]),
    ("captured", &[(Kind::Captured, "c", TOTAL)]),
    ("capture failed", &[(Kind::Captured, "c", TOTAL), (Kind::CaptureFailed, "c", TOTAL)]),
    ("cancelled", &[(Kind::Authorized, "", TOTAL), (Kind::Cancelled, "", TOTAL)]),
    ("expired", &[(Kind::Authorized, "", TOTAL), (Kind::Expired, "", TOTAL)]),
    ("refunded", &[(Kind::Captured, "c", TOTAL), (Kind::Refunded, "r", TOTAL)]),
    ("disputed", &[(Kind::Captured, "c", TOTAL), (Kind::Disputed, "d", TOTAL)]),
];

fn payment_of(reports: &[Report]) -> Payment {
    let currency = Currency::parse("EUR").unwrap();
    let mut facts = Facts::default();
    for (second, (kind, transaction, minor)) in (1..).zip(reports) {
        let key = format!("evt_{second}");
        let mut event = PaymentEvent {
            event_id: ids::event_id("tollgate", "", &key),
            content_hash: ContentHash([0; 16]),
            payment_id: ids::payment_id("tollgate", "", "p"),
            kind: *kind,
            amount: Some(Money::new(*minor, currency).unwrap()),
            event_time_ms: second * 1000,
            version_ms: second * 1000,
            received_at_ms: 0,
            provider: "tollgate".into(),
            source: "shop".into(),
            account: "".into(),
            region: "eu".into(),
            provider_event_id: key.into(),
            provider_event_type: kind.as_str().into(),
            provider_payment_id: "p".into(),
            transaction_id: (!transaction.is_empty()).then(|| (*transaction).into()),
            order_ref: Some("A".into()),
            user_ref: None,
        };
        event.hash_content();
        facts.merge(&event);
    }
    Payment::of(&facts)
}

fn order_of(payments: &[&[Report]]) -> Order {
    let payments: Vec<Payment> = payments.iter().map(|reports| payment_of(reports)).collect();
    let total = Money::new(TOTAL, Currency::parse("EUR").unwrap()).unwrap();
    Order::of(Terms { total }, &payments)
}

/// The transaction that a later event of this kind is about: that of [`BEFORE`].
fn transaction_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Captured | Kind::CaptureFailed => "c",
        Kind::RefundPending | Kind::Refunded | Kind::RefundFailed => "r",
        Kind::Disputed | Kind::DisputeWon | Kind::DisputeLost => "d",
        _ => "",
    }
}

fn then(before: &[Report], report: Report) -> Payment {
    payment_of(&[before, &[report]].concat())
}

fn table(out: &mut String, corner: &str, columns: &[&str], rows: impl Iterator<Item = (String, Vec<String>)>) {
    let _ = writeln!(out, "\n| {corner} | {} |\n|---|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for (name, cells) in rows {
        let _ = writeln!(out, "| {name} | {} |", cells.join(" | "));
    }
}

fn sentence(kind: Kind) -> String {
    kind.as_str().replace('_', " ")
}

/// A payment in a word.
fn word(payment: &Payment) -> String {
    payment.shop_status().replace('_', " ")
}

fn payments_table(out: &mut String) {
    out.push_str(
        "\n## A payment\n\nThe word that the shop sees, after a later event about the same capture, refund or dispute and the \
         same amount.\n",
    );
    let columns = BEFORE.map(|(name, _)| name);
    let rows = Kind::ALL.into_iter().map(|kind| {
        let after = |(_, before): (&str, &[Report])| word(&then(before, (kind, transaction_of(kind), TOTAL)));
        (sentence(kind), BEFORE.map(after).to_vec())
    });
    table(out, "later event \\ before", &columns, rows);
}

fn amounts_table(out: &mut String) {
    out.push_str(
        "\n## Amounts\n\nAfter a capture of 10.00 and a refund of 4.00 (`r`), a later event of 3.00 about itself, or about that \
         capture or refund.\n",
    );
    let before: &[Report] = &[(Kind::Captured, "c", 1000), (Kind::Refunded, "r", 400)];
    let decimal = |minor: i64| domain::money::decimal_text(minor, 2);
    let cells = |payment: &Payment| {
        let amounts = [payment.captured, payment.capture_failed, payment.refunded, payment.disputed];
        [vec![word(payment)], amounts.map(decimal).to_vec()].concat()
    };
    let rows = Kind::ALL.into_iter().flat_map(|kind| {
        let known = transaction_of(kind);
        let own = if known.is_empty() { "" } else { "new" };
        let about = match known {
            "" => String::new(),
            _ => format!(", of another {}", what(kind)),
        };
        let first = (format!("{}{about}", sentence(kind)), cells(&then(before, (kind, own, 300))));
        let second = (!known.is_empty() && known != "d")
            .then(|| (format!("{}, of that {}", sentence(kind), what(kind)), cells(&then(before, (kind, known, 300)))));
        std::iter::once(first).chain(second)
    });
    let columns = ["payment", "captured", "of it failed", "refunded", "disputed"];
    table(out, "later event", &columns, rows);
}

fn what(kind: Kind) -> &'static str {
    match transaction_of(kind) {
        "c" => "capture",
        "r" => "refund",
        _ => "dispute",
    }
}

fn attempts_table(out: &mut String) {
    out.push_str("\n## An order with two payments\n\nThe order's status; its total is what each payment is about.\n");
    let payments = &BEFORE[1..];
    let columns: Vec<&str> = payments.iter().map(|(name, _)| *name).collect();
    let rows = payments.iter().map(|(name, first)| {
        let cell = |(_, second): &(&str, &[Report])| {
            let order = order_of(&[first, second]);
            let kinds: Vec<_> = order.differences.iter().map(|found| found.kind.as_str().replace('_', " ")).collect();
            let breaks = if kinds.is_empty() { String::new() } else { format!(" (break: {})", kinds.join(", ")) };
            format!("{}{breaks}", order.status.as_str().replace('_', " "))
        };
        ((*name).to_owned(), payments.iter().map(cell).collect())
    });
    table(out, "first \\ second", &columns, rows);
}

fn order_amounts_table(out: &mut String) {
    out.push_str("\n## An order's amounts\n\nAn order of 10.00.\n");
    let captured = |minor| (Kind::Captured, "c", minor);
    let cases: [(&str, &[&[Report]]); 14] = [
        ("no payment", &[]),
        ("authorized 10.00", &[&[(Kind::Authorized, "", 1000)]]),
        ("captured 4.00", &[&[captured(400)]]),
        ("captured 4.00 and 6.00 of one payment", &[&[captured(400), (Kind::Captured, "c2", 600)]]),
        ("captured 4.00 and 6.00 of two payments", &[&[captured(400)], &[captured(600)]]),
        ("captured 12.00", &[&[captured(1200)]]),
        ("captured 12.00, refunded 2.00", &[&[captured(1200), (Kind::Refunded, "r", 200)]]),
        ("captured 10.00 twice, by two payments", &[&[captured(1000)], &[captured(1000)]]),
        ("the same, and one refunded", &[&[captured(1000)], &[captured(1000), (Kind::Refunded, "r", 1000)]]),
        ("captured 10.00, refunded 4.00", &[&[captured(1000), (Kind::Refunded, "r", 400)]]),
        ("captured 10.00, refunded 10.00", &[&[captured(1000), (Kind::Refunded, "r", 1000)]]),
        ("refunded 4.00 without a capture", &[&[(Kind::Authorized, "", 1000), (Kind::Refunded, "r", 400)]]),
        ("captured 10.00, which failed", &[&[captured(1000), (Kind::CaptureFailed, "c", 1000)]]),
        ("captured 10.00, disputed 10.00", &[&[captured(1000), (Kind::Disputed, "d", 1000)]]),
    ];
    let rows = cases.into_iter().map(|(name, payments)| {
        let order = order_of(payments);
        let kinds: Vec<_> = order.differences.iter().map(|found| found.kind.as_str()).collect();
        let amounts = [order.paid, order.refunded, order.disputed].map(|minor| domain::money::decimal_text(minor, 2));
        let status = order.status.as_str().replace('_', " ");
        (name.to_owned(), [vec![status], amounts.to_vec(), vec![kinds.join(", ")]].concat())
    });
    table(out, "payments", &["order", "paid", "refunded", "disputed", "break"], rows);
}

#[test]
fn the_document_says_what_the_fold_does() {
    let mut document = INTRODUCTION.to_owned();
    payments_table(&mut document);
    amounts_table(&mut document);
    attempts_table(&mut document);
    order_amounts_table(&mut document);
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(DOCUMENT, &document).unwrap();
    }
    let written = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    assert_eq!(written, document, "docs/STATES.md is not true: WRITE_DOCS=1 cargo test -p domain writes it anew");
}

#[test]
fn every_state_can_be_reached() {
    let payments: Vec<PaymentStatus> = BEFORE.into_iter().map(|(_, before)| payment_of(before).status).collect();
    for status in [
        PaymentStatus::Pending,
        PaymentStatus::Authorized,
        PaymentStatus::Captured,
        PaymentStatus::Failed,
        PaymentStatus::Cancelled,
        PaymentStatus::Expired,
    ] {
        assert!(payments.contains(&status), "{status:?}");
    }
    let mut document = String::new();
    attempts_table(&mut document);
    order_amounts_table(&mut document);
    for status in OrderStatus::ALL {
        assert!(document.contains(&status.as_str().replace('_', " ")), "{status:?}");
    }
}
