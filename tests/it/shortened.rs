//! The shipped rules and scrape configuration, faster: so that a test sees within minutes what takes days.
//!
//! Every time of `n` seconds becomes the cube root of `n` seconds, in whole seconds. That keeps their order: a minute
//! becomes 4 s, five minutes 7, an hour 15, six hours 28, three days 64, and a second stays one. Scrapes come every
//! second, so the shortest window has four of them. Nothing else changes: what is asked, of which labels, and how much
//! is too much stay as shipped, and so do names (`ratio_rate5m`).

use anyhow::{Context, Result};

/// What stands before a duration: range selectors, offsets, and the keys of both files.
const DURATIONS: [&str; 5] = ["[", "offset ", "for: ", "interval: ", "timeout: "];
/// What stands before a number of seconds: a bound of a histogram, and the age of what waits.
const BOUND: &str = "le=~\"";
const AGE: &str = "_seconds) > ";

/// Rules or a scrape configuration with all times shortened. Comments stay as they are.
pub fn shortened(text: &str) -> Result<String> {
    let lines = text.lines().map(|line| match line.trim_start().starts_with('#') {
        true => Ok(line.to_owned()),
        false => line_shortened(line).with_context(|| line.to_owned()),
    });
    Ok(lines.collect::<Result<Vec<_>>>()?.join("\n") + "\n")
}

/// A duration such as `5m`, shortened.
fn duration(text: &str) -> Result<String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let unit_seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => anyhow::bail!("not a duration: {text:?}"),
    };
    Ok(format!("{}s", root(number.parse::<u32>()? * unit_seconds)))
}

/// The cube root to the nearest whole number: the first `n` with `n + 1/2` above it.
fn root(seconds: u32) -> u64 {
    (1..).find(|n: &u64| (2 * n + 1).pow(3) > 8 * u64::from(seconds)).unwrap_or_default()
}

fn line_shortened(line: &str) -> Result<String> {
    let mut line = line.to_owned();
    for prefix in DURATIONS {
        // `[0-9]` of a pattern is none.
        let is_duration = |word: &str| word.ends_with(|c: char| c.is_ascii_alphabetic());
        line = replaced(&line, prefix, |word| if is_duration(word) { duration(word) } else { Ok(word.to_owned()) })?;
    }
    line = replaced(&line, AGE, |word| Ok(root(word.parse()?).to_string()))?;
    bounds_shortened(&line)
}

/// Replaces each word that begins with a digit and follows `prefix`.
fn replaced(text: &str, prefix: &str, with: impl Fn(&str) -> Result<String>) -> Result<String> {
    let mut parts = text.split(prefix);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(part.len());
        let (word, rest) = part.split_at(end);
        let is_number = word.starts_with(|c: char| c.is_ascii_digit());
        result = result + prefix + &if is_number { with(word)? } else { word.to_owned() } + rest;
    }
    Ok(result)
}

/// Each bound stands there twice: `le=~"60|60\\.0"`.
fn bounds_shortened(text: &str) -> Result<String> {
    let mut parts = text.split(BOUND);
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (bound, again) = part.split_once('|').context("one form of a bound only")?;
        let rest = again.strip_prefix(bound).context("two bounds")?;
        let short = root(bound.parse()?);
        result = result + &format!("{BOUND}{short}|{short}{rest}");
    }
    Ok(result)
}

#[test]
fn times_are_shortened_and_nothing_else() {
    let cases = [
        ("        for: 15m", "        for: 10s"),
        ("    interval: 15s", "    interval: 2s"),
        ("  scrape_interval: 2s", "  scrape_interval: 1s"),
        ("      - targets: [\"127.0.0.1:7070\"]", "      - targets: [\"127.0.0.1:7070\"]"),
        ("rate(a{x=\"y\"}[1h] offset 5m))", "rate(a{x=\"y\"}[15s] offset 7s))"),
        ("{queue=~\".+\\\\.(write|reconcile)\\\\.[0-9]+\"}", "{queue=~\".+\\\\.(write|reconcile)\\\\.[0-9]+\"}"),
        ("b_bucket{le=~\"60|60\\\\.0\"}[30m]", "b_bucket{le=~\"4|4\\\\.0\"}[12s]"),
        ("b_bucket{le=~\"1|1\\\\.0\"}[1d]", "b_bucket{le=~\"1|1\\\\.0\"}[44s]"),
        ("max(a_age_seconds) > 3600", "max(a_age_seconds) > 15"),
        ("tollgate:ack_missed:ratio_rate3d > 14.4 * 0.001", "tollgate:ack_missed:ratio_rate3d > 14.4 * 0.001"),
        ("a:backlog_frames > 500", "a:backlog_frames > 500"),
        ("  # Each minute's: [5m]", "  # Each minute's: [5m]"),
    ];
    for (long, short) in cases {
        assert_eq!(shortened(long).unwrap().trim_end(), short);
    }
    assert!(shortened("b{le=~\"60\"}").is_err());
    assert!(shortened("for: 5w").is_err());
}
