//! tests/scenarios.toml against the real pipeline: signed webhooks in, orders, payments and breaks out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::fold::OrderStatus;
use domain::money::{decimal_text, parse_decimal};
use domain::{Currency, ids};
use hmac::{Hmac, KeyInit, Mac};
use it::{Answer, Running, Setup, eventually, own_setup, post, run_program, send, services_up};
use serde::Deserialize;
use serde_json::json;
use sqlx::{PgPool, Row};
use uuid::Uuid;

use crate::support::{World, ready};

const EXTRA: &str = "[reconciler]\nparked_poll_ms = 50\nparked_break_after_ms = 300\nflush_ms = 5\n\
    [sweep]\nsettle_seconds = 0\nenabled = false\n\
    [sources.adyen_auto]\nprovider = \"adyen\"\nregion = \"us\"\nsecrets = [{ value = \"00112233445566778899\" }]\n\
    authorized_is_paid_from = \"2020-01-01T00:00:00Z\"\n";
/// Events are in the last hour, so that none is in the future.
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 86_400_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    scenario: Vec<Scenario>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scenario {
    title: String,
    #[serde(default)]
    orders: Vec<String>,
    step: Vec<Step>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Step {
    events: Vec<String>,
    orders: Vec<String>,
    copied_by_hand: Option<Copied>,
    sweep: bool,
    expect: Vec<String>,
    payments: Vec<String>,
    breaks: Vec<String>,
    closed: Vec<String>,
    parked: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Copied {
    from: String,
    to: String,
}

/// A scenario with the names of its things; each gets the scenario's number, so that all run side by side.
struct Story {
    scenario: Scenario,
    prefix: String,
    base_ms: i64,
    /// Payments and events by their ids, as the file calls them.
    names: BTreeMap<Uuid, String>,
    posted: usize,
}

/// One sentence about a payment: `p1 captured 30.00 EUR as c1 for A`.
struct Sentence<'s> {
    words: Vec<&'s str>,
    amount: &'s str,
    currency: &'s str,
    transaction: Option<&'s str>,
    payment: Option<&'s str>,
    order: Option<&'s str>,
}

impl<'s> Sentence<'s> {
    /// The words up to the amount, and what follows `as`, `of` and `for`.
    fn read(text: &'s str) -> Result<Self> {
        let all: Vec<&str> = text.split_whitespace().collect();
        let after = |word: &str| all.iter().position(|w| *w == word).and_then(|at| all.get(at + 1)).copied();
        let amount = all.iter().position(|word| word.starts_with(|c: char| c.is_ascii_digit())).context("no amount")?;
        Ok(Self {
            words: all[..amount].to_vec(),
            amount: all[amount],
            currency: all.get(amount + 1).context("no currency")?,
            transaction: after("as"),
            payment: after("of"),
            order: after("for"),
        })
    }

    fn minor(&self, digits: u8) -> Result<i64> {
        Ok(parse_decimal(self.amount, digits)?)
    }
}

fn digits_of(currency: &str) -> u8 {
    Currency::parse(currency).map_or(2, |currency| currency.exponent())
}

impl Story {
    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    async fn insert_orders(&self, pool: &PgPool, orders: &[String]) -> Result<()> {
        for order in orders {
            let words: Vec<&str> = order.split_whitespace().collect();
            let [reference, total, currency, status @ ..] = words.as_slice() else { bail!("order {order:?}") };
            sqlx::query(
                "INSERT INTO orders (reference, total, currency, status) VALUES ($1, $2::numeric, $3, $4) \
                 ON CONFLICT (reference) DO UPDATE SET total = excluded.total, currency = excluded.currency",
            )
            .bind(self.name(reference))
            .bind(*total)
            .bind(*currency)
            .bind(status.first().unwrap_or(&"pending"))
            .execute(pool)
            .await?;
        }
        Ok(())
    }

    /// Posts what one line of `events` says.
    async fn post(&mut self, address: SocketAddr, line: &str) -> Result<()> {
        let (line, times) = match line.strip_suffix(", twice") {
            Some(line) => (line, 2),
            None => (line, 1),
        };
        let (at, said) = line.strip_prefix("at ").and_then(|rest| rest.split_once(": ")).context("not `at …: …`")?;
        let at_ms = match at.strip_suffix('d') {
            Some(days) => self.base_ms + days.parse::<i64>()? * DAY_MS,
            None => self.base_ms + at.parse::<i64>()? * 60_000,
        };
        self.posted += 1;
        for _ in 0..times {
            let answer = match said.split_once(' ').context("too short")? {
                ("stripe", rest) => self.stripe(address, at_ms, rest).await?,
                (source @ ("adyen" | "adyen_auto"), rest) => self.adyen(address, source, at_ms, rest).await?,
                _ => self.own(address, at_ms, said).await?,
            };
            ensure!(answer.status == 200, "{line}: {} {}", answer.status, answer.body);
        }
        Ok(())
    }

    async fn own(&mut self, address: SocketAddr, at_ms: i64, said: &str) -> Result<Answer> {
        let (id, said) = match said.strip_prefix('(').and_then(|rest| rest.split_once(") ")) {
            Some((id, said)) => (id.to_owned(), said),
            None => (format!("event{}", self.posted), said),
        };
        let sentence = Sentence::read(said)?;
        let (payment, kind) = sentence.words.split_first().context("no payment")?;
        let kind = match kind.join(" ").as_str() {
            "capture failed" => "payment.capture_failed".to_owned(),
            "refunded" => "refund.succeeded".to_owned(),
            "refund failed" => "refund.failed".to_owned(),
            "refund pending" => "refund.pending".to_owned(),
            "disputed" => "dispute.opened".to_owned(),
            "dispute won" => "dispute.won".to_owned(),
            "dispute lost" => "dispute.lost".to_owned(),
            kind => format!("payment.{kind}"),
        };
        let key = self.name(&id);
        let payment_id = self.name(payment);
        self.names.insert(ids::payment_id("tollgate", "", &payment_id), (*payment).to_owned());
        self.names.insert(ids::event_id("tollgate", "", &key), id);
        let time = jiff::Timestamp::from_millisecond(at_ms)?.to_string();
        let body = json!({"type": kind, "timestamp": time, "data": {
            "payment_id": payment_id, "amount": sentence.amount, "currency": sentence.currency,
            "transaction_id": sentence.transaction, "order_id": sentence.order.map(|order| self.name(order)),
        }});
        post(address, &key, body.to_string().as_bytes()).await
    }

    async fn stripe(&mut self, address: SocketAddr, at_ms: i64, said: &str) -> Result<Answer> {
        let sentence = Sentence::read(said)?;
        let [event_type, id, status @ ..] = sentence.words.as_slice() else { bail!("too short") };
        let id = self.name(id);
        // Stripe counts krónur in hundredths too; none of its sentences is about them.
        let minor = sentence.minor(digits_of(sentence.currency))?;
        let payment = sentence.payment.map(|payment| self.name(payment));
        let named = payment.as_deref().unwrap_or(&id);
        let name = sentence.payment.unwrap_or(sentence.words[1]).to_owned();
        self.names.insert(ids::payment_id("stripe", "", named), name);
        let mut object = json!({
            "id": id, "amount": minor, "currency": sentence.currency.to_lowercase(), "status": status.first(),
            "metadata": {},
        });
        if let Some(order) = sentence.order {
            object["metadata"]["order_id"] = self.name(order).into();
        }
        match *event_type {
            "payment_intent.succeeded" => object["amount_received"] = minor.into(),
            "charge.refunded" => {
                object["id"] = format!("ch_{id}").into();
                object["payment_intent"] = id.clone().into();
                object["amount_refunded"] = minor.into();
            }
            _ => object["payment_intent"] = payment.into(),
        }
        let body = json!({"id": format!("evt_{}{}", self.prefix, self.posted), "type": event_type,
                          "created": at_ms / 1000, "data": {"object": object}})
        .to_string();
        let now = platform::clock::now_ms() / 1000;
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(b"whsec_tests_only")?;
        mac.update(format!("{now}.{body}").as_bytes());
        let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let signature = format!("t={now},v1={hex}");
        let headers = [("content-type", "application/json"), ("stripe-signature", signature.as_str())];
        send(address, "POST", "/webhooks/stripe", &headers, body.as_bytes()).await
    }

    async fn adyen(&mut self, address: SocketAddr, source: &str, at_ms: i64, said: &str) -> Result<Answer> {
        let items = said.split(" + ").map(|item| self.adyen_item(at_ms, item)).collect::<Result<Vec<_>>>()?;
        let body = json!({"live": "false", "notificationItems": items}).to_string();
        let headers = [("content-type", "application/json")];
        send(address, "POST", &format!("/webhooks/{source}"), &headers, body.as_bytes()).await
    }

    fn adyen_item(&mut self, at_ms: i64, said: &str) -> Result<serde_json::Value> {
        let sentence = Sentence::read(said)?;
        let [code, success, reference, ..] = sentence.words.as_slice() else { bail!("not CODE true|false REFERENCE") };
        let digits = if sentence.currency == "ISK" { 2 } else { digits_of(sentence.currency) };
        let value = sentence.minor(digits)?;
        let reference = self.name(reference);
        let original = sentence.payment.map(|payment| self.name(payment)).unwrap_or_default();
        let order = sentence.order.map(|order| self.name(order)).unwrap_or_default();
        let signed = format!("{reference}:{original}:ShopEU:{order}:{value}:{}:{code}:{success}", sentence.currency);
        let mut mac =
            Hmac::<sha2::Sha256>::new_from_slice(&[0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99])?;
        mac.update(signed.as_bytes());
        Ok(json!({"NotificationRequestItem": {
            "eventCode": code, "success": success, "pspReference": reference, "originalReference": original,
            "merchantAccountCode": "ShopEU", "merchantReference": order,
            "amount": {"value": value, "currency": sentence.currency},
            "eventDate": jiff::Timestamp::from_millisecond(at_ms)?.to_string(),
            "additionalData": {"hmacSignature": STANDARD.encode(mac.finalize().into_bytes())},
        }}))
    }

    async fn copy_by_hand(&mut self, pool: &PgPool, copied: &Copied) -> Result<()> {
        let id = |name: &str| ids::payment_id("tollgate", "", &self.name(name));
        let (from, to) = (id(&copied.from), id(&copied.to));
        self.names.insert(to, copied.to.clone());
        let done = sqlx::query(
            "INSERT INTO payments SELECT $2, order_ref, provider, account, provider_ref, region, currency, status, \
             captured, refunded, disputed, facts, version, day FROM payments WHERE payment_id = $1",
        )
        .bind(from)
        .bind(to)
        .execute(pool)
        .await?;
        ensure!(done.rows_affected() == 1);
        Ok(())
    }

    /// What a break is about, as the file calls it.
    fn subject(&self, subject: &str) -> Option<String> {
        let known = subject.parse().ok().and_then(|id: Uuid| self.names.get(&id).cloned());
        known.or_else(|| subject.strip_prefix(&self.prefix).map(str::to_owned))
    }

    async fn check(&self, pool: &PgPool, step: &Step) -> Result<()> {
        let orders = sqlx::query(
            "SELECT reference, status, paid::text, refunded::text, disputed::text, currency FROM orders \
             WHERE starts_with(reference, $1) ORDER BY 1",
        )
        .bind(&self.prefix)
        .fetch_all(pool)
        .await?;
        let mut found = Vec::new();
        for row in &orders {
            let digits = digits_of(row.try_get(5)?);
            let amount = |index: usize| -> Result<String> {
                Ok(decimal_text(parse_decimal(row.try_get(index)?, digits)?, digits))
            };
            let reference: String = row.try_get(0)?;
            let (reference, status) = (reference.trim_start_matches(&self.prefix), row.try_get::<String, _>(1)?);
            found.push(format!("{reference} {status} {} {} {}", amount(2)?, amount(3)?, amount(4)?));
        }
        ensure!(found == step.expect, "orders are {found:#?}, expected {:#?}", step.expect);

        let payments = sqlx::query("SELECT payment_id, status FROM payments").fetch_all(pool).await?;
        let mut found = BTreeSet::new();
        for row in &payments {
            if let Some(name) = self.names.get(&row.try_get(0)?) {
                found.insert(format!("{name} {}", row.try_get::<String, _>(1)?));
            }
        }
        for payment in &step.payments {
            ensure!(found.contains(payment), "payments are {found:?}, expected {payment}");
        }

        let breaks = self.breaks(pool, "breaks").await?;
        let found: BTreeSet<&str> = breaks.iter().map(String::as_str).collect();
        let due: BTreeSet<&str> = step.breaks.iter().map(String::as_str).collect();
        ensure!(found == due, "breaks are {found:#?}, expected {due:#?}");
        let closed = self.breaks(pool, "closed_breaks").await?;
        for due in &step.closed {
            ensure!(
                closed.iter().any(|closed| closed.starts_with(due)),
                "closed breaks are {closed:#?}, expected {due}"
            );
        }

        let parked = sqlx::query("SELECT payment_id, order_ref FROM parked_events").fetch_all(pool).await?;
        let mut waiting = 0;
        for row in &parked {
            let order: Option<String> = row.try_get(1)?;
            let ours = self.names.contains_key(&row.try_get(0)?);
            waiting += i64::from(ours || order.is_some_and(|order| order.starts_with(&self.prefix)));
        }
        ensure!(waiting == step.parked, "{waiting} events wait, expected {}", step.parked);
        Ok(())
    }

    async fn breaks(&self, pool: &PgPool, table: &'static str) -> Result<Vec<String>> {
        let query = format!("SELECT kind, subject, currency, expected, actual FROM {table}");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch_all(pool).await?;
        let mut breaks = Vec::new();
        for row in &rows {
            let Some(subject) = self.subject(row.try_get(1)?) else { continue };
            let kind: &str = row.try_get(0)?;
            let digits = digits_of(row.try_get::<Option<&str>, _>(2)?.unwrap_or_default());
            breaks.push(match (row.try_get::<Option<i64>, _>(3)?, row.try_get::<Option<i64>, _>(4)?) {
                (Some(expected), Some(actual)) => format!(
                    "{kind} of {subject}: expected {}, found {}",
                    decimal_text(expected, digits),
                    decimal_text(actual, digits)
                ),
                _ => format!("{kind} of {subject}"),
            });
        }
        Ok(breaks)
    }
}

fn every_state_and_break_has_a_scenario(file: &File) -> Result<()> {
    let steps = || file.scenario.iter().flat_map(|scenario| &scenario.step);
    for status in OrderStatus::ALL {
        let shown = steps().flat_map(|step| &step.expect).any(|order| order.split(' ').nth(1) == Some(status.as_str()));
        ensure!(shown, "no scenario has an order that is {}", status.as_str());
    }
    for status in ["pending", "authorized", "captured", "failed", "cancelled", "expired"] {
        let shown = steps().flat_map(|step| &step.payments).any(|payment| payment.ends_with(&format!(" {status}")));
        ensure!(shown, "no scenario has a payment that is {status}");
    }
    for kind in reconciler::BREAK_KINDS {
        let shown = steps().flat_map(|step| &step.breaks).any(|found| found.starts_with(&format!("{kind} of ")));
        ensure!(shown, "no scenario has a break {kind}");
    }
    Ok(())
}

/// Sweeps every region and day that the scenarios have events of.
fn sweep(setup: &Setup, base_ms: i64) -> Result<()> {
    for region in ["eu", "us"] {
        for days in [-8, -1, 0, 1] {
            let time = jiff::Timestamp::from_millisecond(base_ms + days * DAY_MS)?;
            let day = jiff::tz::Offset::UTC.to_datetime(time).date().to_string();
            let (status, text) = run_program("reconciler", setup, &["sweep", "--region", region, "--day", &day])?;
            ensure!(status < 2, "{text}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_scenario_comes_out_as_written() -> Result<()> {
    let _services = services_up().await;
    let setup = own_setup("scenarios", EXTRA)?;
    let config = setup.config.clone();
    let running =
        [Running::writer(config.clone()), Running::reconciler(config.clone()), Running::ingest(config.clone())];
    for listener in [config.writer.internal_listen, config.reconciler.internal_listen, config.ingest.internal_listen] {
        ready(listener).await?;
    }
    let address = config.ingest.listen;
    let world = World::new(config).await?;
    let pool = world.postgres.clone();

    let file: File = toml::from_str(include_str!("../scenarios.toml"))?;
    every_state_and_break_has_a_scenario(&file)?;
    // Whole seconds, as some providers count.
    let base_ms = (platform::clock::now_ms() - HOUR_MS) / 1000 * 1000;
    let mut all: Vec<Story> = (1..)
        .zip(file.scenario)
        .map(|(number, scenario)| Story {
            scenario,
            prefix: format!("s{number}-"),
            base_ms,
            names: BTreeMap::new(),
            posted: 0,
        })
        .collect();
    for running in &all {
        running.insert_orders(&pool, &running.scenario.orders).await?;
    }
    let steps = all.iter().map(|running| running.scenario.step.len()).max().unwrap_or(0);
    for number in 0..steps {
        let mut sweeps = false;
        for running in &mut all {
            let Some(step) = running.scenario.step.get_mut(number).map(std::mem::take) else { continue };
            let title = running.scenario.title.clone();
            for event in &step.events {
                running.post(address, event).await.with_context(|| format!("{title}: {event}"))?;
            }
            running.insert_orders(&pool, &step.orders).await?;
            if let Some(copied) = &step.copied_by_hand {
                running.copy_by_hand(&pool, copied).await?;
            }
            sweeps |= step.sweep;
            running.scenario.step[number] = step;
        }
        // It judges what the step before has left, which was waited for.
        if sweeps {
            sweep(&setup, base_ms)?;
        }
        for running in &all {
            if let Some(step) = running.scenario.step.get(number) {
                eventually(&running.scenario.title, async || running.check(&pool, step).await).await?;
            }
        }
    }
    for running in running {
        running.stop().await?;
    }
    world.clean().await
}
