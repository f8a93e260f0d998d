//! A Postgres whose side of a connection is gone without a word.

use anyhow::{Context, Result, ensure};
use it::{Running, eventually, own_setup, services_up};
use loadtest::chaos::{Link, Proxy, Towards};
use sqlx::Row;

use crate::support::{World, ready};
use crate::writing::record;

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_postgres_that_never_comes_is_given_up_and_the_event_applied() -> Result<()> {
    let _services = services_up().await;
    let mut setup = own_setup("silent", "[reconciler]\nlock_timeout_ms = 20000")?;
    let direct = setup.config.clone();
    let url = direct.postgres.url.expose().to_owned();
    let (scheme, rest) = url.split_once('@').context("no user in the URL")?;
    let (server, database) = rest.split_once('/').context("no database in the URL")?;
    let proxy = Proxy::start(0, server.parse()?).await?;
    setup.variables.insert("TOLLGATE_POSTGRES_URL".into(), format!("{scheme}@{}/{database}", proxy.address()));
    let config = platform::config::parse("test", &setup.text, &setup.variables)?;
    let running = Running::reconciler(config.clone());
    ready(config.reconciler.internal_listen).await?;
    let world = World::new(direct).await?;
    sqlx::query("INSERT INTO orders (reference, total, currency) VALUES ('A-1', 10, 'EUR')")
        .execute(&world.postgres)
        .await?;

    // The transaction waits for the order's lock, so that its answer comes when we want it to.
    let mut shop = world.postgres.begin().await?;
    sqlx::query("SELECT FROM orders WHERE reference = 'A-1' FOR UPDATE").execute(&mut *shop).await?;
    world.publish("reconcile.0", &[&record("m1", "payment.captured", "p1", Some("A-1"), 1000, "c1")]).await?;
    let shops: i32 = sqlx::query("SELECT pg_backend_pid()").fetch_one(&mut *shop).await?.try_get(0)?;
    let waits: i32 = eventually("waits for the lock", async || {
        let waiting = "SELECT pid FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))";
        Ok(sqlx::query(waiting).bind(shops).fetch_one(&world.postgres).await?.try_get(0)?)
    })
    .await?;
    proxy.set(Link::HalfOpen(Towards::Client));
    shop.rollback().await?;
    eventually("the answer was sent", async || {
        let state = "SELECT state FROM pg_stat_activity WHERE pid = $1";
        let state: String = sqlx::query(state).bind(waits).fetch_one(&world.postgres).await?.try_get(0)?;
        ensure!(state == "idle in transaction", "{state}");
        Ok(())
    })
    .await?;
    proxy.set(Link::Whole);

    eventually("applied", async || {
        let row = sqlx::query("SELECT status FROM orders WHERE reference = 'A-1'").fetch_one(&world.postgres).await?;
        let status: String = row.try_get(0)?;
        ensure!(status == "paid", "{status}");
        Ok(())
    })
    .await?;
    running.stop().await?;
    world.clean().await
}
