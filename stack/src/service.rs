//! The services that a stack consists of.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::sys::Signal;

/// A service that Tollgate needs and `stack` can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// The message broker between the programs.
    Rabbitmq,
    /// Its second node, of a cluster only.
    #[serde(rename = "rabbitmq-2")]
    #[value(name = "rabbitmq-2")]
    Rabbitmq2,
    /// Its third node, of a cluster only.
    #[serde(rename = "rabbitmq-3")]
    #[value(name = "rabbitmq-3")]
    Rabbitmq3,
    /// The store of payment events.
    Cassandra,
    /// Its second node, of a cluster only.
    #[serde(rename = "cassandra-2")]
    #[value(name = "cassandra-2")]
    Cassandra2,
    /// Its third node, of a cluster only.
    #[serde(rename = "cassandra-3")]
    #[value(name = "cassandra-3")]
    Cassandra3,
    /// The shop's orders.
    Postgres,
    /// Metrics of programs and services.
    Prometheus,
}

impl Service {
    /// Every service, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Rabbitmq, Self::Cassandra, Self::Postgres, Self::Prometheus];

    /// Every service of a cluster: three nodes of what is replicated.
    pub const CLUSTER: [Self; 8] = [
        Self::Rabbitmq,
        Self::Rabbitmq2,
        Self::Rabbitmq3,
        Self::Cassandra,
        Self::Cassandra2,
        Self::Cassandra3,
        Self::Postgres,
        Self::Prometheus,
    ];

    /// RabbitMQ's nodes, those of a cluster too.
    pub const RABBITMQ: [Self; 3] = [Self::Rabbitmq, Self::Rabbitmq2, Self::Rabbitmq3];

    /// Cassandra's nodes, those of a cluster too.
    pub const CASSANDRA: [Self; 3] = [Self::Cassandra, Self::Cassandra2, Self::Cassandra3];

    /// The service that a further node belongs to, which is its first node.
    #[must_use]
    pub fn first_node(self) -> Self {
        match self {
            Self::Rabbitmq | Self::Rabbitmq2 | Self::Rabbitmq3 => Self::Rabbitmq,
            Self::Cassandra | Self::Cassandra2 | Self::Cassandra3 => Self::Cassandra,
            Self::Postgres | Self::Prometheus => self,
        }
    }

    /// The loopback address that it listens on: nodes of a cluster have the same ports at an address each.
    #[must_use]
    pub fn host(self) -> &'static str {
        match self {
            Self::Rabbitmq | Self::Cassandra | Self::Postgres | Self::Prometheus => "127.0.0.1",
            Self::Rabbitmq2 | Self::Cassandra2 => "127.0.0.2",
            Self::Rabbitmq3 | Self::Cassandra3 => "127.0.0.3",
        }
    }

    /// Its name on the command line, in the state file and of its log file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::Rabbitmq2 => "rabbitmq-2",
            Self::Rabbitmq3 => "rabbitmq-3",
            Self::Cassandra => "cassandra",
            Self::Cassandra2 => "cassandra-2",
            Self::Cassandra3 => "cassandra-3",
            Self::Postgres => "postgres",
            Self::Prometheus => "prometheus",
        }
    }

    /// The environment variable that names a service to use instead of starting one.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Rabbitmq | Self::Rabbitmq2 | Self::Rabbitmq3 => "TOLLGATE_RABBITMQ_URL",
            Self::Cassandra | Self::Cassandra2 | Self::Cassandra3 => "TOLLGATE_CASSANDRA_NODES",
            Self::Postgres => "TOLLGATE_POSTGRES_URL",
            Self::Prometheus => "TOLLGATE_PROMETHEUS_URL",
        }
    }

    /// The processes that belong to it, the one that is the service last. The nodes of a cluster share their port mapper,
    /// which must not die with one of them.
    pub(crate) fn processes(self, cluster: bool) -> &'static [&'static str] {
        match self {
            Self::Rabbitmq if cluster => &["rabbitmq"],
            Self::Rabbitmq => &["epmd", "rabbitmq"],
            Self::Rabbitmq2 => &["rabbitmq-2"],
            Self::Rabbitmq3 => &["rabbitmq-3"],
            Self::Cassandra => &["cassandra"],
            Self::Cassandra2 => &["cassandra-2"],
            Self::Cassandra3 => &["cassandra-3"],
            Self::Postgres => &["postgres"],
            Self::Prometheus => &["postgres_exporter", "prometheus"],
        }
    }

    /// The signal upon which it stops in good order. Postgres waits for all clients to leave upon the usual one.
    pub(crate) fn stop_signal(self) -> Signal {
        match self.first_node() {
            Self::Postgres => Signal::Interrupt,
            _ => Signal::Terminate,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
