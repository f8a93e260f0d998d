//! The gateway against its own OpenAPI document, by a tester that knows nothing else.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use it::{Running, SHOP_SECRET, own_setup, send, services_up};
use serde_json::Value;

use crate::support::{World, ready};

/// One source of each provider that has a form of its own; rates beyond what a tester sends.
const CONFIGURATION: &str = "[ingest]\nclient_rate_per_second = 100000\nclient_burst = 100000\n\
     unverified_rate_per_second = 100000\nunverified_burst = 100000\n\
     [sources.square]\nprovider = \"square\"\nregion = \"eu\"\nnotification_url = \"https://x/\"\n\
     secrets = [{ value = \"FAKE_square\" }]\n\
     [sources.razorpay]\nprovider = \"razorpay\"\nregion = \"eu\"\nsecrets = [{ value = \"FAKE_razorpay\" }]\n\
     [sources.mollie]\nprovider = \"mollie\"\nregion = \"eu\"\nsecrets = [{ value = \"FAKE_mollie\" }]\n\
     [sources.braintree]\nprovider = \"braintree\"\nregion = \"eu\"\nsecrets = [{ value = \"FAKE_public:FAKE_private\" }]\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_document_names_each_source_and_no_setting() -> Result<()> {
    let _services = services_up().await;
    let setup = own_setup("openapi", CONFIGURATION)?;
    let running = Running::ingest(setup.config.clone());
    ready(setup.config.ingest.internal_listen).await?;
    let world = World::new(setup.config.clone()).await?;
    let address = setup.config.ingest.listen;
    let answer = send(address, "GET", "/openapi.json", &[], b"").await?;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: application/json"), "{answer:?}");
    let document: Value = serde_json::from_str(&answer.body)?;
    for (name, source) in &setup.config.sources {
        let path = &document["paths"][format!("/webhooks/{name}")];
        assert!(path["post"].is_object(), "{name}");
        assert_eq!(path["get"].is_object(), source.provider == "braintree", "{name}");
    }
    for secret in ["FAKE_", "https://x/", SHOP_SECRET] {
        assert!(!answer.body.contains(secret), "{secret}");
    }
    let allowed = async |method: &str, path: &str| -> Result<String> {
        let answer = send(address, method, path, &[], b"").await?;
        ensure!(answer.status == 405, "{method} {path}: {answer:?}");
        let line = answer.head.lines().find_map(|line| line.strip_prefix("allow: ")).context("no Allow")?;
        Ok(line.to_owned())
    };
    assert_eq!(allowed("DELETE", "/openapi.json").await?, "get, head");
    assert_eq!(allowed("OPTIONS", "/webhooks/shop").await?, "post");
    assert_eq!(allowed("PUT", "/webhooks/braintree").await?, "get, post");
    assert_eq!(send(address, "HEAD", "/openapi.json", &[], b"").await?.body, "");
    running.stop().await?;
    world.clean().await
}

/// Run by `cargo verify`, which installs the tester.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs schemathesis: SCHEMATHESIS=/path/to/st cargo test --release -p it -- --ignored conformance"]
async fn a_tester_made_of_the_document_finds_no_violation() -> Result<()> {
    let _services = services_up().await;
    let tester = std::env::var("SCHEMATHESIS").context("SCHEMATHESIS is not set")?;
    let setup = own_setup("conformance", CONFIGURATION)?;
    let running = Running::ingest(setup.config.clone());
    ready(setup.config.ingest.internal_listen).await?;
    let world = World::new(setup.config.clone()).await?;
    let seed = platform::clock::now_ms().to_string();
    println!("seed {seed}");
    let gateway = format!("http://{}", setup.config.ingest.listen);
    let mut command = Command::new(tester);
    command
        .args(["run", &format!("{gateway}/openapi.json"), "--phases", "examples,coverage,fuzzing"])
        .args(["--max-examples", "30", "--seed", &seed, "--continue-on-failure", "--no-color"])
        .env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/conformance"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("SHOP_SECRET", SHOP_SECRET)
        .current_dir(std::env::temp_dir());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    println!("{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    ensure!(output.status.success(), "violations, above");
    // It was no test of refusals alone.
    ensure!(world.depth("write.0").await? > 0, "nothing was accepted");
    running.stop().await?;
    world.clean().await
}
