//! One run, and what each of its events says: a pure function of the run and the event's index, so that nothing has to
//! be remembered but what became of it.

use std::sync::OnceLock;

use crate::identity::{RunName, Token};
use crate::journal::{Fate, Journal};
use crate::plan::{Plan, Provider, State, Step, state_after};
use crate::schedule::{Order, Schedule};
use crate::seeded::Seeded;

/// Adyen names the merchant's account in every item.
pub const ADYEN_ACCOUNT: &str = "TollgateLoadECOM";
/// The first event of an order happened this long before it is sent; its others follow 2 s apart.
const FIRST_EVENT_AGO_S: i64 = 10;

/// A currency as the payloads write it.
#[derive(Debug, PartialEq, Eq)]
pub struct Currency {
    pub code: &'static str,
    pub lower: &'static str,
    pub exponent: u8,
}

static CURRENCIES: [(&Currency, u32); 5] = [
    (&Currency { code: "EUR", lower: "eur", exponent: 2 }, 50),
    (&Currency { code: "USD", lower: "usd", exponent: 2 }, 28),
    (&Currency { code: "GBP", lower: "gbp", exponent: 2 }, 14),
    (&Currency { code: "JPY", lower: "jpy", exponent: 0 }, 5),
    (&Currency { code: "KWD", lower: "kwd", exponent: 3 }, 3),
];

/// What an order is about.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub currency: &'static Currency,
    pub total: i64,
    /// What a partial refund gives back.
    pub refund: i64,
}

/// What one event says.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    pub event: u32,
    pub order: u32,
    pub plan: Plan,
    pub provider: Provider,
    pub step: Step,
    /// The event that names the payment, whose token the payment's id carries.
    pub payment: u32,
    /// The same for the refund or dispute.
    pub transaction: u32,
    pub terms: Terms,
    /// The amount that the event is about.
    pub amount: i64,
    pub time_ms: i64,
}

/// One run: names, schedule, start and what became of each event.
#[derive(Debug)]
pub struct Run {
    pub name: RunName,
    pub seed: u64,
    pub schedule: Schedule,
    pub journal: Journal,
    /// Of every order reference.
    pub order_prefix: String,
    start_unix_s: OnceLock<i64>,
}

impl Run {
    pub fn new(name: RunName, seed: u64, schedule: Schedule) -> Self {
        let journal = Journal::new(schedule.event_count());
        Self { name, seed, schedule, journal, order_prefix: name.order_prefix(), start_unix_s: OnceLock::new() }
    }

    /// Fixes when the load starts; event times follow from it.
    pub fn start(&self, now_unix_s: i64) {
        let _already_started = self.start_unix_s.set(now_unix_s);
    }

    pub fn token(&self, event: u32) -> Token {
        self.name.token(event)
    }

    /// The terms of an order.
    pub fn terms(&self, order: u32) -> Terms {
        let mut choices = Seeded::of(self.seed, order);
        let currency = choices.weighted(&CURRENCIES).unwrap_or(CURRENCIES[0].0);
        // Amounts of three digits after the point end in zero at Stripe, so all do.
        let unit = if currency.exponent == 3 { 10 } else { 1 };
        let total = i64::from(500 + choices.below(40_000)) * unit;
        let refund = i64::from(100 + choices.below(300)) * unit;
        Terms { currency, total, refund }
    }

    /// What an event says.
    pub fn facts(&self, event: u32) -> Facts {
        let number = self.schedule.order_number(event);
        let order = self.schedule.order_of(event);
        let steps = order.plan.steps(order.provider);
        let position = event - order.first_event;
        let step = steps[position as usize];
        let terms = self.terms(number);
        // A dispute keeps its id until it is closed; a refund's id is its event's.
        let opened = steps.iter().zip(order.events()).find(|(step, _)| **step == Step::Disputed);
        let transaction = match (step, opened) {
            (Step::DisputeWon, Some((_, event))) => event,
            _ => event,
        };
        Facts {
            event,
            order: number,
            plan: order.plan,
            provider: order.provider,
            step,
            payment: order.first_event + order.plan.payment_start(order.provider, position),
            transaction,
            terms,
            amount: match (step, order.plan) {
                (Step::Refunded | Step::RefundedTotal, Plan::PartialRefund) => terms.refund,
                _ => terms.total,
            },
            time_ms: self.time_ms(order, position, event),
        }
    }

    fn time_ms(&self, order: &Order, position: u32, event: u32) -> i64 {
        let start = self.start_unix_s.get().copied().unwrap_or(0);
        let due = i64::from(order.first_slot / self.schedule.rate());
        let seconds = start + due - FIRST_EVENT_AGO_S + 2 * i64::from(position);
        // Only our own source tells fractions of a second.
        let millis = if order.provider == Provider::Tollgate { i64::from(event % 1000) } else { 0 };
        seconds * 1000 + millis
    }

    /// When the earliest and the latest event happened, as far as the schedule goes.
    pub fn time_range_ms(&self) -> (i64, i64) {
        let start = self.start_unix_s.get().copied().unwrap_or(0);
        let seconds = i64::from(self.schedule.slot_count() / self.schedule.rate());
        ((start - FIRST_EVENT_AGO_S) * 1000, (start + seconds + 1) * 1000)
    }

