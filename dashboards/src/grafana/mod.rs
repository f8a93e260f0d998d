//! The part of Grafana's dashboard schema that is used here, under Grafana's names. `check-schema.mjs` compares it with
//! Grafana's own types.

mod dashboard;
mod fields;
mod options;

pub use dashboard::*;
pub use fields::*;
pub use options::*;
