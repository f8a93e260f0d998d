//! `loadtest`: the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::chaos::ChaosOptions;
use loadtest::{Options, limits};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Puts load on a running Tollgate and audits what became of every webhook
#[derive(Parser)]
#[command(
    version,
    after_help = "\
Examples:
  loadtest run --config tollgate.toml --rate 300 --seconds 30
  loadtest run --config tollgate.toml --rate 8000 --warm-up 120 --seconds 60 --limits --json report.json
  loadtest run --config tollgate.toml --rate 500 --seconds 10 --mix adyen=100 --seed 7
  loadtest run --config tollgate.toml --rate 500 --seconds 30 --flood 20000 --flood-addresses 50
  loadtest chaos --seed 7 --faults 40
  loadtest chaos --minutes 10 --only kill,cassandra,postgres --json chaos.json
  loadtest limits --config tollgate.toml --seconds 5

Exit status: 0 all is as it must be, 1 the audit failed, 2 it could not run."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Send webhooks at a constant rate, wait until they are applied, and audit
    Run {
        /// The configuration file of the programs under test
        #[arg(long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Kill, freeze and cut off programs and services under load, and audit: a whole Tollgate of its own is started for
    /// it in the folder `chaos` of the stack's folder
    Chaos(Box<ChaosOptions>),
    /// Measure the raw cost of each step on the configured services
    Limits {
        /// The configuration file of the programs under test
        #[arg(long, value_name = "FILE", env = "TOLLGATE_CONFIG")]
        config: Option<PathBuf>,
        /// How long each step is measured
        #[arg(long, value_name = "S", default_value_t = 5)]
        seconds: u32,
        /// Webhooks a second of the HTTP step
        #[arg(long, value_name = "N", default_value_t = 8000)]
        rate: u32,
    },
    /// Answer every request with 200: what HTTP alone costs
    #[command(hide = true)]
    PlainHttp {
        #[arg(long)]
        workers: usize,
    },
}

/// Ends with the exit status, or with why it could not run.
type Outcome = Result<ExitCode, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Run { config, options } => block_on(2, run(config, *options)),
        Command::Chaos(options) => block_on(4, chaos(*options)),
        Command::Limits { config, seconds, rate } => block_on(2, measure(config, seconds, rate)),
        Command::PlainHttp { workers } => block_on(workers, serve_plain()),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn block_on(workers: usize, work: impl Future<Output = Outcome>) -> Outcome {
    tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build()?.block_on(work)
}

async fn run(file: Option<PathBuf>, mut options: Options) -> Outcome {
    let config = platform::config::load(file.as_deref())?;
    options.config_folder = folder(file.as_ref());
    let stop = on_interrupt("stopping the load; what was sent is audited. Once more to end at once.");
    let report = loadtest::run(&config, &options, stop).await?;
    println!("{report}");
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(if report.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn chaos(options: ChaosOptions) -> Outcome {
    let stop = on_interrupt(
        "no more faults; what was sent is audited. Once more to end at once, and leave all running until \
         `loadtest chaos` runs again.",
    );
    let report = loadtest::chaos::run(&options, stop).await?;
    println!("{report}");
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)?;
    }
    Ok(if report.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A token that Ctrl-C or SIGTERM cancels, after saying what follows; a second one ends the program.
fn on_interrupt(what_follows: &'static str) -> CancellationToken {
    let stop = CancellationToken::new();
    let interrupted = stop.clone();
    tokio::spawn(async move {
        if interrupt().await.is_ok() {
            eprintln!("{what_follows}");
            interrupted.cancel();
        }
        if interrupt().await.is_ok() {
            std::process::exit(130);
        }
    });
    stop
}

/// Returns at Ctrl-C or SIGTERM.
async fn interrupt() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => pressed,
        _ = terminate.recv() => Ok(()),
    }
}

async fn measure(file: Option<PathBuf>, seconds: u32, rate: u32) -> Outcome {
    let config = platform::config::load(file.as_deref())?;
    let program = std::env::current_exe()?;
    let costs = limits::measure(&config, &folder(file.as_ref()), &program, rate, seconds).await?;
    println!("{costs}");
    Ok(ExitCode::SUCCESS)
}

async fn serve_plain() -> Outcome {
    limits::serve_plain().await?;
    Ok(ExitCode::SUCCESS)
}

fn folder(file: Option<&PathBuf>) -> PathBuf {
    file.and_then(|file| file.parent()).map(Into::into).unwrap_or_default()
}
