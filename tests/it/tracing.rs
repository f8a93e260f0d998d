//! One trace from the webhook to the order, through both queues.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use it::{event_body, eventually, free_ports, send, services_up, signed};

use crate::faults::{Programs, check};

const CALLER: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_from_the_webhook_through_both_queues_to_the_order() -> Result<()> {
    let _services = services_up().await;
    let [collector] = free_ports()?;
    let extra = format!("[log]\nformat = \"json\"\n[trace]\nendpoint = \"http://{collector}\"\nper_second = 50\n");
    let programs = Programs::start_with("tracing", &extra).await?;
    let report = programs.load(5).await??;
    check(&report)?;

    // The load test was the collector.
    let traces = report.traces.context("no traces")?;
    ensure!(traces.collected > 50, "{} traces of some 250", traces.collected);
    let stages: BTreeSet<String> = traces.stages.iter().map(|s| format!("{}: {}", s.program, s.stage)).collect();
    for stage in [
        "ingest: webhook",
        "ingest: read",
        "ingest: verify",
        "ingest: publish",
        "writer: write queue",
        "writer: store",
        "writer: forward",
        "reconciler: reconcile queue",
        "reconciler: apply",
        "reconciler: view",
    ] {
        ensure!(stages.contains(stage), "{stage} is not in {stages:?}");
    }
    let slowest = traces.slowest.context("none was slowest")?;
    ensure!(slowest.stages.len() >= 10, "not its whole way: {slowest:?}");
    for program in ["ingest", "writer", "reconciler"] {
        let field = format!("\"trace_id\":\"{}\"", slowest.trace_id);
        ensure!(programs.log(program)?.contains(&field), "{program} did not log {field}");
    }

    // A caller's own trace goes on, also while nobody collects: once its turn among those of a second has come.
    let parent = format!("00-{CALLER}-00f067aa0ba902b7-01");
    let gateway = programs.config().ingest.listen;
    eventually("the caller's trace goes on", async || {
        let id = uuid::Uuid::new_v4().to_string();
        let body = event_body("payment.captured", &id, Some("traced-1"), 100, &id);
        let mut headers = signed(&id, &body);
        headers.push(("traceparent".into(), parent.clone()));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = send(gateway, "POST", "/webhooks/shop", &headers, &body).await?;
        ensure!(answer.status == 200, "{answer:?}");
        ensure!(programs.log("reconciler")?.contains(CALLER), "the reconciler has not seen it");
        Ok(())
    })
    .await?;
    eventually("a collector that is away is told, once", async || {
        for program in ["ingest", "writer", "reconciler"] {
            let told = programs.log(program)?.matches("spans are lost").count();
            ensure!(told == 1, "{program} told it {told} times");
        }
        Ok(())
    })
    .await?;
    programs.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_traced_unless_somebody_collects() -> Result<()> {
    let _services = services_up().await;
    let programs = Programs::start("untraced").await?;
    let report = programs.load(2).await??;
    check(&report)?;
    ensure!(report.traces.is_none(), "{:?}", report.traces);
    for program in ["ingest", "writer", "reconciler"] {
        ensure!(!programs.log(program)?.contains("trace_id"), "{program} logs traces");
    }
    programs.clean().await
}
