//! The state of one payment, derived from its facts.

use super::Facts;
use crate::{Currency, Kind, Money};

/// Where a payment stands; money refunded and disputed stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PaymentStatus {
    /// Started, nothing decided.
    Pending,
    /// Money is reserved.
    Authorized,
    /// Money was taken.
    Captured,
    /// The latest attempt or capture failed.
    Failed,
    /// Cancelled before capture.
    Cancelled,
    /// The authorization ran out.
    Expired,
}

impl PaymentStatus {
    /// The word in the `status` columns.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Authorized => "authorized",
            Self::Captured => "captured",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}

/// A payment as its events tell it. Amounts are minor units of `currency`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// Where it stands.
    pub status: PaymentStatus,
    /// The currency of the first event that has an amount.
    pub currency: Option<Currency>,
    /// The latest authorized amount.
    pub authorized: i64,
    /// Money ever taken; only grows.
    pub captured: i64,
    /// Money of captures that failed after they were reported.
    pub capture_failed: i64,
    /// Money given back.
    pub refunded: i64,
    /// Money held back or lost in disputes.
    pub disputed: i64,
    /// Whether an event has another currency; its amount is left out.
    pub mixed_currency: bool,
}

impl Payment {
    /// Derives the payment.
    #[must_use]
    pub fn of(facts: &Facts) -> Self {
        let currency = facts
            .entries
            .values()
            .filter_map(|fact| fact.amount.map(|money| (fact.first, money.currency)))
            .min()
            .map(|(_, currency)| currency);
        let sums = Sums { facts, currency };
        let (captured, capture_failed) = sums.captured();
        let mixed_currency = facts.entries.values().any(|f| f.amount.is_some_and(|m| Some(m.currency) != currency));
        Self {
            status: sums.status(captured, capture_failed),
            currency,
            authorized: sums.authorized(),
            captured,
            capture_failed,
            refunded: sums.refunded(),
            disputed: sums.disputed(),
            mixed_currency,
        }
    }

    /// Money taken and not failed since.
    #[must_use]
    pub fn net_captured(&self) -> i64 {
        self.captured - self.capture_failed
    }

    /// Since when the payment only stands authorized: the provider's time of its latest authorization, Unix
    /// milliseconds.
    #[must_use]
    pub fn authorized_since_ms(&self, facts: &Facts) -> Option<i64> {
        let latest = facts.of_kind(Kind::Authorized).map(|(_, fact)| fact).max_by_key(|fact| fact.latest)?;
        (self.status == PaymentStatus::Authorized).then_some(latest.event_time_ms)
    }

    /// The one word that a shop shows for a payment: disputes and refunds before the life cycle.
    #[must_use]
    pub fn shop_status(&self) -> &'static str {
        match () {
            () if self.disputed > 0 => "disputed",
            () if self.refunded > 0 && self.refunded >= self.net_captured() => "refunded",
            () if self.refunded > 0 => "partially_refunded",
            () => self.status.as_str(),
        }
    }

    /// The one amount that a shop shows: what was taken, else what is reserved.
    #[must_use]
    pub fn shop_amount(&self) -> i64 {
        if self.captured > 0 { self.captured } else { self.authorized }
    }
}

struct Sums<'a> {
    facts: &'a Facts,
    currency: Option<Currency>,
}

