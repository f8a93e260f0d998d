//! Nothing secret in any output: the whole pipeline and its commands with every log line turned on, fed with good, forged and
//! broken requests that hold card numbers, and then all that was printed and measured is searched.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use it::{SHOP_SECRET, Setup, event_body, eventually, run_program, send, services_up, signed};

use crate::faults::Programs;
use crate::support::World;

const CARDS: [&str; 5] =
    ["4111111111111111", "5555555555554444", "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005"];
const STRIPE: &str = "whsec_tests_only";
const ADYEN: &str = "00112233445566778899";
const POSTGRES_PASSWORD: &str = "pg-hunter2-of-silent-rs";
const CASSANDRA_PASSWORD: &str = "cs-hunter2-of-silent-rs";
const WRONG_SECRET: &str = "whsec_bmV2ZXItY29uZmlndXJlZA==";

/// What must be nowhere.
struct Secrets(Vec<String>);

impl Secrets {
    fn new() -> Self {
        let texts = [SHOP_SECRET, STRIPE, ADYEN, POSTGRES_PASSWORD, CASSANDRA_PASSWORD, WRONG_SECRET];
        let bare = texts.map(|text| text.trim_start_matches("whsec_").to_owned());
        let decoded = STANDARD.decode(&bare[0]).unwrap_or_default();
        let decoded = String::from_utf8_lossy(&decoded).into_owned();
        Self(bare.into_iter().chain([decoded]).chain(CARDS.map(str::to_owned)).collect())
    }

    /// Remembers what signs a request, too.
    fn add(&mut self, headers: &[(String, String)]) {
        let signs = headers.iter().filter(|(name, _)| name.contains("signature"));
        self.0.extend(
            signs.flat_map(|(_, value)| value.split([',', '=', ' ']).map(str::to_owned)).filter(|part| part.len() > 20),
        );
    }

    fn are_not_in(&self, what: &str, text: &str) -> Result<()> {
        println!("{what}: {} bytes", text.len());
        for secret in &self.0 {
            if let Some(at) = text.find(secret.as_str()) {
                let line = text[..at].rsplit('\n').next().unwrap_or_default();
                anyhow::bail!("{what} has {secret:?} behind {line:?}");
            }
        }
        Ok(())
    }

    /// Of what shows a stored body because it was asked to: only what is Tollgate's own.
    fn without_cards(&self) -> Self {
        Self(self.0.iter().filter(|secret| !CARDS.contains(&secret.as_str())).cloned().collect())
    }
}

/// Sends a request with card numbers everywhere; its status.
async fn request(
    setup: &Setup,
    secrets: &mut Secrets,
    path: &str,
    headers: &[(String, String)],
    body: &[u8],
) -> Result<u16> {
    secrets.add(headers);
    let mut all: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    all.extend([("x-card", CARDS[0]), ("authorization", "Basic NDExMTExMTExMTExMTExMQ=="), ("cookie", CARDS[1])]);
    Ok(send(setup.config.ingest.listen, "POST", path, &all, body).await?.status)
}

fn stripe_signed(body: &[u8]) -> Result<Vec<(String, String)>> {
    let time = platform::clock::now_ms() / 1000;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(STRIPE.as_bytes())?;
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(vec![
        ("content-type".into(), "application/json".into()),
        ("stripe-signature".into(), format!("t={time},v1={hex}")),
    ])
}

