//! What a developer runs by hand against a gateway: `ingest send` and `ingest verify explain`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use it::{Running, Setup, event_body, own_setup, program_binary, run_program, send, services_up, signed};
use serde_json::Value;

use crate::support::{World, ready};

/// A program's JSON, without the log lines around it.
fn json(text: &str) -> Result<Value> {
    let start = text.find(['{', '[']).context("no JSON")?;
    Ok(serde_json::from_str(&text[start..])?)
}

fn run(setup: &Setup, arguments: &[&str]) -> Result<(i32, Value)> {
    let (status, text) = run_program("ingest", setup, arguments)?;
    Ok((status, json(&text)?))
}

/// A file of one test, gone with it.
struct Temporary(PathBuf);

impl Temporary {
    fn new(setup: &Setup, name: &str, bytes: &[u8]) -> Result<Self> {
        let file = std::env::temp_dir().join(format!("{}_{name}", setup.config.postgres.schema));
        std::fs::write(&file, bytes)?;
        Ok(Self(file))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.0);
    }
}

const SOURCES: &str = "[sources.square]\nprovider = \"square\"\nregion = \"eu\"\n\
     notification_url = \"https://pay.example.com/webhooks/square\"\nsecrets = [{ value = \"FAKE_square\" }]\n\
     [sources.braintree]\nprovider = \"braintree\"\nregion = \"eu\"\nsecrets = [{ value = \"public:private\" }]\n\
     [sources.partner]\nprovider = \"tollgate\"\nregion = \"eu\"\nsecrets = [{ value = \"whsec_cGFydG5lci1vbmx5\" }]\n";

#[tokio::test(flavor = "multi_thread")]
async fn samples_of_every_kind_of_provider_are_accepted_by_a_real_gateway() -> Result<()> {
    let _services = services_up().await;
    let setup = own_setup("send", SOURCES)?;
    let running = Running::ingest(setup.config.clone());
    ready(setup.config.ingest.internal_listen).await?;
    let world = World::new(setup.config.clone()).await?;
    let sources = ["shop", "stripe", "adyen", "square", "braintree"];
    for source in sources {
        let (status, answers) = run(&setup, &["send", source, "--order", "A-1", "--amount", "12.34", "--json"])?;
        ensure!(status == 0, "{source}: {answers}");
        assert_eq!(
            (&answers[0]["status"], &answers[0]["items"][0]["amount"]),
            (&200.into(), &"12.34".into()),
            "{source}"
        );
        assert_eq!(answers[0]["items"][0]["order"], "A-1", "{source}");
    }
    let (status, text) =
        run_program("ingest", &setup, &["send", "shop", "--type", "refund.succeeded", "--count", "2"])?;
    assert_eq!((status, text.matches("200 after").count()), (0, 2), "{text}");
    assert!(text.contains("reconciler breaks list") && text.contains("where reference = 'sample-"), "{text}");
    let records = world.take("write.0").await?.iter().map(|frame| records(frame)).sum::<usize>();
    assert_eq!(records, sources.len() + 2);

    // One body, signed; and one as it was captured.
    let body = event_body("payment.captured", "pay_1", Some("A-1"), 1, "c1");
    let file = Temporary::new(&setup, "body", &body)?;
    assert_eq!(run(&setup, &["send", "partner", "--body", file.path(), "--json"])?.1[0]["status"], 200);
    let mut dump = b"POST /webhooks/shop HTTP/1.1\r\nHost: elsewhere\r\nConnection: close\r\n".to_vec();
    signed("msg_9", &body).iter().for_each(|(name, value)| dump.extend(format!("{name}: {value}\r\n").bytes()));
    dump.extend([&b"\r\n"[..], &body].concat());
    let whole = Temporary::new(&setup, "dump", &dump)?;
    assert_eq!(run(&setup, &["send", "shop", "--request", whole.path(), "--json"])?.1[0]["status"], 200);
    // To another source it is refused, and why is told.
    let (status, answers) = run(&setup, &["send", "partner", "--request", whole.path(), "--json"])?;
    assert_eq!((status, &answers[0]["status"]), (1, &401.into()));
    let (status, said) = run(&setup, &["verify", "explain", "partner", "--request", whole.path(), "--json"])?;
    assert_eq!((status, &said["findings"][0]["code"]), (1, &"secret_of_other_source".into()), "{said}");
    assert!(said["findings"][0]["says"].as_str().is_some_and(|says| says.contains("the source shop")), "{said}");
    running.stop().await?;

    let (status, text) = run_program("ingest", &setup, &["send", "shop"])?;
    assert_eq!(status, 2);
    assert!(text.contains("cannot reach the gateway at"), "{text}");
    world.clean().await
}

