//! What operators are shown: every panel and alert asks for something that is there, and nobody from outside can make
//! more of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{eventually, free_ports, send, services_mine, services_up};
use serde_json::Value;
use stack::{ScrapeTargets, Service, Stack};

use crate::breaking::know_nothing;
use crate::faults::{Programs, check};
use crate::prometheus::ask;

/// Long enough for rates over a minute of what is scraped every ten seconds.
const LOAD_SECONDS: u32 = 50;
const METRICS_DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md");

fn prometheus() -> Result<SocketAddr> {
    let url = Stack::open()?.endpoints()?.prometheus_url;
    Ok(url.trim_start_matches("http://").trim_end_matches('/').parse()?)
}

/// Lets Prometheus scrape these programs, or the usual ones.
fn scrape(targets: ScrapeTargets) -> Result<()> {
    tokio::task::block_in_place(|| Stack::open()?.with_scrape_targets(targets).up(&[Service::Prometheus]).map(drop))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_and_alert_has_an_answer_under_load() -> Result<()> {
    let _services = services_mine().await;
    let programs = Programs::start("tollgate_watching").await?;
    let config = programs.config().clone();
    scrape(ScrapeTargets {
        ingest: config.ingest.internal_listen.to_string(),
        writer: config.writer.internal_listen.to_string(),
        reconciler: config.reconciler.internal_listen.to_string(),
    })?;
    let load = programs.load(LOAD_SECONDS);
    let prometheus = prometheus()?;
    tokio::time::sleep(Duration::from_secs(u64::from(LOAD_SECONDS) - 10)).await;
    eventually("every panel has an answer", async || {
        let mut wrong = Vec::new();
        for query in dashboards::queries() {
            let expression = query.filled("1m", "5m");
            match ask(prometheus, "query", &[("query", &expression)]).await {
                Ok(data) => {
                    let is_empty = data["result"].as_array().is_none_or(Vec::is_empty);
                    if is_empty && query.may_be_empty.is_none() {
                        wrong.push(format!("{} / {}: no answer to {expression}", query.dashboard, query.panel));
                    }
                }
                Err(error) => wrong.push(format!("{} / {}: {error:#}", query.dashboard, query.panel)),
            }
        }
        ensure!(wrong.is_empty(), "{wrong:#?}");
        Ok(())
    })
    .await?;

    let rules = ask(prometheus, "rules", &[]).await?;
    let groups = rules["groups"].as_array().context("no rules")?;
    let rules: Vec<&Value> = groups.iter().filter_map(|group| group["rules"].as_array()).flatten().collect();
    let unhealthy: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    ensure!(rules.len() > 20 && unhealthy.is_empty(), "{} rules, not healthy: {unhealthy:#?}", rules.len());
    // What was scraped before this test is down, and said to be.
    let ours = [config.ingest.internal_listen, config.writer.internal_listen, config.reconciler.internal_listen]
        .map(|internal| internal.to_string());
    let alerts = ask(prometheus, "alerts", &[]).await?;
    let is_ours = |alert: &&Value| match (alert["labels"]["job"].as_str(), alert["labels"]["instance"].as_str()) {
        (Some("ingest" | "writer" | "reconciler"), Some(instance)) => ours.iter().any(|internal| internal == instance),
        _ => true,
    };
    let firing = alerts["alerts"].as_array().context("no alerts")?.iter();
    let firing: Vec<_> = firing.filter(|alert| alert["state"] == "firing").filter(is_ours).collect();
    ensure!(firing.is_empty(), "all is well, and yet these fire: {firing:#?}");

    check(&load.await??)?;
    scrape(ScrapeTargets::default())?;
    programs.clean().await
}

async fn exposition(internal: SocketAddr) -> Result<String> {
    Ok(send(internal, "GET", "/metrics", &[], b"").await?.body)
}

/// The series of an exposition, without their values.
fn series(exposition: &str) -> BTreeSet<&str> {
    let lines = exposition.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series).collect()
}

