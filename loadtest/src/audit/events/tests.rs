#![allow(clippy::unwrap_used)]
use super::*;
use crate::facts::tests::{START, run};
use crate::plan::{Plan, Provider};

#[test]
fn decimals_are_read_in_minor_units() {
    let decimal = |minor: i64, scale| platform::cassandra::decimal(minor, scale);
    assert_eq!(minor(&decimal(1999, 2), 2), Some(1999));
    assert_eq!(minor(&decimal(-5, 2), 2), Some(-5));
    assert_eq!(minor(&decimal(20, 0), 3), Some(20_000));
    assert_eq!(minor(&decimal(1999, 3), 2), None);
    assert_eq!(minor(&decimal(i64::MAX, 0), 2), None);
}

const CONFIG: &str = r#"
[sources.s]
provider = "stripe"
region = "eu"
secrets = [{ value = "whsec_FAKE_load" }]
"#;

fn kits() -> Kits {
    let config = platform::config::parse("test", CONFIG, &std::collections::BTreeMap::new()).unwrap();
    Kits::prepare(&config.sources, std::path::Path::new(""), "localhost", START).unwrap()
}

/// Stripe's first event of a plan.
fn event_of(run: &Run, plan: Plan) -> Facts {
    let mut orders = run.schedule.orders().iter();
    let order = orders.find(|order| order.plan == plan && order.provider == Provider::Stripe).unwrap();
    run.facts(order.first_event)
}

/// The row that the pipeline should write.
fn row(run: &Run, facts: &Facts) -> Row {
    Row {
        provider: "stripe".into(),
        provider_event_id: run.provider_event_id(facts),
        amount: Some(platform::cassandra::decimal(facts.amount, facts.terms.currency.exponent)),
        currency: Some(facts.terms.currency.code.into()),
        kind: "captured_total".into(),
        order_ref: Some(run.name.order_ref(facts.order)),
        payment_id: ids::payment_id("stripe", "", &run.provider_payment_id(facts)),
    }
}

/// The findings for these rows.
fn findings(run: &Run, rows: &[(&str, &Row)]) -> Vec<String> {
    let kits = kits();
    let mut tally = Tally::new(run, &kits);
    rows.iter().for_each(|(region, row)| tally.row(region, row));
    tally.close(1).audit.findings.first
}

#[test]
fn an_acknowledged_event_must_be_there_once() {
    let run = run();
    let facts = event_of(&run, Plan::Paid);
    run.journal.acknowledged(facts.event);
    let row = row(&run, &facts);
    assert_eq!(findings(&run, &[("eu", &row)]), [""; 0]);
    assert!(findings(&run, &[])[0].contains("was acknowledged and is not in Cassandra"));
    assert!(findings(&run, &[("eu", &row), ("eu", &row)])[0].contains("more than once"));
    assert!(findings(&run, &[("us", &row)])[0].contains("the region"));
}

#[test]
fn every_column_is_compared() {
    let run = run();
    let facts = event_of(&run, Plan::Paid);
    run.journal.acknowledged(facts.event);
    type Change = fn(&mut Row);
    let wrong: [(&str, Change); 5] = [
        ("the amount", |row| row.amount = None),
        ("the currency", |row| row.currency = Some("CHF".into())),
        ("the kind", |row| row.kind = "authorized".into()),
        ("the order", |row| row.order_ref = None),
        ("the payment", |row| row.payment_id = Uuid::nil()),
    ];
    for (what, change) in wrong {
        let mut row = row(&run, &facts);
        change(&mut row);
        let found = findings(&run, &[("eu", &row)]);
        assert!(found.len() == 1 && found[0].contains(what), "{found:?}");
    }
}

#[test]
fn what_was_not_acknowledged_may_be_missing_and_what_was_not_sent_must_be() {
    let run = run();
    let facts = event_of(&run, Plan::Paid);
    let row = row(&run, &facts);
    assert!(findings(&run, &[("eu", &row)])[0].contains("was never sent"));
    run.journal.sent(facts.event);
    assert_eq!(findings(&run, &[]), [""; 0]);
    assert_eq!(findings(&run, &[("eu", &row)]), [""; 0]);
    assert!(findings(&run, &[("eu", &row), ("eu", &row)])[0].contains("more than once"));
}

#[test]
fn forged_and_foreign_events_must_not_be_there() {
    let run = run();
    let forged = event_of(&run, Plan::Forged);
    run.journal.sent(forged.event);
    assert!(findings(&run, &[("eu", &row(&run, &forged))])[0].contains("no payment's"));
    let mut strange = row(&run, &forged);
    strange.provider_event_id = format!("evt_XX{}77777777", run.name.as_str());
    assert!(findings(&run, &[("eu", &strange)])[0].contains("never made"));
}
