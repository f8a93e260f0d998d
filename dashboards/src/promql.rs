//! The few shapes of PromQL that most panels use. `selector` is what stands in braces; it may be empty.

/// Of one instance of a program or service, as chosen at the top of the dashboard.
pub const INSTANCE: &str = "instance=~\"$instance\"";

/// How fast counters grow, summed up by labels (or over everything, for "").
pub fn rate(by: &str, counter: &str, selector: &str) -> String {
    format!("{}(rate({counter}{{{selector}}}[$__rate_interval]))", sum(by))
}

/// How much counters grew in the time that is shown.
pub fn increase(by: &str, counter: &str, selector: &str) -> String {
    format!("{}(increase({counter}{{{selector}}}[$__range]))", sum(by))
}

/// A quantile of a histogram.
pub fn quantile(quantile: &str, by: &str, histogram: &str, selector: &str) -> String {
    let by = if by.is_empty() { "le".to_owned() } else { format!("le, {by}") };
    format!("histogram_quantile({quantile}, sum by ({by}) (rate({histogram}_bucket{{{selector}}}[$__rate_interval])))")
}

/// The mean of a histogram.
pub fn mean(by: &str, histogram: &str, selector: &str) -> String {
    let sum = rate(by, &format!("{histogram}_sum"), selector);
    format!("{sum} / {}", rate(by, &format!("{histogram}_count"), selector))
}

fn sum(by: &str) -> String {
    if by.is_empty() { "sum".to_owned() } else { format!("sum by ({by}) ") }
}
