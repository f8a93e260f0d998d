//! Tests against real RabbitMQ, Cassandra and Postgres: each with a queue prefix, keyspace and schema of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod alarmed;
mod alerting;
mod aside;
mod breaking;
mod cluster;
mod commands;
mod conformance;
mod encrypted;
mod faults;
mod fetching;
mod gateway;
mod growth;
mod hostile;
mod https;
mod nodes;
mod outage;
mod overload;
mod prometheus;
mod racing;
mod reconciling;
mod rotating;
mod scenarios;
mod shop;
mod shortened;
mod silent;
mod status;
mod support;
mod sweeping;
mod tracing;
mod unanswered;
mod watching;
mod webdriver;
mod writing;
