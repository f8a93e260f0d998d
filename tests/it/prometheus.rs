//! Prometheus as tests use it: asked, and one of a test's own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{eventually, free_ports, send};
use serde_json::Value;
use tokio::process::{Child, Command};

/// Asks Prometheus; the `data` of its answer.
pub async fn ask(prometheus: SocketAddr, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect()
    };
    let parameters: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
    let path = format!("/api/v1/{path}?{}", parameters.join("&"));
    let answer = send(prometheus, "GET", &path, &[("accept-encoding", "identity")], b"").await?;
    // It answers in chunks when there is much to say.
    let body = match answer.head.contains("transfer-encoding: chunked") {
        true => unchunked(&answer.body),
        false => answer.body,
    };
    let value: Value = serde_json::from_str(&body).with_context(|| format!("{path}: {body}"))?;
    ensure!(value["status"] == "success", "{path}: {body}");
    Ok(value["data"].clone())
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or(0);
        if size == 0 {
            break;
        }
        whole.push_str(rest.get(..size).unwrap_or_default());
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}

/// One of a test's own, with its data in a folder of its own; ended when dropped.
pub struct Prometheus {
    address: SocketAddr,
    folder: PathBuf,
    process: Child,
}

impl Prometheus {
    /// Starts it with `configuration`, in which `{rules}` stands for a file with `rules`, and waits until it answers.
    /// A value counts as current for `lookback` after its scrape.
    pub async fn start(folder: &Path, configuration: &str, rules: &str, lookback: &str) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let rules_file = folder.join("rules.yml");
        std::fs::write(&rules_file, rules)?;
        let file = folder.join("prometheus.yml");
        std::fs::write(&file, configuration.replace("{rules}", &rules_file.display().to_string()))?;
        let [address] = free_ports()?;
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--query.lookback-delta={lookback}"))
            .arg(format!("--web.listen-address={address}"))
            .stderr(std::fs::File::create(folder.join("log"))?)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start prometheus")?;
        let started = Self { address, folder: folder.to_owned(), process };
        let ready = eventually("Prometheus is ready", async || {
            let answer = send(address, "GET", "/-/ready", &[], b"").await?;
            ensure!(answer.status == 200, "{}", answer.body);
            Ok(())
        });
        let log = || std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        ready.await.with_context(log)?;
        Ok(started)
    }

    /// The values of an expression, each with its labels.
    pub async fn values(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let data = ask(self.address, "query", &[("query", expression)]).await?;
        let series = data["result"].as_array().context("no result")?.iter();
        let value = |one: &Value| Some((one["metric"].clone(), one["value"][1].as_str()?.parse().ok()?));
        Ok(series.filter_map(value).collect())
    }

    /// The alerts that fire now, as `Name{label=value}` without severity and instance.
    pub async fn firing(&self) -> Result<BTreeSet<String>> {
        let data = ask(self.address, "alerts", &[]).await?;
        let alerts = data["alerts"].as_array().context("no alerts")?.iter();
        alerts.filter(|alert| alert["state"] == "firing").map(|alert| name(&alert["labels"])).collect()
    }

    /// The alerts that have fired at any moment of the time up to now, named as by [`Self::firing`].
    pub async fn fired(&self, since: Duration) -> Result<BTreeSet<String>> {
        let range = format!("last_over_time(ALERTS{{alertstate=\"firing\"}}[{}s])", since.as_secs().max(1));
        self.values(&range).await?.iter().map(|(labels, _)| name(labels)).collect()
    }

    /// Ends it and deletes its data.
    pub async fn clean(mut self) -> Result<()> {
        self.process.kill().await?;
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

fn name(labels: &Value) -> Result<String> {
    let name = labels["alertname"].as_str().context("no name")?;
    let others = labels.as_object().context("no labels")?.iter();
    let others = others
        .filter(|(key, _)| !["__name__", "alertname", "alertstate", "severity", "instance"].contains(&key.as_str()));
    let others: Vec<_> = others.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    Ok(if others.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", others.join(",")) })
}
