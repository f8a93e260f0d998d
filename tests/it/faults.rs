//! Programs and services killed under load: every accepted event is where it belongs afterwards, once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use it::{Running, Setup, eventually, own_setup, program_binary, services_mine, services_up};
use loadtest::{Options, Report};
use platform::config::Config;
use stack::{Service, Stack};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{World, ready};

const RATE: u32 = 300;
/// A program holds far less; what grows with an outage would pass it.
pub const RESIDENT_KIB_MAX: u64 = 300 * 1024;

/// The three programs as processes, with a configuration of their own.
pub struct Programs {
    pub setup: Setup,
    file: PathBuf,
    running: BTreeMap<&'static str, Child>,
}

impl Programs {
    pub async fn start(name: &str) -> Result<Self> {
        Self::start_with(name, "").await
    }

    /// With more lines in their configuration.
    pub async fn start_with(name: &str, extra: &str) -> Result<Self> {
        Self::start_as(own_setup(name, extra)?).await
    }

    /// With this configuration.
    pub async fn start_as(setup: Setup) -> Result<Self> {
        let file = std::env::temp_dir().join(format!("{}.toml", setup.config.rabbitmq.queue_prefix));
        std::fs::write(&file, &setup.text)?;
        let mut programs = Self { setup, file, running: BTreeMap::new() };
        for program in ["writer", "reconciler", "ingest"] {
            programs.spawn(program)?;
        }
        programs.ready().await?;
        Ok(programs)
    }

    pub fn config(&self) -> &Config {
        &self.setup.config
    }

    /// Starts one that does not run, with the variables that [`Self::setup`] has now.
    pub fn spawn(&mut self, program: &'static str) -> Result<()> {
        let binary = program_binary(program)?;
        let log = std::fs::File::create(self.file.with_extension(format!("{program}.log")))?;
        let child = Command::new(&binary)
            .arg("--config")
            .arg(&self.file)
            .envs(&self.setup.variables)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        self.running.insert(program, child);
        Ok(())
    }

    pub async fn ready(&self) -> Result<()> {
        let config = self.config();
        for listener in
            [config.ingest.internal_listen, config.writer.internal_listen, config.reconciler.internal_listen]
        {
            ready(listener).await?;
        }
        Ok(())
    }

    /// Ends a program with a signal, waits for its end, starts it again and waits until it is ready.
    pub async fn restart(&mut self, program: &'static str, signal: &str) -> Result<()> {
        self.end(program, signal).await?;
        self.start_again(program).await
    }

    /// Starts a program that was ended and waits until it is ready.
    pub async fn start_again(&mut self, program: &'static str) -> Result<()> {
        self.spawn(program)?;
        self.ready().await
    }

    /// Ends a program with a signal and waits for its end.
    pub async fn end(&mut self, program: &'static str, signal: &str) -> Result<()> {
        let mut child = self.running.remove(program).context("not running")?;
        self::signal(child.id().context("ended by itself")?, signal).await?;
        let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await.context("did not stop")??;
        ensure!(signal != "TERM" || status.success(), "{program} did not end well: {status}");
        Ok(())
    }

    /// Writes another configuration and tells the gateway to read it.
    pub async fn reconfigure(&self, text: &str) -> Result<()> {
        std::fs::write(&self.file, text)?;
        signal(self.pid("ingest")?, "HUP").await
    }

    pub fn pid(&self, program: &str) -> Result<u32> {
        self.running.get(program).and_then(Child::id).context("does not run")
    }

    pub fn is_running(&self, program: &str) -> bool {
        self.running.contains_key(program)
    }

    /// What a program has logged since it was started last.
    pub fn log(&self, program: &str) -> Result<String> {
        Ok(std::fs::read_to_string(self.file.with_extension(format!("{program}.log")))?)
    }

    /// The most memory that a program has ever held, KiB.
    pub fn resident_peak_kib(&self) -> Result<u64> {
        let peaks = self.running.iter().map(|(program, child)| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().context("ended")?))?;
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak")?;
            let kib: u64 = peak.trim().trim_end_matches(" kB").parse()?;
            println!("{program}: peak {kib} KiB");
            Ok(kib)
        });
        Ok(peaks.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0))
    }

    pub fn load(&self, seconds: u32) -> JoinHandle<Result<Report, loadtest::LoadError>> {
        self.load_at(RATE, seconds)
    }

    /// [`Self::load`] with another rate, a second.
    pub fn load_at(&self, rate: u32, seconds: u32) -> JoinHandle<Result<Report, loadtest::LoadError>> {
        let config = self.config().clone();
        let options = Options { give_up: 120, ..Options::new(rate, seconds) };
        let runtime = tokio::runtime::Handle::current();
        tokio::task::spawn_blocking(move || {
            runtime.block_on(loadtest::run(&config, &options, CancellationToken::new()))
        })
    }

    pub async fn clean(mut self) -> Result<()> {
        for child in self.running.values_mut() {
            child.kill().await?;
        }
        World::new(self.setup.config.clone()).await?.clean().await
    }
}

