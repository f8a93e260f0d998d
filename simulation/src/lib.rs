//! Tollgate's deciding parts against models of its services, under a scheduler that a seed decides: messages and steps
//! take any time, are lost, repeated or done without an answer; programs crash wherever they are. What must hold then
//! is the contract. docs/SIMULATION.md says what is simulated and what is not.

mod amqp;
mod broker;
mod cassandra;
mod chaos;
mod check;
mod faults;
mod planted;
mod postgres;
mod programs;
mod provider;
mod schedule;
mod seeded;
mod stores;
mod story;
mod world;

pub use planted::Planted;
pub use schedule::{Outcome, RunError, run};
