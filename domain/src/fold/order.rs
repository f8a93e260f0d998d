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
    /// The total was taken, or more of which the rest was given back.
    Paid,
    /// More than the total was taken and not given back.
    Overpaid,
    /// Money was given back, so that less than the total is left.
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
    /// Every status.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Authorized,
        Self::PartiallyPaid,
        Self::Paid,
        Self::Overpaid,
        Self::PartiallyRefunded,
        Self::Refunded,
        Self::Disputed,
        Self::Failed,
        Self::Cancelled,
    ];

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

/// How an order's payments can differ from its terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// A payment is in another currency than the order. Expected: the total; actual: what was paid in its currency.
    Currency,
    /// Money was taken and not given back, but not the order's total, and none of the kinds below says why. Expected: the
    /// total; actual: what was paid.
    Amount,
    /// Several payments took money, together more than the total, and it was not given back. Expected: the total; actual:
    /// what was paid.
    DuplicateCapture,
    /// More was given back than was ever taken. Expected: what was taken, of the payments concerned; actual: what was
    /// given back of them.
    OrphanRefund,
    /// Money that was reported as taken failed later, and no other covers it. Expected: the total; actual: what is
    /// still paid.
    CaptureFailed,
}

impl DifferenceKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Currency, Self::Amount, Self::DuplicateCapture, Self::OrphanRefund, Self::CaptureFailed];

    /// The word in the `kind` column of breaks.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Currency => "currency",
            Self::Amount => "amount",
            Self::DuplicateCapture => "duplicate_capture",
            Self::OrphanRefund => "orphan_refund",
            Self::CaptureFailed => "capture_failed",
        }
    }
}

/// How an order's payments differ from its terms. Amounts are minor units of the order's currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// In what way; it says what the amounts mean.
    pub kind: DifferenceKind,
    /// What should be.
    pub expected: i64,
    /// What is.
    pub actual: i64,
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
        Self {
            status: sums.status(terms.total.minor),
            paid: sums.paid,
            refunded: sums.refunded,
            disputed: sums.disputed,
            differences: sums.differences(terms.total.minor),
        }
    }
}

#[derive(Default)]
struct Sums {
    /// Payments that took money.
    taken: usize,
    /// Money that was reported as taken and failed later.
    capture_failed: i64,
    /// Taken and given back, of the payments that gave back more than they took.
    orphaned: (i64, i64),
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
        self.capture_failed = self.capture_failed.saturating_add(payment.capture_failed);
        self.taken += usize::from(payment.net_captured() > 0);
        if payment.refunded > payment.captured {
            self.orphaned.0 = self.orphaned.0.saturating_add(payment.captured);
            self.orphaned.1 = self.orphaned.1.saturating_add(payment.refunded);
        }
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

    /// Paid and not given back.
    fn net(&self) -> i64 {
        self.paid.saturating_sub(self.refunded)
    }

    /// One cause gives one difference of the amount paid: the kind that explains it, else [`DifferenceKind::Amount`].
    /// Giving back what is too much, or all of what is too little, settles it.
    fn differences(&self, total: i64) -> Vec<Difference> {
        let amount = match () {
            () if self.net() > total && self.taken > 1 => Some(DifferenceKind::DuplicateCapture),
            () if self.paid < total && self.capture_failed > 0 => Some(DifferenceKind::CaptureFailed),
            () if self.net() > total || (self.paid < total && self.net() > 0) => Some(DifferenceKind::Amount),
            () => None,
        };
        let of_paid = |kind| Difference { kind, expected: total, actual: self.paid };
        let foreign = self.foreign.then_some(DifferenceKind::Currency);
        let (expected, actual) = self.orphaned;
        let orphaned = (actual > 0).then_some(Difference { kind: DifferenceKind::OrphanRefund, expected, actual });
        let mut differences: Vec<_> = foreign.into_iter().chain(amount).map(of_paid).chain(orphaned).collect();
        differences.sort_unstable();
        differences
    }

    fn status(&self, total: i64) -> OrderStatus {
        match () {
            () if self.disputed > 0 => OrderStatus::Disputed,
            () if self.refunded > 0 && self.net() <= 0 => OrderStatus::Refunded,
            () if self.net() > total => OrderStatus::Overpaid,
            () if self.refunded > 0 && self.net() < total => OrderStatus::PartiallyRefunded,
            // Also where too much was taken, and what was too much was given back.
            () if self.paid > 0 && self.net() == total => OrderStatus::Paid,
            () if self.paid > 0 => OrderStatus::PartiallyPaid,
            () if self.authorized => OrderStatus::Authorized,
            () if self.open => OrderStatus::Pending,
            () if self.failed => OrderStatus::Failed,
            () if self.cancelled => OrderStatus::Cancelled,
            () => OrderStatus::Pending,
        }
    }
}
