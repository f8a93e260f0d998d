//! `payments` in Cassandra, the shop's view: a sample of the run's payments, each one row in its last state.

use std::time::Instant;

use domain::ids;
use futures_util::{StreamExt, TryStreamExt};
use platform::cassandra::prepare;
use scylla::statement::prepared::PreparedStatement;
use scylla::value::CqlDecimal;
use uuid::Uuid;

use super::events::minor;
use super::orders::tells;
use super::{Audit, AuditError, Findings, LOOK_AGAIN_AFTER, Scope};
use crate::facts::account;
use crate::journal::Fate;
use crate::plan::Plan;
use crate::seeded::Seeded;

/// Orders whose payments are looked up.
const SAMPLE: u32 = 1000;
const LOOKUPS_AT_ONCE: usize = 32;

/// What a payment's row must say.
struct Expected {
    payment: String,
    payment_id: Uuid,
    status: &'static str,
    order_id: Uuid,
    /// Minor units and exponent of what was captured, if it was.
    captured: Option<(i64, u8)>,
}

pub async fn compare(scope: &Scope<'_>) -> Result<Audit, AuditError> {
    let mut audit = Audit::default();
    if !scope.config.reconciler.project_payments {
        return Ok(audit);
    }
    let select = "SELECT status, amount, order_id FROM {keyspace}.payments WHERE payment_id = ?";
    let select = prepare(scope.session, &scope.config.cassandra, select).await?;
    let expected = sample(scope);
    audit.looked_at.insert("rows in payments (of 1,000 orders at most)", expected.len() as u64);
    let lookups: Vec<Option<String>> = futures_util::stream::iter(&expected)
        .map(|expected| look_up(scope, &select, expected))
        .buffer_unordered(LOOKUPS_AT_ONCE)
        .try_collect()
        .await?;
    let mut findings = Findings::default();
    lookups.into_iter().flatten().for_each(|words| findings.add(|| words));
    audit.findings = findings;
    Ok(audit)
}

/// Payments of orders whose events were all acknowledged.
fn sample(scope: &Scope<'_>) -> Vec<Expected> {
    let run = scope.run;
    let orders = run.schedule.orders();
    let count = u32::try_from(orders.len()).unwrap_or(u32::MAX);
    let mut choices = Seeded::new(run.seed ^ 0x5a3e);
    let numbers: std::collections::BTreeSet<u32> =
        if count <= SAMPLE { (0..count).collect() } else { (0..SAMPLE).map(|_| choices.below(count)).collect() };
    let complete = numbers.into_iter().filter(|number| {
        let order = &orders[*number as usize];
        tells(order.plan) && order.events().all(|event| run.journal.fate(event) == Fate::Acknowledged)
    });
    complete.flat_map(|number| expected(scope, number)).collect()
}

fn expected(scope: &Scope<'_>, number: u32) -> Vec<Expected> {
    let run = scope.run;
    let order = &run.schedule.orders()[number as usize];
    let mut payments: Vec<Expected> = Vec::new();
    for event in order.events() {
        let facts = run.facts(event);
        let payment = run.provider_payment_id(&facts);
        if payments.iter().any(|known| known.payment == payment) {
            continue;
        }
        let is_last = order.events().all(|other| run.facts(other).payment <= facts.payment);
        let status = match order.plan {
            Plan::Failed => "failed",
            Plan::FailedThenPaid if !is_last => "failed",
            Plan::Cancelled => "cancelled",
            Plan::PartialRefund => "partially_refunded",
            Plan::FullRefund => "refunded",
            Plan::Disputed => "disputed",
            _ => "captured",
        };
        let captured = !matches!(status, "failed" | "cancelled");
        payments.push(Expected {
            payment_id: ids::payment_id(facts.provider.as_str(), account(facts.provider), &payment),
            payment,
            status,
            order_id: ids::reference_id(&run.name.order_ref(number)),
            captured: captured.then_some((facts.terms.total, facts.terms.currency.exponent)),
        });
    }
    payments
}

/// What is wrong with a payment's row, in words. The view is written after the commit, so it may come a little later.
async fn look_up(
    scope: &Scope<'_>,
    select: &PreparedStatement,
    expected: &Expected,
) -> Result<Option<String>, AuditError> {
    let failed = |error: &dyn std::fmt::Display| AuditError::Read(error.to_string());
    loop {
        let result = scope.session.execute_unpaged(select, (expected.payment_id,)).await.map_err(|e| failed(&e))?;
        let rows = result.into_rows_result().map_err(|error| failed(&error))?;
        let row = rows.maybe_first_row::<(Option<String>, Option<CqlDecimal>, Option<Uuid>)>();
        let wrong = match row.map_err(|error| failed(&error))? {
            None => Some("is not there".to_owned()),
            Some((status, amount, order)) => {
                let amount = |exponent| amount.as_ref().and_then(|amount| minor(amount, exponent));
                let same = expected.captured.is_none_or(|(minor, exponent)| amount(exponent) == Some(minor))
                    && status.as_deref() == Some(expected.status)
                    && order == Some(expected.order_id);
                (!same).then(|| format!("is {status:?}, amount {:?}, order {order:?}", amount(2)))
            }
        };
        let Some(wrong) = wrong else { return Ok(None) };
        if Instant::now() > scope.patience_until {
            let Expected { payment, status, order_id, captured, .. } = expected;
            return Ok(Some(format!(
                "payment {payment} in the shop's view must be {status}, amount {captured:?}, order {order_id}, and {wrong}"
            )));
        }
        tokio::time::sleep(LOOK_AGAIN_AFTER).await;
    }
}
