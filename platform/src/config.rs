//! The one configuration file: embedded defaults, then the file, then the environment; every key known, every
//! relation between limits checked before anything starts.

mod changes;
mod files;
mod hosts;
mod load;
mod orders;
mod secret;
mod secrets;
mod sources;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::proxies::TrustedProxies;

pub(crate) use hosts::Management;
pub use load::{environment, load, parse};
pub use orders::{KeyType, Orders};
pub use secret::Secret;
pub use secrets::SecretConfig;
pub use sources::{ConfiguredSource, NO_SECRET, SourceConfig};

/// The commented defaults, as in the documentation.
pub const DEFAULTS: &str = include_str!("../default.toml");

/// Why a configuration cannot be used; says where and what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key or a value of the wrong type.
    #[error("{0}")]
    Invalid(String),
    /// Values that contradict each other.
    #[error("{0}")]
    Relation(String),
}

/// Command-line arguments that all programs share.
#[derive(Debug, Clone, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file; defaults and TOLLGATE_<SECTION>_<KEY> variables apply without one too
    #[arg(long, value_name = "FILE", global = true, env = "TOLLGATE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Print the effective configuration, secrets redacted, and exit
    #[arg(long)]
    pub check_config: bool,
}

/// The whole configuration. The meaning of each key is in [`DEFAULTS`].
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Config {
    pub regions: Vec<String>,
    pub log: Log,
    pub trace: Trace,
    pub rabbitmq: RabbitMq,
    pub cassandra: Cassandra,
    pub postgres: Postgres,
    pub ingest: Ingest,
    pub writer: Writer,
    pub reconciler: Reconciler,
    pub sweep: Sweep,
    pub status: Status,
    pub orders: Orders,
    pub sources: std::collections::BTreeMap<String, SourceConfig>,
}

/// `[log]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Log {
    pub filter: String,
    pub format: LogFormat,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For a terminal.
    Human,
    /// One JSON object a line.
    Json,
}

/// `[trace]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Trace {
    pub endpoint: String,
    pub per_second: u32,
}

/// `[rabbitmq]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct RabbitMq {
    pub url: Secret,
    pub password: Secret,
    pub password_file: PathBuf,
    pub ca_file: PathBuf,
    pub create: bool,
    pub management_url: Secret,
    pub queue_prefix: String,
    pub shards: u16,
    pub group_size: u16,
    pub frame_bytes_max: usize,
    pub publishes_in_flight_max: usize,
    pub confirm_timeout_ms: u64,
    pub write_queue_bytes_max: i64,
    pub reconcile_queue_bytes_max: i64,
    pub delivery_limit: i32,
}

impl RabbitMq {
    /// How long a publish may wait for its confirm.
    #[must_use]
    pub fn confirm_timeout(&self) -> Duration {
        Duration::from_millis(self.confirm_timeout_ms)
    }
}

/// `[cassandra]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Cassandra {
    pub nodes: Vec<String>,
    pub user: String,
    pub password: Secret,
    pub password_file: PathBuf,
    pub tls: bool,
    pub ca_file: PathBuf,
    pub create: bool,
    pub keyspace: String,
    pub replication: String,
    pub slot_minutes: i32,
    pub lanes: i32,
    pub timeout_ms: u64,
}

/// `[postgres]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Postgres {
    pub url: Secret,
    pub password: Secret,
    pub password_file: PathBuf,
    pub schema: String,
    pub connections_max: u32,
}

/// The header in which a trusted proxy names its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: addresses.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// `[ingest]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Ingest {
    pub listen: SocketAddr,
    pub tls_certificate: PathBuf,
    pub tls_key: PathBuf,
    pub internal_listen: SocketAddr,
    pub workers: usize,
    pub body_bytes_max: usize,
    pub in_flight_max: usize,
    pub memory_bytes_max: usize,
    pub connections_max: usize,
    pub header_timeout_ms: u64,
    pub request_timeout_ms: u64,
    pub drain_timeout_ms: u64,
    pub client_rate_per_second: u32,
    pub client_burst: u32,
    pub client_connections_max: usize,
    pub trusted_proxies: TrustedProxies,
    pub proxy_header: ProxyHeader,
    pub unverified_rate_per_second: u32,
    pub unverified_burst: u32,
    pub fetches_in_flight_max: usize,
    pub fetch_timeout_ms: u64,
    pub fetch_ca_file: PathBuf,
}

/// `[writer]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Writer {
    pub internal_listen: SocketAddr,
    pub workers: usize,
    pub prefetch_frames: u16,
    pub memory_bytes_max: usize,
    pub flush_ms: u64,
    pub flush_rows_max: usize,
    pub batch_rows_max: usize,
    pub batch_bytes_max: usize,
    pub batches_in_flight_max: usize,
}

/// `[reconciler]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Reconciler {
    pub internal_listen: SocketAddr,
    pub workers: usize,
    pub prefetch_frames: u16,
    pub memory_bytes_max: usize,
    pub flush_ms: u64,
    pub flush_rows_max: usize,
    pub lock_timeout_ms: u64,
    pub parked_poll_ms: u64,
    pub parked_break_after_ms: i64,
    pub project_payments: bool,
    pub history_days: u32,
}

