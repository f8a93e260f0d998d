//! Tests against real RabbitMQ, Cassandra and Postgres: each with a queue prefix, keyspace and schema of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alerting;
mod aside;
mod breaking;
mod cluster;
mod commands;
mod conformance;
mod faults;
mod gateway;
mod growth;
mod nodes;
mod prometheus;
mod racing;
mod reconciling;
mod rotating;
mod scenarios;
mod shortened;
mod status;
mod support;
mod sweeping;
mod tracing;
mod watching;
mod webdriver;
mod writing;
