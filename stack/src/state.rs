//! What a stack remembers between commands: its ports and its processes.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::write_atomically;
use crate::ports::Ports;
use crate::process::Identity;

/// The content of the state file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Chosen at the first start and kept, so that addresses stay the same over restarts.
    pub ports: Option<Ports>,
    /// Where Postgres keeps its data; not always in the data folder, see the module `postgres`.
    pub postgres_dir: Option<PathBuf>,
    /// The processes that were started, by name. They may have ended since.
    #[serde(default)]
    pub processes: BTreeMap<String, Identity>,
}

impl State {
    /// Reads the file; an absent one is an empty state.
    ///
    /// # Errors
    /// When it cannot be read or is not what this version writes.
    pub fn load(path: &Path) -> Result<Self> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_str(&text).with_context(|| {
            format!("{} is not readable as a state of this version; delete it and run `cargo stack up`", path.display())
        })
    }

    /// Writes the file in one step.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_atomically(path, &serde_json::to_string_pretty(self)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tollgate-state-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir.join("state.json")
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let path = scratch("round-trip");
        let me = Identity::of(std::process::id()).unwrap();
        let state = State {
            ports: Some(Ports { cql: 9043, ..Ports::USUAL }),
            postgres_dir: Some(PathBuf::from("/somewhere")),
            processes: BTreeMap::from([("cassandra".to_owned(), me)]),
        };
        state.save(&path).unwrap();
        assert_eq!(State::load(&path).unwrap(), state);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    #[test]
    fn no_file_is_an_empty_state_and_a_torn_one_is_an_error() {
        let path = scratch("absent");
        assert_eq!(State::load(&path).unwrap(), State::default());
        fs::write(&path, "{\"ports\": {").unwrap();
        assert!(State::load(&path).is_err());
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
