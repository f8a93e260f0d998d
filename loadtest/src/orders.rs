//! The shop's side: orders are committed before the load starts, in bulk, except those that are committed late.

use std::sync::Arc;
use std::time::{Duration, Instant};

use platform::config::Postgres;
use sqlx::PgPool;
use tokio::sync::mpsc;

use crate::facts::Run;
use crate::plan::Plan;

/// Orders of one statement.
const BATCH: usize = 5000;
/// How long after its payment's acknowledgement a late order is committed.
const LATE_BY: Duration = Duration::from_secs(1);
/// How often late orders are looked at.
const LATE_EVERY: Duration = Duration::from_millis(250);

/// A small pool in the configured schema.
pub fn pool(config: &Postgres) -> Result<PgPool, sqlx::Error> {
    let config = Postgres { connections_max: 2, ..config.clone() };
    platform::postgres::pool(&config, Duration::from_secs(5))
}

/// Inserts every order that is not to be late.
pub async fn insert(pool: &PgPool, run: &Run) -> Result<(), sqlx::Error> {
    let orders = run.schedule.orders();
    let early = (0_u32..).zip(orders).filter(|(_, order)| order.plan != Plan::LateOrder);
    let numbers: Vec<u32> = early.map(|(number, _)| number).collect();
    for batch in numbers.chunks(BATCH) {
        insert_batch(pool, run, batch).await?;
    }
    Ok(())
}

async fn insert_batch(pool: &PgPool, run: &Run, numbers: &[u32]) -> Result<(), sqlx::Error> {
    let terms: Vec<_> = numbers.iter().map(|number| run.terms(*number)).collect();
    let totals = terms.iter().map(|terms| domain::money::decimal_text(terms.total, terms.currency.exponent));
    sqlx::query(
        "INSERT INTO orders (reference, user_ref, total, currency) \
         SELECT reference, user_ref, total::numeric, currency \
         FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[]) AS u (reference, user_ref, total, currency) \
         ON CONFLICT (reference) DO NOTHING",
    )
    .bind(numbers.iter().map(|number| run.name.order_ref(*number)).collect::<Vec<_>>())
    .bind(numbers.iter().map(|number| format!("u-{number}")).collect::<Vec<_>>())
    .bind(totals.collect::<Vec<_>>())
    .bind(terms.iter().map(|terms| terms.currency.code).collect::<Vec<_>>())
    .execute(pool)
    .await?;
    Ok(())
}

/// Commits late orders a second after their payment was acknowledged, until the senders of `paid` are gone; then those
/// that were never paid too. Postgres may be away meanwhile: what fails is tried again, for two minutes at the end.
pub async fn commit_late(
    pool: PgPool,
    run: Arc<Run>,
    mut paid: mpsc::UnboundedReceiver<u32>,
) -> Result<(), sqlx::Error> {
    let mut waiting: Vec<(Instant, u32)> = Vec::new();
    let mut open = true;
    while open || !waiting.is_empty() {
        let look = tokio::time::sleep(LATE_EVERY);
        tokio::pin!(look);
        while open {
            tokio::select! {
                number = paid.recv() => match number {
                    Some(number) => waiting.push((Instant::now() + LATE_BY, number)),
                    None => open = false,
                },
                () = &mut look => break,
            }
        }
        if !open {
            tokio::time::sleep(LATE_EVERY).await;
        }
        let now = Instant::now();
        let due: Vec<u32> = waiting.iter().filter(|(at, _)| *at <= now).map(|(_, number)| *number).collect();
        if !due.is_empty() && insert_batch(&pool, &run, &due).await.is_ok() {
            waiting.retain(|(at, _)| *at > now);
        }
    }
    let late = (0_u32..).zip(run.schedule.orders()).filter(|(_, order)| order.plan == Plan::LateOrder);
    let numbers: Vec<u32> = late.map(|(number, _)| number).collect();
    let deadline = Instant::now() + Duration::from_secs(120);
    for batch in numbers.chunks(BATCH) {
        while let Err(error) = insert_batch(&pool, &run, batch).await {
            if Instant::now() > deadline {
                return Err(error);
            }
            tokio::time::sleep(LATE_EVERY).await;
        }
    }
    Ok(())
}
