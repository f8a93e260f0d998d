//! A model of Postgres: transactions that lock orders, see what is committed, and are applied as a whole or not at all.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use domain::frame::Record;
use reconciler::apply::{Applied, ApplyError};
use reconciler::plan::{Arrived, Known, OrderRow, PaymentRow, Plan};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use uuid::Uuid;

use crate::faults::Fault;
use crate::planted::Planted;
use crate::story::{BOOKS_REFUSE, EventKey, key_of};
use crate::world::{World, locked};

/// How long a transaction waits for an order's lock.
const LOCK_TIMEOUT: Duration = Duration::from_millis(500);

/// An order's row, and who holds it.
pub struct OrderHeld {
    pub row: OrderRow,
    /// Whether the shop's own constraint refuses every change.
    pub refuses: bool,
    lock: Arc<Mutex<()>>,
}

/// What is committed.
#[derive(Default)]
pub struct Postgres {
    pub orders: BTreeMap<String, OrderHeld>,
    pub payments: BTreeMap<Uuid, PaymentRow>,
    pub links: BTreeMap<Uuid, Uuid>,
    pub parked: BTreeMap<EventKey, Vec<u8>>,
    /// Events that a committed transaction merged.
    pub applied: BTreeSet<EventKey>,
    /// Down, as long as this is set.
    pub down: bool,
}

/// Whether a refused order fails the transaction, or is left as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    Fail,
    Report,
}

/// Postgres is not there.
pub fn away() -> ApplyError {
    ApplyError::Unavailable(sqlx::Error::PoolTimedOut)
}

fn refused() -> ApplyError {
    ApplyError::Refused(sqlx::Error::RowNotFound)
}

impl Postgres {
    pub fn insert_order(&mut self, reference: &str, row: OrderRow, refuses: bool) {
        self.orders.insert(reference.to_owned(), OrderHeld { row, refuses, lock: Arc::default() });
    }

    fn refuses(&self, reference: &str) -> bool {
        self.orders.get(reference).is_some_and(|held| held.refuses)
    }

    /// Whether an event is applied or parked.
    pub fn has(&self, key: EventKey) -> bool {
        self.applied.contains(&key) || self.parked.contains_key(&key)
    }

