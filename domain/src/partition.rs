//! Where an event lives in Cassandra: region, UTC day of its event time, and a bucket within that day.

use uuid::Uuid;

const DAY_MS: i64 = 86_400_000;

/// Days since 1970-01-01 of a time.
#[must_use]
pub fn day_of(time_ms: i64) -> i32 {
    i32::try_from(time_ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX)
}

/// How one (region, day) is cut into partitions; pinned by its first write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Length of a time slot, minutes; divides a day.
    pub slot_minutes: i32,
    /// Partitions that one slot is spread over.
    pub lanes: i32,
}

impl Layout {
    /// A layout whose numbers make sense: a slot of 1 to 1440 minutes that divides the day, 1 to 256 lanes.
    #[must_use]
    pub fn new(slot_minutes: i32, lanes: i32) -> Option<Self> {
        let valid = (1..=1440).contains(&slot_minutes) && 1440 % slot_minutes == 0 && (1..=256).contains(&lanes);
        valid.then_some(Self { slot_minutes, lanes })
    }

    /// The bucket of an event: its time slot within the day × lanes + the payment's lane.
    #[must_use]
    pub fn bucket(&self, event_time_ms: i64, payment_id: Uuid) -> i32 {
        let minute = i32::try_from(event_time_ms.rem_euclid(DAY_MS) / 60_000).unwrap_or(0);
        let [first, second, ..] = payment_id.into_bytes();
        let lane = i32::from(u16::from_be_bytes([first, second])) % self.lanes;
        minute / self.slot_minutes * self.lanes + lane
    }

    /// All buckets of a day, for a reader that walks it.
    #[must_use]
    pub fn buckets(&self) -> std::ops::Range<i32> {
        0..1440 / self.slot_minutes * self.lanes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_utc() {
        assert_eq!(day_of(0), 0);
        assert_eq!(day_of(-1), -1);
        assert_eq!(day_of(DAY_MS - 1), 0);
        assert_eq!(day_of(DAY_MS), 1);
    }

    #[test]
    fn layouts_are_checked() {
        assert!(Layout::new(10, 8).is_some());
        for (slot, lanes) in [(0, 8), (7, 8), (1441, 8), (10, 0), (10, 257)] {
            assert!(Layout::new(slot, lanes).is_none());
        }
    }

    proptest! {
        #[test]
        fn every_event_falls_into_the_walked_buckets(time in any::<i64>(), id in any::<u128>(), lanes in 1..=256) {
            let layout = Layout::new(10, lanes).unwrap();
            prop_assert!(layout.buckets().contains(&layout.bucket(time, Uuid::from_u128(id))));
        }
    }
}
