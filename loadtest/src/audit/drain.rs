//! Waiting until everything that was acknowledged has been applied: first a few of the last orders, often, because it
//! costs next to nothing; then all orders of the run in one sum.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sqlx::{PgPool, Row};

use super::orders::tells;
use crate::facts::Run;
use crate::journal::Fate;
use crate::plan::Plan;

/// How many of the orders heard of last are asked for.
const LAST: usize = 300;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const SUM_EVERY: Duration = Duration::from_millis(500);

/// Waits until all orders are as they must be; returns when they were, or `None` at the deadline. Postgres may be away
/// meanwhile.
pub async fn wait_until_drained(pool: &PgPool, run: &Run, deadline: Instant) -> Option<Instant> {
    let last = last_orders(run);
    let expected = expected_sums(run);
    let mut drained_at = None;
    while Instant::now() < deadline {
        if drained_at.is_none() {
            let settled = are_settled(pool, run, &last).await.unwrap_or(false);
            drained_at = settled.then(Instant::now);
            if !settled {
                tokio::time::sleep(LOOK_EVERY).await;
                continue;
            }
        }
        match sums(pool, run).await {
            Ok(found) if found == expected => return drained_at,
            // Something before the last orders was not there yet: what counts is when the sum is right.
            Ok(_) | Err(_) => {
                tokio::time::sleep(SUM_EVERY).await;
                drained_at = Some(Instant::now());
            }
        }
    }
    None
}

/// Whether an order counts. Those of which it is unknown whether all events arrived cannot be predicted; late ones wait
/// for the generator and not for the pipeline. The audit looks at them all.
fn counts(run: &Run, number: u32) -> bool {
    let order = &run.schedule.orders()[number as usize];
    order.plan != Plan::LateOrder && !run.is_uncertain(number)
}

/// The orders heard of last whose row must tell it.
fn last_orders(run: &Run) -> Vec<u32> {
    let telling = numbers(run).rev().filter(|number| {
        let order = &run.schedule.orders()[*number as usize];
        let heard_of = || order.events().any(|event| run.journal.fate(event) == Fate::Acknowledged);
        tells(order.plan) && counts(run, *number) && heard_of()
    });
    telling.take(LAST).collect()
}

async fn are_settled(pool: &PgPool, run: &Run, numbers: &[u32]) -> Result<bool, sqlx::Error> {
    let references: Vec<String> = numbers.iter().map(|number| run.name.order_ref(*number)).collect();
    let rows = sqlx::query("SELECT reference, status FROM orders WHERE reference = ANY ($1)")
        .bind(&references)
        .fetch_all(pool)
        .await?;
    let found: HashMap<&str, &str> =
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, sqlx::Error>>()?;
    let settled = |(number, reference): (&u32, &String)| {
        let status = found.get(reference.as_str()).copied();
        run.states(*number).iter().any(|state| Some(state.status) == status)
    };
    Ok(numbers.iter().zip(&references).all(settled))
}

/// Orders by status.
type Sums = HashMap<String, i64>;

fn numbers(run: &Run) -> std::ops::Range<u32> {
    0..u32::try_from(run.schedule.orders().len()).unwrap_or(u32::MAX)
}

fn expected_sums(run: &Run) -> Sums {
    let mut sums = Sums::new();
    for number in numbers(run).filter(|number| counts(run, *number)) {
        for state in run.states(number) {
            *sums.entry(state.status.to_owned()).or_default() += 1;
        }
    }
    sums
}

async fn sums(pool: &PgPool, run: &Run) -> Result<Sums, sqlx::Error> {
    let left_out = numbers(run).filter(|number| !counts(run, *number)).map(|number| run.name.order_ref(number));
    let rows = sqlx::query(
        "SELECT status, count(*) FROM orders \
         WHERE reference BETWEEN $1 AND $2 AND reference LIKE $3 AND NOT reference = ANY ($4) GROUP BY status",
    )
    .bind(run.name.order_ref(0))
    .bind(run.name.order_ref(numbers(run).end.saturating_sub(1)))
    .bind(format!("{}%", run.order_prefix))
    .bind(left_out.collect::<Vec<_>>())
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
