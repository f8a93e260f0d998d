//! `simulation`: runs schedules, and replays one.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use serde_json::json;
use simulation::{Planted, RunError, run};

/// Runs Tollgate's deciding parts against models of its services, each schedule from a seed.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  simulation run --schedules 10000\n  simulation run --schedules 1000000 --seed 7 --json\n  \
                  simulation replay 4711\n  simulation replay 4711 --planted increments\n\nExit codes: 0 all schedules kept \
                  the contract, 1 one broke it (its seed is printed), 2 wrong usage, 3 it could not run."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs schedules with seeds that count up; ends at the first that breaks the contract.
    Run {
        /// How many.
        #[arg(long, default_value_t = 10_000)]
        schedules: u64,
        /// The first one's seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Prints one JSON object instead of words.
        #[arg(long)]
        json: bool,
        /// Puts a bug in, which is to be found.
        #[arg(long)]
        planted: Option<Planted>,
    },
    /// Runs one schedule and prints everything that happens in it.
    Replay {
        /// Its seed.
        seed: u64,
        /// The bug that was put in when it was found.
        #[arg(long)]
        planted: Option<Planted>,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run { schedules, seed, json, planted } => run_all(schedules, seed, json, planted),
        Command::Replay { seed, planted } => replay(seed, planted),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("simulation: {error}");
            ExitCode::from(3)
        }
    }
}

fn run_all(schedules: u64, first: u64, as_json: bool, planted: Option<Planted>) -> Result<bool, RunError> {
    let begun = Instant::now();
    let mut told = begun;
    let (mut done, mut events) = (0, 0);
    let mut failed = None;
    for seed in first..first.saturating_add(schedules) {
        let outcome = run(seed, planted, false)?;
        done += 1;
        events += outcome.events;
        if told.elapsed().as_secs() >= 2 {
            told = Instant::now();
            progress(done, schedules, begun);
        }
        if outcome.violation.is_some() {
            failed = Some(outcome);
            break;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    match (&failed, as_json) {
        (_, true) => {
            let figures = json!({ "schedules": done, "first_seed": first, "events": events, "seconds": seconds, "failed": failed });
            println!("{figures}");
        }
        (None, false) => {
            println!("{done} schedules from seed {first} kept the contract: {events} events, {seconds:.1} s")
        }
        (Some(outcome), false) => {
            println!("seed {} broke the contract: {}", outcome.seed, outcome.violation.as_deref().unwrap_or_default());
            let planted = planted
                .and_then(|bug| Some(format!(" --planted {}", clap::ValueEnum::to_possible_value(&bug)?.get_name())));
            println!("replay it: simulation replay {}{}", outcome.seed, planted.unwrap_or_default());
        }
    }
    Ok(failed.is_none())
}

/// One line that is written over where a person looks, else a line every time.
fn progress(done: u64, schedules: u64, begun: Instant) {
    let mut out = std::io::stderr();
    let end = if out.is_terminal() { '\r' } else { '\n' };
    let rate = u128::from(done) * 1000 / begun.elapsed().as_millis().max(1);
    let _closed = write!(out, "{done} of {schedules} schedules, {rate} a second{end}");
}

fn replay(seed: u64, planted: Option<Planted>) -> Result<bool, RunError> {
    let outcome = run(seed, planted, true)?;
    let mut out = std::io::stdout().lock();
    for line in &outcome.trace {
        if writeln!(out, "{line}").is_err() {
            break;
        }
    }
    let _closed = match &outcome.violation {
        Some(violation) => writeln!(out, "seed {seed} broke the contract: {violation}"),
        None => writeln!(out, "seed {seed} kept the contract"),
    };
    Ok(outcome.violation.is_none())
}
