//! The CPU bill: which process spent how much, read from `/proc`.

mod meter;
mod metering;
mod proc;

pub use meter::{Bill, Line, Meter, Place};
pub use metering::Metering;
