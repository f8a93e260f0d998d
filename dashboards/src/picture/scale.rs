//! Numbers for people: axes that end at round values, and texts with units.

use crate::panel::Unit;

/// A vertical axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axis {
    /// An axis that has room for all values: from zero, or over whole powers of ten.
    pub fn over(values: impl Iterator<Item = f64> + Clone, logarithmic: bool) -> Self {
        let largest = values.clone().fold(0.0, f64::max);
        if !logarithmic {
            return Self { low: 0.0, high: round_up(largest), logarithmic };
        }
        let smallest = values.filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let low = if smallest.is_finite() { smallest } else { 0.001 };
        let (low, high) = (10f64.powf(low.log10().floor()), 10f64.powf(largest.max(low).log10().ceil()));
        Self { low, high: high.max(low * 10.0), logarithmic }
    }

    /// Where a value is: 0 at the bottom, 1 at the top.
    pub fn place(self, value: f64) -> f64 {
        let share = match self.logarithmic {
            true => (value.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
            false => value / self.high,
        };
        share.clamp(0.0, 1.0)
    }

    /// The values that get a line.
    pub fn ticks(self) -> Vec<f64> {
        match self.logarithmic {
            true => {
                (0..=12).map(|power| self.low * 10f64.powi(power)).filter(|tick| *tick <= self.high * 1.01).collect()
            }
            false => (0..=4).map(|quarter| self.high * f64::from(quarter) / 4.0).collect(),
        }
    }
}

/// The next of 1, 2, 4, 5, 8 and 10 times a power of ten.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * power).find(|rounded| *rounded >= value * 0.999).unwrap_or(10.0 * power)
}

/// A value as a person would say it.
pub fn text(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value.abs() >= 60.0 => format!("{} min", short(value / 60.0)),
        Unit::Seconds if value == 0.0 || value.abs() >= 1.0 => format!("{} s", short(value)),
        Unit::Seconds => format!("{} ms", short(value * 1000.0)),
        Unit::Share => format!("{} %", short(value * 100.0)),
        Unit::Bytes => format!("{} MiB", short(value / 1_048_576.0)),
        Unit::EventsPerSecond
        | Unit::RequestsPerSecond
        | Unit::RowsPerSecond
        | Unit::MessagesPerSecond
        | Unit::PerSecond => format!("{}/s", short(value)),
        _ => short(value),
    }
}

fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => format!("{:.0}k", value / 1000.0),
        size if size >= 1000.0 => format!("{:.1}k", value / 1000.0),
        size if size >= 100.0 || size.fract() < 1e-9 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_values_and_hold_all() {
        let axis = Axis::over([0.0, 295.0].into_iter(), false);
        assert_eq!(axis.ticks(), [0.0, 80.0, 160.0, 240.0, 320.0]);
        assert_eq!((axis.place(320.0), axis.place(0.0), axis.place(1e9)), (1.0, 0.0, 1.0));
        let axis = Axis::over([0.0014, 0.02].into_iter(), true);
        assert_eq!(axis.ticks().len(), 3);
        assert!(axis.place(0.01) > 0.49 && axis.place(0.01) < 0.51);
        assert_eq!(Axis::over([].into_iter(), true).place(0.0), 0.0);
    }

    #[test]
    fn values_have_their_units() {
        assert_eq!(text(0.0014, Unit::Seconds), "1.40 ms");
        assert_eq!(text(295.2, Unit::EventsPerSecond), "295/s");
        assert_eq!(text(0.9998, Unit::Share), "100.0 %");
        assert_eq!(text(8153.0, Unit::EventsPerSecond), "8.2k/s");
        assert_eq!(text(0.0, Unit::Count), "0");
    }
}
