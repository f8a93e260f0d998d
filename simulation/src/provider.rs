//! The shop and its providers: orders are inserted, requests are sent until they are answered with 2xx.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::event::shard_of;
use domain::frame::Record;
use reconciler::plan::OrderRow;

use crate::faults::Fault;
use crate::programs::Programs;
use crate::story::{Item, OrderTold, Request};
use crate::world::{World, locked};

const DAY_MS: i64 = 86_400_000;

/// Requests and orders that have not arrived yet.
#[derive(Clone, Default)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    pub fn is_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    fn done(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts all of the world's story.
pub fn begin(world: &Arc<World>, programs: &Arc<Programs>) -> Open {
    let open = Open::default();
    for request in &world.story.requests {
        open.0.fetch_add(1, Ordering::Relaxed);
        let (world, programs, open) = (Arc::clone(world), Arc::clone(programs), open.clone());
        let request = request.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(request.at_ms.into())).await;
            send_until_taken(&world, &programs, &request).await;
            if world.suffers(Fault::SentAgain) {
                send_until_taken(&world, &programs, &request).await;
            }
            open.done();
        });
    }
    for order in world.story.orders.iter().filter(|order| order.at_ms.is_some()) {
        open.0.fetch_add(1, Ordering::Relaxed);
        let (world, order, open) = (Arc::clone(world), order.clone(), open.clone());
        tokio::spawn(async move {
            insert(&world, &order).await;
            open.done();
        });
    }
    open
}

async fn insert(world: &World, order: &OrderTold) {
    tokio::time::sleep(Duration::from_millis(order.at_ms.unwrap_or_default().into())).await;
    let row = OrderRow { terms: order.terms, status: "pending".into(), amounts: [Some(0); 3] };
    locked(&world.postgres).insert_order(&order.reference, row, order.refuses);
    world.note(|| format!("shop: order {} inserted", order.reference));
}

async fn send_until_taken(world: &World, programs: &Programs, request: &Request) {
    loop {
        let records = records_of(world, request);
        let taken = match programs.gateway() {
            Some(gateway) => gateway.take(records.clone()).await,
            None => false,
        };
        world.note(|| {
            format!("provider: {} records {}", records.len(), if taken { "accepted" } else { "not accepted" })
        });
        if taken {
            let broker = locked(&world.broker);
            if records.iter().any(|(_, raw)| !broker.has_taken("write", raw)) {
                world.violate(|| "2xx for a request whose records are not durable".to_owned());
            }
            return;
        }
        let pause = world.seeded().millis(100, 1500);
        tokio::time::sleep(pause).await;
    }
}

/// The records of a request that arrives now; a provider may come again days later.
fn records_of(world: &World, request: &Request) -> Vec<(u16, Bytes)> {
    let shards = world.config.rabbitmq.shards;
    let received_at_ms = world.now_ms() + i64::from(world.seeded().within(0, 2)) * DAY_MS;
    let record = |item: &Item| match item {
        Item::Event(event) => {
            let mut event = event.clone();
            event.received_at_ms = received_at_ms;
            (event.shard(shards), Record::event(&event))
        }
        Item::Body(body) => (shard_of(body.id(), shards), Record::quarantined(body)),
        Item::Unreadable(raw) => (0, raw.clone()),
    };
    request.items.iter().map(record).collect()
}
