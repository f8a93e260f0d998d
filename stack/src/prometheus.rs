//! Prometheus: scrapes Tollgate's programs, the services and itself. The exporter of Postgres's metrics runs beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::Service;
use crate::health;
use crate::install::which;
use crate::layout::{Layout, write_atomically};
use crate::ports::Ports;

/// Between the targets of a list, inside of their quotes.
const LIST: &str = "\", \"";

/// Where the programs serve their metrics: `host:port` of their internal listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrapeTargets {
    /// The gateway.
    pub ingest: String,
    /// The writer.
    pub writer: String,
    /// The reconciler.
    pub reconciler: String,
}

impl Default for ScrapeTargets {
    fn default() -> Self {
        Self {
            ingest: "127.0.0.1:8081".to_owned(),
            writer: "127.0.0.1:8082".to_owned(),
            reconciler: "127.0.0.1:8083".to_owned(),
        }
    }
}

/// The server, where it is installed.
#[must_use]
pub fn program() -> Option<PathBuf> {
    which("prometheus")
}

/// The exporter of Postgres's metrics, where it is installed.
#[must_use]
pub fn postgres_exporter() -> Option<PathBuf> {
    which("prometheus-postgres-exporter")
}

fn configuration_file(layout: &Layout) -> PathBuf {
    layout.data("prometheus").join("prometheus.yml")
}

/// Writes the configuration; whether it is another one than before.
///
/// # Errors
/// When it cannot be written.
pub fn configure(layout: &Layout, ports: &Ports, rabbitmq: &[String], targets: &ScrapeTargets) -> Result<bool> {
    fs::create_dir_all(layout.data("prometheus"))?;
    let path = configuration_file(layout);
    let text = configuration(&layout.workspace, ports, rabbitmq, targets);
    if fs::read_to_string(&path).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    write_atomically(&path, &text)?;
    Ok(true)
}

/// The same file that compose.yaml mounts, with loopback addresses in place of the names of containers.
#[must_use]
pub fn configuration(workspace: &Path, ports: &Ports, rabbitmq: &[String], targets: &ScrapeTargets) -> String {
    let nodes = ports.nodes(&Service::CASSANDRA).iter();
    let cassandra: Vec<String> = nodes.map(|node| format!("{}:{}", node.host(), ports.cassandra_metrics)).collect();
    include_str!("../../dashboards/prometheus.yml")
        .replace("/etc/prometheus/", &format!("{}/", workspace.join("dashboards").display()))
        .replace("localhost:9090", &format!("127.0.0.1:{}", ports.prometheus))
        .replace("ingest:8081", &targets.ingest)
        .replace("writer:8082", &targets.writer)
        .replace("reconciler:8083", &targets.reconciler)
        .replace("rabbitmq:15692", &rabbitmq.join(LIST))
        .replace("cassandra:7070", &cassandra.join(LIST))
        .replace("postgres-exporter:9187", &format!("127.0.0.1:{}", ports.postgres_metrics))
}

/// The command that starts the server.
///
/// # Errors
/// When it is not installed.
pub fn command(layout: &Layout, ports: &Ports) -> Result<Command> {
    let data = layout.data("prometheus");
    let mut command = Command::new(program().context("Prometheus is not installed; install the package prometheus")?);
    command
        .current_dir(&data)
        .arg(format!("--config.file={}", configuration_file(layout).display()))
        .arg(format!("--storage.tsdb.path={}", data.join("tsdb").display()))
        .arg("--storage.tsdb.retention.time=2d")
        .arg("--storage.tsdb.retention.size=1GB")
        .arg(format!("--web.listen-address=127.0.0.1:{}", ports.prometheus))
        .arg("--log.level=warn");
    Ok(command)
}

/// The command that starts the exporter of Postgres's metrics. It waits for Postgres, and says so while that is away.
///
/// # Errors
/// When it is not installed.
pub fn exporter_command(ports: &Ports, postgres_url: &str) -> Result<Command> {
    let program = postgres_exporter();
    let program = program.context("the exporter is not installed; install the package prometheus-postgres-exporter")?;
    let mut command = Command::new(program);
    let query = if postgres_url.contains('?') { "" } else { "?sslmode=disable" };
    command
        .env("DATA_SOURCE_NAME", format!("{postgres_url}{query}"))
        .arg(format!("--web.listen-address=127.0.0.1:{}", ports.postgres_metrics))
        .arg("--log.level=error");
    Ok(command)
}

/// It has read its data and answers queries.
///
/// # Errors
/// When not.
pub fn health(ports: &Ports) -> Result<()> {
    health::http(&format!("127.0.0.1:{}", ports.prometheus), "/-/ready", None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Endpoints;

    #[test]
    fn no_name_of_a_container_is_left() {
        let targets = ScrapeTargets { ingest: "127.0.0.1:9001".to_owned(), ..ScrapeTargets::default() };
        let text = configuration(Path::new("/src"), &Ports::USUAL, &["127.0.0.1:15692".to_owned()], &targets);
        let addresses: Vec<&str> = text.lines().filter(|line| line.contains("- targets:")).collect();
        assert_eq!(addresses.len(), 8);
        assert!(addresses.iter().all(|line| line.contains("[\"127.0.0.1:")), "{addresses:?}");
        assert!(text.contains("127.0.0.1:9001"));
        assert!(text.contains("/src/dashboards/rules.yml"));
    }

    #[test]
    fn every_node_of_a_cluster_is_scraped() {
        let ports = Ports::USUAL.clustered();
        let text = configuration(
            Path::new("/src"),
            &ports,
            &Endpoints::of(&ports).rabbitmq_metrics,
            &ScrapeTargets::default(),
        );
        for port in [7070, 15692] {
            let list = format!("[\"127.0.0.1:{port}\", \"127.0.0.2:{port}\", \"127.0.0.3:{port}\"]");
            assert!(text.contains(&list), "{text}");
        }
    }
}
