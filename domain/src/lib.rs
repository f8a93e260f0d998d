//! The pure core of Tollgate: payments, money, signatures, providers, frames and the fold.
//!
//! Nothing in here does I/O, reads a clock or draws a random number: time and secrets come in as arguments, so
//! every decision can be tested by example, by property and by simulation.

pub mod claim;
pub mod event;
pub mod explain;
pub mod fold;
pub mod frame;
pub mod ids;
pub mod money;
pub mod partition;
pub mod providers;
pub mod quarantine;
pub mod signature;
pub mod trace;
mod wire;

pub use event::{ContentHash, Kind, PaymentEvent};
pub use money::{Currency, Money};
pub use trace::TraceContext;
pub use wire::DecodeError;