/// Requests of every kind of end.
async fn requests(setup: &Setup, secrets: &mut Secrets, round: &str) -> Result<()> {
    let cards =
        serde_json::json!({"card": CARDS[0], "note": CARDS[2], "other": CARDS[3], "amex": CARDS[4], "pan": CARDS[1]});
    let with_cards = |body: &[u8]| -> Result<Vec<u8>> {
        let mut value: serde_json::Value = serde_json::from_slice(body)?;
        value["data"]["metadata"] = cards.clone();
        Ok(value.to_string().into_bytes())
    };
    // Accepted.
    let good = with_cards(&event_body("payment.captured", "pay-silent", Some("A-silent"), 1000, "c"))?;
    let ok =
        request(setup, secrets, "/webhooks/shop?card=4111111111111111", &signed(&format!("{round}-1"), &good), &good)
            .await?;
    ensure!(ok == 200, "good: {ok}");
    // Into quarantine: verified and not understood.
    let unknown = with_cards(&event_body("payment.unheard_of", "pay-odd", Some("A-odd"), 1000, "c"))?;
    let ok = request(setup, secrets, "/webhooks/shop", &signed(&format!("{round}-2"), &unknown), &unknown).await?;
    ensure!(ok == 200, "unknown: {ok}");
    let broken = format!("{{\"card\": \"{}\", \"id\": ", CARDS[0]).into_bytes();
    let ok = request(setup, secrets, "/webhooks/stripe", &stripe_signed(&broken)?, &broken).await?;
    ensure!(ok == 200, "broken: {ok}");
    // Refused: forged, of another source, without a signature, of no source, not JSON, too large, a wrong method's path.
    let forged = it::signed_with(WRONG_SECRET, "forged", &good);
    let statuses = [
        request(setup, secrets, "/webhooks/shop", &forged, &good).await?,
        request(setup, secrets, "/webhooks/stripe", &stripe_signed(&good)?, &broken).await?,
        request(setup, secrets, "/webhooks/adyen", &[("content-type".into(), "application/json".into())], &good)
            .await?,
        request(setup, secrets, "/webhooks/4111111111111111", &forged, &good).await?,
        request(setup, secrets, "/webhooks/shop", &[("content-type".into(), "text/4111111111111111".into())], &good)
            .await?,
        request(setup, secrets, "/webhooks/shop", &forged, &CARDS[0].repeat(20_000).into_bytes()).await?,
    ];
    println!("{statuses:?}");
    ensure!(statuses.iter().all(|status| (400..500).contains(status)), "{statuses:?}");
    Ok(())
}

