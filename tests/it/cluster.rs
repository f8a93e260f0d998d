//! Two Cassandra nodes that know each other, beside the stack's one: for what a node says of another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{free_ports, send};
use stack::{Service, Stack};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::faults::signal;

/// A cluster with its data in a folder of its own; ended when dropped.
pub struct Cluster {
    /// Where each node shows its metrics.
    pub metrics: [SocketAddr; 2],
    cql: [SocketAddr; 2],
    folder: PathBuf,
    _first: Child,
    second: Option<Child>,
    /// Starts the second node once the first is up.
    starting: JoinHandle<Result<Child>>,
}

impl Cluster {
    /// Starts the first node, and the second after it. They need a minute or so to be up.
    pub fn start(folder: &Path) -> Result<Self> {
        let (metrics, cql, storage) = (free_ports()?, free_ports()?, free_ports::<2>()?);
        let [jmx_first, jmx_second] = free_ports()?;
        let mut first = node(&folder.join("first"), storage[0], storage[0], cql[0], metrics[0], jmx_first)?;
        let mut second = node(&folder.join("second"), storage[1], storage[0], cql[1], metrics[1], jmx_second)?;
        let first = first.spawn().context("cannot start Cassandra")?;
        let starting = tokio::spawn(async move {
            while TcpStream::connect(cql[0]).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            second.spawn().context("cannot start Cassandra")
        });
        Ok(Self { metrics, cql, folder: folder.to_owned(), _first: first, second: None, starting })
    }

    /// Whether both are up and say so of each other.
    pub async fn check_up(&mut self) -> Result<()> {
        if self.second.is_none() {
            ensure!(self.starting.is_finished(), "the first node starts; logs are in {}", self.folder.display());
            self.second = Some((&mut self.starting).await??);
        }
        for (cql, metrics) in self.cql.into_iter().zip(self.metrics) {
            TcpStream::connect(cql).await?;
            let text = send(metrics, "GET", "/metrics", &[], b"").await?.body;
            let says = text.lines().find(|line| line.starts_with("cassandra_nodes{state=\"Up\"")).unwrap_or_default();
            ensure!(says.ends_with(" 2.0"), "{metrics}: {says:?}; logs are in {}", self.folder.display());
        }
        Ok(())
    }

    /// Stops the second node in its tracks (`STOP`), or lets it go on (`CONT`).
    pub async fn signal_second(&self, name: &str) -> Result<()> {
        signal(self.second.as_ref().and_then(Child::id).context("it does not run")?, name).await
    }
}

/// The command that starts a node as the stack has started its own, but smaller.
fn node(
    home: &Path,
    storage: SocketAddr,
    seed: SocketAddr,
    cql: SocketAddr,
    metrics: SocketAddr,
    jmx: SocketAddr,
) -> Result<Command> {
    let stack = Stack::open()?;
    let pid = stack.pid(Service::Cassandra)?.context("the stack's Cassandra does not run")?;
    let (usual_home, home_text) = (stack.layout().data("cassandra").display().to_string(), home.display().to_string());
    let (usual_conf, conf) = (Path::new(&usual_home).join("conf"), home.join("conf"));
    std::fs::create_dir_all(&conf)?;
    std::fs::create_dir_all(home.join("tmp"))?;
    for file in ["logback.xml", "jvm17.args"] {
        std::fs::copy(usual_conf.join(file), conf.join(file))?;
    }
    let yaml = std::fs::read_to_string(usual_conf.join("cassandra.yaml"))?.replace(&usual_home, &home_text);
    let line = |line: &str| match line.split_once(": ").unwrap_or_default() {
        (key @ "cluster_name", _) => format!("{key}: two"),
        (key @ "storage_port", _) => format!("{key}: {}", storage.port()),
        (key @ "native_transport_port", _) => format!("{key}: {}", cql.port()),
        (key, _) if key.trim() == "- seeds" => format!("{key}: \"{seed}\""),
        _ => line.to_owned(),
    };
    let yaml: Vec<String> = yaml.lines().map(line).collect();
    std::fs::write(conf.join("cassandra.yaml"), yaml.join("\n"))?;

    let command_line = String::from_utf8(std::fs::read(format!("/proc/{pid}/cmdline"))?)?;
    let mut words = command_line.split('\0').filter(|word| !word.is_empty());
    let java = words.next().context("no command line")?;
    let argument = |word: &str| match word.split_once('=').unwrap_or((word, "")) {
        ("-Xms2G", _) => "-Xms256M".to_owned(),
        ("-Xmx2G", _) => "-Xmx768M".to_owned(),
        // One that starts is forgotten by the other when it is quiet for so long.
        (key @ "-Dcassandra.ring_delay_ms", _) => format!("{key}=30000"),
        (key @ "-Dcassandra.jmx.local.port", _) => format!("{key}={}", jmx.port()),
        (key @ "-Dcassandra.logdir", _) => format!("{key}={home_text}"),
        // -javaagent:JAR=HOST:PORT:FILE
        (agent, shown) if agent.starts_with("-javaagent:") => {
            format!("{agent}={metrics}:{}", shown.splitn(3, ':').nth(2).unwrap_or_default())
        }
        _ => word.replace(&usual_home, &home_text),
    };
    let log = std::fs::File::create(home.join("log"))?;
    let mut command = Command::new(java);
    command
        .args(words.map(argument))
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true);
    Ok(command)
}
