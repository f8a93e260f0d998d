//! Runs the real services that Tollgate needs (RabbitMQ, Cassandra, Postgres, Prometheus) as ordinary processes on
//! loopback, for development, tests, the demo and fault injection.
//!
//! ```no_run
//! use stack::{Service, Stack};
//!
//! # fn main() -> anyhow::Result<()> {
//! let stack = Stack::open()?;
//! let endpoints = stack.up(&Service::ALL)?;
//! println!("{}", endpoints.postgres_url);
//! stack.kill(Service::Cassandra)?; // as a crash would
//! stack.start(Service::Cassandra)?; // back with its data, on the same ports
//! # Ok(())
//! # }
//! ```

mod cassandra;
pub mod certificates;
mod chaos;
pub mod cli;
mod demo;
mod endpoints;
mod health;
mod install;
mod layout;
mod ports;
mod postgres;
mod process;
mod progress;
mod prometheus;
mod python;
mod rabbitmq;
mod service;
mod stack;
mod start;
mod state;
mod steps;
mod stop;
mod sys;
mod tls;
mod verify;
mod wait;

pub use endpoints::{Endpoints, host_port};
pub use layout::Layout;
pub use prometheus::ScrapeTargets;
pub use service::Service;
pub use stack::{Stack, Status};