/// What people run by hand, against what was just stored.
fn commands(setup: &Setup, secrets: &Secrets) -> Result<()> {
    let capture: PathBuf = std::env::temp_dir().join(format!("{}.txt", setup.config.postgres.schema));
    let body = event_body("payment.captured", "pay-silent", Some("A-silent"), 1000, "c");
    let mut dump = format!("POST /webhooks/shop HTTP/1.1\r\nhost: x\r\nx-card: {}\r\n", CARDS[0]);
    let mut secrets = Secrets(secrets.0.clone());
    let headers = it::signed_with(WRONG_SECRET, "explained", &body);
    secrets.add(&headers);
    headers.iter().for_each(|(name, value)| dump.push_str(&format!("{name}: {value}\r\n")));
    fs::write(&capture, [dump.as_bytes(), b"\r\n", &body].concat())?;
    let capture_path = capture.display().to_string();
    let explain = ["verify", "explain", "shop", "--request", &capture_path];
    for (program, arguments) in [
        ("ingest", &["--check-config"][..]),
        ("ingest", &explain[..]),
        ("ingest", &["send", "shop", "--order", "A-sent"][..]),
        ("ingest", &["send", "adyen", "--order", "A-sent-too", "--json"][..]),
        ("writer", &["quarantine", "list"][..]),
        ("writer", &["quarantine", "retry", "--all", "--source", "shop", "--dry-run"][..]),
        ("writer", &["dead-letters", "list"][..]),
        ("writer", &["setup"][..]),
        ("reconciler", &["breaks", "list"][..]),
        ("reconciler", &["sweep", "--region", "eu", "--day", "2026-01-01", "--dry-run"][..]),
    ] {
        let (_, said) = run_program(program, setup, arguments)?;
        secrets.are_not_in(&format!("{program} {}", arguments.join(" ")), &said)?;
    }
    fs::remove_file(&capture)?;
    let (_, listed) = run_program("writer", setup, &["quarantine", "list", "--format", "json"])?;
    for id in listed.split('"').filter(|text| text.len() == 36 && text.matches('-').count() == 4) {
        let (_, shown) = run_program("writer", setup, &["quarantine", "show", id])?;
        secrets.without_cards().are_not_in("writer quarantine show", &shown)?;
    }
    // Configurations that cannot be used, with a secret where it should not be.
    for (name, value) in [
        ("RABBITMQ_URL", format!("amqp//u:{POSTGRES_PASSWORD}@h")),
        ("POSTGRES_URL", format!("postgres://u:{POSTGRES_PASSWORD}@h:port/db")),
        ("CASSANDRA_TLS", POSTGRES_PASSWORD.to_owned()),
        ("POSTGRES_CONNECTIONS_MAX", POSTGRES_PASSWORD.to_owned()),
        ("CASSANDRA_PASSWORD_FILE", "/nowhere".to_owned()),
        ("POSTGRES_URL", format!("postgres://u:{POSTGRES_PASSWORD}@127.0.0.1:1/db")),
    ] {
        let mut broken = setup.clone();
        broken.variables.insert(format!("TOLLGATE_{name}"), value);
        let (status, said) = run_program("reconciler", &broken, &["breaks", "list"])?;
        ensure!(status == 2, "{name}: {status}");
        secrets.are_not_in(name, &said)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_no_signature_and_no_card_number_is_in_any_output_at_any_level() -> Result<()> {
    let _services = services_up().await;
    let mut secrets = Secrets::new();
    for format in ["human", "json"] {
        let extra = format!(
            "[log]\nfilter = \"trace,lapin=trace,amq_protocol=trace,scylla=trace,sqlx=trace,hyper=trace,h2=trace,rustls=trace\"\n\
             format = \"{format}\"\n[ingest]\nbody_bytes_max = 200000\n\
             [cassandra]\nuser = \"tollgate\"\npassword = \"{CASSANDRA_PASSWORD}\"\n\
             [postgres]\npassword = \"{POSTGRES_PASSWORD}\"\n"
        );
        let programs = Programs::start_with("silent", &extra).await?;
        let setup = programs.setup.clone();
        requests(&setup, &mut secrets, format).await?;
        let world = World::new(setup.config.clone()).await?;
        eventually("quarantined", async || {
            let rows: Vec<(String,)> = world.rows("SELECT reason FROM {ks}.quarantine").await?;
            ensure!(rows.len() == 2, "{} rows", rows.len());
            Ok(())
        })
        .await?;
        let parked = "SELECT count(*) FROM parked_events";
        eventually("parked", async || {
            let parked: i64 = sqlx::query_scalar(parked).fetch_one(&world.postgres).await?;
            ensure!(parked >= 1, "not parked");
            Ok(())
        })
        .await?;
        commands(&setup, &secrets)?;
        let config = &setup.config;
        for (listener, paths) in [
            (config.ingest.internal_listen, &["/metrics", "/readyz"][..]),
            (config.writer.internal_listen, &["/metrics"][..]),
            (config.reconciler.internal_listen, &["/metrics", "/"][..]),
        ] {
            for path in paths {
                let answer = send(listener, "GET", path, &[], b"").await?;
                secrets.are_not_in(path, &answer.body)?;
            }
        }
        let openapi = send(config.ingest.listen, "GET", "/openapi.json", &[], b"").await?;
        secrets.are_not_in("openapi.json", &openapi.body)?;
        for program in ["ingest", "writer", "reconciler"] {
            let log = programs.log(program)?;
            ensure!(log.len() > 200, "{program} logs nothing");
            secrets.are_not_in(&format!("{program}'s log ({format})"), &log)?;
        }
        programs.clean().await?;
    }
    Ok(())
}