    /// The states that an order's row may be in: one, unless it is unknown whether some of its events arrived.
    pub fn states(&self, number: u32) -> Vec<State> {
        let order = &self.schedule.orders()[number as usize];
        let terms = self.terms(number);
        let fates: Vec<Fate> = order.events().map(|event| self.journal.fate(event)).collect();
        let mut states: Vec<State> = Vec::with_capacity(1);
        for arrived in 0_u32..1 << fates.len() {
            let happened = |index: usize| arrived & (1 << index) != 0;
            let possible = fates.iter().enumerate().all(|(index, fate)| match fate {
                Fate::Acknowledged => happened(index),
                Fate::Unsent => !happened(index),
                Fate::Uncertain => true,
            });
            let state = state_after(order.plan, order.provider, terms.total, terms.refund, happened);
            if possible && !states.contains(&state) {
                states.push(state);
            }
        }
        states
    }

    /// Whether it is unknown if some event of the order arrived.
    pub fn is_uncertain(&self, number: u32) -> bool {
        let order = &self.schedule.orders()[number as usize];
        order.plan != Plan::Forged && order.events().any(|event| self.journal.fate(event) == Fate::Uncertain)
    }

    /// The id of the event as Cassandra's `provider_event_id` has it.
    pub fn provider_event_id(&self, facts: &Facts) -> String {
        let own = self.token(facts.event);
        match facts.provider {
            Provider::Stripe => format!("evt_LT{}", text(&own)),
            Provider::Tollgate => format!("msg_LT{}", text(&own)),
            Provider::Adyen => {
                let (code, success) = adyen_code(facts.step);
                format!("{code}:{}:{success}", text(&self.token(adyen_psp(facts))))
            }
        }
    }

    /// The id of the payment as the event names it.
    pub fn provider_payment_id(&self, facts: &Facts) -> String {
        let token = self.token(facts.payment);
        match facts.provider {
            Provider::Stripe => format!("pi_LT{}", text(&token)),
            Provider::Tollgate => format!("pay_LT{}", text(&token)),
            Provider::Adyen => text(&token).to_owned(),
        }
    }
}

/// The account that the payloads of a provider name.
pub fn account(provider: Provider) -> &'static str {
    if provider == Provider::Adyen { ADYEN_ACCOUNT } else { "" }
}

/// The event whose token is the item's `pspReference`: a dispute keeps its own over all its events.
pub fn adyen_psp(facts: &Facts) -> u32 {
    facts.transaction
}

/// Adyen's `eventCode` and `success`.
pub fn adyen_code(step: Step) -> (&'static str, &'static str) {
    match step {
        Step::Failed => ("AUTHORISATION", "false"),
        Step::Authorized => ("AUTHORISATION", "true"),
        Step::Captured => ("CAPTURE", "true"),
        Step::Cancelled => ("CANCELLATION", "true"),
        Step::Refunded | Step::RefundedTotal => ("REFUND", "true"),
        Step::Disputed => ("CHARGEBACK", "true"),
        Step::DisputeWon => ("CHARGEBACK_REVERSED", "true"),
        Step::NoChange => ("REPORT_AVAILABLE", "true"),
        Step::Unknown => ("SOME_NEW_TYPE", "true"),
    }
}

/// A token as text.
pub fn text(token: &Token) -> &str {
    std::str::from_utf8(token).unwrap_or_default()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::schedule::Shape;

    pub const START: i64 = 1_795_514_400;

    /// A small run of all providers and plans.
    pub fn run() -> Run {
        let mix = [(Provider::Stripe, 60), (Provider::Adyen, 25), (Provider::Tollgate, 15)];
        let schedule = Schedule::of(Shape { rate: 500, warm_up_seconds: 0, seconds: 20, mix, seed: 11 });
        let run = Run::new(RunName::new(11, 5), 11, schedule);
        run.start(START);
        run
    }

    #[test]
    fn events_of_one_order_lie_apart_in_time() {
        let run = run();
        for order in run.schedule.orders() {
            let times: Vec<i64> = order.events().map(|event| run.facts(event).time_ms).collect();
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 1000), "{times:?}");
            let (from, to) = run.time_range_ms();
            assert!(times.iter().all(|time| (from..=to).contains(time)));
        }
    }

    #[test]
    fn what_is_unknown_widens_what_is_allowed() {
        let run = run();
        let two = run.schedule.orders().iter().position(|order| order.plan == Plan::AuthorizedThenCaptured);
        let number = u32::try_from(two.unwrap_or_default()).unwrap_or_default();
        let first = run.schedule.orders()[number as usize].first_event;
        let statuses = || run.states(number).iter().map(|state| state.status).collect::<Vec<_>>();
        assert_eq!(statuses(), ["pending"]);
        run.journal.sent(first);
        assert_eq!(statuses(), ["pending", "authorized"]);
        run.journal.acknowledged(first);
        assert_eq!(statuses(), ["authorized"]);
        run.journal.acknowledged(first + 1);
        assert_eq!(statuses(), ["paid"]);
    }

    #[test]
    fn refunds_are_smaller_than_totals() {
        let run = run();
        for order in 0..2000 {
            let terms = run.terms(order);
            assert!(0 < terms.refund && terms.refund < terms.total);
        }
    }
}