impl Sums<'_> {
    fn minor(&self, amount: Option<Money>) -> i64 {
        amount.filter(|money| Some(money.currency) == self.currency).map_or(0, |money| money.minor)
    }

    fn authorized(&self) -> i64 {
        let latest = self.facts.of_kind(Kind::Authorized).map(|(_, fact)| fact).max_by_key(|fact| fact.latest);
        latest.map_or(0, |fact| self.minor(fact.amount))
    }

    /// Gross captured, and what of it failed again. Gross is the larger of the largest cumulative figure and the sum
    /// of single captures, so that it never shrinks and the two are never both counted.
    fn captured(&self) -> (i64, i64) {
        let total = self.facts.of_kind(Kind::CapturedTotal).map(|(_, f)| self.minor(f.amount)).max().unwrap_or(0);
        let singles = sum(self.facts.of_kind(Kind::Captured).map(|(_, f)| self.minor(f.amount)));
        let gross = total.max(singles);
        let failed = sum(self.facts.of_kind(Kind::CaptureFailed).map(|(transaction, failure)| {
            let success = self.facts.get(Kind::Captured, transaction);
            match success {
                // Taken again after it failed.
                Some(success) if success.latest.at_ms > failure.latest.at_ms => 0,
                _ if total > 0 => self.minor(failure.amount),
                // A capture that failed before it was ever reported took nothing.
                _ => success.map_or(0, |success| self.minor(success.amount).min(self.minor(failure.amount))),
            }
        }));
        (gross, failed.min(gross))
    }

    /// The latest cumulative figure, plus refunds that first succeeded after it, less those of it that failed after
    /// it; without a cumulative figure the refunds whose latest report is success.
    fn refunded(&self) -> i64 {
        let total = self.facts.of_kind(Kind::RefundedTotal).map(|(_, fact)| fact).max_by_key(|fact| fact.latest);
        let total_at_ms = total.map_or(i64::MIN, |fact| fact.latest.at_ms);
        let mut refunded = total.map_or(0, |fact| self.minor(fact.amount));
        for (transaction, success) in self.facts.of_kind(Kind::Refunded) {
            let failure = self.facts.get(Kind::RefundFailed, transaction);
            let failed = failure.is_some_and(|failure| failure.latest.at_ms >= success.latest.at_ms);
            let counted_in_total = success.first.at_ms <= total_at_ms;
            match (failed, counted_in_total) {
                (false, false) => refunded = refunded.saturating_add(self.minor(success.amount)),
                (true, true) if failure.is_some_and(|f| f.latest.at_ms > total_at_ms) => {
                    refunded = refunded.saturating_sub(self.minor(success.amount));
                }
                _ => {}
            }
        }
        // A refund that was counted while pending, and then never happened.
        for (transaction, failure) in self.facts.of_kind(Kind::RefundFailed) {
            let pending = self.facts.get(Kind::RefundPending, transaction);
            let counted = pending.filter(|pending| pending.first.at_ms <= total_at_ms);
            let never = self.facts.get(Kind::Refunded, transaction).is_none();
            if let (Some(counted), true) = (counted, never && failure.latest.at_ms > total_at_ms) {
                refunded = refunded.saturating_sub(self.minor(failure.amount.or(counted.amount)));
            }
        }
        refunded.max(0)
    }

    /// Disputes that are open or lost, each by its latest report.
    fn disputed(&self) -> i64 {
        let reports = |kind| self.facts.of_kind(kind);
        let mut latest = std::collections::BTreeMap::new();
        for kind in [Kind::Disputed, Kind::DisputeWon, Kind::DisputeLost] {
            for (transaction, fact) in reports(kind) {
                let report = (fact.latest.at_ms, kind, fact.amount);
                let slot = latest.entry(transaction).or_insert(report);
                if (report.0, report.1) > (slot.0, slot.1) {
                    *slot = report;
                }
            }
        }
        let lasting = latest.values().filter(|(_, kind, _)| *kind != Kind::DisputeWon);
        sum(lasting.map(|(_, _, amount)| self.minor(*amount)))
    }

    /// Money taken decides; else the latest report of an attempt, later kinds first among those of one time.
    fn status(&self, captured: i64, capture_failed: i64) -> PaymentStatus {
        if captured > capture_failed {
            return PaymentStatus::Captured;
        }
        let attempts = [
            (Kind::Pending, PaymentStatus::Pending),
            (Kind::Failed, PaymentStatus::Failed),
            (Kind::Authorized, PaymentStatus::Authorized),
            (Kind::CaptureFailed, PaymentStatus::Failed),
            (Kind::Cancelled, PaymentStatus::Cancelled),
            (Kind::Expired, PaymentStatus::Expired),
        ];
        let latest = attempts
            .into_iter()
            .flat_map(|(kind, status)| self.facts.of_kind(kind).map(move |(_, f)| (f.latest.at_ms, kind, status)))
            .max();
        latest.map_or(PaymentStatus::Pending, |(_, _, status)| status)
    }
}

fn sum(amounts: impl Iterator<Item = i64>) -> i64 {
    amounts.fold(0, i64::saturating_add)
}
