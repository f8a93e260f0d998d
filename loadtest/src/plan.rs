//! Plans: what happens to one order, and where that must leave it. Written down here, by the one who sends the
//! events; the product's own fold is not asked.

use serde::Serialize;

/// Whose webhooks are imitated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Provider {
    Stripe,
    Adyen,
    Tollgate,
}

impl Provider {
    pub const ALL: [Self; 3] = [Self::Stripe, Self::Adyen, Self::Tollgate];

    /// The name in the configuration and in Cassandra.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Adyen => "adyen",
            Self::Tollgate => "tollgate",
        }
    }
}

/// What one event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    Failed,
    Authorized,
    Captured,
    Cancelled,
    Refunded,
    /// Stripe's `charge.refunded`, which tells the same money again as a sum.
    RefundedTotal,
    Disputed,
    DisputeWon,
    /// A type that carries no payment change: acknowledged, stored nowhere.
    NoChange,
    /// A payment type that nobody knows: acknowledged, in quarantine.
    Unknown,
}

impl Step {
    pub const ALL: [Self; 10] = [
        Self::Failed,
        Self::Authorized,
        Self::Captured,
        Self::Cancelled,
        Self::Refunded,
        Self::RefundedTotal,
        Self::Disputed,
        Self::DisputeWon,
        Self::NoChange,
        Self::Unknown,
    ];

    /// The word in Cassandra's `kind` column; none for what is not a payment event.
    pub fn kind(self, provider: Provider) -> Option<&'static str> {
        Some(match self {
            Self::Failed => "failed",
            Self::Authorized => "authorized",
            // Stripe reports what was captured so far, not what one capture took.
            Self::Captured if provider == Provider::Stripe => "captured_total",
            Self::Captured => "captured",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
            Self::RefundedTotal => "refunded_total",
            Self::Disputed => "disputed",
            Self::DisputeWon => "dispute_won",
            Self::NoChange | Self::Unknown => return None,
        })
    }

    /// Whether the event itself names the shop's order; Stripe's refunds and disputes only name the payment.
    pub fn names_order(self, provider: Provider) -> bool {
        let through_payment = matches!(self, Self::Refunded | Self::Disputed | Self::DisputeWon);
        !(through_payment && provider == Provider::Stripe)
    }
}

/// What happens to one order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Plan {
    Paid,
    AuthorizedThenCaptured,
    FailedThenPaid,
    Failed,
    Cancelled,
    PartialRefund,
    FullRefund,
    Disputed,
    DisputeWon,
    /// Paid before the shop has committed the order.
    LateOrder,
    /// A capture with a wrong signature: refused, and the order stays as it was.
    Forged,
    NoChange,
    Unknown,
}

/// How often each plan is chosen. Most events are single successful payments, as in a real shop.
pub const WEIGHTS: [(Plan, u32); 13] = [
    (Plan::Paid, 853),
    (Plan::AuthorizedThenCaptured, 40),
    (Plan::FailedThenPaid, 20),
    (Plan::Failed, 15),
    (Plan::Cancelled, 15),
    (Plan::PartialRefund, 15),
    (Plan::FullRefund, 12),
    (Plan::Disputed, 7),
    (Plan::DisputeWon, 7),
    (Plan::LateOrder, 5),
    (Plan::Forged, 5),
    (Plan::NoChange, 5),
    (Plan::Unknown, 1),
];

impl Plan {
    /// The events, in the order in which they happen.
    pub fn steps(self, provider: Provider) -> &'static [Step] {
        use Provider::{Adyen, Stripe, Tollgate};
        use Step::{
            Authorized, Cancelled, Captured, DisputeWon, Disputed, Failed, NoChange, Refunded, RefundedTotal, Unknown,
        };
        match (self, provider) {
            (Self::AuthorizedThenCaptured, _) | (Self::Paid | Self::LateOrder, Adyen) => &[Authorized, Captured],
            (Self::Paid | Self::LateOrder | Self::Forged, _) => &[Captured],
            // Each attempt is a payment of its own at Adyen.
            (Self::FailedThenPaid, Adyen) => &[Failed, Authorized, Captured],
            (Self::FailedThenPaid, _) => &[Failed, Captured],
            (Self::Failed, _) => &[Failed],
            (Self::Cancelled, _) => &[Authorized, Cancelled],
            (Self::PartialRefund | Self::FullRefund, Stripe) => &[Captured, Refunded, RefundedTotal],
            (Self::PartialRefund | Self::FullRefund, Adyen) => &[Authorized, Captured, Refunded],
            (Self::PartialRefund | Self::FullRefund, Tollgate) => &[Captured, Refunded],
            (Self::Disputed, Adyen) => &[Authorized, Captured, Disputed],
            (Self::Disputed, _) => &[Captured, Disputed],
            (Self::DisputeWon, Adyen) => &[Authorized, Captured, Disputed, DisputeWon],
            (Self::DisputeWon, _) => &[Captured, Disputed, DisputeWon],
            (Self::NoChange, _) => &[NoChange],
            (Self::Unknown, _) => &[Unknown],
        }
    }

    /// Which step starts the payment that `step` belongs to.
    pub fn payment_start(self, provider: Provider, step: u32) -> u32 {
        u32::from(self == Self::FailedThenPaid && provider == Provider::Adyen && step > 0)
    }

    /// Where all events of the plan leave the order.
    pub fn final_state(self, total: i64, refund: i64) -> State {
        let state = |status, paid, refunded, disputed| State { status, paid, refunded, disputed };
        match self {
            Self::Paid | Self::AuthorizedThenCaptured | Self::FailedThenPaid | Self::LateOrder | Self::DisputeWon => {
                state("paid", total, 0, 0)
            }
            Self::Failed => state("failed", 0, 0, 0),
            Self::Cancelled => state("cancelled", 0, 0, 0),
            Self::PartialRefund => state("partially_refunded", total, refund, 0),
            Self::FullRefund => state("refunded", total, total, 0),
            Self::Disputed => state("disputed", total, 0, total),
            Self::Forged | Self::NoChange | Self::Unknown => state("pending", 0, 0, 0),
        }
    }
}

