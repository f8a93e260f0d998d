//! Tollgate's load test: open-loop webhooks of several providers, and an audit of what became of each.
//!
//! The generator plans what happens to each order and where that must leave it, sends the events as the providers do,
//! and afterwards compares Cassandra and Postgres with its plans. The product is not asked what is right.

mod audit;
pub mod chaos;
mod client;
mod cpu;
mod facts;
mod flood;
mod identity;
mod journal;
pub mod limits;
mod options;
mod orders;
mod payload;
mod plan;
mod progress;
mod report;
mod results;
mod run;
mod schedule;
mod seeded;
mod traces;

pub use audit::{Audit, AuditError, Findings};
pub use client::{Latency, Totals};
pub use cpu::{Bill, Line, Meter, Place};
pub use flood::Flood;
pub use options::{Mix, Options};
pub use report::{LoadShape, Machine, Report};
pub use run::{LoadError, run};
pub use traces::{SlowStage, SlowTrace, StageTimes, Traces};
