//! More than the stores can take: what they can take is accepted, the rest is refused for little, and it ends by itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use it::{eventually, metric_sum, services_mine};
use loadtest::Options;
use tokio_util::sync::CancellationToken;

use crate::faults::{Programs, RESIDENT_KIB_MAX};
use crate::support::management;

/// Offered beside what the stores can take.
const TIMES: u32 = 3;

/// What an environment variable says, for longer runs by hand.
pub fn asked(name: &str, usual: u32) -> u32 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Cassandra takes one batch of a writer in each of its sync windows of 10 ms: a hundred batches a second, of so many rows at
/// most. With one lane they are full.
fn configuration(per_second: u32) -> String {
    format!(
        "[rabbitmq]\nwrite_queue_bytes_max = 1048576\n[cassandra]\nlanes = 1\n[writer]\nbatches_in_flight_max = 1\nbatch_rows_max = {}\n\
         prefetch_frames = 512\n[reconciler]\nproject_payments = false\n",
        per_second / 100
    )
}

/// Rows that the writer has stored.
async fn stored(programs: &Programs) -> Result<f64> {
    metric_sum(programs.config().writer.internal_listen, "tollgate_writer_rows_total", "").await
}

/// Whether RabbitMQ has an alarm of memory or disk.
async fn alarm() -> Result<bool> {
    let nodes = management("/api/nodes").await?;
    let nodes = nodes.as_array().context("no nodes")?;
    ensure!(!nodes.is_empty(), "no nodes");
    Ok(nodes.iter().any(|node| node["mem_alarm"] == true || node["disk_free_alarm"] == true))
}

/// `OVERLOAD_PER_SECOND=2000 OVERLOAD_SECONDS=60 cargo test --release -p it overload -- --nocapture` is a
/// longer one.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_stores_can_take_is_accepted_and_the_rest_is_refused_until_it_ends() -> Result<()> {
    let _services = services_mine().await;
    let (per_second, seconds) = (asked("OVERLOAD_PER_SECOND", 500), asked("OVERLOAD_SECONDS", 12));
    let programs = Programs::start_with("overload", &configuration(per_second)).await?;
    let config = programs.config().clone();
    let patience = 600;
    let options = Options {
        expect_refusals: true,
        // Providers come again after minutes: not within this load.
        resend_after: patience,
        give_up: 2,
        drain_timeout: patience,
        ..Options::new(per_second * TIMES, seconds)
    };
    let runtime = tokio::runtime::Handle::current();
    let (ours, asked) = (config.clone(), options.clone());
    let load =
        tokio::task::spawn_blocking(move || runtime.block_on(loadtest::run(&ours, &asked, CancellationToken::new())));

    // Its second half, when the queue has long been full.
    let length = Duration::from_secs(u64::from(seconds));
    tokio::time::sleep(length / 2).await;
    let (half_at, half) = (Instant::now(), stored(&programs).await?);
    let mut alarmed = alarm().await?;
    tokio::time::sleep((length / 2).saturating_sub(half_at.elapsed())).await;
    let (end_at, end) = (Instant::now(), stored(&programs).await?);
    alarmed |= alarm().await?;
    let under_load = (end - half) / (end_at - half_at).as_secs_f64();
    let report = load.await??;
    println!("{report}");

    ensure!(report.clean, "audit: {:#?}", report.failures);
    ensure!(!alarmed, "RabbitMQ had an alarm");
    let refused = report.measured.by_status.get(&503).copied().unwrap_or(0);
    let others: Vec<_> =
        report.measured.by_status.iter().filter(|(status, _)| ![200, 401, 503].contains(*status)).collect();
    ensure!(refused > 0 && others.is_empty(), "{refused} refused; {others:?}");
    // Full, and yet it never stood still: what the queue holds is less than what the load was.
    ensure!(f64::from(u32::try_from(report.accepted)?) > half, "{} accepted, {half} at half of it", report.accepted);
    let peak_kib = programs.resident_peak_kib()?;
    ensure!(peak_kib < RESIDENT_KIB_MAX, "a program held {peak_kib} KiB");
    println!("stored while overloaded: {under_load:.0}/s; accepted: {:.0}/s", report.accepted_per_second);

    // It has drained, and nobody did anything for it.
    eventually("taken at once again", async || {
        let again = loadtest_once(&programs).await?;
        ensure!(again.refused_5xx == 0 && again.clean, "{:#?}", again.failures);
        Ok(())
    })
    .await?;
    programs.clean().await
}

async fn loadtest_once(programs: &Programs) -> Result<loadtest::Report> {
    let (config, runtime) = (programs.config().clone(), tokio::runtime::Handle::current());
    let run = move || runtime.block_on(loadtest::run(&config, &Options::new(50, 2), CancellationToken::new()));
    Ok(tokio::task::spawn_blocking(run).await??)
}