/// `[sweep]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Sweep {
    pub enabled: bool,
    pub recent_days: u32,
    pub recent_every_minutes: u32,
    pub older_days: u32,
    pub older_every_hours: u32,
    pub rows_per_second: u32,
    pub settle_seconds: u32,
    pub stale_authorization_days: u32,
}

/// `[status]`
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct Status {
    pub programs: Vec<String>,
    pub hosts: Vec<String>,
}

impl Status {
    /// More than this and one look at all of them would be a load of its own.
    pub const PROGRAMS_MAX: usize = 64;

    fn check(&self) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError::Relation(message));
        let is_address = |text: &str| {
            text.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) && !text.contains(['/', '@', ' '])
            })
        };
        if self.programs.len() > Self::PROGRAMS_MAX {
            return fail(format!("status.programs may name at most {} programs", Self::PROGRAMS_MAX));
        }
        if self.programs.iter().any(|program| !is_address(program)) {
            return fail(
                "status.programs must be internal listeners like [\"127.0.0.1:8081\", \"writer-2:8082\"]".into(),
            );
        }
        if self.hosts.iter().any(|host| host.is_empty() || host.contains(['/', ':'])) {
            return fail("status.hosts must be names without scheme and port, like [\"status.example.com\"]".into());
        }
        Ok(())
    }
}

/// The folder that relative paths in a configuration file start from.
#[must_use]
pub fn folder_of(file: Option<&Path>) -> PathBuf {
    file.and_then(Path::parent).map(Into::into).unwrap_or_default()
}

impl Config {
    /// The largest frame that can be in a queue: a full one, or one record with a whole body in it.
    #[must_use]
    pub fn frame_bytes_largest(&self) -> usize {
        // Reason, source, headers (1 KiB) and lengths of a quarantined record take less than 2 KiB.
        self.rabbitmq.frame_bytes_max.max(self.ingest.body_bytes_max + 2048)
    }

    /// Makes every source ready, its secrets read; `folder` is the configuration file's.
    ///
    /// # Errors
    /// The first secret that is missing or not of the provider's form.
    pub fn prepare_sources(&self, folder: &Path) -> Result<Vec<ConfiguredSource>, ConfigError> {
        self.sources.iter().map(|(name, source)| source.prepare(name, folder)).collect()
    }

