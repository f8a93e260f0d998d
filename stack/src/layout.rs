//! Where everything of a stack lies on disk.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The environment variable that names another data folder, and so a second stack beside the first.
pub const DIR_VARIABLE: &str = "TOLLGATE_STACK_DIR";

/// The folders of one stack.
#[derive(Clone, Debug)]
pub struct Layout {
    /// The root of the Cargo workspace.
    pub workspace: PathBuf,
    /// The data folder, `.tollgate` in the workspace unless [`DIR_VARIABLE`] says otherwise.
    pub dir: PathBuf,
    /// What is downloaded once and survives `reset`.
    pub downloads: PathBuf,
}

impl Layout {
    /// Finds the workspace by walking up from the current folder. A cluster has `.tollgate-cluster` for its data folder, and
    /// shares the downloads.
    ///
    /// # Errors
    /// When there is none above, or the data folder cannot be made.
    pub fn discover(cluster: bool) -> Result<Self> {
        let here = env::current_dir().context("the current folder is gone")?;
        let workspace = here.ancestors().find(|dir| is_workspace(dir)).map(Path::to_owned);
        let layout = match (env::var_os(DIR_VARIABLE).filter(|dir| !dir.is_empty()), workspace) {
            (Some(dir), workspace) => {
                let dir = here.join(dir);
                Self { workspace: workspace.unwrap_or_else(|| here.clone()), downloads: dir.join("downloads"), dir }
            }
            (None, Some(workspace)) => Self {
                dir: workspace.join(if cluster { ".tollgate-cluster" } else { ".tollgate" }),
                downloads: workspace.join(".tollgate/downloads"),
                workspace,
            },
            (None, None) => bail!(
                "no Cargo workspace at or above {}: run this inside Tollgate's source tree, or set {DIR_VARIABLE}",
                here.display()
            ),
        };
        let logs = layout.logs();
        fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
        let dir = layout.dir.canonicalize().with_context(|| format!("cannot reach {}", layout.dir.display()))?;
        Ok(Self { dir, ..layout })
    }

    /// The folder of all log files.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// The log file of a service or program.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// The data of one service.
    #[must_use]
    pub fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn state_file(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    /// Waits until no other stack command changes this stack, and keeps them out until the file is dropped.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.dir.join("lock");
        let file = File::options().create(true).append(true).open(&path);
        let file = file.with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => eprintln!("waiting for another stack command to end"),
            Err(fs::TryLockError::Error(error)) => return Err(lock_error(&path, error)),
        }
        file.lock().map_err(|error| lock_error(&path, error))?;
        Ok(file)
    }
}

fn lock_error(path: &Path, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!("cannot lock {}", path.display()))
}

fn is_workspace(dir: &Path) -> bool {
    fs::read_to_string(dir.join("Cargo.toml")).is_ok_and(|text| text.lines().any(|line| line.trim() == "[workspace]"))
}

/// Replaces a file in one step, so that a reader sees the old or the new text and a crash leaves one of them.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_atomically(path: &Path, text: &str) -> Result<()> {
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The last `count` lines of a file, or nothing when there is no such file.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
