//! Webhooks that only name a payment: durable at once, confirmed by the provider's API, applied as what that says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use domain::claim::Claim;
use domain::frame::Record;
use it::{Running, eventually, own_config, send, services_up};
use platform::config::Config;
use serde_json::{Value, json};

use crate::reconciling::{insert_order, until_order};
use crate::rotating;
use crate::support::{World, ready};

/// How long the gateway waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(1);
/// So long that the gateway gives up.
const TOO_SLOW: Duration = Duration::from_secs(3);
const KEY: &str = "live_testsOnly0123456789";

/// Answers "Get payment" as Mollie's API does.
#[derive(Clone, Default)]
struct Mollie(Arc<Mutex<Books>>);

#[derive(Default)]
struct Books {
    payments: BTreeMap<String, Value>,
    refunds: BTreeMap<String, Vec<Value>>,
    keys: BTreeSet<String>,
    /// Instead of an answer.
    trouble: Option<StatusCode>,
    /// With 200, whatever was asked.
    impostor: Option<String>,
    /// How long an answer takes.
    slow: Duration,
    asked: u64,
    ids: Vec<String>,
    now: u64,
    most_at_once: u64,
}

impl Mollie {
    /// Serves on loopback; the address of its API.
    async fn start(&self) -> Result<String> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let app = Router::new().route("/v2/payments/{id}", get(payment)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(format!("http://{address}"))
    }

    fn books<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn put(&self, id: &str, order: &str, status: &str) {
        let now = jiff::Timestamp::now().to_string();
        let payment = json!({"resource": "payment", "id": id, "status": status, "createdAt": now, "paidAt": now,
            "amount": {"value": "10.00", "currency": "EUR"}, "metadata": {"order_id": order}});
        self.books(|books| books.payments.insert(id.to_owned(), payment));
    }

    fn refund(&self, payment: &str, id: &str, amount: &str, status: &str) {
        let refund = json!({"resource": "refund", "id": id, "paymentId": payment, "status": status,
            "createdAt": jiff::Timestamp::now().to_string(), "amount": {"value": amount, "currency": "EUR"}});
        self.books(|books| books.refunds.insert(payment.to_owned(), vec![refund]));
    }
}

/// A question until it is answered, or whoever asked went away.
struct UnderWay<'a>(&'a Mollie);

impl<'a> UnderWay<'a> {
    fn of(mollie: &'a Mollie) -> Self {
        mollie.books(|books| {
            books.now += 1;
            books.most_at_once = books.most_at_once.max(books.now);
        });
        Self(mollie)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.books(|books| books.now -= 1);
    }
}

async fn payment(
    State(mollie): State<Mollie>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let (slow, trouble) = mollie.books(|books| {
        books.asked += 1;
        books.ids.push(id.clone());
        (books.slow, books.trouble)
    });
    // Of an answer that comes too late nobody can say when its question ends.
    let _under_way = (slow != TOO_SLOW).then(|| UnderWay::of(&mollie));
    tokio::time::sleep(slow).await;
    let answer = |status: StatusCode, body: Value| (status, body.to_string()).into_response();
    let problem = |status: StatusCode| answer(status, json!({"status": status.as_u16()}));
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    mollie.books(|books| {
        if let Some(status) = trouble {
            return problem(status);
        }
        if let Some(body) = &books.impostor {
            return (StatusCode::OK, body.clone()).into_response();
        }
        if !bearer.is_some_and(|key| books.keys.contains(key)) {
            return problem(StatusCode::UNAUTHORIZED);
        }
        let Some(mut found) = books.payments.get(&id).cloned() else { return problem(StatusCode::NOT_FOUND) };
        if query.is_some_and(|query| query.contains("refunds")) {
            found["_embedded"] = json!({"refunds": books.refunds.get(&id)});
        }
        answer(StatusCode::OK, found)
    })
}

/// All three programs with a source that asks `mollie`; it has the test's name, as metrics are of the whole process.
struct Shop {
    source: String,
    mollie: Mollie,
    world: World,
    gateway: Running,
    _others: [Running; 2],
}

fn keys(keys: &[&str]) -> String {
    keys.iter().map(|key| format!("{{ value = \"{key}\" }}")).collect::<Vec<_>>().join(", ")
}

async fn shop(name: &str, secrets: &[&str]) -> Result<Shop> {
    shop_with(name, secrets, TIMEOUT, "").await
}

/// A source of Mollie's classic webhooks.
fn source(name: &str, secrets: &[&str], api: &str) -> String {
    let secrets = keys(secrets);
    format!(
        "[sources.{name}]\nprovider = \"mollie-classic\"\nregion = \"eu\"\nsecrets = [{secrets}]\napi_url = \"{api}\"\n"
    )
}