/// Sends a process a signal, such as `TERM`.
pub async fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().await?;
    ensure!(status.success(), "no process {pid}");
    Ok(())
}

pub fn check(report: &Report) -> Result<()> {
    println!("{report}");
    ensure!(report.clean, "audit: {:#?}", report.failures);
    ensure!(report.unaccepted == 0, "{} events were never accepted", report.unaccepted);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_program_may_be_stopped_or_killed_under_load() -> Result<()> {
    let _services = services_up().await;
    let mut programs = Programs::start("programs").await?;
    let load = programs.load(20);
    for signal in ["TERM", "KILL"] {
        for program in ["ingest", "writer", "reconciler"] {
            tokio::time::sleep(Duration::from_millis(700)).await;
            programs.restart(program, signal).await?;
        }
    }
    check(&load.await??)?;
    programs.clean().await
}

/// Kills a service under load, keeps it away for ten seconds, and brings it back.
async fn without(service: Service, name: &str) -> Result<Report> {
    let _services = services_mine().await;
    let programs = Programs::start(name).await?;
    let load = programs.load(20);
    tokio::time::sleep(Duration::from_secs(4)).await;
    tokio::task::block_in_place(|| Stack::open()?.kill(service))?;
    tokio::time::sleep(Duration::from_secs(10)).await;
    tokio::task::block_in_place(|| Stack::open()?.start(service))?;
    let report = load.await??;
    check(&report)?;
    let peak_kib = programs.resident_peak_kib()?;
    ensure!(peak_kib < RESIDENT_KIB_MAX, "a program held {peak_kib} KiB");
    programs.clean().await?;
    Ok(report)
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_killed_means_503_and_nothing_lost() -> Result<()> {
    let report = without(Service::Rabbitmq, "no_rabbitmq").await?;
    ensure!(report.refused_5xx > 0, "nothing can have been durable meanwhile");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn cassandra_killed_means_waiting_and_nothing_lost() -> Result<()> {
    without(Service::Cassandra, "no_cassandra").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_means_waiting_and_nothing_lost() -> Result<()> {
    without(Service::Postgres, "no_postgres").await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_accepts_and_says_nothing_is_tried_again_and_does_not_hold_up_the_end() -> Result<()> {
    let _services = services_up().await;
    let mute = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut setup = own_setup("mute", "")?;
    let url = format!("amqp://guest:guest@{}/%2f", mute.local_addr()?);
    setup.variables.insert("TOLLGATE_RABBITMQ_URL".into(), url);
    let config = platform::config::parse("test", &setup.text, &setup.variables)?;
    let running = [Running::ingest(config.clone()), Running::writer(config.clone())];
    let mut connections = Vec::new();
    // One each, and then one more of each.
    while connections.len() < 4 {
        let accepted = tokio::time::timeout(Duration::from_secs(60), mute.accept()).await;
        connections.push(accepted.context("nobody tried again")??);
    }
    let answer = it::post(config.ingest.listen, "m1", b"{}").await?;
    ensure!(answer.status == 503, "{answer:?}");
    for running in running {
        tokio::time::timeout(Duration::from_secs(20), running.stop()).await.context("did not stop")??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_whose_standard_error_is_closed_still_stops_in_good_order() -> Result<()> {
    let _services = services_up().await;
    let setup = own_setup("deaf", "")?;
    let file = std::env::temp_dir().join(format!("{}.toml", setup.config.rabbitmq.queue_prefix));
    std::fs::write(&file, &setup.text)?;
    let mut child = Command::new(program_binary("ingest")?)
        .arg("--config")
        .arg(&file)
        .envs(&setup.variables)
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    drop(child.stderr.take());
    ready(setup.config.ingest.internal_listen).await?;
    let pid = child.id().context("ended by itself")?;
    Command::new("kill").arg("-TERM").arg(pid.to_string()).status().await?;
    let status = tokio::time::timeout(Duration::from_secs(20), child.wait()).await.context("did not stop")??;
    ensure!(status.success(), "{status}");
    std::fs::remove_file(&file)?;
    World::new(setup.config).await?.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_ends_no_program() -> Result<()> {
    let _services = services_up().await;
    let mut programs = Programs::start("hangup").await?;
    for program in ["writer", "reconciler"] {
        signal(programs.pid(program)?, "HUP").await?;
        eventually(program, async || {
            ensure!(programs.log(program)?.contains("only a restart takes another configuration"), "not logged");
            Ok(())
        })
        .await?;
    }
    programs.ready().await?;
    for program in ["ingest", "writer", "reconciler"] {
        programs.end(program, "TERM").await?;
    }
    World::new(programs.setup.config.clone()).await?.clean().await
}
