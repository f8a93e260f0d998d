//! Tollgate's Grafana dashboards as code: what is on them, and the JSON files that Grafana reads.
//!
//! `cargo run -p dashboards` writes the files anew. A dashboard is a file in `boards/`; a panel is one call there:
//!
//! ```
//! use dashboards::{Panel, Unit};
//!
//! let panel = Panel::series("Stored", Unit::RowsPerSecond, "Payment events that Cassandra has.")
//!     .query("{{region}}", "sum by (region) (rate(tollgate_writer_rows_total[$__rate_interval]))");
//! assert_eq!(panel.title(), "Stored");
//! ```

mod board;
mod boards;
mod grafana;
mod panel;
pub mod picture;
mod promql;
mod queries;
mod render;
#[cfg(test)]
mod tests;

pub use board::{Board, Row, Variable};
pub use panel::{Color, Levels, Panel, Unit};
pub use queries::{Query, queries};

/// Every dashboard, in the order of a payment's way.
#[must_use]
pub fn all() -> Vec<Board> {
    boards::all()
}

/// The files of all dashboards: name and text.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    all().iter().map(|board| (board.file_name(), render::json(board))).collect()
}
