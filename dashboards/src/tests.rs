//! The files are up to date, and what they ask for exists.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{all, files, queries};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn text(path: &str) -> String {
    fs::read_to_string(folder().join(path)).unwrap()
}

/// All words that could be a metric's name and begin with `prefix`, which ends where a name cannot go on.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    text.split(|c| !is_part(c)).filter(|word| word.starts_with(prefix)).map(str::to_owned).collect()
}

fn expressions() -> String {
    queries().iter().map(|query| query.expression.as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn committed_files_are_what_the_code_generates() {
    let expected = files();
    for (name, json) in &expected {
        let committed = text(&format!("grafana/dashboards/{name}"));
        assert!(committed == *json, "{name} is not up to date: cargo run -p dashboards");
    }
    let committed = fs::read_dir(folder().join("grafana/dashboards")).unwrap().count();
    assert_eq!(committed, expected.len(), "a file of a dashboard that is no more");
}

#[test]
fn dashboards_and_their_panels_can_be_told_apart() {
    let uids: BTreeSet<_> = all().iter().map(crate::Board::uid).collect();
    assert_eq!(uids.len(), all().len());
    for board in all() {
        let titles: BTreeSet<_> = board.panels().map(crate::Panel::title).collect();
        assert_eq!(titles.len(), board.panels().count(), "{}", board.uid());
        assert!(board.panels().all(|panel| !panel.title().is_empty()));
    }
}

#[test]
fn every_panel_explains_itself() {
    for board in all() {
        for panel in board.panels() {
            let name = format!("{}: {}", board.uid(), panel.title());
            assert!(panel.description.ends_with(['.', '`']), "{name} needs a description of whole sentences");
            assert!(!panel.no_value.is_empty(), "{name} needs words for no answer");
            assert!(!panel.targets.is_empty(), "{name} asks nothing");
            let is_long = |expression: &str| expression.contains("$__range") || expression.contains("d]");
            let is_sum = panel.targets.iter().any(|target| is_long(&target.expression));
            assert!(!is_sum || panel.as_it_is_now, "{name} would sum up long times for each moment shown");
            assert!(panel.link.is_none_or(|uid| all().iter().any(|other| other.uid() == uid)), "{name} links nowhere");
        }
    }
}

#[test]
fn rows_are_as_wide_as_the_dashboard_and_have_few_panels() {
    for board in all() {
        for row in &board.rows {
            assert!(row.panels.len() <= 5, "{}: {}", board.uid(), row.title);
            assert!(row.panels.iter().filter_map(|panel| panel.width).sum::<u32>() <= 24);
        }
    }
}

#[test]
fn queries_name_only_variables_that_their_dashboard_has() {
    for board in all() {
        for panel in board.panels() {
            for expression in panel.targets.iter().map(|target| &target.expression) {
                let mut rest = expression.replace("$__rate_interval", "").replace("$__range", "");
                for variable in &board.variables {
                    rest = rest.replace(&format!("${}", variable.name), "");
                }
                assert!(!rest.contains('$'), "{}: {}: {expression}", board.uid(), panel.title());
            }
        }
    }
    assert!(queries().iter().all(|query| !query.filled("1m", "5m").contains('$')));
}

/// Text of all source files of a program.
fn sources(program: &str) -> String {
    let mut folders = vec![folder().join("..").join(program).join("src")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                text.push_str(&fs::read_to_string(entry.path()).unwrap());
            }
        }
    }
    text
}

#[test]
fn metrics_of_tollgate_exist_in_its_programs() {
    let code: String = ["ingest", "writer", "reconciler", "platform"].map(sources).concat();
    let there = names(&code, "tollgate_");
    for asked in names(&(expressions() + &text("rules.yml")), "tollgate_") {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| asked.strip_suffix(suffix));
        assert!(
            there.contains(&asked) || of_histogram.is_some_and(|name| there.contains(name)),
            "{asked} does not exist"
        );
    }
}

#[test]
fn metrics_of_rules_and_of_cassandra_exist_in_their_files() {
    let rules = text("rules.yml");
    for asked in names(&expressions(), "tollgate:") {
        assert!(rules.contains(&format!("record: {asked}\n")), "{asked} is not recorded");
    }
    let exported = text("cassandra-jmx.yml");
    for asked in names(&(expressions() + &rules), "cassandra_") {
        assert!(exported.contains(&format!("name: {asked}\n")), "{asked} is not exported");
    }
}

#[test]
fn every_alert_has_a_runbook_entry_and_a_test() {
    let runbook = text("../docs/OPERATIONS.md");
    let tests = text("rules.test.yml");
    let rules = text("rules.yml");
    let mut alerts = 0;
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        alerts += 1;
        assert!(runbook.contains(&format!("\n### {alert}\n")), "{alert} is not in docs/OPERATIONS.md");
        assert!(
            rules.contains(&format!("docs/OPERATIONS.md#{}\n", alert.to_lowercase())),
            "{alert} has no runbook_url"
        );
        let fires = format!("alertname: {alert}\n        exp_alerts:\n");
        let is_silent = format!("alertname: {alert}, exp_alerts: []");
        assert!(tests.contains(&fires) && tests.contains(&is_silent), "{alert} needs a case for both");
    }
    assert!(alerts > 0);
}
