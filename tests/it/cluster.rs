//! Two Cassandra nodes that know each other, beside the stack's one: for what a node says of another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use it::{free_ports, send};
use stack::{Service, Stack};
use tokio::process::{Child, Command};

use crate::faults::signal;

/// A cluster with its data in a folder of its own; ended when dropped.
pub struct Cluster {
    /// Where each node shows its metrics.
    pub metrics: [SocketAddr; 2],
    nodes: Vec<Child>,
    folder: PathBuf,
}

impl Cluster {
    /// Starts both, as the stack has started its own but smaller. They need a minute or so to be up.
    pub fn start(folder: &Path) -> Result<Self> {
        let stack = Stack::open()?;
        let pid = stack.pid(Service::Cassandra)?.context("the stack's Cassandra does not run")?;
        let usual = std::fs::read(format!("/proc/{pid}/cmdline"))?;
        let usual: Vec<String> =
            usual.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
        let data = stack.layout().data("cassandra");
        let storage = free_ports::<2>()?;
        let metrics = free_ports::<2>()?;
        let mut nodes = Vec::new();
        for (storage_port, metrics) in storage.map(|address| address.port()).into_iter().zip(metrics) {
            let home = folder.join(format!("cassandra-{storage_port}"));
            let conf = home.join("conf");
            std::fs::create_dir_all(&conf)?;
            std::fs::create_dir_all(home.join("tmp"))?;
            for file in ["logback.xml", "jvm17.args"] {
                std::fs::copy(data.join("conf").join(file), conf.join(file))?;
            }
            let [cql, jmx] = free_ports()?;
            let seeds = format!("{},{}", storage[0], storage[1]);
            let yaml = std::fs::read_to_string(data.join("conf/cassandra.yaml"))?;
            let yaml: Vec<String> = yaml
                .replace(&data.display().to_string(), &home.display().to_string())
                .lines()
                .map(|line| match line.split_once(": ").unwrap_or_default() {
                    ("cluster_name", _) => "cluster_name: two".to_owned(),
                    ("storage_port", _) => format!("storage_port: {storage_port}"),
                    ("native_transport_port", _) => format!("native_transport_port: {}", cql.port()),
                    (key, _) if key.trim() == "- seeds" => format!("{key}: \"{seeds}\""),
                    _ => line.to_owned(),
                })
                .collect();
            std::fs::write(conf.join("cassandra.yaml"), yaml.join("\n"))?;

            let own = |word: &String| match word.split_once('=').unwrap_or((word, "")) {
                ("-Xms2G", _) => "-Xms256M".to_owned(),
                ("-Xmx2G", _) => "-Xmx768M".to_owned(),
                // One node forgets another that is quiet for so long while it starts.
                (key @ "-Dcassandra.ring_delay_ms", _) => format!("{key}=10000"),
                (key @ "-Dcassandra.jmx.local.port", _) => format!("{key}={}", jmx.port()),
                (key @ "-Dcassandra.logdir", _) => format!("{key}={}", home.display()),
                (agent, shown) if agent.starts_with("-javaagent:") => {
                    let config = shown.splitn(3, ':').nth(2).unwrap_or_default();
                    format!("{agent}={metrics}:{config}")
                }
                _ => word.replace(&data.display().to_string(), &home.display().to_string()),
            };
            let words: Vec<String> = usual.iter().filter(|word| !word.is_empty()).map(own).collect();
            let (java, arguments) = words.split_first().context("no command line")?;
            let log = std::fs::File::create(home.join("log"))?;
            // There is time: others come first.
            let node = Command::new("nice")
                .arg(java)
                .args(arguments)
                .current_dir(&home)
                .stdout(log.try_clone()?)
                .stderr(log)
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("cannot start {java}"))?;
            nodes.push(node);
        }
        Ok(Self { metrics, nodes, folder: folder.to_owned() })
    }

    /// Whether the first node says that so many of both are up.
    pub async fn check_up(&self, count: u32) -> Result<()> {
        let text = send(self.metrics[0], "GET", "/metrics", &[], b"").await?.body;
        let says = text.lines().find(|line| line.starts_with("cassandra_nodes{state=\"Up\"")).unwrap_or_default();
        let logs = self.folder.display();
        ensure!(says.ends_with(&format!(" {count}.0")), "{says:?} instead of {count}; logs are in {logs}");
        Ok(())
    }

    /// Stops the second node in its tracks (`STOP`), or lets it go on (`CONT`).
    pub async fn signal_second(&self, name: &str) -> Result<()> {
        let node = self.nodes.get(1).and_then(Child::id).context("it has ended")?;
        signal(node, name).await
    }
}
