//! Cassandra away while load goes on: the queue takes it all, and afterwards the backlog shrinks while more arrives.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use it::{metric_sum, services_mine};
use stack::{Service, Stack};

use crate::faults::{Programs, RESIDENT_KIB_MAX, check};
use crate::overload::asked;

/// Before Cassandra goes, and for its start, which takes longer than its end, seconds.
const BESIDE: u32 = 25;

/// Payment events that were accepted, and those of them that were stored.
async fn progress(programs: &Programs) -> Result<(f64, f64)> {
    let config = programs.config();
    let (ingest, writer) = (config.ingest.internal_listen, config.writer.internal_listen);
    // In this order, so that the difference is never negative by what arrives in between.
    let stored = metric_sum(writer, "tollgate_writer_rows_total", "").await?;
    Ok((metric_sum(ingest, "tollgate_ingest_events_total", "outcome=\"accepted\"").await?, stored))
}

/// `OUTAGE_PER_SECOND=2000 OUTAGE_SECONDS=300 cargo test --release -p it outage -- --nocapture` is a longer one.
#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_cassandra_drains_at_least_as_fast_again_as_more_arrives() -> Result<()> {
    let _services = services_mine().await;
    let (per_second, seconds) = (asked("OUTAGE_PER_SECOND", 500), asked("OUTAGE_SECONDS", 15));
    let programs = Programs::start("outage").await?;
    // At twice the rate of arrival the backlog is gone after as long again as Cassandra was away.
    let load = programs.load_at(per_second, 2 * seconds + BESIDE);
    tokio::time::sleep(Duration::from_secs(4)).await;
    let gone = Instant::now();
    tokio::task::block_in_place(|| Stack::open()?.kill(Service::Cassandra))?;
    tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    tokio::task::block_in_place(|| Stack::open()?.start(Service::Cassandra))?;

    // From its first row on. Kept below what was waiting then: a little is always under way.
    let (_, before) = progress(&programs).await?;
    let (accepted, stored, start) = loop {
        let (accepted, stored) = progress(&programs).await?;
        if stored > before {
            break (accepted, stored, Instant::now());
        }
        ensure!(!load.is_finished(), "nothing was stored again before the load ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (away, waiting) = (gone.elapsed(), accepted - stored);
    let (accepted, stored, took) = loop {
        let (accepted_now, stored_now) = progress(&programs).await?;
        if accepted_now - stored_now < f64::from(per_second) {
            let took = start.elapsed().as_secs_f64();
            break (accepted_now - accepted, stored_now - stored, took);
        }
        ensure!(!load.is_finished(), "{} of {waiting} still wait when the load ended", accepted_now - stored_now);
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!(
        "nothing stored for {:.1} s, {waiting:.0} events waited; gone {took:.1} s later: {:.0}/s stored, {:.0}/s arrived",
        away.as_secs_f64(),
        stored / took,
        accepted / took
    );
    let report = load.await??;
    check(&report)?;
    ensure!(report.refused_5xx == 0, "{} refused: the queue had room", report.refused_5xx);
    ensure!(stored >= 2.0 * accepted, "{stored} stored while {accepted} arrived");
    let peak_kib = programs.resident_peak_kib()?;
    ensure!(peak_kib < RESIDENT_KIB_MAX, "a program held {peak_kib} KiB");
    programs.clean().await
}
