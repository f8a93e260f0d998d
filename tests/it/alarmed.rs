//! A RabbitMQ that takes nothing for a while: it has an alarm.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{Running, event_body, eventually, metric_sum, own_config, post, services_mine};
use platform::config::Config;
use stack::Stack;

use crate::support::{World, management, ready};

/// Ends the alarm, whatever comes of the test.
struct Mended;

impl Drop for Mended {
    fn drop(&mut self) {
        if let Err(error) = memory(&["absolute", "1GB"]) {
            println!("the alarm stays: {error:#}");
        }
    }
}

fn memory(watermark: &[&str]) -> Result<()> {
    let arguments = [&["set_vm_memory_high_watermark"], watermark].concat();
    tokio::task::block_in_place(|| Stack::open()?.rabbitmqctl(&arguments))
}

async fn status(config: &Config, id: &str) -> Result<u16> {
    let body = event_body("payment.captured", id, Some("A-1"), 1000, "c1");
    Ok(post(config.ingest.listen, id, &body).await?.status)
}

async fn errors(config: &Config, reason: &str) -> Result<f64> {
    let label = format!("reason=\"{reason}\"");
    metric_sum(config.ingest.internal_listen, "tollgate_ingest_publish_errors_total", &label).await
}

/// Connections that RabbitMQ knows, by the name that the gateway gives its own.
async fn connections() -> Result<usize> {
    let all = management("/api/connections").await?;
    let all = all.as_array().context("no list")?.clone();
    Ok(all.iter().filter(|one| one["client_properties"]["connection_name"] == "tollgate ingest").count())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_waited_out_on_one_connection() -> Result<()> {
    let _services = services_mine().await;
    let config = own_config("alarmed", "[rabbitmq]\nconfirm_timeout_ms = 300")?;
    let running = Running::ingest(config.clone());
    ready(config.ingest.internal_listen).await?;
    ensure!(status(&config, "before").await? == 200);
    let before = (errors(&config, "blocked").await?, errors(&config, "timed_out").await?);
    let mended = Mended;
    memory(&["0"])?;
    // Enough for several connections, if each frame that is not confirmed were a reason for one.
    let mut refused = 0;
    eventually("it refuses", async || {
        let answer = status(&config, "meanwhile").await?;
        ensure!(answer == 503, "{answer}");
        refused += 1;
        ensure!(refused >= 150, "{refused} refused");
        Ok(())
    })
    .await?;
    let blocked = errors(&config, "blocked").await? - before.0;
    let timed_out = errors(&config, "timed_out").await? - before.1;
    ensure!(blocked >= 1.0 && timed_out == 0.0, "{blocked} frames met the alarm, {timed_out} were sent in vain");
    let open = connections().await?;
    ensure!(open <= 1, "{open} connections");
    drop(mended);
    eventually("taken again", async || {
        let answer = status(&config, "after").await?;
        ensure!(answer == 200, "{answer}");
        Ok(())
    })
    .await?;
    tokio::time::timeout(Duration::from_secs(20), running.stop()).await.context("did not stop")??;
    World::new(config).await?.clean().await
}
