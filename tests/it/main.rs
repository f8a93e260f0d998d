//! Tests against real RabbitMQ, Cassandra and Postgres: each with a queue prefix, keyspace and schema of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod gateway;
mod racing;
mod reconciling;
mod support;
mod sweeping;
mod writing;
