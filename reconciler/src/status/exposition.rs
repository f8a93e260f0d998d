//! Reading a program's `/metrics`: the few figures that the page shows, out of Prometheus's text format.

use std::collections::BTreeMap;

/// What one program said of itself. Counters are since its start.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Which program it is, by the metrics it has.
    pub role: Option<&'static str>,
    pub version: Option<String>,
    /// By name: whether it can use what it depends on.
    pub dependencies: BTreeMap<String, bool>,
    /// Payment events that the gateway accepted.
    pub accepted: f64,
    /// Payment events that the writer stored.
    pub stored: f64,
    /// Events that the reconciler merged.
    pub applied: f64,
    pub quarantined: f64,
    pub dead_letters: f64,
    /// Events that wait for their order or payment.
    pub parked: f64,
    /// Seconds.
    pub parked_age: f64,
    /// By kind: how many are open, and the age of the oldest in seconds.
    pub breaks: BTreeMap<String, (f64, f64)>,
    /// By upper bound in seconds: answers that took no longer.
    pub acks: Vec<(f64, f64)>,
}

/// The counters of a [`Reading`] whose growth is shown.
pub type Counter = fn(&Reading) -> f64;

impl Reading {
    /// Reads an exposition; lines that are not understood are passed over.
    pub fn of(text: &str) -> Self {
        let mut reading = Self::default();
        for sample in text.lines().filter_map(Sample::parse) {
            reading.take(&sample);
        }
        reading.acks.sort_by(|(left, _), (right, _)| left.total_cmp(right));
        reading
    }

    fn take(&mut self, sample: &Sample<'_>) {
        let Some(name) = sample.name.strip_prefix("tollgate_") else { return };
        let roles = [("ingest_", "ingest"), ("writer_", "writer"), ("reconciler_", "reconciler")];
        if let Some((_, role)) = roles.iter().find(|(prefix, _)| name.starts_with(prefix)) {
            self.role = Some(role);
        }
        let value = sample.value;
        match name {
            "build_info" => self.version = sample.label("version"),
            "dependency_ready" => {
                self.dependencies.extend(sample.label("dependency").map(|name| (name, value > 0.0)));
            }
            "ingest_events_total" if sample.label("outcome").as_deref() == Some("accepted") => self.accepted += value,
            "ingest_ack_seconds_bucket" => self.take_ack(sample),
            "writer_rows_total" => self.stored += value,
            "writer_quarantined_total" => self.quarantined += value,
            "dead_letters_total" => self.dead_letters += value,
            "reconciler_events_total" if sample.label("outcome").as_deref() == Some("applied") => self.applied += value,
            "reconciler_parked" => self.parked = value,
            "reconciler_parked_age_seconds" => self.parked_age = value,
            "reconciler_breaks" => self.of_kind(sample).0 = value,
            "reconciler_breaks_age_seconds" => self.of_kind(sample).1 = value,
            _ => {}
        }
    }

    fn of_kind(&mut self, sample: &Sample<'_>) -> &mut (f64, f64) {
        self.breaks.entry(sample.label("kind").unwrap_or_default()).or_default()
    }

    /// Sources have a histogram each; the page shows all of them as one.
    fn take_ack(&mut self, sample: &Sample<'_>) {
        let bound = match sample.label("le").as_deref() {
            Some("+Inf") => f64::INFINITY,
            Some(text) => text.parse().unwrap_or(f64::NAN),
            None => f64::NAN,
        };
        if bound.is_nan() {
            return;
        }
        match self.acks.iter_mut().find(|(known, _)| known.total_cmp(&bound).is_eq()) {
            Some((_, count)) => *count += sample.value,
            None => self.acks.push((bound, sample.value)),
        }
    }
}

/// One line: `name{label="value",…} number`.
struct Sample<'t> {
    name: &'t str,
    labels: &'t str,
    value: f64,
}

impl<'t> Sample<'t> {
    fn parse(line: &'t str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (name, labels, rest) = match line.split_once('{') {
            // The last brace: a label's value may have some of its own.
            Some((name, rest)) => rest.rsplit_once('}').map(|(labels, rest)| (name, labels, rest))?,
            None => line.split_once(' ').map(|(name, rest)| (name, "", rest))?,
        };
        let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
        value.is_finite().then_some(Self { name, labels, value })
    }