/// What an order's row must say. Amounts are minor units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub status: &'static str,
    pub paid: i64,
    pub refunded: i64,
    pub disputed: i64,
}

/// Where only some steps leave the order: for a load that was stopped, or events that may or may not have arrived.
pub fn state_after(plan: Plan, provider: Provider, total: i64, refund: i64, happened: impl Fn(usize) -> bool) -> State {
    let steps = plan.steps(provider);
    let count = (0..steps.len()).filter(|index| happened(*index)).count();
    if count == steps.len() {
        return plan.final_state(total, refund);
    }
    let is = |step: Step| steps.iter().enumerate().any(|(index, s)| *s == step && happened(index));
    let order_is_known = steps.iter().enumerate().any(|(index, s)| s.names_order(provider) && happened(index));
    if !order_is_known || plan == Plan::Forged {
        return State { status: "pending", paid: 0, refunded: 0, disputed: 0 };
    }
    let given_back = if plan == Plan::FullRefund { total } else { refund };
    let paid = if is(Step::Captured) { total } else { 0 };
    let refunded = if is(Step::Refunded) || is(Step::RefundedTotal) { given_back } else { 0 };
    let disputed = if is(Step::Disputed) && !is(Step::DisputeWon) { total } else { 0 };
    let status = match () {
        () if disputed > 0 => "disputed",
        () if refunded > 0 && refunded >= paid => "refunded",
        () if refunded > 0 => "partially_refunded",
        () if paid > 0 => "paid",
        () if is(Step::Cancelled) => "cancelled",
        () if is(Step::Authorized) => "authorized",
        () if is(Step::Failed) => "failed",
        () => "pending",
    };
    State { status, paid, refunded, disputed }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOTAL: i64 = 900;
    const PART: i64 = 300;

    fn after(plan: Plan, provider: Provider, steps: &[usize]) -> State {
        state_after(plan, provider, TOTAL, PART, |index| steps.contains(&index))
    }

    #[test]
    fn complete_plans_end_where_they_say() {
        let all = [0, 1, 2, 3];
        let expected = [
            (Plan::Paid, "paid", 900, 0, 0),
            (Plan::FailedThenPaid, "paid", 900, 0, 0),
            (Plan::Cancelled, "cancelled", 0, 0, 0),
            (Plan::PartialRefund, "partially_refunded", 900, 300, 0),
            (Plan::FullRefund, "refunded", 900, 900, 0),
            (Plan::Disputed, "disputed", 900, 0, 900),
            (Plan::DisputeWon, "paid", 900, 0, 0),
            (Plan::Forged, "pending", 0, 0, 0),
        ];
        for (plan, status, paid, refunded, disputed) in expected {
            for provider in Provider::ALL {
                assert_eq!(after(plan, provider, &all), State { status, paid, refunded, disputed }, "{plan:?}");
            }
        }
    }

    #[test]
    fn partial_plans_end_in_between() {
        assert_eq!(after(Plan::AuthorizedThenCaptured, Provider::Stripe, &[0]).status, "authorized");
        assert_eq!(after(Plan::AuthorizedThenCaptured, Provider::Stripe, &[1]).status, "paid");
        assert_eq!(after(Plan::FailedThenPaid, Provider::Adyen, &[0]).status, "failed");
        assert_eq!(after(Plan::FailedThenPaid, Provider::Adyen, &[0, 1]).status, "authorized");
        assert_eq!(after(Plan::DisputeWon, Provider::Tollgate, &[0, 1]).disputed, TOTAL);
        assert_eq!(after(Plan::Paid, Provider::Stripe, &[]).status, "pending");
        // Without the capture, Stripe's refund belongs to a payment that no order is known for.
        assert_eq!(after(Plan::FullRefund, Provider::Stripe, &[1]).status, "pending");
    }

    #[test]
    fn every_plan_has_events_and_a_weight() {
        for (plan, weight) in WEIGHTS {
            assert!(weight > 0);
            for provider in Provider::ALL {
                let steps = plan.steps(provider);
                assert!(!steps.is_empty() && steps.len() <= 4);
                assert!(plan == Plan::NoChange || steps[0].names_order(provider));
            }
        }
        assert_eq!(WEIGHTS.iter().map(|(_, weight)| weight).sum::<u32>(), 1000);
    }
}
