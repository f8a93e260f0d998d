//! The schedule: which event is due at which slot. Decided before the load starts, from the seed alone, so that
//! nothing is left to decide while the clock runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::plan::{Plan, Provider, WEIGHTS};
use crate::seeded::Seeded;

/// Of a thousand events, those that are sent a second time.
const DUPLICATES_PER_MILLE: u32 = 10;
/// Of a thousand orders with several events, those of which two are sent the wrong way round.
const SWAPPED_PER_MILLE: u32 = 200;
/// The mark of a slot that repeats an event.
const DUPLICATE: u32 = 1 << 31;

/// One order of the run.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    pub plan: Plan,
    pub provider: Provider,
    /// The index of its first event; the others follow.
    pub first_event: u32,
    /// The slot at which it is first heard of.
    pub first_slot: u32,
}

impl Order {
    /// The indices of its events.
    pub fn events(&self) -> std::ops::Range<u32> {
        let count = self.plan.steps(self.provider).len();
        self.first_event..self.first_event + u32::try_from(count).unwrap_or(0)
    }
}

/// What is due at one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub event: u32,
    pub duplicate: bool,
}

/// All slots of a run, its warm-up first.
#[derive(Debug, Default)]
pub struct Schedule {
    slots: Vec<u32>,
    orders: Vec<Order>,
    /// For each event its order.
    events: Vec<u32>,
    rate: u32,
    warm_up_slots: u32,
}

/// Slots from `slot` on that nothing was promised for.
fn room(end: u32, slot: u32, promised: &BinaryHeap<Reverse<(u32, u32)>>) -> u32 {
    (end - slot).saturating_sub(u32::try_from(promised.len()).unwrap_or(u32::MAX))
}

/// What decides a schedule.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Slots a second.
    pub rate: u32,
    pub warm_up_seconds: u32,
    pub seconds: u32,
    /// How often each provider is chosen.
    pub mix: [(Provider, u32); 3],
    pub seed: u64,
}

impl Schedule {
    /// Decides everything. Warm-up and measured load have orders of their own.
    pub fn of(shape: Shape) -> Self {
        let mut schedule = Self { rate: shape.rate.max(1), ..Self::default() };
        let mut choices = Seeded::new(shape.seed);
        schedule.fill(shape.warm_up_seconds.saturating_mul(shape.rate), &shape.mix, &mut choices);
        schedule.warm_up_slots = schedule.slot_count();
        schedule.fill(shape.seconds.saturating_mul(shape.rate), &shape.mix, &mut choices);
        schedule
    }

    fn fill(&mut self, count: u32, mix: &[(Provider, u32)], choices: &mut Seeded) {
        let end = self.slot_count().saturating_add(count);
        // What earlier slots have promised: slot, event.
        let mut promised: BinaryHeap<Reverse<(u32, u32)>> = BinaryHeap::new();
        while self.slot_count() < end {
            let slot = self.slot_count();
            let room = room(end, slot, &promised);
            let ready = promised.peek().is_some_and(|Reverse((at, _))| *at <= slot || room == 0);
            let promise = if ready { promised.pop() } else { None };
            let due = match promise {
                Some(Reverse((_, event))) => event,
                None => self.start_order(slot, room, mix, choices, &mut promised),
            };
            self.slots.push(due);
            let repeat = due & DUPLICATE == 0 && choices.per_mille(DUPLICATES_PER_MILLE) && self.is_sent_twice(due);
            if repeat && self::room(end, slot + 1, &promised) > 0 {
                promised.push(Reverse((slot + 1 + choices.below(self.rate), due | DUPLICATE)));
            }
        }
    }

    /// A forged event is not repeated: nothing could be told from it.
    fn is_sent_twice(&self, event: u32) -> bool {
        self.order_of(event).plan != Plan::Forged
    }

    /// Adds an order; returns the event to send now and promises the others.
    fn start_order(
        &mut self,
        slot: u32,
        room: u32,
        mix: &[(Provider, u32)],
        choices: &mut Seeded,
        promised: &mut BinaryHeap<Reverse<(u32, u32)>>,
    ) -> u32 {
        let provider = choices.weighted(mix).unwrap_or(Provider::Stripe);
        let chosen = choices.weighted(&WEIGHTS).unwrap_or(Plan::Paid);
        // A failed attempt is one event at every provider: it fits into the last slot.
        let fits = chosen.steps(provider).len() <= room as usize;
        let order = Order {
            plan: if fits { chosen } else { Plan::Failed },
            provider,
            first_event: u32::try_from(self.events.len()).unwrap_or(u32::MAX),
            first_slot: slot,
        };
        let number = u32::try_from(self.orders.len()).unwrap_or(u32::MAX);
        let mut events: Vec<u32> = order.events().collect();
        self.events.extend(events.iter().map(|_| number));
        self.orders.push(order);
        if events.len() > 1 && choices.per_mille(SWAPPED_PER_MILLE) {
            let first = choices.below(u32::try_from(events.len() - 1).unwrap_or(1)) as usize;
            events.swap(first, first + 1);
        }
        let mut at = slot;
        for event in &events[1..] {
            at += 1 + choices.below(self.rate / 2);
            promised.push(Reverse((at, *event)));
        }
        events[0]
    }

