//! What several programs count in the same way.

use metrics::{Counter, Gauge};

/// A counter for each value that a label can have, all there from the start: nothing that happens adds a series.
#[derive(Clone)]
pub struct Counters<K>(Vec<(K, Counter)>);

impl<K: Copy + PartialEq> Counters<K> {
    /// Makes one of each.
    pub fn of(all: &[K], counter: impl Fn(K) -> Counter) -> Self {
        Self(all.iter().map(|value| (*value, counter(*value))).collect())
    }

    /// Counts one of this value.
    pub fn count(&self, value: K) {
        self.0.iter().filter(|(known, _)| *known == value).for_each(|(_, counter)| counter.increment(1));
    }
}

/// Something under way, as long as this lives: counted out also when whoever waits for it goes away.
pub struct UnderWay<'a>(&'a Gauge);

impl<'a> UnderWay<'a> {
    /// Counts one in.
    #[must_use]
    pub fn of(gauge: &'a Gauge) -> Self {
        gauge.increment(1);
        Self(gauge)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}
