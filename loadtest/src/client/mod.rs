//! The sending side: HTTP/1.1 over plain sockets, due requests handed to free connections, answers counted. No more
//! than it takes, because the generator shares the machine with what it measures.

mod connection;
mod lane;
mod outcome;
mod response;
mod stats;

pub use connection::Connection;
pub use lane::{ANSWER_TIMEOUT, Load, drive};
pub use outcome::Outcome;
pub use stats::{Counters, Latency, Recorder, Totals};