    fn label(&self, wanted: &str) -> Option<String> {
        let mut rest = self.labels;
        loop {
            let (name, quoted) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut characters = quoted.char_indices();
            let end = loop {
                match characters.next()? {
                    (end, '"') => break end,
                    (_, '\\') => match characters.next()?.1 {
                        'n' => value.push('\n'),
                        other => value.push(other),
                    },
                    (_, other) => value.push(other),
                }
            };
            if name.trim_start_matches([',', ' ']) == wanted {
                return Some(value);
            }
            rest = quoted.get(end + 1..)?;
        }
    }
}

/// A quantile of the growth of cumulative buckets, seconds; interpolated within its bucket as Prometheus does. None
/// where nothing grew. Beyond the last bound, that bound.
pub fn quantile(buckets: &[(f64, f64)], share: f64) -> Option<f64> {
    let (_, total) = *buckets.last()?;
    if total <= 0.0 {
        return None;
    }
    let wanted = share * total;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= wanted && *count > below {
            return match bound.is_finite() {
                true => Some(lower + (bound - lower) * (wanted - below) / (count - below)),
                false => Some(lower),
            };
        }
        (lower, below) = (*bound, *count);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_a_gateway_are_summed_over_its_sources() {
        let reading = Reading::of(
            "# HELP tollgate_ingest_events_total Items.\n\
             tollgate_ingest_events_total{source=\"a\",outcome=\"accepted\"} 40\n\
             tollgate_ingest_events_total{source=\"b } \\\"\\\\ outcome=\\\"accepted\\\"\",outcome=\"accepted\"} 2\n\
             tollgate_ingest_events_total{source=\"a\",outcome=\"no_change\"} 1000\n\
             tollgate_ingest_ack_seconds_bucket{source=\"a\",le=\"0.01\"} 3\n\
             tollgate_ingest_ack_seconds_bucket{source=\"a\",le=\"+Inf\"} 4\n\
             tollgate_ingest_ack_seconds_bucket{source=\"b\",le=\"0.01\"} 5\n\
             tollgate_dependency_ready{dependency=\"rabbitmq\"} 0\n\
             tollgate_build_info{version=\"0.1.0\"} 1\n\
             go_info 1\nnot a line\ntollgate_reconciler_parked\n\n",
        );
        assert_eq!(reading.role, Some("ingest"));
        assert_eq!(reading.accepted, 42.0);
        assert_eq!(reading.acks, [(0.01, 8.0), (f64::INFINITY, 4.0)]);
        assert_eq!(reading.dependencies, [("rabbitmq".to_owned(), false)].into());
        assert_eq!(reading.version.as_deref(), Some("0.1.0"));
    }

    #[test]
    fn breaks_have_their_kind_and_age() {
        let reading = Reading::of(
            "tollgate_reconciler_breaks{kind=\"amount\"} 3\ntollgate_reconciler_breaks_age_seconds{kind=\"amount\"} 7.5\n\
             tollgate_reconciler_parked 5\ntollgate_reconciler_events_total{outcome=\"applied\"} 1e3\n",
        );
        assert_eq!(reading.breaks, [("amount".to_owned(), (3.0, 7.5))].into());
        assert_eq!((reading.parked, reading.applied), (5.0, 1000.0));
    }

    #[test]
    fn quantiles_are_those_of_prometheus() {
        let buckets = [(0.001, 50.0), (0.002, 90.0), (0.01, 100.0), (f64::INFINITY, 100.0)];
        assert_eq!(quantile(&buckets, 0.5), Some(0.001));
        assert!(quantile(&buckets, 0.99).is_some_and(|p99| (p99 - 0.0092).abs() < 1e-9));
        assert_eq!(quantile(&[(0.001, 0.0), (f64::INFINITY, 0.0)], 0.5), None);
        assert_eq!(quantile(&[(0.001, 0.0), (f64::INFINITY, 5.0)], 0.5), Some(0.001));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn no_text_panics() {
        for text in ["{", "}", "a{b=\"} 1", "tollgate_build_info{version=\"\\} 1", "{=\"\"} 1", "tollgate_ingest_ é"] {
            Reading::of(text);
        }
    }
}