fn records(frame: &[u8]) -> usize {
    domain::frame::Frame::parse(frame).map_or(0, |frame| frame.records().count())
}

#[test]
fn what_cannot_be_sent_says_what_to_do() -> Result<()> {
    let sources = "[sources.open]\nprovider = \"tollgate\"\nregion = \"eu\"\n\
         secrets = [{ value = \"whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\" }]\n";
    let setup = own_setup("cannot", sources)?;
    for (arguments, told) in [
        (&["send", "nobody"][..], "the configuration has adyen, open, shop, stripe"),
        (&["send", "open"], "only verify"),
        (&["send", "shop", "--type", "payment.teleported"], "payment.captured, payment.pending"),
        (&["send", "shop", "--amount", "1.999"], "--amount"),
        (&["verify", "explain", "shop"], "--body FILE"),
        (&["verify", "explain", "shop", "--body", "/nowhere"], "cannot read /nowhere"),
    ] {
        let (status, text) = run_program("ingest", &setup, arguments)?;
        assert_eq!(status, 2, "{arguments:?}: {text}");
        assert!(text.contains(told), "{arguments:?}: {text}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn explanations_say_what_the_gateway_answers() -> Result<()> {
    let _services = services_up().await;
    let setup = own_setup("explain", "[ingest]\nbody_bytes_max = 2000")?;
    let running = Running::ingest(setup.config.clone());
    ready(setup.config.ingest.internal_listen).await?;
    let world = World::new(setup.config.clone()).await?;
    let body = event_body("payment.captured", "pay_1", Some("A-1"), 1999, "c1");
    let good = signed("msg_1", &body);
    let with = |name: &str, value: &str| {
        let mut changed: Vec<_> = good.iter().filter(|(n, _)| n != name).cloned().collect();
        changed.push((name.to_owned(), value.to_owned()));
        changed
    };
    let without = |name: &str| good.iter().filter(|(n, _)| n != name).cloned().collect::<Vec<_>>();
    let changed = [&body[..], b"\n"].concat();
    let unknown = event_body("payment.teleported", "pay_1", Some("A-1"), 1999, "c1");
    let large = vec![b' '; 2001];
    for (headers, body, code) in [
        (good.clone(), &body, "verified"),
        (signed("msg_2", &unknown), &unknown, "verified"),
        (good.clone(), &changed, "body_changed"),
        (without("webhook-id"), &body, "header_missing"),
        (with("webhook-timestamp", "then"), &body, "header_malformed"),
        (with("webhook-signature", "v1,AAAA"), &body, "unexplained"),
        (with("content-type", "text/plain"), &body, "unsupported_media"),
        (good.clone(), &large, "too_large"),
        (good.clone(), &Vec::new(), "malformed"),
    ] {
        let as_refs: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let answer = send(setup.config.ingest.listen, "POST", "/webhooks/shop", &as_refs, body).await?;
        let body = Temporary::new(&setup, "body", body)?;
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
        let lines = Temporary::new(&setup, "headers", lines.as_bytes())?;
        let arguments = ["verify", "explain", "shop", "--body", body.path(), "--headers", lines.path()];
        let (status, said) = run(&setup, &[&arguments[..], &["--json"]].concat())?;
        assert_eq!(said["status"], answer.status, "{code}: {said}");
        assert_eq!(status, i32::from(answer.status != 200), "{code}");
        match code {
            "verified" => assert!(said["findings"] == Value::Array(vec![]) && said["secret"] == 0, "{said}"),
            code => assert_eq!(said["findings"][0]["code"], code, "{said}"),
        }
        let (_, text) = run_program("ingest", &setup, &arguments)?;
        assert!(!text.contains("dGVzdHMt") && !text.contains(&good[3].1), "{text}");
    }
    running.stop().await?;
    world.clean().await
}

#[tokio::test]
async fn output_that_nobody_reads_ends_a_command_quietly() -> Result<()> {
    let setup = own_setup("unread", "")?;
    let file = Temporary::new(&setup, "unread.toml", setup.text.as_bytes())?;
    let command = |stdout: std::process::Stdio| {
        let mut command = std::process::Command::new(program_binary("ingest")?);
        command.args(["--check-config", "--config", file.path()]).envs(&setup.variables).stdout(stdout);
        Ok::<_, anyhow::Error>(command.output()?)
    };
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    let unread = command(writer.into())?;
    ensure!(unread.status.code() == Some(141) && unread.stderr.is_empty(), "{unread:?}");
    let full = command(std::fs::File::options().write(true).open("/dev/full")?.into())?;
    let words = String::from_utf8(full.stderr)?;
    ensure!(full.status.code() == Some(2) && words.starts_with("error: cannot write to stdout: "), "{words}");
    ensure!(!words.contains("panicked"), "{words}");
    Ok(())
}
