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
    let text = "[rabbitmq]\npassword = \"hunter2\"\n[postgres]\npassword = \"hunter2\"";
    let shown = parse("x", text, &BTreeMap::new()).unwrap().to_toml().unwrap();
    assert!(shown.contains("[redacted]") && !shown.contains("hunter2"), "{shown}");
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
        ("[ingest]\ntls_key = \"x\"", "ingest.tls_certificate and ingest.tls_key"),
        ("[rabbitmq]\nca_file = \"x\"", "amqps://"),
        ("[cassandra]\nca_file = \"x\"", "cassandra.tls"),
        ("[cassandra]\npassword = \"x\"", "cassandra.user"),
        ("[postgres]\npassword = \"x\"\npassword_file = \"y\"", "only one"),
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

/// A folder of this test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("tollgate-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.0.join(path), text).unwrap();
    }

    /// The labels of a source with these secrets, with the signature that each gives.
    fn prepare(&self, secrets: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
        let text = format!("[sources.a]\nprovider = \"stripe\"\nregion = \"eu\"\nsecrets = [{secrets}]");
        let config = parse("x", &text, &BTreeMap::new()).unwrap();
        let [source] = config.prepare_sources(&self.0).map_err(|error| error.to_string())?.try_into().unwrap();
        let signed = source.secrets.iter().map(|secret| secret.sign(&[b"body"]));
        Ok(source.labels.into_iter().zip(signed).collect())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn signature(secret: &str) -> Vec<u8> {
    domain::signature::Secret::new(secret.as_bytes(), None, None).unwrap().sign(&[b"body"])
}

#[test]
fn each_file_of_a_directory_is_a_secret_as_kubernetes_lays_them_out() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    let secrets = folder.0.join("secrets");
    for version in ["..one", "..two"] {
        std::fs::create_dir_all(secrets.join(version).join("lost+found")).unwrap();
    }
    folder.write("secrets/..one/old", "whsec_old\n");
    folder.write("secrets/..two/old", "whsec_old\n");
    folder.write("secrets/..two/new", " whsec_new");
    folder.write("secrets/..two/.hidden", "whsec_hidden");
    symlink("..one", secrets.join("..data")).unwrap();
    symlink("..data/old", secrets.join("old")).unwrap();
    let directory = "{ directory = \"secrets\" }";
    assert_eq!(folder.prepare(directory), Ok(vec![("old".into(), signature("whsec_old"))]));
    // The link is swapped before the names beside it follow.
    symlink("..two", secrets.join("..swap")).unwrap();
    std::fs::rename(secrets.join("..swap"), secrets.join("..data")).unwrap();
    let both = [("new", "whsec_new"), ("old", "whsec_old")].map(|(label, text)| (label.to_owned(), signature(text)));
    assert_eq!(folder.prepare(directory), Ok(both.to_vec()));
    // And as anybody would: files, one of them a link.
    std::fs::create_dir(folder.0.join("plain")).unwrap();
    symlink("../secrets/..two/new", folder.0.join("plain/linked")).unwrap();
    folder.write("plain/..data_tmp", "not for us");
    let linked = ("linked".to_owned(), signature("whsec_new"));
    assert_eq!(folder.prepare("{ directory = \"plain\" }"), Ok(vec![linked]));
}

#[test]
fn a_secret_is_called_by_its_label_file_or_place() {
    let folder = Folder::new();
    folder.write("stripe_old", "\u{feff}whsec_old\r\n");
    assert_eq!(folder.prepare("{ file = \"stripe_old\" }").unwrap()[0].1, signature("whsec_old"));
    let found = folder.prepare(
        "{ value = \"a\" }, { file = \"stripe_old\" }, { value = \"c\", label = \"by-hand\" }, { env = \"PATH\" }",
    );
    let labels: Vec<_> = found.unwrap().into_iter().map(|(label, _)| label).collect();
    assert_eq!(labels, ["0", "stripe_old", "by-hand", "PATH"]);
}

