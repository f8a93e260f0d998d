//! The state of an order, derived from its terms and its payments.

use super::{Payment, PaymentStatus};
use crate::Money;

/// What the shop asks for an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// The order's total.
    pub total: Money,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderStatus {
    /// No money yet.
    Pending,
    /// A payment is authorized.
    Authorized,
    /// Less than the total was taken.
    PartiallyPaid,
    /// The total was taken.
    Paid,
    /// More than the total was taken.
    Overpaid,
    /// Some of the money was given back.
    PartiallyRefunded,
    /// All of the money was given back.
    Refunded,
    /// Money is held back or lost in a dispute.
    Disputed,
    /// Every payment failed.
    Failed,
    /// Every payment was cancelled or expired.
    Cancelled,
}

impl OrderStatus {
    /// The word in the `status` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Authorized => "authorized",
            Self::PartiallyPaid => "partially_paid",
            Self::Paid => "paid",
            Self::Overpaid => "overpaid",
            Self::PartiallyRefunded => "partially_refunded",
            Self::Refunded => "refunded",
            Self::Disputed => "disputed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How an order's payments differ from its terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// A payment is in another currency than the order.
    Currency,
    /// Money was taken, but not the order's total.
    Amount,
}

impl Difference {
    /// The word in the `kind` column of breaks.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Currency => "currency",
            Self::Amount => "amount",
        }
    }
}

/// An order as its payments tell it. Amounts are minor units of the order's currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Where it stands.
    pub status: OrderStatus,
    /// Money taken and not failed since.
    pub paid: i64,
    /// Money given back.
    pub refunded: i64,
    /// Money held back or lost in disputes.
    pub disputed: i64,
    /// What does not fit; empty when all is well.
    pub differences: Vec<Difference>,
}

impl Order {
    /// Derives the order from all of its payments, in any order. Payments in another currency count for nothing but
    /// a difference.
    #[must_use]
    pub fn of<'p>(terms: Terms, payments: impl IntoIterator<Item = &'p Payment>) -> Self {
        let mut sums = Sums::default();
        for payment in payments {
            if payment.mixed_currency || payment.currency.is_some_and(|c| c != terms.total.currency) {
                sums.foreign = true;
            }
            if payment.currency.is_none_or(|c| c == terms.total.currency) {
                sums.add(payment);
            }
        }
        let mut differences = Vec::new();
        if sums.foreign {
            differences.push(Difference::Currency);
        }
        if sums.paid > 0 && sums.paid != terms.total.minor {
            differences.push(Difference::Amount);
        }
        Self {
            status: sums.status(terms.total.minor),
            paid: sums.paid,
            refunded: sums.refunded,
            disputed: sums.disputed,
            differences,
        }
    }
}

#[derive(Default)]
struct Sums {
    paid: i64,
    refunded: i64,
    disputed: i64,
    foreign: bool,
    authorized: bool,
    open: bool,
    failed: bool,
    cancelled: bool,
}

impl Sums {
    fn add(&mut self, payment: &Payment) {
        self.paid = self.paid.saturating_add(payment.net_captured());
        self.refunded = self.refunded.saturating_add(payment.refunded);
        self.disputed = self.disputed.saturating_add(payment.disputed);
        // A capture that failed after success reopens the order: the shop is to ask for the money again.
        let reopened = payment.captured > 0 && payment.net_captured() == 0;
        match payment.status {
            PaymentStatus::Authorized => self.authorized = true,
            PaymentStatus::Failed if !reopened => self.failed = true,
            PaymentStatus::Cancelled | PaymentStatus::Expired => self.cancelled = true,
            PaymentStatus::Pending | PaymentStatus::Failed => self.open = true,
            PaymentStatus::Captured => {}
        }
    }

    fn status(&self, total: i64) -> OrderStatus {
        match () {
            () if self.disputed > 0 => OrderStatus::Disputed,
            () if self.refunded > 0 && self.refunded >= self.paid => OrderStatus::Refunded,
            () if self.refunded > 0 => OrderStatus::PartiallyRefunded,
            () if self.paid > total => OrderStatus::Overpaid,
            () if self.paid > 0 && self.paid == total => OrderStatus::Paid,
            () if self.paid > 0 => OrderStatus::PartiallyPaid,
            () if self.authorized => OrderStatus::Authorized,
            () if self.open => OrderStatus::Pending,
            () if self.failed => OrderStatus::Failed,
            () if self.cancelled => OrderStatus::Cancelled,
            () => OrderStatus::Pending,
        }
    }
}
