//! Installs what a service needs and is missing: Debian packages by apt, Cassandra's jars by Maven.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::layout::{Layout, last_lines};
use crate::progress::Progress;
use crate::{Service, cassandra, postgres, prometheus, rabbitmq, sys};

/// The versions of Cassandra and of the agent for its metrics; the same as in `assets/cassandra-pom.xml`.
const CASSANDRA: &str = "cassandra-5.0.6-jmx-1.0.1";
const AGENT: &str = "jmx_prometheus_javaagent-1.0.1.jar";
/// Fixed, so that a Maven of any age does the same.
const COPY_DEPENDENCIES: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";
const POLICY: &str = "/usr/sbin/policy-rc.d";
const POLICY_TEXT: &str = "#!/bin/sh\n# Written by Tollgate's `stack` for the time of one installation.\nexit 101\n";

/// A program in the search path.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

/// Installs the packages that `services` need, all in one go.
///
/// # Errors
/// When they cannot be installed here, with what to install by hand.
pub fn packages(layout: &Layout, progress: &Progress, services: &[Service]) -> Result<()> {
    let mut services: Vec<Service> = services.iter().map(|service| service.first_node()).collect();
    services.dedup();
    let missing: Vec<&str> = services.iter().flat_map(|service| missing(layout, *service)).collect();
    let variables = services.iter().map(|service| service.variable()).collect::<Vec<_>>().join(", ");
    debian(layout, progress, &missing, &format!(", or give the address of a running service: {variables}"))
}

/// Installs what only tests need: the browser that they open the status page with, and the cache of a shop.
///
/// # Errors
/// When it cannot be installed here, with what to install by hand.
pub fn for_tests(layout: &Layout, progress: &Progress) -> Result<()> {
    let needed = [("chromium", "chromium"), ("chromedriver", "chromium-driver"), ("redis-server", "redis-server")];
    let missing: Vec<&str> =
        needed.iter().filter(|(program, _)| which(program).is_none()).map(|(_, package)| *package).collect();
    debian(layout, progress, &missing, "")
}

/// Installs Debian packages; `or_else` says what else helps where that cannot be done.
///
/// # Errors
/// When they cannot be installed here, with what to install by hand.
pub fn debian(layout: &Layout, progress: &Progress, missing: &[&str], or_else: &str) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    ensure!(
        sys::is_root() && Path::new("/etc/debian_version").exists() && which("apt-get").is_some(),
        "these are missing: {list}. They install by themselves as root on Debian or Ubuntu only; elsewhere install \
         them by hand (names of Debian's packages; on those: sudo apt-get install {list}){or_else}"
    );
    let log = layout.log("install");
    progress.say("install", &format!("apt-get install {list} (log: {})", log.display()));
    let _quiet = NoAutostart::new()?;
    run(Command::new("apt-get").args(["-o", "DPkg::Lock::Timeout=300", "update"]), &log)?;
    let mut install = Command::new("apt-get");
    install.args(["-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends"]).args(missing);
    run(&mut install, &log)
}

fn missing(layout: &Layout, service: Service) -> Vec<&'static str> {
    match service {
        Service::Rabbitmq if !rabbitmq::is_installed() => vec!["rabbitmq-server"],
        Service::Postgres if postgres::program("postgres").is_none() => vec!["postgresql"],
        Service::Prometheus => {
            let server = prometheus::program().is_none().then_some("prometheus");
            let exporter = prometheus::postgres_exporter().is_none().then_some("prometheus-postgres-exporter");
            server.into_iter().chain(exporter).collect()
        }
        Service::Cassandra => {
            let java = cassandra::java().is_none().then_some("openjdk-17-jre-headless");
            let maven = (!jars_dir(layout).exists() && which("mvn").is_none()).then_some("maven");
            java.into_iter().chain(maven).collect()
        }
        _ => vec![],
    }
}

/// The packages' own services would start on installation and take the usual ports. Debian asks this file first.
struct NoAutostart {
    ours: bool,
}

impl NoAutostart {
    fn new() -> Result<Self> {
        let path = Path::new(POLICY);
        // One of ours that is left over from a command that was killed counts as ours again.
        let ours = !path.exists() || fs::read_to_string(path).is_ok_and(|text| text == POLICY_TEXT);
        if ours {
            fs::write(path, POLICY_TEXT).with_context(|| format!("cannot write {POLICY}"))?;
            let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(path, executable)?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoAutostart {
    fn drop(&mut self) {
        if self.ours {
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Where Cassandra's jars are. The folder gets this name only when it is complete.
#[must_use]
pub fn jars_dir(layout: &Layout) -> PathBuf {
    layout.downloads.join(CASSANDRA)
}

/// The Java agent that shows Cassandra's metrics to Prometheus.
#[must_use]
pub fn agent_jar(layout: &Layout) -> PathBuf {
    jars_dir(layout).join(AGENT)
}

/// Fetches Cassandra's jars, once.
///
/// # Errors
/// When Maven cannot fetch them, with the end of its output.
pub fn jars(layout: &Layout, progress: &Progress) -> Result<PathBuf> {
    let dir = jars_dir(layout);
    if dir.exists() {
        return Ok(dir);
    }
    let log = layout.log("maven");
    progress.say("cassandra", &format!("fetching its jars with Maven, 66 MB (log: {})", log.display()));
    let partial = layout.downloads.join(format!("{CASSANDRA}.partial"));
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    fs::create_dir_all(&partial)?;
    let pom = layout.downloads.join("pom.xml");
    fs::write(&pom, include_str!("../assets/cassandra-pom.xml"))?;
    let mut maven = Command::new("mvn");
    maven.args(["-B", "-ntp", "-f"]).arg(&pom).arg(COPY_DEPENDENCIES).arg("-DincludeScope=runtime");
    maven.arg(format!("-DoutputDirectory={}", partial.display()));
    run(&mut maven, &log)?;
    fs::rename(&partial, &dir)?;
    Ok(dir)
}

/// Runs a command to its end with its output in a log file.
///
/// # Errors
/// When it cannot be started or fails, with the end of the log.
pub fn run(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::options().create(true).append(true).open(log);
    let file = file.with_context(|| format!("cannot open {}", log.display()))?;
    let name = command.get_program().display().to_string();
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status}). The end of {}:\n{}", log.display(), last_lines(log, 20));
    }
    Ok(())
}