#[test]
fn secrets_that_could_not_be_told_apart_or_used_are_refused_by_name() {
    let folder = Folder::new();
    std::fs::create_dir(folder.0.join("empty")).unwrap();
    std::fs::create_dir(folder.0.join("blank")).unwrap();
    folder.write("blank/nothing", "\n");
    std::fs::create_dir(folder.0.join("many")).unwrap();
    (0..17).for_each(|number| folder.write(&format!("many/{number}"), "hunter2"));
    std::fs::create_dir(folder.0.join("odd")).unwrap();
    folder.write("odd/my key", "hunter2");
    folder.write("large", &"hunter2".repeat(10_000));
    folder.write("two_lines", "hunter2\nhunter3\n");
    // Opening it would wait for somebody who writes.
    std::fs::create_dir(folder.0.join("pipes")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(folder.0.join("pipes/pipe")).status().unwrap().success());
    for (secrets, named) in [
        (
            "{ value = \"a\", label = \"x\" }, { value = \"b\", label = \"x\" }",
            "secrets[1]: there are two secrets \"x\"",
        ),
        ("{ directory = \"empty\" }", "secrets[0]: directory empty has no files"),
        ("{ directory = \"nowhere\" }", "secrets[0]: cannot read directory nowhere"),
        ("{ directory = \"blank\" }", "secrets[0]: nothing: is empty"),
        ("{ directory = \"many\" }", "more than 16 files"),
        ("{ directory = \"odd\" }", "\"my key\" is no label"),
        ("{ directory = \"odd\", label = \"x\" }", "each file's name is its label"),
        ("{ value = \"a\", label = \"a b\" }", "\"a b\" is no label"),
        ("{ value = \"a\", file = \"b\" }", "exactly one of env, file, directory and value"),
        ("{ file = \"large\" }", "more than 65536 bytes"),
        ("{ file = \"two_lines\" }", "more than one line"),
        ("{ file = \"pipes/pipe\" }", "no regular file"),
        ("{ directory = \"pipes\" }", "no regular file"),
        (
            "{ value = \"a\", not_before = \"2027-01-01T00:00:00Z\", not_after = \"2026-01-01T00:00:00Z\" }",
            "secrets[0]: not_before is after not_after",
        ),
    ] {
        let message = folder.prepare(secrets).unwrap_err();
        assert!(message.contains(named) && message.starts_with("sources.a: "), "{secrets}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn what_a_running_program_cannot_take_is_named() {
    let parse = |text: &str| parse("x", text, &BTreeMap::new()).unwrap();
    let source = "[sources.a]\nprovider = \"stripe\"\nregion = \"eu\"\nsecrets = [{ value = \"a\" }]\n";
    let running = parse("[postgres]\nurl = \"postgres://u:one@h/db\"");
    let other = "regions = [\"eu\"]\n[postgres]\nurl = \"postgres://u:two@h/db\"\n[writer]\nflush_ms = 5\n\
                 [orders.agrees]\nshipped = [\"paid\"]\n";
    let keys = running.changed_keys(&parse(&format!("{other}{source}"))).unwrap();
    assert_eq!(keys, ["orders.agrees.shipped", "postgres.url", "regions", "writer.flush_ms"]);
    assert!(running.changed_keys(&running).unwrap().is_empty());
}

#[test]
fn trusted_proxies_are_networks_and_never_everybody() {
    let config = parse("x", "[ingest]\ntrusted_proxies = [\"10.0.0.0/8\", \"fd00::/8\"]", &BTreeMap::new()).unwrap();
    let contains = |address: &str| config.ingest.trusted_proxies.contains(address.parse().unwrap());
    assert!(contains("10.1.2.3") && contains("::ffff:10.1.2.3") && contains("fd00::1"));
    assert!(!contains("11.0.0.1") && !contains("2001:db8::1"));
    let variables = [("TOLLGATE_INGEST_TRUSTED_PROXIES".to_owned(), "192.0.2.0/24, 10.0.0.1/32".to_owned())].into();
    assert!(parse("x", "", &variables).unwrap().ingest.trusted_proxies.contains("192.0.2.9".parse().unwrap()));
    for (text, named) in [
        ("trusted_proxies = [\"10.0.0.0/8\", \"0.0.0.0/0\"]", "must not hold everybody"),
        ("trusted_proxies = [\"proxy.example\"]", "ingest.trusted_proxies[0]"),
        ("proxy_header = \"via\"", "ingest.proxy_header"),
    ] {
        let message = error(&format!("[ingest]\n{text}"), &[]);
        assert!(message.contains(named), "{text}: {message}");
    }
}
