//! Random choices that a seed alone decides: the same seed is the same load.

/// SplitMix64: small, fast, and good enough to choose from lists.
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The choices of one numbered thing, the same whenever they are made.
    pub fn of(seed: u64, index: u32) -> Self {
        let mut choices = Self(seed ^ (u64::from(index) << 20));
        choices.next();
        choices
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; zero if that is impossible.
    pub fn below(&mut self, end: u32) -> u32 {
        u32::try_from((self.next() >> 32).wrapping_mul(u64::from(end)) >> 32).unwrap_or(0)
    }

    /// True this often in a thousand.
    pub fn per_mille(&mut self, share: u32) -> bool {
        self.below(1000) < share
    }

    /// One of the values, each as often as its weight says; `None` if all weights are zero.
    pub fn weighted<T: Copy>(&mut self, choices: &[(T, u32)]) -> Option<T> {
        let mut left = self.below(choices.iter().map(|(_, weight)| weight).sum());
        choices.iter().find_map(|(value, weight)| {
            let chosen = left < *weight;
            left = left.saturating_sub(*weight);
            chosen.then_some(*value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_decide_how_often() {
        let mut seeded = Seeded::new(7);
        let mut counts = [0; 3];
        for _ in 0..10_000 {
            if let Some(choice) = seeded.weighted(&[(0, 90), (1, 0), (2, 10)]) {
                counts[choice] += 1;
            }
        }
        assert_eq!(counts[1], 0);
        assert!((800..1200).contains(&counts[2]), "{counts:?}");
        assert_eq!(seeded.weighted(&[(0, 0)]), None);
    }

    #[test]
    fn one_things_choices_do_not_depend_on_others() {
        assert_eq!(Seeded::of(1, 5).next(), Seeded::of(1, 5).next());
        assert_ne!(Seeded::of(1, 5).next(), Seeded::of(1, 6).next());
    }
}
