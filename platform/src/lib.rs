//! How Tollgate's programs reach the services around them, and what they share at their edges: configuration,
//! RabbitMQ, Cassandra, Postgres, metrics and logs, shutdown.

pub mod amqp;
pub mod cassandra;
pub mod clock;
pub mod config;
pub mod counters;
pub mod dead_letters;
pub mod http;
pub mod inquiry;
pub mod postgres;
pub mod program;
pub mod proxies;
pub mod retry;
pub mod shares;
pub mod telemetry;
pub mod tls;
pub mod trace;
