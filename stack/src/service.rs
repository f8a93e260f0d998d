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
    /// The store of payment events.
    Cassandra,
    /// The shop's orders.
    Postgres,
    /// Metrics of programs and services.
    Prometheus,
}

impl Service {
    /// Every service, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Rabbitmq, Self::Cassandra, Self::Postgres, Self::Prometheus];

    /// Its name on the command line, in the state file and of its log file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rabbitmq => "rabbitmq",
            Self::Cassandra => "cassandra",
            Self::Postgres => "postgres",
            Self::Prometheus => "prometheus",
        }
    }

    /// The environment variable that names a service to use instead of starting one.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Rabbitmq => "TOLLGATE_RABBITMQ_URL",
            Self::Cassandra => "TOLLGATE_CASSANDRA_NODES",
            Self::Postgres => "TOLLGATE_POSTGRES_URL",
            Self::Prometheus => "TOLLGATE_PROMETHEUS_URL",
        }
    }

    /// The processes that belong to it, the one that is the service last.
    pub(crate) fn processes(self) -> &'static [&'static str] {
        match self {
            Self::Rabbitmq => &["epmd", "rabbitmq"],
            Self::Cassandra => &["cassandra"],
            Self::Postgres => &["postgres"],
            Self::Prometheus => &["postgres_exporter", "prometheus"],
        }
    }

    /// The signal upon which it stops in good order. Postgres waits for all clients to leave upon the usual one.
    pub(crate) fn stop_signal(self) -> Signal {
        match self {
            Self::Postgres => Signal::Interrupt,
            Self::Rabbitmq | Self::Cassandra | Self::Prometheus => Signal::Terminate,
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