    /// What `OrdersTable::lock` locks: orders that events name, and those of the payments that they name.
    fn concerned(&self, events: &[Arrived<'_>]) -> BTreeMap<String, Arc<Mutex<()>>> {
        let named = events.iter().filter_map(|arrived| arrived.event.order_ref.as_deref());
        let ids = events.iter().map(|arrived| arrived.event.payment_id);
        let payments = ids.flat_map(|id| [Some(id), self.links.get(&id).copied()]).flatten();
        let of_payments = payments.filter_map(|id| self.payments.get(&id)).map(|row| row.order_ref.as_str());
        let references: BTreeSet<&str> = named.chain(of_payments).collect();
        let held = |reference: &str| Some((reference.to_owned(), Arc::clone(&self.orders.get(reference)?.lock)));
        references.into_iter().filter_map(held).collect()
    }

    /// Whether `parked::walk` looks at a parked event.
    pub fn may_be_merged(&self, raw: &[u8]) -> bool {
        let Ok(Record::Event(event)) = Record::decode(raw) else { return false };
        event.order_ref.as_deref().is_some_and(|reference| self.orders.contains_key(reference))
            || self.payments.contains_key(&event.payment_id)
            || self.links.contains_key(&event.payment_id)
    }

    /// Writes a plan if every row still has the version that it was read with.
    fn commit(&mut self, plan: &Plan<'_, '_>, check_versions: bool) -> Result<u64, ApplyError> {
        let version = |id: &Uuid| self.payments.get(id).map_or(0, |row| row.version);
        if check_versions && plan.payments.iter().any(|(row, expected)| version(&row.payment_id) != *expected) {
            return Err(ApplyError::Conflict);
        }
        for (row, _) in &plan.payments {
            self.payments.insert(row.payment_id, PaymentRow { in_line: true, ..row.clone() });
        }
        for (alias, payment_id) in &plan.links {
            self.links.entry(*alias).or_insert(*payment_id);
        }
        for change in &plan.orders {
            if let Some(held) = self.orders.get_mut(&change.reference) {
                if let Some(word) = &change.word {
                    held.row.status.clone_from(word);
                }
                held.row.amounts = [change.order.paid, change.order.refunded, change.order.disputed].map(Some);
            }
        }
        let before = self.parked.len();
        for arrived in &plan.parked {
            self.parked.entry(key_of(&arrived.event)).or_insert_with(|| arrived.raw.to_vec());
        }
        Ok((self.parked.len() - before) as u64)
    }
}

/// Runs one transaction at the server; `asker` is dead once its connection is gone.
pub async fn transaction(
    world: &Arc<World>,
    raws: &[Vec<u8>],
    refusals: Refusals,
    asker: &Weak<()>,
) -> Result<Applied, ApplyError> {
    let decoded = raws.iter().filter_map(|raw| match Record::decode(raw) {
        Ok(Record::Event(event)) => Some(Arrived { event, raw }),
        _ => None,
    });
    let mut events: Vec<Arrived<'_>> = decoded.collect();
    if world.is_planted(Planted::Increments) {
        // Each delivery is a transaction of its own.
        for arrived in &mut events {
            arrived.event.transaction_id = Some(format!("{}", world.seeded().next()).into());
        }
    }
    if events.iter().any(|arrived| arrived.event.provider_event_type == BOOKS_REFUSE) {
        return Err(refused());
    }
    let concerned = locked(&world.postgres).concerned(&events);
    let _locks = lock(concerned.values()).await?;
    let orders: BTreeMap<String, OrderRow> = {
        let postgres = locked(&world.postgres);
        concerned.keys().filter_map(|key| Some((key.clone(), postgres.orders.get(key)?.row.clone()))).collect()
    };
    world.pause().await;
    let ids: Vec<Uuid> = events.iter().map(|arrived| arrived.event.payment_id).collect();
    let links: HashMap<Uuid, Uuid> = {
        let postgres = locked(&world.postgres);
        ids.iter().filter_map(|id| Some((*id, *postgres.links.get(id)?))).collect()
    };
    world.pause().await;
    let payments: HashMap<Uuid, PaymentRow> = {
        let postgres = locked(&world.postgres);
        let is_read = |row: &&PaymentRow| {
            ids.contains(&row.payment_id)
                || links.values().any(|id| *id == row.payment_id)
                || orders.contains_key(&row.order_ref)
        };
        postgres.payments.values().filter(is_read).map(|row| (row.payment_id, row.clone())).collect()
    };
    world.pause().await;
    let words = &world.config.orders;
    let known = Known { payments, links, orders: &orders, examine: &[], words };
    let mut plan = Plan::of(&events, known, world.now_ms() * 1000);
    if world.suffers(Fault::Conflict) {
        return Err(ApplyError::Conflict);
    }
    let changes = plan.orders.len();
    plan.orders.retain(|change| !locked(&world.postgres).refuses(&change.reference));
    if refusals == Refusals::Fail && plan.orders.len() < changes {
        return Err(refused());
    }
    world.pause().await;
    let gone = asker.strong_count() == 0 && world.seeded().per_mille(500);
    if gone || world.suffers(Fault::Aborted) {
        return Err(away());
    }
    let transitions = plan.orders.iter().filter(|change| change.word.is_some()).count();
    let parked = locked(&world.postgres).commit(&plan, !world.is_planted(Planted::NoVersionCheck))?;
    note_commit(world, &events, &plan);
    Ok(Applied::of(plan, parked, transitions))
}

/// Nothing may be in Postgres that Cassandra does not have.
fn note_commit(world: &World, events: &[Arrived<'_>], plan: &Plan<'_, '_>) {
    world.note(|| {
        let rows = plan.payments.iter().map(|(row, _)| format!(" {}@{}", row.provider_ref, row.version));
        let merged = plan.merged.iter().filter(|merged| **merged).count();
        let [rows, parked] = [rows.collect::<String>(), plan.parked.len().to_string()];
        format!("postgres: committed, {merged} merged, {parked} parked:{rows}")
    });
    for (arrived, merged) in events.iter().zip(&plan.merged) {
        let key = key_of(&arrived.event);
        if !locked(&world.cassandra).has(key) {
            world.violate(|| format!("{} is applied and not stored", arrived.event.provider_event_id));
        }
        if *merged {
            locked(&world.postgres).applied.insert(key);
        }
    }
}

/// Locks orders in the order of their keys.
async fn lock<'l>(locks: impl Iterator<Item = &'l Arc<Mutex<()>>>) -> Result<Vec<OwnedMutexGuard<()>>, ApplyError> {
    let mut held = Vec::new();
    for lock in locks {
        let waited = timeout(LOCK_TIMEOUT, Arc::clone(lock).lock_owned()).await;
        held.push(waited.map_err(|_| ApplyError::Conflict)?);
    }
    Ok(held)
}
