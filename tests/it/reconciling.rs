//! What becomes of stored events in the reconciler.

use anyhow::{Result, ensure};
use domain::PaymentEvent;
use domain::frame::Record;
use it::{Running, eventually, own_config, services_up};
use sqlx::Row;
use uuid::Uuid;

use crate::support::{World, ready};
use crate::writing::record;

async fn reconciler(name: &str) -> Result<(World, Running)> {
    let config = own_config(name, "[reconciler]\nparked_poll_ms = 100\nparked_break_after_ms = 300")?;
    let running = Running::reconciler(config.clone());
    ready(config.reconciler.internal_listen).await?;
    Ok((World::new(config).await?, running))
}

pub async fn insert_order(world: &World, reference: &str, total: &str, currency: &str) -> Result<()> {
    sqlx::query("INSERT INTO orders (reference, total, currency) VALUES ($1, $2::numeric, $3)")
        .bind(reference)
        .bind(total)
        .bind(currency)
        .execute(&world.postgres)
        .await?;
    Ok(())
}

/// Status and amounts of an order, as text.
async fn order(world: &World, reference: &str) -> Result<(String, String, String)> {
    let row = sqlx::query(
        "SELECT status, trim_scale(paid)::text, trim_scale(refunded)::text FROM orders WHERE reference = $1",
    )
    .bind(reference)
    .fetch_one(&world.postgres)
    .await?;
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

pub async fn until_order(world: &World, reference: &str, status: &str, paid: &str, refunded: &str) -> Result<()> {
    eventually(&format!("{reference} {status}"), async || {
        let found = order(world, reference).await?;
        ensure!(found == (status.into(), paid.into(), refunded.into()), "{found:?}");
        Ok(())
    })
    .await
}

async fn count(world: &World, query: &'static str) -> Result<i64> {
    Ok(sqlx::query(query).fetch_one(&world.postgres).await?.try_get(0)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_before_their_order_wait_and_are_applied_when_it_comes() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = reconciler("parked").await?;
    let refund = record("m2", "refund.succeeded", "p1", None, 400, "re_1");
    let captured = record("m1", "payment.captured", "p1", Some("A-1"), 1000, "c1");
    // The refund first, before its payment; both before their order.
    world.publish("reconcile.0", &[&refund]).await?;
    world.publish("reconcile.0", &[&captured]).await?;
    eventually("parked, and a break", async || {
        ensure!(count(&world, "SELECT count(*) FROM parked_events").await? == 2);
        ensure!(count(&world, "SELECT count(*) FROM breaks WHERE kind = 'missing_order'").await? == 1);
        ensure!(count(&world, "SELECT count(*) FROM breaks WHERE kind = 'orphan_refund'").await? == 1);
        Ok(())
    })
    .await?;
    insert_order(&world, "A-1", "10", "EUR").await?;
    until_order(&world, "A-1", "partially_refunded", "10", "4").await?;
    eventually("nothing parked, no break", async || {
        ensure!(count(&world, "SELECT count(*) FROM parked_events").await? == 0);
        ensure!(count(&world, "SELECT count(*) FROM breaks").await? == 0);
        Ok(())
    })
    .await?;
    let view: Vec<(Uuid, String)> = eventually("the shop's view", async || {
        let rows: Vec<(Uuid, String)> = world.rows("SELECT order_id, status FROM {ks}.payments").await?;
        ensure!(rows.iter().any(|(_, status)| status == "partially_refunded"), "{rows:?}");
        Ok(rows)
    })
    .await?;
    assert_eq!(view, [(domain::ids::reference_id("A-1"), "partially_refunded".to_owned())]);
    running.stop().await?;
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_open_and_close_by_themselves() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = reconciler("breaks").await?;
    insert_order(&world, "A-1", "10", "EUR").await?;
    insert_order(&world, "A-2", "10", "USD").await?;
    world.publish("reconcile.0", &[&record("m1", "payment.captured", "p1", Some("A-1"), 600, "c1")]).await?;
    world.publish("reconcile.0", &[&record("m2", "payment.captured", "p2", Some("A-2"), 1000, "c1")]).await?;
    until_order(&world, "A-1", "partially_paid", "6", "0").await?;
    let open = async || -> Result<Vec<(String, String)>> {
        let rows = sqlx::query("SELECT kind, subject FROM breaks ORDER BY 1").fetch_all(&world.postgres).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    };
    eventually("two breaks", async || {
        let open = open().await?;
        ensure!(open == [("amount".into(), "A-1".into()), ("currency".into(), "A-2".into())], "{open:?}");
        Ok(())
    })
    .await?;
    world.publish("reconcile.0", &[&record("m3", "payment.captured", "p1", Some("A-1"), 400, "c2")]).await?;
    until_order(&world, "A-1", "paid", "10", "0").await?;
    assert_eq!(open().await?, [("currency".to_owned(), "A-2".to_owned())]);
    assert_eq!(order(&world, "A-2").await?.0, "pending");
    running.stop().await?;
    world.clean().await
}

/// An order that the shop deleted, and one that cannot be read, hold up nobody.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_lost_or_unreadable_order_wait_and_others_go_on() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = reconciler("lost").await?;
    insert_order(&world, "A-1", "10", "EUR").await?;
    insert_order(&world, "A-2", "10", "XXQ").await?;
    insert_order(&world, "A-3", "10", "EUR").await?;
    world.publish("reconcile.0", &[&record("m1", "payment.captured", "p1", Some("A-1"), 1000, "c1")]).await?;
    until_order(&world, "A-1", "paid", "10", "0").await?;
    sqlx::query("DELETE FROM orders WHERE reference = 'A-1'").execute(&world.postgres).await?;
    let refund = record("m2", "refund.succeeded", "p1", None, 400, "re_1");
    let unreadable = record("m3", "payment.captured", "p2", Some("A-2"), 1000, "c1");
    let good = record("m4", "payment.captured", "p3", Some("A-3"), 1000, "c1");
    world.publish("reconcile.0", &[&refund, &unreadable, &good]).await?;
    until_order(&world, "A-3", "paid", "10", "0").await?;
    assert_eq!(count(&world, "SELECT count(*) FROM parked_events").await?, 2);
    insert_order(&world, "A-1", "10", "EUR").await?;
    until_order(&world, "A-1", "partially_refunded", "10", "4").await?;
    sqlx::query("UPDATE orders SET currency = 'EUR' WHERE reference = 'A-2'").execute(&world.postgres).await?;
    until_order(&world, "A-2", "paid", "10", "0").await?;
    running.stop().await?;
    world.clean().await
}

/// A payment that turns out to be another order's leaves the first one right, even if the row of the other refuses.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_a_payment_leaves_is_right_even_if_the_other_refuses() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = reconciler("left").await?;
    insert_order(&world, "A-1", "10", "EUR").await?;
    insert_order(&world, "A-2", "10", "EUR").await?;
    sqlx::query("ALTER TABLE orders ADD CONSTRAINT unchanged CHECK (reference <> 'A-2' OR status = 'pending')")
        .execute(&world.postgres)
        .await?;
    world.publish("reconcile.0", &[&record("m2", "payment.captured", "p1", Some("A-1"), 1000, "c1")]).await?;
    until_order(&world, "A-1", "paid", "10", "0").await?;
    // The first event that names an order decides: this one is older, and comes late.
    let other = record("m1", "payment.captured", "p1", Some("A-2"), 1000, "c0");
    let Record::Event(event) = Record::decode(&other)? else { panic!("not an event") };
    let earlier = Record::event(&PaymentEvent { version_ms: event.version_ms - 60_000, ..event }).to_vec();
    world.publish("reconcile.0", &[&earlier]).await?;
    until_order(&world, "A-1", "pending", "0", "0").await?;
    eventually("a break about the other", async || {
        let about = "SELECT count(*) FROM breaks WHERE kind = 'status' AND subject = 'A-2'";
        ensure!(count(&world, about).await? == 1);
        Ok(())
    })
    .await?;
    assert_eq!(order(&world, "A-2").await?, ("pending".into(), "0".into(), "0".into()));
    running.stop().await?;
    world.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_used_is_told_apart_from_one_that_is_missing() -> Result<()> {
    let _services = services_up().await;
    let (world, running) = reconciler("unreadable").await?;
    let breaks = async || -> Result<Vec<String>> {
        let rows = sqlx::query("SELECT kind || ' ' || subject || ' ' || detail FROM breaks ORDER BY 1")
            .fetch_all(&world.postgres)
            .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    };
    insert_order(&world, "A-1", "5.123", "EUR").await?;
    insert_order(&world, "A-2", "5", "XYZ").await?;
    world.publish("reconcile.0", &[&record("m1", "payment.captured", "p1", Some("A-1"), 512, "c1")]).await?;
    world.publish("reconcile.0", &[&record("m2", "payment.captured", "p2", Some("A-2"), 500, "c2")]).await?;
    world.publish("reconcile.0", &[&record("m3", "payment.captured", "p3", Some("A-3"), 500, "c3")]).await?;
    eventually("each told as what it is", async || {
        let found = breaks().await?;
        let [missing, finer, unknown] = &found[..] else { anyhow::bail!("{found:?}") };
        ensure!(missing.starts_with("missing_order A-3 "), "{found:?}");
        ensure!(finer.starts_with("unreadable_order A-1 its total 5.123"), "{found:?}");
        ensure!(unknown.starts_with("unreadable_order A-2 \"XYZ\""), "{found:?}");
        Ok(())
    })
    .await?;
    sqlx::query("UPDATE orders SET total = 5.12, currency = 'EUR'").execute(&world.postgres).await?;
    until_order(&world, "A-1", "paid", "5.12", "0").await?;
    insert_order(&world, "A-3", "5", "EUR").await?;
    eventually("all closed", async || {
        let found = breaks().await?;
        ensure!(found.iter().all(|found| found.starts_with("amount ")), "{found:?}");
        Ok(())
    })
    .await?;
    running.stop().await?;
    world.clean().await
}