/// With other sources.
async fn shop_with(name: &str, secrets: &[&str], timeout: Duration, others: &str) -> Result<Shop> {
    let mollie = Mollie::default();
    mollie.books(|books| books.keys.insert(KEY.to_owned()));
    let own = source(name, secrets, &mollie.start().await?);
    let timeout_ms = timeout.as_millis();
    let extra = format!("[ingest]\nfetches_in_flight_max = 4\nfetch_timeout_ms = {timeout_ms}\n{own}{others}");
    let config = own_config(name, &extra)?;
    let others = [Running::writer(config.clone()), Running::reconciler(config.clone())];
    ready(config.writer.internal_listen).await?;
    ready(config.reconciler.internal_listen).await?;
    let gateway = Running::ingest(config.clone());
    ready(config.ingest.internal_listen).await?;
    Ok(Shop { source: name.to_owned(), mollie, world: World::new(config).await?, gateway, _others: others })
}

impl Shop {
    fn config(&self) -> &Config {
        &self.world.config
    }

    /// The status that the gateway answers a webhook with.
    async fn webhook(&self, body: &str) -> Result<u16> {
        self.webhook_at(&self.source, body).await
    }

    async fn webhook_at(&self, source: &str, body: &str) -> Result<u16> {
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let answer =
            send(self.config().ingest.listen, "POST", &format!("/webhooks/{source}"), &form, body.as_bytes()).await?;
        Ok(answer.status)
    }

    /// 200, however the gateway was just started.
    async fn accepted(&self, body: &str) -> Result<()> {
        eventually("accepted", async || {
            let status = self.webhook(body).await?;
            ensure!(status == 200, "{status}");
            Ok(())
        })
        .await
    }

    async fn fetches(&self, outcome: &str) -> Result<f64> {
        let source = &self.source;
        let series = format!("tollgate_ingest_fetches_total{{source=\"{source}\",outcome=\"{outcome}\"}}");
        it::metric(self.config().ingest.internal_listen, &series).await
    }

    async fn asked_in_vain(&self, outcome: &str, least: f64) -> Result<()> {
        eventually(outcome, async || {
            let fetches = self.fetches(outcome).await?;
            ensure!(fetches >= least, "{fetches} {outcome}");
            Ok(())
        })
        .await
    }