/// A metric as docs/METRICS.md lists it.
#[derive(Default)]
struct Listed {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
    programs: BTreeSet<String>,
}

fn described(exposition: &str, program: &str, metrics: &mut BTreeMap<String, Listed>) {
    for line in exposition.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words.as_slice() {
            ["#", "TYPE", name, kind] => metrics.entry((*name).to_owned()).or_default().kind = (*kind).to_owned(),
            ["#", "HELP", name, help] => metrics.entry((*name).to_owned()).or_default().help = (*help).to_owned(),
            _ => {}
        }
    }
    for series in series(exposition) {
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let name = base.filter(|base| metrics.contains_key(*base)).unwrap_or(name);
        let entry = metrics.entry(name.to_owned()).or_default();
        entry.programs.insert(program.to_owned());
        for label in labels.split("\",").filter_map(|label| label.split_once("=\"")).map(|(label, _)| label) {
            if label != "le" {
                entry.labels.insert(label.trim_start_matches(',').to_owned());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_those_of_the_document_and_a_flood_makes_no_more() -> Result<()> {
    let _services = services_up().await;
    // Traces have a metric, too.
    let [collector] = free_ports()?;
    // And providers that are asked.
    let api = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let more = format!(
        "[trace]\nendpoint = \"http://{collector}\"\n[sources.asked]\nprovider = \"mollie-classic\"\nregion = \"eu\"\n\
         secrets = [{{ value = \"live_testsOnly\" }}]\napi_url = \"http://{}\"\n",
        api.local_addr()?
    );
    let api = tokio::spawn(know_nothing(api));
    let programs = Programs::start_with("metrics", &more).await?;
    let config = programs.config().clone();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let asked = send(config.ingest.listen, "POST", "/webhooks/asked", &form, b"id=tr_1").await?;
    ensure!(asked.status == 200, "{asked:?}");
    check(&programs.load(3).await??)?;
    let internal = config.ingest.internal_listen;
    let before = exposition(internal).await?;
    for number in 0..200 {
        let body = format!("{{\"type\":\"payment.kind{number}\"}}");
        let path = format!("/webhooks/source{number}");
        send(config.ingest.listen, "POST", &path, &[("content-type", "application/json")], body.as_bytes()).await?;
        let posted = it::post(config.ingest.listen, &format!("msg{number}"), body.as_bytes()).await?;
        ensure!(posted.status == 200, "quarantined: {posted:?}");
    }
    let after = exposition(internal).await?;
    let new: Vec<_> = series(&after).difference(&series(&before)).map(|series| (*series).to_owned()).collect();
    ensure!(new.is_empty(), "strangers made new series: {new:?}");

    let mut metrics = BTreeMap::new();
    let listeners = [
        ("ingest", internal),
        ("writer", config.writer.internal_listen),
        ("reconciler", config.reconciler.internal_listen),
    ];
    for (program, internal) in listeners {
        let text = exposition(internal).await?;
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        promtool.stdin.take().context("no input")?.write_all(text.as_bytes())?;
        let output = promtool.wait_with_output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "promtool of {program}: {said}");
        described(&text, program, &mut metrics);
    }
    let mut document = "# Metrics\n\nEvery metric of Tollgate's programs, on their internal listeners at `/metrics`. A test \
        (`tests/it/watching.rs`) fails when this list is not true; `WRITE_DOCS=1 cargo test -p it metrics` writes it anew.\n\n\
        | metric | type | labels | of | says |\n|---|---|---|---|---|\n"
        .to_owned();
    for (name, Listed { kind, help, labels, programs }) in &metrics {
        let join = |words: &BTreeSet<String>| words.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        document.push_str(&format!("| `{name}` | {kind} | {} | {} | {help} |\n", join(labels), join(programs)));
    }
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(METRICS_DOCUMENT, &document)?;
    }
    let written = std::fs::read_to_string(METRICS_DOCUMENT).unwrap_or_default();
    ensure!(written == document, "docs/METRICS.md is not true; this is:\n{document}");
    api.abort();
    programs.clean().await
}