    /// The effective configuration as TOML, secrets redacted.
    ///
    /// # Errors
    /// Only if a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string_pretty(self).map_err(|e| ConfigError::Invalid(e.to_string()))
    }

    /// Checks the relations between values.
    ///
    /// # Errors
    /// [`ConfigError::Relation`] that names the keys.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fail = |message: String| Err(ConfigError::Relation(message));
        let positive = [
            ("trace.per_second", self.trace.per_second as usize),
            ("rabbitmq.shards", usize::from(self.rabbitmq.shards)),
            ("rabbitmq.group_size", usize::from(self.rabbitmq.group_size)),
            ("rabbitmq.publishes_in_flight_max", self.rabbitmq.publishes_in_flight_max),
            ("rabbitmq.delivery_limit", usize::try_from(self.rabbitmq.delivery_limit).unwrap_or(0)),
            ("ingest.workers", self.ingest.workers),
            ("ingest.in_flight_max", self.ingest.in_flight_max),
            ("ingest.connections_max", self.ingest.connections_max),
            ("ingest.client_rate_per_second", self.ingest.client_rate_per_second as usize),
            ("ingest.client_burst", self.ingest.client_burst as usize),
            ("ingest.client_connections_max", self.ingest.client_connections_max),
            ("ingest.unverified_rate_per_second", self.ingest.unverified_rate_per_second as usize),
            ("ingest.unverified_burst", self.ingest.unverified_burst as usize),
            ("ingest.fetches_in_flight_max", self.ingest.fetches_in_flight_max),
            ("ingest.fetch_timeout_ms", usize::try_from(self.ingest.fetch_timeout_ms).unwrap_or(usize::MAX)),
            ("ingest.header_timeout_ms", usize::try_from(self.ingest.header_timeout_ms).unwrap_or(usize::MAX)),
            ("writer.workers", self.writer.workers),
            ("writer.prefetch_frames", usize::from(self.writer.prefetch_frames)),
            ("writer.flush_rows_max", self.writer.flush_rows_max),
            ("writer.batch_rows_max", self.writer.batch_rows_max),
            ("writer.batch_bytes_max", self.writer.batch_bytes_max),
            ("writer.batches_in_flight_max", self.writer.batches_in_flight_max),
            ("reconciler.workers", self.reconciler.workers),
            ("reconciler.prefetch_frames", usize::from(self.reconciler.prefetch_frames)),
            ("reconciler.flush_rows_max", self.reconciler.flush_rows_max),
            ("reconciler.history_days", self.reconciler.history_days as usize),
            ("sweep.recent_every_minutes", self.sweep.recent_every_minutes as usize),
            ("sweep.older_every_hours", self.sweep.older_every_hours as usize),
            ("sweep.rows_per_second", self.sweep.rows_per_second as usize),
            ("postgres.connections_max", self.postgres.connections_max as usize),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return fail(format!("{key} must be 1 or more"));
        }
        if !(1024..=16 * 1024 * 1024).contains(&self.rabbitmq.frame_bytes_max) {
            return fail("rabbitmq.frame_bytes_max must be from 1024 to 16777216".into());
        }
        // What is quarantined must fit into one mutation of Cassandra, which takes 16 MiB as it comes.
        if !(1..=8 * 1024 * 1024).contains(&self.ingest.body_bytes_max) {
            return fail("ingest.body_bytes_max must be from 1 to 8388608".into());
        }
        if let Err(error) = EnvFilter::try_new(&self.log.filter) {
            return fail(format!("log.filter: {error}"));
        }
        let requests = self.ingest.in_flight_max.saturating_mul(2);
        let in_flight = requests.saturating_mul(self.ingest.body_bytes_max);
        if in_flight > self.ingest.memory_bytes_max {
            return fail(format!(
                "2 × ingest.in_flight_max × ingest.body_bytes_max is {in_flight} bytes, more than ingest.memory_bytes_max: \
                 lower one of the first two or raise the third"
            ));
        }
        for (section, prefetch, memory) in [
            ("writer", self.writer.prefetch_frames, self.writer.memory_bytes_max),
            ("reconciler", self.reconciler.prefetch_frames, self.reconciler.memory_bytes_max),
        ] {
            let queues = usize::from(self.rabbitmq.shards);
            let held = usize::from(prefetch).saturating_mul(self.frame_bytes_largest()).saturating_mul(queues);
            if held > memory {
                return fail(format!(
                    "{section}.prefetch_frames × the largest frame × rabbitmq.shards is {held} bytes, more than \
                     {section}.memory_bytes_max: lower prefetch_frames, frame_bytes_max or body_bytes_max, or raise it"
                ));
            }
        }
        if self.ingest.trusted_proxies.has_everybody() {
            return fail("ingest.trusted_proxies must not hold everybody: any client could name any address".into());
        }
        let answered_in = self.ingest.request_timeout_ms;
        if self.rabbitmq.confirm_timeout_ms >= answered_in {
            return fail("rabbitmq.confirm_timeout_ms must be less than ingest.request_timeout_ms".into());
        }
        if domain::partition::Layout::new(self.cassandra.slot_minutes, self.cassandra.lanes).is_none() {
            return fail("cassandra.slot_minutes must divide 1440, and cassandra.lanes be from 1 to 256".into());
        }
        for (key, name) in
            [("cassandra.keyspace", &self.cassandra.keyspace), ("postgres.schema", &self.postgres.schema)]
        {
            let valid = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
            if !valid || name.is_empty() || name.len() > 48 {
                return fail(format!("{key} must be 1 to 48 of a-z, 0-9 and _"));
            }
        }
        let threads = [self.ingest.workers, self.writer.workers, self.reconciler.workers];
        if threads.into_iter().any(|workers| workers > 1024) {
            return fail("workers are threads of one program: at most 1024".into());
        }
        let is_name = |name: &str| {
            !name.is_empty()
                && name.len() <= 64
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if let Some(wrong) = self.regions.iter().chain([&self.rabbitmq.queue_prefix]).find(|name| !is_name(name)) {
            return fail(format!(
                "{wrong:?}: regions and rabbitmq.queue_prefix must be 1 to 64 of a-z, A-Z, 0-9, -, _ and ."
            ));
        }
        if self.regions.is_empty() {
            return fail("regions must name at least one".into());
        }
        self.check_addresses()?;
        self.check_files_named()?;
        self.status.check()?;
        self.orders.check()?;
        self.sources.iter().try_for_each(|(name, source)| source.check(name, &self.regions))
    }
}

impl Config {
    /// Addresses that could never be reached; nothing of them is told, since they may hold passwords.
    fn check_addresses(&self) -> Result<(), ConfigError> {
        let fail = |message: &str| Err(ConfigError::Relation(message.to_owned()));
        self.rabbitmq.check_addresses().or_else(fail)?;
        if self.postgres.url.expose().parse::<sqlx::postgres::PgConnectOptions>().is_err() {
            return fail("postgres.url must be like postgres://user:password@host:5432/database");
        }
        let endpoint = &self.trace.endpoint;
        if !endpoint.is_empty() && !endpoint.starts_with("http://") {
            return fail("trace.endpoint must be a collector's OTLP address like http://127.0.0.1:4318, or empty");
        }
        if self.cassandra.nodes.is_empty() || self.cassandra.nodes.iter().any(|node| node.trim().is_empty()) {
            return fail("cassandra.nodes must name at least one node, like [\"host:9042\"]");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
