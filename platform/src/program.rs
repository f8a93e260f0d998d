//! What every program does around its work: load the configuration, log, listen for signals, end with a status.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::config::{Config, ConfigArgs, ConfigError, ConfiguredSource, NO_SECRET, folder_of};
use crate::telemetry;

/// Loads the configuration and hands it to `run` with a token that SIGTERM or SIGINT cancels.
///
/// `--check-config` reads the secrets, certificates and keys and prints the effective configuration instead; services are not asked. A second signal ends the process at once.
pub fn start<F, E>(args: &ConfigArgs, workers: fn(&Config) -> usize, run: F) -> ExitCode
where
    F: AsyncFnOnce(Config, CancellationToken) -> Result<(), E>,
    E: std::fmt::Display,
{
    if args.check_config {
        end_with_output();
    }
    let checked = load(args).and_then(|config| match args.check_config {
        true => config
            .prepare_sources(&folder_of(args.config.as_deref()))
            .map(|sources| sources.iter().for_each(warn_of))
            .and(config.check_files())
            .and(config.to_toml())
            .map(|text| (config, Some(text))),
        false => Ok((config, None)),
    });
    let config = match checked {
        Ok((config, None)) => config,
        Ok((_, Some(text))) => {
            println!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(2);
        }
    };
    telemetry::init_logs(&config.log);
    match block_on(workers(&config), async |stop| run(config, stop).await.map_err(|error| error.to_string())) {
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

/// Loads the configuration and hands it to a command that people run by hand. Its own exit status is kept; when it
/// cannot run, the error goes to standard error and the status is 2.
pub fn command<F, E>(args: &ConfigArgs, run: F) -> ExitCode
where
    F: AsyncFnOnce(Config, CancellationToken) -> Result<ExitCode, E>,
    E: std::fmt::Display,
{
    end_with_output();
    let outcome = load(args).map_err(|error| error.to_string()).and_then(|config| {
        telemetry::init_logs(&config.log);
        block_on(2, async |stop| run(config, stop).await.map_err(|error| error.to_string()))
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

/// Ends the program instead of panicking where what it prints cannot be written: quietly, as SIGPIPE would, when nobody reads it any
/// more (`… | head`), else with the reason.
pub fn end_with_output() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        match text.strip_prefix("failed printing to std") {
            Some(of_pipe) if of_pipe.contains("Broken pipe") => std::process::exit(128 + 13),
            Some(why) => {
                // Standard error may be what cannot be written.
                let _untold = writeln!(std::io::stderr(), "error: cannot write to std{why}");
                std::process::exit(2);
            }
            None => usual(panic),
        }
    }));
}

/// Says in the log that SIGHUP changes nothing here, instead of ending at once; until `stop`. Whoever tells all programs of a host to read
/// their configuration again must not stop those that cannot.
pub fn outlive_hangups(stop: &CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = stop.clone();
    match signal(SignalKind::hangup()) {
        Ok(mut hangup) => drop(tokio::spawn(async move {
            while let Some(Some(())) = stop.run_until_cancelled(hangup.recv()).await {
                tracing::info!("SIGHUP: nothing here is read again; only a restart takes another configuration");
            }
        })),
        Err(error) => tracing::warn!(%error, "cannot listen for SIGHUP, which will end this program"),
    }
}

/// Runs on a runtime of its own, with a token that SIGTERM or SIGINT cancels.
fn block_on<T>(workers: usize, run: impl AsyncFnOnce(CancellationToken) -> Result<T, String>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    let outcome = runtime.block_on(async {
        let stop = CancellationToken::new();
        tokio::spawn(cancel_on_signal(stop.clone()));
        run(stop).await
    });
    // A file that cannot be read to its end, on a network's disk say, does not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn warn_of(source: &ConfiguredSource) {
    if !source.has_secret_at(crate::clock::now_ms().div_euclid(1000)) {
        eprintln!("warning: sources.{}: {NO_SECRET}", source.source.name);
    }
}

fn load(args: &ConfigArgs) -> Result<Config, ConfigError> {
    crate::config::load(args.config.as_deref())
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
            stop.cancel();
            tracing::info!("stopping: finishing what was accepted");
        }
    }
    tracing::warn!("second signal: ending at once");
    std::process::exit(130);
}

/// A line of progress on standard error, at most one a second.
#[derive(Debug)]
pub struct Progress {
    started: Instant,
    shown: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { started: Instant::now(), shown: Instant::now() }
    }
}

impl Progress {
    /// A rate over the whole time.
    #[must_use]
    pub fn rate(&self, count: u64) -> u64 {
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        count.saturating_mul(1000) / elapsed_ms.max(1)
    }

    /// Shows a line, if a second has gone by since the last one.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        if self.shown.elapsed() >= Duration::from_secs(1) {
            self.shown = Instant::now();
            eprintln!("{:4} s  {}", self.started.elapsed().as_secs(), line());
        }
    }
}

/// Text that others may have written, without what a terminal would obey: control characters, and those that change the direction of
/// writing or cannot be seen, with which one text can be made to look like another.
#[must_use]
pub fn printable(text: &str) -> String {
    let is_told = |character: char| match character {
        '\n' | '\t' => false,
        // Soft hyphen, Arabic letter mark, zero width and direction, separators, isolates, byte order mark, annotations, tags.
        '\u{AD}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' => true,
        '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}' => true,
        other => other.is_control(),
    };
    text.chars().map(|c| if is_told(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Prints lines of cells below their names, as wide as they need to be; of the cells what is [`printable`], each on one line.
pub fn print_table(names: &[&str], lines: &[Vec<String>]) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let one_line = |cell: &String| printable(cell).replace('\n', "\\n");
    let lines: Vec<Vec<String>> = lines.iter().map(|line| line.iter().map(one_line).collect()).collect();
    let width = |column: usize| {
        let cells = lines.iter().chain([&names]).filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    for line in [&names].into_iter().chain(&lines) {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\n");
        assert_eq!(printable("A-1\u{202e}9001-A\u{200b}"), "A-1\\u{202e}9001-A\\u{200b}");
        assert_eq!(printable("Gruß aus 東京 \"e\u{301}\""), "Gruß aus 東京 \"e\u{301}\"");
    }
}
