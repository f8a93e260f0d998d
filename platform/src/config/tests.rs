#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use super::*;

fn error(text: &str, variables: &[(&str, &str)]) -> String {
    let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    parse("tollgate.toml", text, &variables).unwrap_err().to_string()
}

#[test]
fn the_embedded_defaults_are_a_configuration() {
    let config = parse("x", "", &BTreeMap::new()).unwrap();
    assert_eq!(config.rabbitmq.queue_prefix, "payments");
}

#[test]
fn the_file_overrides_defaults_and_the_environment_overrides_the_file() {
    let variables = [("TOLLGATE_WRITER_FLUSH_MS".to_owned(), "7".to_owned())].into();
    let config = parse("x", "[writer]\nflush_ms = 5\nworkers = 9", &variables).unwrap();
    assert_eq!((config.writer.flush_ms, config.writer.workers), (7, 9));
}

#[test]
fn unknown_keys_are_refused_with_their_line() {
    let message = error("[writer]\nflush_ms = 5\nflush = 6", &[]);
    assert!(message.starts_with("tollgate.toml:3: unknown key \"writer.flush\""), "{message}");
    assert!(error("\n[wrtier]\n", &[]).starts_with("tollgate.toml:2: unknown key \"wrtier\""));
    assert!(error("", &[("TOLLGATE_WRITER_FLUSH", "1")]).contains("TOLLGATE_WRITER_FLUSH"));
    let source = "[sources.a]\nprovider = \"stripe\"\nregion = \"eu\"\nsecrets = []\nsecrt = 1";
    assert!(error(source, &[]).contains("secrt"), "{}", error(source, &[]));
}

#[test]
fn wrong_types_are_refused_with_their_line() {
    assert!(error("[writer]\nflush_ms = \"5\"", &[]).starts_with("tollgate.toml:2: writer.flush_ms must be integer"));
    assert!(error("[writer]\nflush_ms = -1", &[]).starts_with("tollgate.toml"), "negative");
    assert!(error("[writer\n", &[]).starts_with("tollgate.toml:1"));
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    assert!(error("[writer]\nmemory_bytes_max = 1000", &[]).contains("writer.prefetch_frames"));
    assert!(error("[ingest]\nin_flight_max = 1000000", &[]).contains("ingest.in_flight_max"));
    assert!(error("[rabbitmq]\nconfirm_timeout_ms = 5000", &[]).contains("confirm_timeout_ms"));
    let source = "[sources.a]\nprovider = \"stripe\"\nregion = \"mars\"\nsecrets = [{ env = \"X\" }]";
    assert!(error(source, &[]).contains("mars"));
}

#[test]
fn secrets_are_redacted_in_every_output() {
    let text = "[postgres]\nurl = \"postgres://u:hunter2@h/db\"\n[sources.a]\nprovider = \"stripe\"\nregion = \"eu\"\n\
                secrets = [{ value = \"hunter2\" }]";
    let config = parse("x", text, &BTreeMap::new()).unwrap();
    assert!(!config.to_toml().unwrap().contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_secret_in_the_wrong_place_is_never_told() {
    let source = "[sources.a]\nprovider = \"stripe\"\nregion = \"eu\"\n";
    for secrets in ["secrets = [\"hunter2\"]", "secrets = \"hunter2\"", "secrets = [{ value = 12345 }]"] {
        let message = error(&format!("{source}{secrets}"), &[]);
        assert!(!message.contains("hunter2") && !message.contains("12345"), "{message}");
        assert!(message.starts_with("tollgate.toml:4: sources.a.secrets"), "{message}");
    }
    let message = error("[rabbitmq]\nurl = \"hunter2\"", &[]);
    assert!(message.contains("rabbitmq.url") && !message.contains("hunter2"), "{message}");
}

#[test]
fn what_could_never_work_is_refused() {
    for (text, named) in [
        ("regions = [\"eu\", \"\"]", "regions"),
        ("[rabbitmq]\nqueue_prefix = \"\"", "queue_prefix"),
        ("[rabbitmq]\ngroup_size = -1", "rabbitmq.group_size"),
        ("[postgres]\nurl = \"postgres://host:port/db\"", "postgres.url"),
        ("[cassandra]\nnodes = []", "cassandra.nodes"),
        ("[ingest]\nheader_timeout_ms = 0", "header_timeout_ms"),
        ("[ingest]\nlisten = \"localhost:8080\"", "ingest.listen"),
    ] {
        let message = error(text, &[]);
        assert!(message.contains(named), "{text}: {message}");
    }
}

#[test]
fn the_programs_of_the_status_page_are_addresses() {
    let variables = [("TOLLGATE_STATUS_PROGRAMS".to_owned(), "writer-1:8082, [::1]:8083".to_owned())].into();
    let config = parse("x", "", &variables).unwrap();
    assert_eq!(config.status.programs, ["writer-1:8082", "[::1]:8083"]);
    for wrong in ["writer", ":8082", "writer:0", "writer:x", "http://writer:8082", "user@writer:8082"] {
        let message = error(&format!("[status]\nprograms = [\"{wrong}\"]"), &[]);
        assert!(message.contains("status.programs must be"), "{wrong}: {message}");
    }
    assert!(error("[status]\nhosts = [\"https://x\"]", &[]).contains("status.hosts"));
    let many = vec!["\"a:1\""; 65].join(",");
    assert!(error(&format!("[status]\nprograms = [{many}]"), &[]).contains("at most 64"));
}
