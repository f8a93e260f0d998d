//! Merging: defaults, then the file, then the environment; unknown keys are refused with their line.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::{Config, ConfigError, DEFAULTS, folder_of};

/// Variables with this prefix override keys: `TOLLGATE_POSTGRES_URL` is `postgres.url`.
const ENV_PREFIX: &str = "TOLLGATE_";
/// Variables of the tools around the programs, which name no key.
const ENV_OTHER: [&str; 3] = ["CONFIG", "STACK_", "PROMETHEUS_"];

/// Loads the effective configuration: defaults, `file` if given, and the process's environment.
///
/// # Errors
/// [`ConfigError`] that says where and why.
pub fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    let text = match file {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?
        }
        None => String::new(),
    };
    let name = file.map_or_else(|| "configuration".into(), |path| path.display().to_string());
    let mut config = parse(&name, &text, &environment()?)?;
    config.resolve_files(&folder_of(file));
    Ok(config)
}

/// The variables of the process's environment that are for Tollgate.
///
/// # Errors
/// When one of them is not UTF-8; it is named, and its value is not told.
pub fn environment() -> Result<BTreeMap<String, String>, ConfigError> {
    let own = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let own = own.filter(|(name, _)| name.starts_with(ENV_PREFIX));
    own.map(|(name, value)| match value.into_string() {
        Ok(value) => Ok((name, value)),
        Err(_) => Err(ConfigError::Relation(format!("{name} is not UTF-8"))),
    })
    .collect()
}

/// [`load`] without I/O: `name` is the file's name in errors, `variables` the environment.
///
/// # Errors
/// [`ConfigError`] that says where and why.
pub fn parse(name: &str, text: &str, variables: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    let mut table = table_of("defaults", DEFAULTS)?;
    let known = table.clone();
    let document = DeTable::parse(text).map_err(|e| invalid(name, text, e.span(), e.message()))?;
    refuse_unknown(name, text, document.get_ref(), &known, "")?;
    merge(&mut table, table_of(name, text)?);
    for (variable, value) in variables {
        let key = variable.trim_start_matches(ENV_PREFIX);
        if ENV_OTHER.iter().any(|other| key.starts_with(other)) {
            continue;
        }
        set_from_environment(&mut table, variable, &key.to_ascii_lowercase(), value)?;
    }
    let config: Config = serde_path_to_error::deserialize(Value::Table(table)).map_err(|error| {
        let (path, message) = (error.path().to_string(), without_value(error.inner().message()));
        let place = locate(text, &message, &path);
        ConfigError::Invalid(format!("{name}{place}: {path}: {message}"))
    })?;
    config.check()?;
    Ok(config)
}

fn table_of(name: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse().map_err(|e: toml::de::Error| invalid(name, text, e.span(), e.message()))
}

fn invalid(name: &str, text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> ConfigError {
    let line = span.map_or(1, |span| line_of(text, span.start));
    ConfigError::Invalid(format!("{name}:{line}: {}", message.trim_end()))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1
}

/// What was found instead of what is expected may be a secret.
fn without_value(message: &str) -> String {
    let found = ["invalid type", "invalid value"].into_iter().find(|what| message.starts_with(what));
    match (found, message.split_once(", expected ")) {
        (Some(what), Some((_, expected))) => format!("{what}, expected {}", expected.trim_end()),
        _ => message.trim_end().to_owned(),
    }
}

/// An unknown field is named in backticks, any other by the path; the line helps where the key can be found.
fn locate(text: &str, message: &str, path: &str) -> String {
    let keys = path.rsplit('.').map(|key| key.split('[').next().unwrap_or_default());
    let line_of = |key: &str| text.lines().position(|line| !key.is_empty() && line.trim_start().starts_with(key));
    let line = message.split('`').nth(1).into_iter().chain(keys).find_map(line_of);
    line.map_or_else(String::new, |line| format!(":{}", line + 1))
}

/// Every key must be in the defaults; what a source holds is checked when it is read.
fn refuse_unknown(name: &str, text: &str, table: &DeTable<'_>, known: &Table, path: &str) -> Result<(), ConfigError> {
    for (key, value) in table {
        let full = if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
        let Some(default) = known.get(key.get_ref().as_ref()) else {
            let nearest = known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            let message = format!("unknown key {full:?}; known here are: {nearest}");
            return Err(invalid(name, text, Some(key.span()), &message));
        };
        match (value.get_ref(), default) {
            // Names that the user gives.
            (DeValue::Table(_), Value::Table(_)) if full == "sources" || full == "orders.agrees" => {}
            (DeValue::Table(inner), Value::Table(known)) => refuse_unknown(name, text, inner, known, &full)?,
            (value, default) if value.type_str() == default.type_str() => {}
            // A secret's form is checked when it is read.
            (value, default) => {
                let message = format!("{full} must be {}, not {}", default.type_str(), value.type_str());
                return Err(invalid(name, text, Some(key.span()), &message));
            }
        }
    }
    Ok(())
}

fn merge(into: &mut Table, from: Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Table(into)), Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn set_from_environment(table: &mut Table, variable: &str, key: &str, value: &str) -> Result<(), ConfigError> {
    let slot = match key.split_once('_') {
        Some((section, key)) => table.get_mut(section).and_then(|t| t.as_table_mut()).and_then(|t| t.get_mut(key)),
        None => table.get_mut(key).filter(|value| !value.is_table()),
    };
    let Some(slot) = slot else {
        return Err(ConfigError::Invalid(format!("{variable}: there is no key {:?}", key.replacen('_', ".", 1))));
    };
    let wrong = |expected: &str| ConfigError::Invalid(format!("{variable} must be {expected}"));
    *slot = match slot {
        Value::Integer(_) => Value::Integer(value.parse().map_err(|_| wrong("an integer"))?),
        Value::Boolean(_) => Value::Boolean(value.parse().map_err(|_| wrong("true or false"))?),
        Value::Array(_) => Value::Array(value.split(',').map(|item| Value::String(item.trim().into())).collect()),
        _ => Value::String(value.to_owned()),
    };
    Ok(())
}
