//! One transaction a batch: lock, fold, write, commit; tried again in halves after a conflict.

use std::collections::BTreeSet;

use platform::clock::now_us;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::plan::{Arrived, PaymentRow, Plan};
use crate::sql;

/// What a committed transaction did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Payments whose view is to be written.
    pub payments: Vec<PaymentRow>,
    /// Events merged.
    pub applied: usize,
    /// Events newly parked.
    pub parked: u64,
    /// Changes of status.
    pub transitions: usize,
    /// For each event, in order, whether it was merged.
    pub merged: Vec<bool>,
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub enum ApplyError {
    /// Others were at the same rows; a smaller batch may get through.
    Conflict,
    /// Postgres is away or not itself; the same batch later.
    Unavailable(sqlx::Error),
    /// Postgres refuses these values.
    Refused(sqlx::Error),
}

impl From<sqlx::Error> for ApplyError {
    /// The one place that says which errors are worth another try.
    fn from(error: sqlx::Error) -> Self {
        let sqlx::Error::Database(database) = &error else {
            return match error {
                sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_) => {
                    Self::Refused(error)
                }
                _ => Self::Unavailable(error),
            };
        };
        match database.code().as_deref() {
            // serialization_failure, deadlock_detected, lock_not_available
            Some("40001" | "40P01" | "55P03") => Self::Conflict,
            // data exceptions and integrity violations
            Some(code) if code.starts_with("22") || code.starts_with("23") => Self::Refused(error),
            _ => Self::Unavailable(error),
        }
    }
}

/// Applies events in one transaction.
pub async fn apply(pool: &PgPool, events: &[Arrived<'_>]) -> Result<Applied, ApplyError> {
    let mut tx = pool.begin().await?;
    let applied = apply_in(&mut tx, events).await?;
    tx.commit().await?;
    Ok(applied)
}

/// Applies events within a transaction.
async fn apply_in(tx: &mut PgConnection, events: &[Arrived<'_>]) -> Result<Applied, ApplyError> {
    let ids: BTreeSet<Uuid> = events.iter().map(|arrived| arrived.event.payment_id).collect();
    let ids: Vec<Uuid> = ids.into_iter().collect();
    let named: BTreeSet<&str> = events.iter().filter_map(|arrived| arrived.event.order_ref.as_deref()).collect();
    let named: Vec<&str> = named.into_iter().collect();

    let orders = sql::lock_orders(tx, &named, &ids).await?;
    let locked: Vec<&str> = orders.keys().map(String::as_str).collect();
    let payments = sql::read_payments(tx, &ids, &locked).await?;
    let plan = Plan::of(events, payments, &orders, now_us());
    if sql::write_payments(tx, &plan.payments).await? != plan.payments.len() as u64 {
        // Another transaction wrote one of them first: what was folded here lacks its events.
        return Err(ApplyError::Conflict);
    }
    let transitions = sql::write_orders(tx, &plan.orders, &orders).await?;
    sql::write_differences(tx, &plan.differences, &plan.examined).await?;
    let parked = sql::park(tx, &plan.parked).await?;
    let merged = events.iter().map(|event| !plan.parked.iter().any(|parked| std::ptr::eq(*parked, event))).collect();
    let changed = plan.payments.into_iter().map(|(row, _)| row);
    Ok(Applied {
        payments: changed.chain(plan.unchanged).collect(),
        applied: plan.applied.len(),
        parked,
        transitions,
        merged,
    })
}