    pub fn slot_count(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    pub fn warm_up_slots(&self) -> u32 {
        self.warm_up_slots
    }

    pub fn due(&self, slot: u32) -> Due {
        let value = self.slots[slot as usize];
        Due { event: value & !DUPLICATE, duplicate: value & DUPLICATE != 0 }
    }

    /// When a slot is due, from the start of the load.
    pub fn due_after(&self, slot: u32) -> Duration {
        Duration::from_nanos(u64::from(slot) * 1_000_000_000 / u64::from(self.rate))
    }

    pub fn rate(&self) -> u32 {
        self.rate
    }

    pub fn orders(&self) -> &[Order] {
        &self.orders
    }

    pub fn event_count(&self) -> usize {
        self.events.len()
    }

    pub fn order_number(&self, event: u32) -> u32 {
        self.events[event as usize]
    }

    pub fn order_of(&self, event: u32) -> &Order {
        &self.orders[self.events[event as usize] as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn shape() -> Shape {
        let mix = [(Provider::Stripe, 60), (Provider::Adyen, 25), (Provider::Tollgate, 15)];
        Shape { rate: 500, warm_up_seconds: 2, seconds: 20, mix, seed: 42 }
    }

    #[test]
    fn every_event_is_sent_once_and_some_twice() {
        let schedule = Schedule::of(shape());
        assert_eq!(schedule.slot_count(), 11_000);
        assert_eq!(schedule.warm_up_slots(), 1000);
        let mut sent = vec![0; schedule.event_count()];
        let mut duplicates = 0;
        for slot in 0..schedule.slot_count() {
            let due = schedule.due(slot);
            duplicates += u32::from(due.duplicate);
            sent[due.event as usize] += u32::from(!due.duplicate);
            assert!(!due.duplicate || sent[due.event as usize] == 1, "a duplicate follows its event");
        }
        assert!(sent.iter().all(|count| *count == 1));
        assert!((60..180).contains(&duplicates), "{duplicates}");
    }

    #[test]
    fn orders_belong_to_one_phase() {
        let schedule = Schedule::of(shape());
        for slot in 0..schedule.slot_count() {
            let order = schedule.order_of(schedule.due(slot).event);
            assert_eq!(order.first_slot < schedule.warm_up_slots(), slot < schedule.warm_up_slots());
        }
    }

    #[test]
    fn all_plans_occur_and_some_events_come_too_early() {
        let schedule = Schedule::of(shape());
        let mut plans: HashMap<Plan, u32> = HashMap::new();
        schedule.orders().iter().for_each(|order| *plans.entry(order.plan).or_default() += 1);
        assert_eq!(plans.len(), WEIGHTS.len(), "{plans:?}");
        let mut last_seen: HashMap<u32, u32> = HashMap::new();
        let early = (0..schedule.slot_count()).map(|slot| schedule.due(slot)).filter(|due| !due.duplicate);
        let early = early.filter(|due| {
            let order = schedule.order_number(due.event);
            last_seen.insert(order, due.event).is_some_and(|before| before > due.event)
        });
        assert!(early.count() > 50);
    }

    #[test]
    fn the_seed_decides_and_the_rate_is_constant() {
        let (one, two) = (Schedule::of(shape()), Schedule::of(shape()));
        assert_eq!(one.slots, two.slots);
        assert_ne!(one.slots, Schedule::of(Shape { seed: 43, ..shape() }).slots);
        assert_eq!(one.due_after(500), Duration::from_secs(1));
        assert_eq!(one.due_after(1), Duration::from_millis(2));
    }

    #[test]
    fn the_smallest_loads_end() {
        for rate in 1..4 {
            let schedule = Schedule::of(Shape { rate, seconds: 1, warm_up_seconds: 0, ..shape() });
            assert_eq!(schedule.slot_count(), rate);
        }
    }
}
