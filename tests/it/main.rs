//! Tests against real RabbitMQ, Cassandra and Postgres: each with a queue prefix, keyspace and schema of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerting;
mod breaking;
mod cluster;
mod faults;
mod gateway;
mod growth;
mod prometheus;
mod racing;
mod reconciling;
mod scenarios;
mod shortened;
mod support;
mod sweeping;
mod watching;
mod writing;
