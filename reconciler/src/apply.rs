//! One transaction a batch: lock, fold, write, commit; tried again in halves after a conflict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use platform::clock::now_us;
use platform::postgres::{ANSWERED_WITHIN, in_time, no_answer};
use sqlx::{Acquire, PgConnection, PgPool};
use uuid::Uuid;

use crate::breaks::{self, Break};
use crate::orders::OrdersTable;
use crate::plan::{Arrived, Known, OrderRow, PaymentRow, Plan};
use crate::sql;

/// What a committed transaction did.
#[derive(Debug, Default)]
pub struct Applied {
    /// Payments whose view is to be written.
    pub payments: Vec<PaymentRow>,
    /// Events that were new to their payment.
    pub news: usize,
    /// Payments written only because their columns said something else than their facts.
    pub mended: usize,
    /// Events newly parked.
    pub parked: u64,
    /// Changes of status.
    pub transitions: usize,
    /// Orders written: reference, the shop's word before, the word written.
    pub orders: Vec<(String, String, Option<String>)>,
    /// For each event, in order, whether it was merged.
    pub merged: Vec<bool>,
}

impl Applied {
    /// What a plan did, which was written.
    pub fn of(plan: Plan<'_, '_>, parked: u64, transitions: usize) -> Self {
        let changed = plan.payments.into_iter().map(|(row, _)| row);
        Self {
            payments: changed.chain(plan.unchanged).collect(),
            news: plan.news,
            mended: plan.mended,
            parked,
            transitions,
            orders: plan.orders.into_iter().map(|change| (change.reference, change.from_status, change.word)).collect(),
            merged: plan.merged,
        }
    }
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
            Some(code) if REFUSALS.iter().any(|class| code.starts_with(class)) || is_shops_own(code) => {
                Self::Refused(error)
            }
            _ => Self::Unavailable(error),
        }
    }
}

/// Classes of SQLSTATE that are about the values or come out of the shop's triggers (PostgreSQL, "Error Codes"): exceptions of triggers,
/// data and cardinality, integrity, changes of data by triggers, external routines, check options, PL/pgSQL.
const REFUSALS: [&str; 10] = ["09", "21", "22", "23", "27", "2F", "38", "39", "44", "P0"];

/// A code that a shop's trigger has made up: the standard leaves it classes from `5` and `I` on, and Postgres has these itself.
fn is_shops_own(code: &str) -> bool {
    let of_postgres = ["53", "54", "55", "57", "58", "72", "XX"];
    let is_free = code.starts_with(|first| matches!(first, '5'..='9' | 'I'..='Z'));
    is_free && !of_postgres.iter().any(|class| code.starts_with(class))
}

/// Postgres, and how the shop's orders lie in it.
#[derive(Clone)]
pub struct Books {
    pub pool: PgPool,
    pub orders: Arc<OrdersTable>,
}

/// What to do with an order's row that the shop's own constraints refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusals {
    /// The transaction fails: a smaller one may show which row it is.
    Fail,
    /// The row stays as it is and a break is opened; the payment is merged.
    Report,
}

