//! `orders`, `parked_events` and `breaks` in Postgres: every order as its plan says, nothing left open.

use std::collections::HashMap;
use std::time::Instant;

use domain::money::parse_decimal;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Audit, AuditError, Findings, LOOK_AGAIN_AFTER, Scope};
use crate::facts::Run;
use crate::plan::{Plan, State};

/// Orders of one page. References of a run are of one length, so that they sort as their numbers do.
const PAGE: u32 = 5000;

/// An order's row, amounts in minor units.
struct Found {
    status: String,
    currency: String,
    amounts: [Option<i64>; 3],
}

impl Found {
    fn is(&self, state: &State) -> bool {
        self.status == state.status && self.amounts == [Some(state.paid), Some(state.refunded), Some(state.disputed)]
    }
}

pub async fn compare(scope: &Scope<'_>) -> Result<Audit, AuditError> {
    let run = scope.run;
    let count = u32::try_from(run.schedule.orders().len()).unwrap_or(u32::MAX);
    let mut audit = Audit::default();
    for first in (0..count).step_by(PAGE as usize) {
        let page = first..count.min(first.saturating_add(PAGE));
        loop {
            let findings = compare_page(scope, page.clone()).await?;
            if findings.count == 0 || Instant::now() > scope.patience_until {
                audit.findings.extend(findings);
                break;
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }
    audit.looked_at.insert("orders", u64::from(count));
    let [parked, breaks] = left_open(scope).await?;
    audit.findings.extend(parked);
    audit.findings.extend(breaks);
    Ok(audit)
}

async fn compare_page(scope: &Scope<'_>, numbers: std::ops::Range<u32>) -> Result<Findings, AuditError> {
    let run = scope.run;
    let rows = sqlx::query(
        "SELECT reference, status, currency, paid::text, refunded::text, disputed::text FROM orders \
         WHERE reference BETWEEN $1 AND $2 AND reference LIKE $3",
    )
    .bind(run.name.order_ref(numbers.start))
    .bind(run.name.order_ref(numbers.end.saturating_sub(1)))
    .bind(format!("{}%", run.order_prefix))
    .fetch_all(scope.pool)
    .await?;
    let found: HashMap<String, Found> = rows.iter().map(|row| read(run, row)).collect::<Result<_, _>>()?;
    let mut findings = Findings::default();
    for number in numbers {
        let reference = run.name.order_ref(number);
        match found.get(&reference) {
            Some(found) => compare_order(run, number, &reference, found, &mut findings),
            None => findings.add(|| format!("order {reference} is gone")),
        }
    }
    Ok(findings)
}

fn compare_order(run: &Run, number: u32, reference: &str, found: &Found, findings: &mut Findings) {
    let allowed = run.states(number);
    if !allowed.iter().any(|state| found.is(state)) {
        let plan = run.schedule.orders()[number as usize].plan;
        findings.add(|| {
            let expected: Vec<String> = allowed.iter().map(|state| describe(state, &found.currency)).collect();
            let [paid, refunded, disputed] = found.amounts.map(|amount| amount.unwrap_or(-1));
            format!(
                "order {reference} ({plan:?}) must be {} and is {}, paid {paid}, refunded {refunded}, disputed {disputed}",
                expected.join(" or "),
                found.status,
            )
        });
    }
}

fn describe(state: &State, currency: &str) -> String {
    let State { status, paid, refunded, disputed } = state;
    format!("{status}, paid {paid}, refunded {refunded}, disputed {disputed} minor units of {currency}")
}

fn read(run: &Run, row: &PgRow) -> Result<(String, Found), sqlx::Error> {
    let reference: String = row.try_get(0)?;
    let number = reference.strip_prefix(&run.order_prefix).and_then(|number| number.parse().ok()).unwrap_or(0);
    let exponent = run.terms(number).currency.exponent;
    // The column has four digits for every currency.
    let amount = |index: usize| Ok::<_, sqlx::Error>(parse_decimal(row.try_get::<&str, _>(index)?, exponent).ok());
    let amounts = [amount(3)?, amount(4)?, amount(5)?];
    Ok((reference, Found { status: row.try_get(1)?, currency: row.try_get(2)?, amounts }))
}

/// Parked events and open breaks of this run, but for orders of which it is unknown whether all events arrived.
async fn left_open(scope: &Scope<'_>) -> Result<[Findings; 2], AuditError> {
    let run = scope.run;
    let uncertain = |reference: &str| {
        let number = reference.strip_prefix(&run.order_prefix).and_then(|number| number.parse().ok());
        number.is_some_and(|number| run.is_uncertain(number))
    };
    let mut parked = Findings::default();
    loop {
        let rows = sqlx::query("SELECT record FROM parked_events WHERE position($1 IN record) > 0")
            .bind(run.name.as_str().as_bytes())
            .fetch_all(scope.pool)
            .await?;
        for row in rows {
            let record: &[u8] = row.try_get(0)?;
            let Some(event) = run.name.find(record) else { continue };
            let order = event.filter(|event| (*event as usize) < run.schedule.event_count());
            if !order.is_some_and(|event| run.is_uncertain(run.schedule.order_number(event))) {
                let id = event.map(|event| run.provider_event_id(&run.facts(event))).unwrap_or_default();
                parked.add(|| format!("event {id} is still parked"));
            }
        }
        if parked.count == 0 || Instant::now() > scope.patience_until {
            break;
        }
        parked = Findings::default();
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
    let mut breaks = Findings::default();
    let rows = sqlx::query("SELECT kind, subject, detail FROM breaks WHERE resolved_at IS NULL AND subject LIKE $1")
        .bind(format!("{}%", run.order_prefix))
        .fetch_all(scope.pool)
        .await?;
    for row in rows {
        let (kind, subject, detail): (&str, &str, &str) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if !uncertain(subject) {
            breaks.add(|| format!("a break is open: {kind} of order {subject}: {detail}"));
        }
    }
    Ok([parked, breaks])
}

/// Whether an order of this plan tells by its row that all of its events were applied.
pub fn tells(plan: Plan) -> bool {
    !matches!(plan, Plan::Forged | Plan::NoChange | Plan::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::tests::run;

    #[test]
    fn an_order_in_another_state_is_told() {
        let run = run();
        let order = run.schedule.orders()[0];
        assert!(order.events().all(|event| run.journal.acknowledged(event)));
        let state = run.states(0)[0];
        let found = |status: &str, paid: i64| Found {
            status: status.into(),
            currency: "EUR".into(),
            amounts: [Some(paid), Some(state.refunded), Some(state.disputed)],
        };
        let told = |found: &Found| {
            let mut findings = Findings::default();
            compare_order(&run, 0, "lt-x-00000000", found, &mut findings);
            findings.count
        };
        assert_eq!(told(&found(state.status, state.paid)), 0);
        assert_eq!(told(&found("overpaid", state.paid)), 1);
        assert_eq!(told(&found(state.status, state.paid + 1)), 1);
    }
}
