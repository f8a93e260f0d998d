//! `cargo demo`: the whole system on this machine, under load, to look at.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::layout::last_lines;
use crate::stack::PROGRAMS;
use crate::wait::{self, Deadline};
use crate::{Endpoints, Service, Stack, health, steps, sys};

const CONFIGURATION: &str = include_str!("../assets/demo.toml");
const READY_WITHIN: Duration = Duration::from_secs(60);
/// The programs with the listeners that say whether they are ready, in the order in which they start: who consumes
/// is there before anything is accepted.
const LISTENERS: [(&str, &str); 3] =
    [("writer", "127.0.0.1:8082"), ("reconciler", "127.0.0.1:8083"), ("ingest", "127.0.0.1:8081")];

/// What the command line says.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// Webhooks per second
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    rate: u32,
    /// How long the load lasts
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Load before it that is not measured: a fresh Cassandra costs two to three times as much
    #[arg(long, default_value_t = 0)]
    warm_up: u32,
    /// Forged webhooks per second beside them, from 16 addresses
    #[arg(long, default_value_t = 0)]
    flood: u32,
    /// Leave everything running afterwards; `cargo stack down` ends it
    #[arg(long)]
    keep: bool,
}

/// Starts services and programs, puts load on them, and ends what it started.
///
/// # Errors
/// When something does not start or was interrupted; a load test that fails gives its exit status instead.
pub fn run(stack: &Stack, options: Options) -> Result<ExitCode> {
    sys::catch_interrupts();
    let before = stack.running()?;
    let result = demonstrate(stack, options);
    if options.keep && result.is_ok() {
        println!(
            "\nEverything still runs: http://127.0.0.1:8083/ is its status page, `cargo stack status` lists it, `cargo stack down` ends it."
        );
        return result;
    }
    let programs = stack.stop_programs();
    let ours: Vec<Service> = stack.services().iter().copied().filter(|service| !before.contains(service)).collect();
    let services = stack.stop(&ours);
    let code = result?;
    programs.and(services)?;
    Ok(code)
}

fn demonstrate(stack: &Stack, options: Options) -> Result<ExitCode> {
    let endpoints = stack.up(stack.services())?;
    stack.progress.say("build", "cargo build --release --workspace");
    let mut build = steps::cargo(stack.layout());
    // The whole workspace, as `cargo verify` builds it: the same features, so nothing is built twice.
    build.args(["build", "--release", "--workspace"]);
    let built = steps::run(&mut build)?;
    if !built.success() {
        return Ok(steps::exit_code(built));
    }
    let programs = steps::release_dir(stack.layout())?;
    let configuration = write_configuration(stack)?;
    // Those of an earlier demo that was kept would hold the ports, and be older.
    stack.stop_programs()?;
    start_programs(stack, &programs, &configuration, &endpoints)?;

    stack.progress.say("loadtest", &format!("{} webhooks/s for {} s", options.rate, options.seconds));
    let report = stack.layout().dir.join("demo-report.json");
    let mut load = Command::new(programs.join("loadtest"));
    load.args(["run", "--rate", &options.rate.to_string(), "--seconds", &options.seconds.to_string()]);
    load.args(["--warm-up", &options.warm_up.to_string(), "--flood", &options.flood.to_string()]);
    load.arg("--config").arg(&configuration).arg("--json").arg(&report).envs(endpoints.env());
    let status = steps::run(load.current_dir(&stack.layout().workspace))?;
    print_where_to_look(stack, &endpoints, &report, options.keep);
    Ok(steps::exit_code(status))
}

/// The configuration, with its secrets beside it.
///
/// # Errors
/// When the files cannot be written.
pub fn write_configuration(stack: &Stack) -> Result<PathBuf> {
    let configuration = stack.layout().dir.join("demo.toml");
    fs::write(&configuration, CONFIGURATION)?;
    write_secrets(&stack.layout().dir.join("secrets"))?;
    Ok(configuration)
}

/// Secrets for the demo's sources, drawn once: the gateway and the load test both read them.
fn write_secrets(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (name, prefix, letters) in
        [("shop", "whsec_", &alphabet[..]), ("stripe", "whsec_", &alphabet[..62]), ("adyen", "", b"0123456789ABCDEF")]
    {
        let file = folder.join(name);
        if file.exists() {
            continue;
        }
        let mut random = [0; 64];
        fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
        let secret: String =
            random.iter().map(|byte| char::from(letters[usize::from(*byte) % letters.len()])).collect();
        fs::write(&file, format!("{prefix}{secret}\n"))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

fn start_programs(stack: &Stack, programs: &Path, configuration: &Path, endpoints: &Endpoints) -> Result<()> {
    for (name, listener) in LISTENERS {
        // Otherwise we would take the answer of a stranger for our program's.
        ensure!(health::tcp(listener).is_err(), "{name} cannot start: another program listens on {listener}; end that");
        let mut command = Command::new(programs.join(name));
        command.arg("--config").arg(configuration).envs(endpoints.env()).current_dir(&stack.layout().workspace);
        stack.start_program(name, command)?;
        stack.progress.say(name, "starting");
    }
    for (name, listener) in LISTENERS {
        wait_ready(stack, name, listener)?;
        stack.progress.say(name, &format!("ready; http://{listener}/metrics"));
    }
    Ok(())
}

fn wait_ready(stack: &Stack, name: &str, listener: &str) -> Result<()> {
    let mut runs = true;
    let ready = wait::until(&Deadline::within(READY_WITHIN), || {
        runs = stack.runs(name)?;
        if runs { health::http(listener, "/readyz", None) } else { Ok(()) }
    });
    let log = stack.layout().log(name);
    let end = || format!("the end of {}:\n{}", log.display(), last_lines(&log, 25));
    ready.with_context(|| format!("{name} did not become ready; {}", end()))?;
    ensure!(runs, "{name} ended while it started; {}", end());
    Ok(())
}

fn print_where_to_look(stack: &Stack, endpoints: &Endpoints, report: &Path, keep: bool) {
    println!("\nreport      {}", report.display());
    let logs: Vec<String> = PROGRAMS.iter().map(|name| stack.layout().log(name).display().to_string()).collect();
    println!("logs        {}", logs.join("\n            "));
    let when = if keep { "" } else { "   (with --keep, or after `cargo stack up`)" };
    println!("orders      psql {}{when}, schema demo", endpoints.postgres_url);
    println!("payments    CQL at {}, keyspace tollgate_demo", endpoints.cassandra_nodes.join(", "));
    println!("queues      {} (guest/guest)", endpoints.rabbitmq_management_url);
    println!("metrics     {}", endpoints.prometheus_url);
}