    async fn clean(self) -> Result<()> {
        self.gateway.stop().await?;
        self.world.clean().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_webhook_names_is_asked_and_what_the_provider_says_is_applied() -> Result<()> {
    let _services = services_up().await;
    let shop = shop("fetched", &["live_retired", KEY]).await?;
    insert_order(&shop.world, "A-1", "10", "EUR").await?;
    shop.mollie.put("tr_1", "A-1", "open");
    shop.accepted("id=tr_1").await?;
    shop.mollie.put("tr_1", "A-1", "paid");
    for _ in 0..3 {
        ensure!(shop.webhook("id=tr_1").await? == 200);
    }
    until_order(&shop.world, "A-1", "paid", "10", "0").await?;
    shop.mollie.refund("tr_1", "re_1", "4.00", "refunded");
    ensure!(shop.webhook("id=tr_1").await? == 200);
    until_order(&shop.world, "A-1", "partially_refunded", "10", "4").await?;

    // Nobody learns which payments there are, and what nobody confirms is kept nowhere.
    ensure!(shop.webhook("id=tr_unknown").await? == 200);
    shop.asked_in_vain("unknown", 1.0).await?;
    for malformed in ["id=", "id=tr_1&x=1", "id=../../admin", "{}"] {
        ensure!(shop.webhook(malformed).await? == 400, "{malformed}");
    }
    let stored: Vec<(String,)> = shop.world.rows("SELECT provider_event_id FROM {ks}.payment_events").await?;
    let stored: BTreeSet<&str> = stored.iter().map(|(id,)| id.as_str()).collect();
    ensure!(stored.is_superset(&["tr_1:paid", "re_1:refunded"].into()), "{stored:?}");
    ensure!(stored.is_subset(&["tr_1:open", "tr_1:paid", "re_1:refunded"].into()), "{stored:?}");
    // The key that is refused is tried first each time, and the other one is known to work.
    ensure!(shop.fetches("unauthorized").await? >= shop.fetches("confirmed").await?);
    let metrics = send(shop.config().ingest.internal_listen, "GET", "/metrics", &[], b"").await?.body;
    ensure!(
        !metrics.contains(KEY)
            && metrics.contains("tollgate_ingest_secret_verified_total{source=\"fetched\",secret=\"1\"")
    );
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_outlive_a_provider_that_is_away_and_the_gateway_itself() -> Result<()> {
    const PAYMENTS: usize = 30;
    let _services = services_up().await;
    let mut shop = shop("away", &[KEY]).await?;
    // As what stands between here and there may answer.
    shop.mollie.books(|books| books.trouble = Some(StatusCode::BAD_REQUEST));
    for at in 0..PAYMENTS {
        let (payment, order) = (format!("tr_{at}"), format!("A-{at}"));
        insert_order(&shop.world, &order, "10", "EUR").await?;
        shop.mollie.put(&payment, &order, "paid");
        shop.accepted(&format!("id={payment}")).await?;
    }
    shop.asked_in_vain("failed", 5.0).await?;
    // Left alone: five failures, those under way then, and one question after each pause.
    let asked = shop.mollie.books(|books| books.asked);
    ensure!(asked < 5 + 4 + 10, "asked {asked} times in vain");

    // Another gateway finds the claims where this one leaves them.
    let config = shop.config().clone();
    shop.gateway.stop().await?;
    shop.mollie.books(|books| books.slow = TOO_SLOW);
    shop.gateway = Running::ingest(config.clone());
    ready(config.ingest.internal_listen).await?;
    shop.asked_in_vain("timed_out", 1.0).await?;

    shop.mollie.books(|books| {
        books.trouble = None;
        books.slow = Duration::from_millis(50);
    });
    for at in 0..PAYMENTS {
        until_order(&shop.world, &format!("A-{at}"), "paid", "10", "0").await?;
    }
    let most = shop.mollie.books(|books| books.most_at_once);
    ensure!(most <= 4, "{most} questions at once");
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_payment_that_was_asked_for_settles_nothing() -> Result<()> {
    let _services = services_up().await;
    let shop = shop("impostor", &[KEY]).await?;
    insert_order(&shop.world, "A-1", "10", "EUR").await?;
    shop.mollie.put("tr_1", "A-1", "paid");
    let another = json!({"resource": "payment", "id": "tr_2", "status": "failed", "metadata": {"order_id": "A-1"},
        "createdAt": "2026-01-01T00:00:00Z", "amount": {"value": "10.00", "currency": "EUR"}});
    shop.mollie.books(|books| books.impostor = Some("<html>Welcome to the proxy</html>".to_owned()));
    shop.accepted("id=tr_1").await?;
    shop.asked_in_vain("failed", 1.0).await?;
    shop.mollie.books(|books| books.impostor = Some(another.to_string()));
    let before = shop.fetches("failed").await?;
    shop.asked_in_vain("failed", before + 1.0).await?;
    shop.mollie.books(|books| books.impostor = None);
    until_order(&shop.world, "A-1", "paid", "10", "0").await?;
    let quarantined: Vec<(String,)> = shop.world.rows("SELECT reason FROM {ks}.quarantine").await?;
    ensure!(quarantined.is_empty(), "{quarantined:?}");
    let stored: Vec<(String,)> = shop.world.rows("SELECT provider_event_id FROM {ks}.payment_events").await?;
    ensure!(stored == [("tr_1:paid".to_owned(),)], "{stored:?}");
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_says_nothing_delays_no_other_source() -> Result<()> {
    let _services = services_up().await;
    let silent = Mollie::default();
    silent.books(|books| books.slow = Duration::from_secs(3600));
    let other = source("says_nothing", &[KEY], &silent.start().await?);
    // Longer than anything here is waited for.
    let shop = shop_with("answers", &[KEY], Duration::from_secs(600), &other).await?;
    insert_order(&shop.world, "A-1", "10", "EUR").await?;
    shop.mollie.put("tr_1", "A-1", "paid");
    shop.accepted("id=tr_warm").await?;
    for at in 0..500 {
        let status = shop.webhook_at("says_nothing", &format!("id=tr_madeup{at}")).await?;
        ensure!(status == 200, "{status}");
    }
    eventually("asked", async || {
        let under_way = silent.books(|books| books.now);
        ensure!(under_way > 0, "nothing under way");
        Ok(())
    })
    .await?;
    ensure!(shop.webhook("id=tr_1").await? == 200);
    until_order(&shop.world, "A-1", "paid", "10", "0").await?;
    let (now, asked) = silent.books(|books| (books.now, books.asked));
    ensure!(now > 0 && now == asked, "one of {asked} questions was answered: it did not wait all the time");
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_ids_beside_a_refused_key_do_not_stop_questions() -> Result<()> {
    let _services = services_up().await;
    let shop = shop("beside", &["live_retired", KEY]).await?;
    insert_order(&shop.world, "A-1", "10", "EUR").await?;
    shop.mollie.put("tr_1", "A-1", "paid");
    for at in 0..40 {
        shop.accepted(&format!("id=tr_madeup{at}")).await?;
    }
    shop.asked_in_vain("unknown", 40.0).await?;
    let open = format!("tollgate_ingest_fetch_breaker_open{{source=\"{}\"}}", shop.source);
    ensure!(it::metric(shop.config().ingest.internal_listen, &open).await? == 0.0, "left alone");
    ensure!(shop.webhook("id=tr_1").await? == 200);
    until_order(&shop.world, "A-1", "paid", "10", "0").await?;
    ensure!(it::metric(shop.config().ingest.internal_listen, &open).await? == 0.0, "left alone");
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_asks_comes_and_goes_with_a_reload() -> Result<()> {
    let _services = services_up().await;
    let mollie = Mollie::default();
    let asking = source("comes", &[KEY], &mollie.start().await?);
    let gateway = rotating::Gateway::start_with("comes", "", &[], |_| Ok(())).await?;
    let without = gateway.setup.text.clone();
    let reload = async |text: &str| {
        std::fs::write(gateway.folder.join("tollgate.toml"), text)?;
        gateway.reload("applied").await
    };
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answered = async |id: &str, wanted: u16| {
        eventually("answered", async || {
            let answer =
                send(gateway.address(), "POST", "/webhooks/comes", &form, format!("id={id}").as_bytes()).await?;
            ensure!(answer.status == wanted, "{answer:?}");
            Ok(())
        })
        .await
    };
    let asked = async |more_than: u64| {
        eventually("asked", async || {
            let asked = mollie.books(|books| books.asked);
            ensure!(asked > more_than, "asked {asked} times");
            Ok(asked)
        })
        .await
    };
    answered("tr_1", 404).await?;
    reload(&format!("{without}{asking}")).await?;
    answered("tr_1", 200).await?;
    asked(0).await?;
    // Its key is refused, so that the claim waits while there is no source.
    reload(&without).await?;
    answered("tr_1", 404).await?;
    let before = mollie.books(|books| books.asked);
    reload(&format!("{without}{asking}")).await?;
    asked(before).await?;
    let world = World::new(gateway.setup.config.clone()).await?;
    gateway.stop().await?;
    world.channel.queue_delete(world.queue("fetch.comes").as_str().into(), Default::default()).await?;
    Ok(())
}

fn claim(source: &str, id: &str, received_at_ms: i64) -> Bytes {
    let (source, id) = (source.into(), id.into());
    Record::claim(&Claim { source, id, received_at_ms, tries: 0, due_at_ms: received_at_ms })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_queue_of_small_frames_passes_at_the_speed_of_the_api() -> Result<()> {
    const CLAIMS: usize = 8000;
    let _services = services_up().await;
    let shop = shop("longqueue", &[KEY]).await?;
    let now_ms = platform::clock::now_ms();
    let frames: Vec<Bytes> = (0..CLAIMS).map(|n| claim(&shop.source, &format!("tr_madeup{n}"), now_ms)).collect();
    let queue = format!("fetch.{}", shop.source);
    for frames in frames.chunks(500) {
        let published = frames.iter().map(async |frame| shop.world.publish(&queue, &[frame]).await);
        futures_util::future::try_join_all(published).await?;
    }
    // Each is asked about twice: at the one frame a second of a consumer that rests behind each, that takes hours.
    shop.asked_in_vain("unknown", 2.0 * CLAIMS as f64).await?;
    eventually("nothing waits", async || {
        let depth = shop.world.depth(&queue).await?;
        ensure!(depth == 0, "{depth} frames");
        Ok(())
    })
    .await?;
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_are_asked_about_in_the_order_in_which_they_came() -> Result<()> {
    let _services = services_up().await;
    let shop = shop("ordered", &[KEY]).await?;
    let now_ms = platform::clock::now_ms();
    let first = claim(&shop.source, "tr_zzz", now_ms - 1000);
    let others: Vec<Bytes> = (0..200).map(|n| claim(&shop.source, &format!("tr_aaa{n}"), now_ms)).collect();
    let records: Vec<&[u8]> = others.iter().chain([&first]).map(|record| &record[..]).collect();
    shop.world.publish(&format!("fetch.{}", shop.source), &records).await?;
    shop.asked_in_vain("unknown", 200.0).await?;
    let ids = shop.mollie.books(|books| books.ids.clone());
    // Four at once.
    ensure!(ids[..4].iter().any(|id| id == "tr_zzz"), "{:?}", &ids[..8]);
    shop.clean().await
}
