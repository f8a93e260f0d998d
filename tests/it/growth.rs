//! What is pruned, and what must outlive it.

use anyhow::{Result, ensure};
use domain::{Kind, PaymentEvent, ids};
use it::{Running, eventually, own_config, services_up};
use sqlx::Row;

use crate::racing::{Draw, Expected, compare, events_of, insert_orders, publish};
use crate::support::{World, ready};

const ORDERS: u64 = 300;

async fn count(world: &World, table: &'static str) -> Result<i64> {
    let query = format!("SELECT count(*) FROM {table}");
    Ok(sqlx::query(sqlx::AssertSqlSafe(query)).fetch_one(&world.postgres).await?.try_get(0)?)
}

/// A late refund of an event's payment.
fn refund_of(event: &PaymentEvent<'static>) -> PaymentEvent<'static> {
    let key = format!("late-{}", event.provider_payment_id);
    let mut refund = PaymentEvent {
        event_id: ids::event_id("tollgate", "", &key),
        kind: Kind::Refunded,
        event_time_ms: event.event_time_ms + 60_000,
        version_ms: event.version_ms + 60_000,
        provider_event_id: key.clone().into(),
        transaction_id: Some(key.into()),
        order_ref: None,
        ..event.clone()
    };
    refund.hash_content();
    refund
}

#[tokio::test(flavor = "multi_thread")]
async fn late_duplicates_and_refunds_find_their_payments_after_the_history_was_pruned() -> Result<()> {
    let _services = services_up().await;
    let mut draw = Draw::seeded()?;
    let config = own_config("growth", "[reconciler]\nparked_poll_ms = 100")?;
    let running = Running::reconciler(config.clone());
    ready(config.reconciler.internal_listen).await?;
    let world = World::new(config.clone()).await?;
    insert_orders(&world, ORDERS).await?;
    let now_ms = platform::clock::now_ms();
    let mut events: Vec<_> = (0..ORDERS).flat_map(|order| events_of(&mut draw, order, ORDERS, now_ms)).collect();
    publish(&world, &mut draw, events.iter()).await?;
    let settled = async |events: &[PaymentEvent<'static>]| {
        let expected = Expected::of(events, ORDERS);
        eventually("all applied", async || compare(&world, &expected).await).await
    };
    settled(&events).await?;
    running.stop().await?;
    let (transitions, payments) = (count(&world, "transitions").await?, count(&world, "payments").await?);
    ensure!(transitions > 0 && payments > 0);

    // Two years pass.
    for table in ["transitions", "closed_breaks"] {
        let time = if table == "transitions" { "at" } else { "closed_at" };
        let statement = format!(
            "CREATE TABLE {table}_2020_01 PARTITION OF {table} FOR VALUES FROM ('2020-01-01Z') TO ('2020-02-01Z'); \
             UPDATE {table} SET {time} = '2020-01-15Z'"
        );
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&world.postgres).await?;
    }
    let running = Running::reconciler(config.clone());
    ready(config.reconciler.internal_listen).await?;
    assert_eq!((count(&world, "transitions").await?, count(&world, "closed_breaks").await?), (0, 0));
    assert_eq!(count(&world, "payments").await?, payments);

    publish(&world, &mut draw, events.iter()).await?;
    eventually("duplicates are taken", async || {
        ensure!(world.depth("reconcile.0").await? == 0);
        Ok(())
    })
    .await?;
    settled(&events).await?;
    assert_eq!(count(&world, "transitions").await?, 0, "a duplicate changes nothing");

    let mut refunds: Vec<_> = events.iter().map(refund_of).collect();
    refunds.sort_by_key(|refund| refund.event_id);
    refunds.dedup_by_key(|refund| refund.event_id);
    publish(&world, &mut draw, refunds.iter()).await?;
    events.extend(refunds);
    settled(&events).await?;
    running.stop().await?;
    compare(&world, &Expected::of(&events, ORDERS)).await?;
    world.clean().await
}
