//! What metrics, logs and traces cost: the same load on the same programs without them, with them as they are by
//! default, and with traces on top, in turns within one run.
//!
//! `cargo stack up && eval "$(cargo stack env)" && cargo bench -p it --bench overhead` runs it; BENCH_ROUNDS says how
//! often each variant has its turn (5), BENCH_RATE how many webhooks a second it gets (2,000). What is compared is the CPU time
//! a payment costs: where the machine is full, throughput is its inverse.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../it/support.rs"]
mod support;

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use it::{Setup, own_setup};
use loadtest::{Options, Report};
use platform::config::{self, Config};
use platform::telemetry::init_logs;
use support::{World, ready};
use tokio_util::sync::CancellationToken;

const PROGRAMS: [&str; 3] = ["writer", "reconciler", "ingest"];
const SECONDS: u32 = 10;
/// The load test is the collector.
const COLLECTOR: &str = "[trace]\nendpoint = \"http://127.0.0.1:8084\"\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    Bare,
    Default,
    Traced,
}

const VARIANTS: [Variant; 3] = [Variant::Bare, Variant::Default, Variant::Traced];

impl Variant {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Default => "default",
            Self::Traced => "traced",
        }
    }

    fn extra(self) -> &'static str {
        match self {
            Self::Bare => "[log]\nfilter = \"off\"\n",
            Self::Default => "",
            Self::Traced => COLLECTOR,
        }
    }
}

fn main() -> Result<()> {
    match std::env::var("OVERHEAD_PROGRAM") {
        Ok(program) => run_program(&program),
        Err(_) => runtime()?.block_on(compare()),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// This binary as one of the programs: they have no switch for metrics, and need none.
fn run_program(program: &str) -> Result<()> {
    let config = config::load(Some(std::env::var("OVERHEAD_CONFIG")?.as_ref()))?;
    if config.log.filter == "off" {
        metrics::set_global_recorder(metrics::NoopRecorder).ok().context("a recorder was there already")?;
    }
    init_logs(&config.log);
    let stop = CancellationToken::new();
    runtime()?.block_on(async {
        match program {
            "ingest" => ingest::run(config, None, stop).await.map_err(Into::into),
            "writer" => writer::run(config, stop).await.map_err(Into::into),
            "reconciler" => reconciler::run(config, stop).await.map_err(Into::into),
            other => bail!("no program {other}"),
        }
    })
}

/// Killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

fn number(name: &str, default: u32) -> Result<u32> {
    std::env::var(name).map_or(Ok(default), |text| text.parse().context(name.to_owned()))
}

async fn compare() -> Result<()> {
    let (rounds, rate) = (number("BENCH_ROUNDS", 5)?, number("BENCH_RATE", 2000)?);
    // A fresh Cassandra is slower than one that has worked for a while: the first turn does not count.
    turn(Variant::Default, rate).await?;
    let mut costs = VARIANTS.map(|variant| (variant, Vec::new(), Vec::new()));
    for round in 0..rounds {
        // Every other round backwards, so that what gets slower or faster meanwhile meets all alike.
        let order: Vec<usize> = if round % 2 == 0 { (0..3).collect() } else { (0..3).rev().collect() };
        for index in order {
            let (variant, programs, all) = &mut costs[index];
            let report = turn(*variant, rate).await?;
            let us = |name: &str| report.cpu.lines.iter().find(|line| line.process == name)?.us_per_payment;
            programs.push(PROGRAMS.iter().filter_map(|program| us(program)).sum::<f64>());
            all.push(report.cpu.us_per_payment);
            println!(
                "{:<8} programs {:6.1} µs, all {:6.1} µs a payment",
                variant.as_str(),
                programs.last().unwrap(),
                all.last().unwrap()
            );
        }
    }
    let [bare, ..] = costs.each_mut().map(|(_, programs, all)| (median(programs), median(all)));
    println!("\nmedians of {rounds} rounds of {SECONDS} s at {rate} webhooks/s");
    for (variant, programs, all) in &mut costs {
        let (programs, all) = (median(programs), median(all));
        println!(
            "{:<8} programs {programs:6.1} µs a payment ({:+.1} %), all {all:6.1} µs; costs {:+.1} % of the whole",
            variant.as_str(),
            (programs / bare.0 - 1.0) * 100.0,
            (programs - bare.0) / bare.1 * 100.0,
        );
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// One load on fresh programs of a variant.
async fn turn(variant: Variant, rate: u32) -> Result<Report> {
    let setup = own_setup(&format!("overhead_{}", variant.as_str()), variant.extra())?;
    let programs = start(&setup)?;
    let Config { ingest, writer, reconciler, .. } = &setup.config;
    for listener in [ingest.internal_listen, writer.internal_listen, reconciler.internal_listen] {
        ready(listener).await?;
    }
    let options = Options { warm_up: 2, ..Options::new(rate, SECONDS) };
    let report = loadtest::run(&setup.config, &options, CancellationToken::new()).await?;
    ensure!(report.clean, "audit: {:#?}", report.failures);
    drop(programs);
    World::new(setup.config).await?.clean().await?;
    Ok(report)
}

fn start(setup: &Setup) -> Result<Vec<Process>> {
    let file = std::env::temp_dir().join(format!("{}.toml", setup.config.rabbitmq.queue_prefix));
    std::fs::write(&file, &setup.text)?;
    let program = std::env::current_exe()?;
    let start = |name: &&str| -> Result<Process> {
        let mut command = Command::new(&program);
        command.env("OVERHEAD_PROGRAM", name).env("OVERHEAD_CONFIG", &file).envs(&setup.variables);
        // Log lines go somewhere, as in production.
        let log = std::fs::File::create(file.with_extension(name))?;
        Ok(Process(command.stdout(Stdio::null()).stderr(log).spawn()?))
    };
    PROGRAMS.iter().map(start).collect()
}