impl Books {
    /// Applies events in one transaction.
    pub async fn apply(&self, events: &[Arrived<'_>]) -> Result<Applied, ApplyError> {
        self.commit(events, &[], Refusals::Fail).await
    }

    /// [`Books::apply`] for one event whose order's row may be refused.
    pub async fn apply_refused(&self, event: &Arrived<'_>) -> Result<Applied, ApplyError> {
        self.commit(std::slice::from_ref(event), &[], Refusals::Report).await
    }

    /// Brings orders in line with their payments.
    pub async fn examine(&self, orders: &[&str]) -> Result<Applied, ApplyError> {
        self.commit(&[], orders, if orders.len() == 1 { Refusals::Report } else { Refusals::Fail }).await
    }

    /// What [`Books::apply`] would do; nothing is written.
    pub async fn preview(&self, events: &[Arrived<'_>]) -> Result<Applied, ApplyError> {
        in_time(async {
            let mut tx = self.pool.begin().await?;
            let applied = self.apply_in(&mut tx, events, &[], Refusals::Fail).await?;
            tx.rollback().await?;
            Ok(applied)
        })
        .await
    }

    async fn commit(
        &self,
        events: &[Arrived<'_>],
        examine: &[&str],
        refusals: Refusals,
    ) -> Result<Applied, ApplyError> {
        let mut connection = self.pool.acquire().await?;
        let transaction = async {
            let mut tx = connection.begin().await?;
            let applied = self.apply_in(&mut tx, events, examine, refusals).await?;
            tx.commit().await?;
            Ok(applied)
        };
        match tokio::time::timeout(ANSWERED_WITHIN, transaction).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // Nobody else is to wait on it. If it was committed, the events are merged again, which changes nothing.
                drop(connection.detach());
                Err(no_answer().into())
            }
        }
    }

    async fn apply_in(
        &self,
        tx: &mut PgConnection,
        events: &[Arrived<'_>],
        examine: &[&str],
        refusals: Refusals,
    ) -> Result<Applied, ApplyError> {
        let ids: BTreeSet<Uuid> = events.iter().map(|arrived| arrived.event.payment_id).collect();
        let ids: Vec<Uuid> = ids.into_iter().collect();
        let named = events.iter().filter_map(|arrived| arrived.event.order_ref.as_deref());
        let named: BTreeSet<&str> = named.chain(examine.iter().copied()).collect();
        let named: Vec<&str> = named.into_iter().collect();

        let rows = self.orders.lock(tx, &named, &ids).await?;
        let orders = &rows.there;
        let locked: Vec<&str> = orders.keys().map(String::as_str).collect();
        // Behind the locks: a link that its writer committed meanwhile is seen, or its order is not locked here.
        let links = sql::read_links(tx, &ids).await?;
        let ids: Vec<Uuid> = ids.iter().chain(links.values()).copied().collect();
        let payments = sql::read_payments(tx, &ids, &locked).await?;
        let known = Known { payments, links, orders, examine, words: self.orders.words() };
        let mut plan = Plan::of(events, known, now_us());
        plan.breaks.extend(rows.breaks());
        if sql::write_payments(tx, &plan.payments).await? != plan.payments.len() as u64 {
            // Another transaction wrote one of them first: what was folded here lacks its events.
            return Err(ApplyError::Conflict);
        }
        sql::write_links(tx, &plan.links).await?;
        self.write_orders(tx, &mut plan, orders, refusals).await?;
        let transitions = sql::write_transitions(tx, &plan.orders).await?;
        let examined: Vec<&str> = plan.examined.iter().map(String::as_str).collect();
        breaks::write(tx, &plan.breaks, &breaks::of_orders(), &examined).await?;
        breaks::write(tx, &plan.conflicts, &[], &[]).await?;
        let parked = sql::park(tx, &plan.parked).await?;
        if let (Some((order, why)), true) = (rows.unreadable.first_key_value(), parked > 0) {
            tracing::warn!(order, why, "events wait: the shop's row of their order cannot be used");
        }
        Ok(Applied::of(plan, parked, transitions))
    }

    async fn write_orders(
        &self,
        tx: &mut PgConnection,
        plan: &mut Plan<'_, '_>,
        orders: &BTreeMap<String, OrderRow>,
        refusals: Refusals,
    ) -> Result<(), ApplyError> {
        if plan.orders.is_empty() {
            return Ok(());
        }
        if refusals == Refusals::Fail {
            return Ok(self.orders.write(tx, &plan.orders, orders).await?);
        }
        // Each by itself: an order that a payment leaves is right even if the one that it comes to refuses.
        for change in std::mem::take(&mut plan.orders) {
            let mut savepoint = tx.begin().await?;
            let written = async {
                self.orders.write(&mut savepoint, std::slice::from_ref(&change), orders).await?;
                // What would be checked only at the commit is to be refused here.
                sqlx::query("SET CONSTRAINTS ALL IMMEDIATE").execute(&mut *savepoint).await
            };
            match written.await.map(drop).map_err(ApplyError::from) {
                Ok(()) => {
                    savepoint.commit().await?;
                    plan.orders.push(change);
                }
                Err(ApplyError::Refused(error)) => {
                    savepoint.rollback().await?;
                    let said =
                        error.as_database_error().map_or_else(|| error.to_string(), |said| said.message().into());
                    plan.breaks.push(Break {
                        kind: breaks::STATUS,
                        subject: change.reference.clone(),
                        order_ref: Some(change.reference),
                        detail: format!("{} {}: {said}", breaks::ROW_REFUSES, change.order.status.as_str()),
                        ..Break::default()
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
