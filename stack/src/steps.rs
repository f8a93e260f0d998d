//! Runs commands in the foreground that a caught Ctrl-C ends too, with everything that they started.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::layout::Layout;
use crate::sys::{self, Signal};
use crate::wait::{self, Deadline};

const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// `cargo` in the workspace, as a person would call it: without what an outer `cargo run` says about its own package.
#[must_use]
pub fn cargo(layout: &Layout) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let own = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if name.to_str().is_some_and(|name| own.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command.current_dir(&layout.workspace);
    command
}

/// Where Cargo puts programs, whatever its configuration says.
///
/// # Errors
/// When Cargo cannot tell.
pub fn release_dir(layout: &Layout) -> Result<PathBuf> {
    let output = cargo(layout).args(["metadata", "--format-version=1", "--no-deps", "--offline"]).output();
    let output = output.context("cannot start cargo")?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("`cargo metadata` failed")?;
    let target = metadata["target_directory"].as_str().context("`cargo metadata` names no target_directory")?;
    Ok(PathBuf::from(target).join("release"))
}

/// Runs a command to its end, its output going where ours goes. It gets a process group of its own: a signal from the
/// terminal reaches us alone, and we end the whole group.
///
/// # Errors
/// When it cannot be started or was interrupted.
pub fn run(command: &mut Command) -> Result<ExitStatus> {
    let name = command.get_program().display().to_string();
    let child = command.stdin(Stdio::null()).process_group(0).spawn();
    let mut child = child.with_context(|| format!("cannot start {name}"))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if sys::interrupted() {
            end_group(&mut child);
            bail!("interrupted");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn end_group(child: &mut Child) {
    sys::signal_group(child.id(), Signal::Terminate);
    let ended = wait::until(&Deadline::deaf(ENDED_WITHIN), || match child.try_wait() {
        Ok(None) => bail!("it still runs"),
        Ok(Some(_)) | Err(_) => Ok(()),
    });
    // What is left of the group when its leader ended in good order is killed as well.
    sys::signal_group(child.id(), Signal::Kill);
    if ended.is_err() {
        let _ = child.wait();
    }
}

/// The exit status to hand on; that of a shell for one that died of a signal.
#[must_use]
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code =
        status.code().or_else(|| std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
