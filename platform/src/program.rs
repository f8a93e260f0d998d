//! What every program does around its work: load the configuration, log, listen for signals, end with a status.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigArgs, ConfigError};
use crate::telemetry;

/// Loads the configuration and hands it to `run` with a token that SIGTERM or SIGINT cancels.
///
/// `--check-config` prints the effective configuration instead. A second signal ends the process at once.
pub fn start<F, E>(args: &ConfigArgs, workers: fn(&Config) -> usize, run: F) -> ExitCode
where
    F: AsyncFnOnce(Config, CancellationToken) -> Result<(), E>,
    E: std::fmt::Display,
{
    let config = match load(args) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    if args.check_config {
        return match config.to_toml() {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::from(2)
            }
        };
    }
    telemetry::init_logs(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers(&config)).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let stop = CancellationToken::new();
            tokio::spawn(cancel_on_signal(stop.clone()));
            run(config, stop).await.map_err(|error| error.to_string())
        }),
        Err(error) => Err(format!("cannot start the runtime: {error}")),
    };
    match outcome {
        Ok(()) => {
            tracing::info!("stopped");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(error, "failed");
            ExitCode::FAILURE
        }
    }
}

fn load(args: &ConfigArgs) -> Result<Config, ConfigError> {
    crate::config::load(args.config.as_deref())
}

/// The folder that relative paths in the configuration start from.
#[must_use]
pub fn config_folder(args: &ConfigArgs) -> PathBuf {
    args.config.as_deref().and_then(|file| file.parent()).map(Into::into).unwrap_or_default()
}

async fn cancel_on_signal(stop: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        tracing::error!("cannot listen for signals; only SIGKILL will end this program");
        return;
    };
    for first in [true, false] {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        if first {
            tracing::info!("stopping: finishing what was accepted");
            stop.cancel();
        }
    }
    tracing::warn!("second signal: ending at once");
    std::process::exit(130);
}
