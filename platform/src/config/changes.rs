//! What differs between two configurations: a running program can take some of it, and says what it cannot.

use toml::{Table, Value};

use super::{Config, ConfigError};

impl Config {
    /// The keys that differ, in order; not those of sources.
    ///
    /// # Errors
    /// Only if a value cannot be written as TOML.
    pub fn changed_keys(&self, other: &Self) -> Result<Vec<String>, ConfigError> {
        let table = |config| Table::try_from(config).map_err(|error| ConfigError::Invalid(error.to_string()));
        let mut keys = Vec::new();
        differ("", &table(self)?, &table(other)?, &mut keys);
        // Of these only a part is written, or nothing.
        let hidden = [
            ("cassandra.password", &self.cassandra.password, &other.cassandra.password),
            ("postgres.password", &self.postgres.password, &other.postgres.password),
            ("postgres.url", &self.postgres.url, &other.postgres.url),
            ("rabbitmq.password", &self.rabbitmq.password, &other.rabbitmq.password),
            ("rabbitmq.management_url", &self.rabbitmq.management_url, &other.rabbitmq.management_url),
            ("rabbitmq.url", &self.rabbitmq.url, &other.rabbitmq.url),
        ];
        keys.extend(hidden.into_iter().filter(|(_, mine, theirs)| mine != theirs).map(|(key, ..)| key.to_owned()));
        keys.retain(|key| !key.starts_with("sources."));
        keys.sort();
        keys.dedup();
        Ok(keys)
    }
}

fn differ(path: &str, mine: &Table, theirs: &Table, keys: &mut Vec<String>) {
    let new = theirs.keys().filter(|key| !mine.contains_key(*key));
    for key in mine.keys().chain(new) {
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (mine.get(key), theirs.get(key)) {
            (Some(Value::Table(mine)), Some(Value::Table(theirs))) => differ(&full, mine, theirs, keys),
            (mine, theirs) if mine != theirs => keys.push(full),
            _ => {}
        }
    }
}
