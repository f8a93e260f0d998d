//! The models of both databases as the reconciler uses them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use domain::PaymentEvent;
use domain::fold::Payment;
use platform::dead_letters::DeadLetters;
use platform::retry::{Backoff, Stopped};
use reconciler::apply::{Applied, ApplyError};
use reconciler::metrics::Metrics;
use reconciler::plan::{Arrived, PaymentRow};
use reconciler::stores::{Parked, Stores};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cassandra::SimTables;
use crate::postgres::{Postgres, Refusals, away, transaction};
use crate::story::{EventKey, key_of};
use crate::world::{World, locked};

/// How long a connection that says nothing is waited for.
const WAIT: Duration = Duration::from_secs(5);
/// Parked events of one page: few, so that there are several.
const PAGE: usize = 4;

/// A reconciler's connections.
#[derive(Clone)]
pub struct SimStores {
    pub world: Arc<World>,
    pub dead_letters: Arc<DeadLetters<SimTables>>,
}

impl SimStores {
    async fn run(&self, events: &[Arrived<'_>], refusals: Refusals) -> Result<Applied, ApplyError> {
        let raws: Vec<Vec<u8>> = events.iter().map(|arrived| arrived.raw.to_vec()).collect();
        let serve =
            move |world: Arc<World>, asker: Weak<()>| async move { transaction(&world, &raws, refusals, &asker).await };
        self.query(serve).await?
    }

    async fn query<T, F>(&self, serve: impl FnOnce(Arc<World>, Weak<()>) -> F + Send + 'static) -> Result<T, ApplyError>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        if locked(&self.world.postgres).down {
            self.world.pause().await;
            return Err(away());
        }
        self.world.call(WAIT, serve).await.ok_or_else(away)
    }

    async fn statement<T: Send + 'static>(
        &self,
        serve: impl FnOnce(&mut Postgres) -> T + Send + 'static,
    ) -> Result<T, ApplyError> {
        self.query(|world, _| async move { serve(&mut locked(&world.postgres)) }).await
    }
}

impl Stores for SimStores {
    async fn apply(&self, events: &[Arrived<'_>]) -> Result<Applied, ApplyError> {
        self.run(events, Refusals::Fail).await
    }

    async fn apply_refused(&self, event: &Arrived<'_>) -> Result<Applied, ApplyError> {
        self.run(std::slice::from_ref(event), Refusals::Report).await
    }

    async fn write_view(&self, payments: &[PaymentRow], give_up: &CancellationToken) -> Result<bool, Stopped> {
        for row in payments {
            let payment = Payment::of(&row.facts);
            let (id, written) = (row.payment_id, (row.version, payment.shop_status(), payment.shop_amount()));
            let mut backoff = Backoff::for_services();
            loop {
                let write = move |cassandra: &mut crate::cassandra::Cassandra| {
                    let there = cassandra.view.entry(id).or_insert(written);
                    *there = written.max(*there);
                };
                if self.world.cassandra_call("view written", write).await.is_ok() {
                    break;
                }
                backoff.pause(give_up).await?;
            }
        }
        Ok(true)
    }

    async fn dead_letter(
        &self,
        origin: &str,
        records: &[(&[u8], String)],
        give_up: &CancellationToken,
    ) -> Result<(), Stopped> {
        self.dead_letters.store_all(origin, records, give_up).await
    }

    async fn parked(&self, after: &(Uuid, Vec<u8>)) -> Result<Vec<Parked>, ApplyError> {
        let after = after.clone();
        let select = move |postgres: &mut Postgres| -> Vec<Parked> {
            let behind = postgres.parked.iter().filter(|((id, hash), _)| (*id, &hash[..]) > (after.0, &after.1[..]));
            let known = behind.filter(|(_, raw)| postgres.may_be_merged(raw));
            known.take(PAGE).map(|((id, hash), raw)| (*id, hash.to_vec(), raw.clone())).collect()
        };
        self.statement(select).await
    }

    async fn park(&self, event: &Arrived<'_>) -> Result<(), ApplyError> {
        let (key, raw) = (key_of(&event.event), event.raw.to_vec());
        let insert = move |postgres: &mut Postgres| {
            postgres.parked.entry(key).or_insert(raw);
        };
        self.statement(insert).await
    }

    async fn unpark(&self, events: &[&PaymentEvent<'_>]) -> Result<(), ApplyError> {
        let keys: Vec<EventKey> = events.iter().map(|event| key_of(event)).collect();
        let delete = move |postgres: &mut Postgres| keys.iter().for_each(|key| drop(postgres.parked.remove(key)));
        self.statement(delete).await
    }

    async fn report(&self, _: &Metrics, _: i64) -> Result<(), ApplyError> {
        Ok(())
    }
}
