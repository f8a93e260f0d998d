//! The dashboards, one a file. A new one is a file here and a line in [`all`].

mod cassandra;
mod ingest;
mod overview;
mod postgres;
mod rabbitmq;
mod reconciler;
mod writer;

use crate::board::Board;

/// Their uids: Grafana's links and people's bookmarks have them, so they stay.
mod uid {
    pub const OVERVIEW: &str = "tollgate-overview";
    pub const INGEST: &str = "tollgate-ingest";
    pub const WRITER: &str = "tollgate-writer";
    pub const RECONCILER: &str = "tollgate-reconciler";
    pub const RABBITMQ: &str = "tollgate-rabbitmq";
    pub const CASSANDRA: &str = "tollgate-cassandra";
    pub const POSTGRES: &str = "tollgate-postgres";
}

/// Every dashboard, in the order of a payment's way.
pub fn all() -> Vec<Board> {
    vec![
        overview::board(),
        ingest::board(),
        rabbitmq::board(),
        writer::board(),
        cassandra::board(),
        reconciler::board(),
        postgres::board(),
    ]
}
