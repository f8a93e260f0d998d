//! Cassandra: one node from the jars of Maven Central, on Java 17; or three that form a cluster.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::Service;
use crate::health;
use crate::install::{agent_jar, jars_dir, which};
use crate::layout::Layout;
use crate::ports::Ports;
use crate::tls::Tls;

/// What turns a careful start in a data centre into a quick one of a single node: nobody is there to wait for.
const FAST_START: [&str; 3] = [
    "-Dcassandra.ring_delay_ms=100",
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.superuser_setup_delay_ms=0",
];
const HEAP: [&str; 2] = ["-Xms2G", "-Xmx2G"];
/// Of each of three nodes.
const HEAP_IN_CLUSTER: [&str; 2] = ["-Xms512M", "-Xmx768M"];
/// Spread evenly, and given, so that all nodes can start at once: three that draw theirs must join one after another.
const TOKENS: [&str; 3] = ["-9223372036854775808", "-3074457345618258603", "3074457345618258602"];
const JVM: [&str; 8] = [
    "-Xss256k",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=300",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:+PerfDisableSharedMem",
    "-XX:StringTableSize=1000003",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
];

/// A Java 17: what Cassandra 5.0 runs on, and no newer one.
#[must_use]
pub fn java() -> Option<PathBuf> {
    let named = env::var_os("JAVA_HOME").map(PathBuf::from);
    let in_path = which("java").and_then(|java| java.canonicalize().ok());
    let in_path = in_path.and_then(|java| java.parent()?.parent().map(Path::to_owned));
    let installed = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten().map(|entry| entry.path());
    let mut homes = named.into_iter().chain(in_path).chain(installed);
    homes.find(|home| is_java_17(home)).map(|home| home.join("bin/java"))
}

/// Every Java has a file that names its version, which is read faster than `java -version` starts.
fn is_java_17(home: &Path) -> bool {
    let release = fs::read_to_string(home.join("release")).unwrap_or_default();
    release.lines().any(|line| line.starts_with("JAVA_VERSION=\"17")) && home.join("bin/java").is_file()
}

/// The command that starts the node, after its files are written.
///
/// # Errors
/// When the files cannot be written or Java is missing.
pub fn command(layout: &Layout, ports: &Ports, service: Service) -> Result<Command> {
    let java = java().context("no Java 17; install the package openjdk-17-jre-headless or set JAVA_HOME")?;
    let data = layout.data(service.name());
    let conf = data.join("conf");
    fs::create_dir_all(&conf)?;
    fs::write(conf.join("cassandra.yaml"), configuration(layout, &data, ports, service)?)?;
    fs::write(conf.join("logback.xml"), include_str!("../assets/logback.xml"))?;
    fs::write(conf.join("jvm17.args"), include_str!("../assets/jvm17.args"))?;
    // Native libraries are unpacked here at each start; a killed node leaves them behind.
    let temporary = data.join("tmp");
    if temporary.exists() {
        fs::remove_dir_all(&temporary)?;
    }
    fs::create_dir_all(&temporary)?;

    let jmx = match service {
        Service::Cassandra2 => ports.jmx_2,
        Service::Cassandra3 => ports.jmx_3,
        _ => ports.jmx,
    };
    let mut command = Command::new(java);
    command
        .current_dir(&data)
        .env_remove("JAVA_TOOL_OPTIONS")
        .env_remove("CLASSPATH")
        .arg(format!("@{}", conf.join("jvm17.args").display()))
        .args(if ports.cluster { HEAP_IN_CLUSTER } else { HEAP })
        .args(JVM)
        .args(if ports.cluster { &FAST_START[2..] } else { &FAST_START })
        .arg(format!("-Djava.io.tmpdir={}", temporary.display()))
        .arg(format!("-Dcassandra.jmx.local.port={jmx}"))
        .arg(format!(
            "-javaagent:{}={}:{}:{}",
            agent_jar(layout).display(),
            service.host(),
            ports.cassandra_metrics,
            layout.workspace.join("dashboards/cassandra-jmx.yml").display()
        ))
        .arg(format!("-Dcassandra.config=file://{}", conf.join("cassandra.yaml").display()))
        .arg(format!("-Dcassandra.storagedir={}", data.display()))
        .arg(format!("-Dcassandra.logdir={}", layout.logs().display()))
        .arg("-Dcassandra-foreground=yes")
        .arg("-cp")
        .arg(format!("{}:{}/*", conf.display(), jars_dir(layout).display()))
        .arg("org.apache.cassandra.service.CassandraDaemon");
    Ok(command)
}

fn configuration(layout: &Layout, data: &Path, ports: &Ports, service: Service) -> Result<String> {
    let secured = Tls::of(layout).map(|tls| tls.cassandra()).transpose()?.unwrap_or_default();
    let nodes = ports.nodes(&Service::CASSANDRA);
    // Everybody is a seed: whoever starts finds those that run, and nobody waits for one that does not.
    let seeds: Vec<String> = nodes.iter().map(|node| format!("{}:{}", node.host(), ports.cassandra_storage)).collect();
    let own_tokens = Service::CASSANDRA.iter().zip(TOKENS).find(|(node, _)| **node == service);
    let tokens = match own_tokens {
        Some((_, token)) if ports.cluster => format!("num_tokens: 1\ninitial_token: {token}"),
        _ => "num_tokens: 16".to_owned(),
    };
    let text = include_str!("../assets/cassandra.yaml")
        .replace("@HOST@", service.host())
        .replace("@SEEDS@", &seeds.join(","))
        .replace("@TOKENS@", &tokens)
        .replace("@DATA@", &data.display().to_string())
        .replace("@CQL_PORT@", &ports.cql.to_string())
        .replace("@STORAGE_PORT@", &ports.cassandra_storage.to_string());
    Ok(text + &secured)
}

/// CQL is answered. The node opens that port only when it is ready.
///
/// # Errors
/// When not.
pub fn health(ports: &Ports, service: Service) -> Result<()> {
    health::cql(&format!("{}:{}", service.host(), ports.cql))
}
