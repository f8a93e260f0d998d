//! Where the secrets of a source are found: in the environment, in a file, or in a directory of files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Secret;

/// Secrets of one source at most: a wrong signature is tried against each.
pub const SECRETS_MAX: usize = 16;
/// Bytes of a secret at most; the longest are certificates.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Where one or more secrets are found: exactly one of `env`, `file`, `directory` and `value`, and when they may be used.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SecretConfig {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Relative to the configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// Relative to the configuration file; each file in it is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Secret>,
    /// What the secret is called in metrics and logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
}

impl SecretConfig {
    /// Reads the secrets with their labels: the configured one, else the name of the file or variable, else `index`.
    /// `folder` is the configuration file's.
    ///
    /// # Errors
    /// What is missing, in words; never a value.
    pub fn read(&self, index: usize, folder: &Path) -> Result<Vec<(String, Secret)>, String> {
        let (label, text) = match (&self.env, &self.file, &self.directory, &self.value) {
            (Some(name), None, None, None) => {
                let text = std::env::var(name).map_err(|_| format!("environment variable {name} is not set"))?;
                (name.clone(), text)
            }
            (None, Some(file), None, None) => {
                let text =
                    read_file(&folder.join(file)).map_err(|why| format!("cannot read {}: {why}", shown(file)))?;
                (file_name(file), text)
            }
            (None, None, Some(directory), None) if self.label.is_none() => {
                let whole = folder.join(directory);
                // Swapped while it was read, it is there again at once.
                let read = read_directory(&whole).or_else(|_| read_directory(&whole));
                let found = read.map_err(|why| format!("cannot read directory {}: {why}", shown(directory)))?;
                return match found.is_empty() {
                    true => Err(format!("directory {} has no files", shown(directory))),
                    false => found.into_iter().map(|(label, text)| Ok((checked(label)?, Secret::new(text)))).collect(),
                };
            }
            (None, None, Some(_), None) => return Err("in a directory, each file's name is its label".into()),
            (None, None, None, Some(value)) => (index.to_string(), value.expose().to_owned()),
            _ => return Err("needs exactly one of env, file, directory and value".into()),
        };
        Ok(vec![(checked(self.label.clone().unwrap_or(label))?, Secret::new(text))])
    }
}

/// Labels stand in metrics and logs.
fn checked(label: String) -> Result<String, String> {
    let is_plain = label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match is_plain && (1..=64).contains(&label.len()) {
        true => Ok(label),
        false => Err(format!("{label:?} is no label: 1 to 64 of a-z, A-Z, 0-9, -, _ and .")),
    }
}

/// The files of a directory with their names, in the order of these. What begins with a dot is not for us, and neither are
/// directories; links are followed.
fn read_directory(directory: &Path) -> io::Result<Vec<(String, String)>> {
    // Kubernetes swaps this link: what is behind it is of one version.
    let data = directory.join("..data");
    let directory = if data.is_dir() { data.canonicalize()? } else { directory.to_owned() };
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = file_name(&path);
        if name.starts_with('.') || path.is_dir() {
            continue;
        }
        if found.len() == SECRETS_MAX {
            return Err(io::Error::other(format!("it has more than {SECRETS_MAX} files")));
        }
        let text = read_file(&path).map_err(|why| io::Error::other(format!("{name}: {why}")))?;
        found.push((name, text));
    }
    found.sort();
    Ok(found)
}

/// A secret without the white space around it, and without the byte order mark that some editors write.
pub(super) fn read_file(path: &Path) -> io::Result<String> {
    // A pipe may have no end, or not even a beginning.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    File::open(path)?.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {SECRET_BYTES_MAX} bytes")));
    }
    let text = text.trim_start_matches('\u{feff}').trim();
    match text.contains(char::is_control) && !text.starts_with("-----BEGIN ") {
        true => Err(io::Error::other("it has more than one line, or control characters")),
        false => Ok(text.to_owned()),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}
