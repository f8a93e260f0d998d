//! Tools that come as Python packages, each in an environment of its own under the data folder.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::install;
use crate::layout::Layout;
use crate::progress::Progress;
use crate::steps;

/// Installs what `requirements` (a file of the workspace: packages with their versions) names, once; the path of its
/// `program`.
///
/// # Errors
/// When Python or the package index cannot be used.
pub fn tool(layout: &Layout, requirements: &str, program: &str) -> Result<PathBuf> {
    let requirements = layout.workspace.join(requirements);
    let wanted = std::fs::read_to_string(&requirements).with_context(|| requirements.display().to_string())?;
    let folder = layout.downloads.join(wanted.trim().replace("==", "-").replace('\n', "+"));
    let program = folder.join("bin").join(program);
    // Written last, so that an installation that was cut short is made anew.
    let done = folder.join("installed");
    if done.exists() {
        return Ok(program);
    }
    let has_venv = Command::new("python3").args(["-c", "import ensurepip, venv"]).output();
    if !has_venv.is_ok_and(|output| output.status.success()) {
        install::debian(layout, &Progress::default(), &["python3-venv"], "")?;
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet", "--requirement"]).arg(&requirements))?;
    std::fs::write(&done, "").with_context(|| done.display().to_string())?;
    Ok(program)
}

fn run(command: &mut Command) -> Result<()> {
    let status = steps::run(command)?;
    ensure!(status.success(), "{:?} failed: is the Python package index within reach?", command.get_program());
    Ok(())
}
