//! The fold: the state of a payment and of an order as a pure function of the *set* of their events.
//!
//! [`Facts`] is what is kept of a payment's events. Merging an event into it is commutative, associative and
//! idempotent (every field is a minimum or a maximum by a total order), so any order of arrival, any duplicates and
//! any split into batches give the same facts. [`Payment::of`] and [`Order::of`] derive states from them.

mod facts;
mod order;
mod payment;

pub use facts::{Fact, Facts, Named, Version};
pub use order::{Difference, DifferenceKind, Order, OrderStatus, Terms};
pub use payment::{Payment, PaymentStatus};

#[cfg(test)]
mod properties;
