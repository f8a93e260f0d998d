//! Which rows a command is about.

use clap::Args;
use domain::providers::parse_time_ms;
use platform::config::Config;
use uuid::Uuid;

use super::aside::Row;

const DAY_MS: i64 = 86_400_000;

/// What rows have in common.
#[derive(Debug, Clone, Default, Args)]
pub struct Filter {
    /// Only of this source
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// Only of this region
    #[arg(long, value_name = "NAME")]
    pub region: Option<String>,
    /// Only with a reason that contains this, in any case
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only from this time on: YYYY-MM-DD (UTC), or RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<i64>,
    /// Only before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<i64>,
    /// Only of this UTC day
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day, conflicts_with_all = ["since", "until"])]
    pub day: Option<i64>,
    /// Instead of those that are open, those that were put through again already
    #[arg(long)]
    pub done: bool,
}

/// The rows that a command changes.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["ids", "all"]))]
pub struct Selection {
    /// Ids, as `list` shows them; also of rows that were put through again already
    #[arg(value_name = "ID")]
    pub ids: Vec<Uuid>,
    /// All rows that the filters let through
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub filter: Filter,
    /// At most this many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Only show what it would do
    #[arg(long)]
    pub dry_run: bool,
    /// Print the outcome as JSON
    #[arg(long)]
    pub json: bool,
}

impl Filter {
    /// Says which of the names the configuration does not have: a wrong one finds nothing, which looks like all is well.
    pub fn check(&self, config: &Config) {
        if let Some(source) = self.source.as_ref().filter(|source| !config.sources.contains_key(*source)) {
            eprintln!("warning: the configuration has no source {source:?}");
        }
        if let Some(region) = self.region.as_ref().filter(|region| !config.regions.contains(region)) {
            eprintln!("warning: the configuration has no region {region:?}; it has {}", config.regions.join(", "));
        }
    }

    /// Whether a row is one of those.
    pub fn lets_through(&self, row: &Row) -> bool {
        let is = |wanted: &Option<String>, value: &Option<String>| wanted.is_none() || wanted == value;
        let reason = || row.reason.to_lowercase();
        let (since, until) = match self.day {
            Some(day) => (Some(day), Some(day + DAY_MS)),
            None => (self.since, self.until),
        };
        row.is_done() == self.done
            && is(&self.source, &row.source)
            && is(&self.region, &row.region)
            && since.is_none_or(|since| row.at_ms >= since)
            && until.is_none_or(|until| row.at_ms < until)
            && self.reason.as_ref().is_none_or(|wanted| reason().contains(&wanted.to_lowercase()))
    }
}

/// Reads a time of the command line into Unix milliseconds.
fn parse_time(text: &str) -> Result<i64, String> {
    let time = parse_time_ms(text).or_else(|| parse_day(text).ok());
    time.ok_or_else(|| "a time is written 2026-11-24 or 2026-11-24T09:00:00Z".to_owned())
}

/// Reads a day of the command line into its first Unix millisecond.
fn parse_day(text: &str) -> Result<i64, String> {
    let is_day = text.len() == "2026-11-24".len();
    let start = parse_time_ms(&format!("{text}T00:00:00Z")).filter(|_| is_day);
    start.ok_or_else(|| "a day is written YYYY-MM-DD, like 2026-11-24".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row() -> Row {
        Row {
            key: "shop".into(),
            id: Uuid::nil(),
            source: Some("shop".into()),
            region: Some("eu".into()),
            reason: "Unknown payment type".into(),
            at_ms: parse_time("2026-11-24T09:00:00Z").unwrap(),
            again_at_ms: None,
            again_of_ms: None,
            mark_us: 1,
            again: 0,
            more: Vec::new(),
        }
    }

    #[test]
    fn every_filter_narrows() {
        let day = |text: &str| parse_day(text).ok();
        let time = |text: &str| parse_time(text).ok();
        let some = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (Filter::default(), true),
            (Filter { source: some("shop"), ..Filter::default() }, true),
            (Filter { source: some("sho"), ..Filter::default() }, false),
            (Filter { region: some("us"), ..Filter::default() }, false),
            (Filter { reason: some("PAYMENT type"), ..Filter::default() }, true),
            (Filter { reason: some("amount"), ..Filter::default() }, false),
            (Filter { day: day("2026-11-24"), ..Filter::default() }, true),
            (Filter { day: day("2026-11-23"), ..Filter::default() }, false),
            (Filter { day: day("2026-11-25"), ..Filter::default() }, false),
            (Filter { since: time("2026-11-24T09:00:00Z"), ..Filter::default() }, true),
            (Filter { since: time("2026-11-25"), ..Filter::default() }, false),
            (Filter { until: time("2026-11-24T09:00:00Z"), ..Filter::default() }, false),
            (Filter { done: true, ..Filter::default() }, false),
        ] {
            assert_eq!(filter.lets_through(&row()), expected, "{filter:?}");
        }
    }

    #[test]
    fn what_comes_again_after_it_was_put_through_is_open() {
        let mut row = row();
        row.again_of_ms = Some(row.at_ms);
        assert!(row.is_done());
        row.at_ms += 1;
        assert!(!row.is_done());
    }

    #[test]
    fn times_are_dates_or_rfc_3339() {
        assert_eq!(parse_time("1970-01-02"), Ok(DAY_MS));
        assert_eq!(parse_time("1970-01-02T00:00:01+00:00"), Ok(DAY_MS + 1000));
        for wrong in ["", "yesterday", "1970-13-01", "12"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
        assert!(parse_day("1970-01-02T00:00:00Z").is_err());
    }
}
