//! What keeping the books costs: events stored, applied, swept and replayed, each on its own.
//!
//! `cargo stack up && eval "$(cargo stack env)" && cargo bench -p it` runs it, after a build of the programs;
//! BENCH_EVENTS says how many events (400,000). It fails when the sweep of a clean day finds anything, or when
//! tables that were dropped do not come back as they were.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "../it/support.rs"]
mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use domain::frame::Record;
use domain::{ContentHash, Currency, Kind, Money, PaymentEvent, ids};
use it::{Running, Setup, own_setup, program_binary, send};
use loadtest::{Meter, Place};
use sqlx::{AssertSqlSafe, Row};
use support::{World, ready};

const EVENTS: u64 = 400_000;
/// Events that lie in the queues at once.
const ROUND: u64 = 400_000;
const FRAME_RECORDS: usize = 100;
const EVENTS_AN_ORDER: u64 = 2;
const EXTRA: &str = "[reconciler]\nproject_payments = false\n[sweep]\nenabled = false\nsettle_seconds = 0\n";
/// Everything that the fold decides, without times of detection.
const BOOKS: [&str; 3] = [
    "SELECT reference, status, paid, refunded, disputed FROM orders",
    "SELECT payment_id, order_ref, provider, region, currency, status, captured, refunded, disputed, facts, day FROM payments",
    "SELECT kind, subject, currency, expected, actual FROM breaks",
];

fn main() -> Result<()> {
    let events = match std::env::var("BENCH_EVENTS") {
        Ok(events) => events.parse().context("BENCH_EVENTS")?,
        Err(_) => EVENTS,
    };
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(measure(events))
}

/// A program as a process of its own, killed when dropped.
struct Process(Child);

impl Process {
    fn start(program: &str, setup: &Setup, file: &PathBuf, arguments: &[&str]) -> Result<Self> {
        let mut command = Command::new(program_binary(program)?);
        command.args(arguments).arg("--config").arg(file).envs(&setup.variables);
        Ok(Self(command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null()).spawn()?))
    }

    /// Waits for its end; whether it ended well, and the most memory that it was seen to hold, MiB.
    fn wait(&mut self) -> Result<(Option<i32>, u64)> {
        let mut peak_kib = 0;
        loop {
            let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap_or_default();
            let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
            peak_kib = peak_kib.max(peak.and_then(|kib| kib.parse().ok()).unwrap_or(0));
            if let Some(status) = self.0.try_wait()? {
                return Ok((status.code(), peak_kib / 1024));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
    }
}

/// The events of orders `from..to`: an authorization and a capture each, near to each other and out of order.
fn records(from: u64, to: u64, day_start_ms: i64) -> Vec<Vec<u8>> {
    let eur = Currency::parse("EUR").unwrap();
    let mut records = Vec::new();
    for order in from..to {
        for kind in [Kind::Captured, Kind::Authorized] {
            let payment = format!("pay_{order:010}");
            let key = format!("{}_{order:010}", kind.as_str());
            // Ten hours of traffic: many partitions, as on a real day.
            let second = (order * 7919) % 36_000 + u64::from(kind == Kind::Captured);
            let time_ms = day_start_ms + i64::try_from(second).unwrap() * 1000;
            let mut event = PaymentEvent {
                event_id: ids::event_id("tollgate", "", &key),
                content_hash: ContentHash([0; 16]),
                payment_id: ids::payment_id("tollgate", "", &payment),
                kind,
                amount: Some(Money::new(1999, eur).unwrap()),
                event_time_ms: time_ms,
                version_ms: time_ms,
                received_at_ms: time_ms,
                provider: "tollgate".into(),
                source: "shop".into(),
                account: "".into(),
                region: "eu".into(),
                provider_event_id: key.into(),
                provider_event_type: kind.as_str().into(),
                provider_payment_id: payment.into(),
                transaction_id: (kind == Kind::Captured).then(|| "c1".into()),
                order_ref: Some(format!("B-{order:010}").into()),
                user_ref: None,
            };
            event.hash_content();
            records.push(Record::event(&event).to_vec());
        }
    }
    records
}

async fn measure(events: u64) -> Result<()> {
    let setup = own_setup("books", EXTRA)?;
    let config = setup.config.clone();
    let file = std::env::temp_dir().join(format!("{}.toml", config.postgres.schema));
    std::fs::write(&file, &setup.text)?;
    // Both declare their queues and make their tables.
    let programs = [Running::writer(config.clone()), Running::reconciler(config.clone())];
    ready(config.writer.internal_listen).await?;
    ready(config.reconciler.internal_listen).await?;
    for program in programs {
        program.stop().await?;
    }
    let world = World::new(config.clone()).await?;
    let now_ms = platform::clock::now_ms();
    let day_start_ms = now_ms - now_ms.rem_euclid(86_400_000);
    let orders = events / EVENTS_AN_ORDER;
    sqlx::query(
        "INSERT INTO orders (reference, total, currency) \
         SELECT 'B-' || lpad(n::text, 10, '0'), 19.99, 'EUR' FROM generate_series(0, $1 - 1) n",
    )
    .bind(i64::try_from(orders)?)
    .execute(&world.postgres)
    .await?;

    let mut stored = Duration::ZERO;
    let mut applied = Duration::ZERO;
    let mut bill = Vec::new();
    let round = ROUND / EVENTS_AN_ORDER;
    let mut from = 0;
    while from < orders {
        let to = orders.min(from + round);
        stored += store(&world, &setup, &file, from..to, day_start_ms).await?;
        applied += apply(&world, &setup, &file, &mut bill, (to - from) * EVENTS_AN_ORDER).await?;
        println!("{to} of {orders} orders");
        from = to;
    }
    let count: i64 = sqlx::query("SELECT count(*) FROM orders WHERE status = 'paid'")
        .fetch_one(&world.postgres)
        .await?
        .try_get(0)?;
    ensure!(u64::try_from(count)? == orders, "{count} orders of {orders} are paid");
    show("stored by the writer", events, stored, "");
    show("applied by the reconciler", events, applied, &format!(", µs CPU an event: {}", bill.join("; ")));

    let day = jiff::tz::Offset::UTC.to_datetime(jiff::Timestamp::from_millisecond(day_start_ms)?).date().to_string();
    let sweep = ["sweep", "--region", "eu", "--day", &day, "--rows-per-second", "10000000"];
    let started = Instant::now();
    let (status, peak_mib) = Process::start("reconciler", &setup, &file, &sweep)?.wait()?;
    ensure!(status == Some(0), "the sweep of a clean day found something");
    show("swept, a clean day", events, started.elapsed(), &format!(", peak memory {peak_mib} MiB"));

    let books = digest(&world).await?;
    let sizes = sizes(&world).await?;
    sqlx::query(
        "DROP TABLE payments, links, parked_events, breaks, closed_breaks, transitions, sweeps, _sqlx_migrations",
    )
    .execute(&world.postgres)
    .await?;
    let replay = ["replay", "--region", "eu", "--from", &day, "--to", &day];
    let started = Instant::now();
    let (status, peak_mib) = Process::start("reconciler", &setup, &file, &replay)?.wait()?;
    ensure!(status == Some(0), "the replay did not come to its end");
    show("replayed into dropped tables", events, started.elapsed(), &format!(", peak memory {peak_mib} MiB"));
    ensure!(digest(&world).await? == books, "orders, payments or breaks are not what they were");
    println!("orders, payments and breaks are what they were before");
    println!("{sizes}");
    std::fs::remove_file(&file)?;
    world.clean().await
}

/// The sum of a program's counters of one name and label.
async fn counted(internal: SocketAddr, metric: &str) -> Result<u64> {
    let answer = send(internal, "GET", "/metrics", &[], b"").await?;
    let values = answer.body.lines().filter(|line| line.starts_with(metric)).filter_map(|line| line.rsplit(' ').next());
    values.map(|value| Ok(value.parse::<u64>()?)).sum()
}

/// Waits until a program has counted so much; how long that took.
async fn count_to(internal: SocketAddr, metric: &str, count: u64) -> Result<Duration> {
    let started = Instant::now();
    while counted(internal, metric).await? < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(started.elapsed())
}

/// Ends a program as SIGTERM does.
fn end(mut program: Process) -> Result<()> {
    Command::new("kill").arg("-TERM").arg(program.0.id().to_string()).status()?;
    let (status, _) = tokio::task::block_in_place(|| program.wait())?;
    ensure!(status == Some(0), "a program did not end well: {status:?}");
    Ok(())
}

/// Publishes to the writer's queue and waits until all is stored and handed on.
async fn store(
    world: &World,
    setup: &Setup,
    file: &PathBuf,
    orders: std::ops::Range<u64>,
    day_start_ms: i64,
) -> Result<Duration> {
    let std::ops::Range { start: from, end: to } = orders;
    for first in (from..to).step_by(10_000) {
        let records = records(first, to.min(first + 10_000), day_start_ms);
        for frame in records.chunks(FRAME_RECORDS) {
            let frame: Vec<&[u8]> = frame.iter().map(Vec::as_slice).collect();
            world.publish("write.0", &frame).await?;
        }
    }
    let writer = Process::start("writer", setup, file, &[])?;
    let internal = world.config.writer.internal_listen;
    ready(internal).await?;
    let took = count_to(internal, "tollgate_writer_rows_total", (to - from) * EVENTS_AN_ORDER).await?;
    end(writer)?;
    Ok(took)
}

/// Runs a reconciler until its queue is empty and settled.
async fn apply(world: &World, setup: &Setup, file: &PathBuf, bill: &mut Vec<String>, events: u64) -> Result<Duration> {
    let reconciler = Process::start("reconciler", setup, file, &[])?;
    let internal = world.config.reconciler.internal_listen;
    ready(internal).await?;
    let meter = Meter::of(&[
        ("reconciler", Place::Process(reconciler.0.id())),
        ("postgres", Place::postgres(&world.config)),
        ("rabbitmq", Place::rabbitmq(&world.config)),
    ]);
    let applied = "tollgate_reconciler_events_total{outcome=\"applied\"}";
    let took = count_to(internal, applied, events).await?;
    let lines = meter.bill(events).lines;
    end(reconciler)?;
    ensure!(world.depth("reconcile.0").await? == 0, "frames came back");
    let line: Vec<_> =
        lines.iter().map(|line| format!("{} {:.1}", line.process, line.us_per_payment.unwrap_or(0.0))).collect();
    bill.push(line.join(", "));
    Ok(took)
}

/// A hash of each table's rows, in an order that does not depend on how they lie.
async fn digest(world: &World) -> Result<Vec<Option<String>>> {
    let mut digests = Vec::new();
    for query in BOOKS {
        let sum = format!("SELECT sum(hashtextextended(r::text, 0)::numeric)::text FROM ({query}) r");
        digests.push(sqlx::query(AssertSqlSafe(sum)).fetch_one(&world.postgres).await?.try_get(0)?);
    }
    Ok(digests)
}

/// Bytes a row of Tollgate's tables, indexes included.
async fn sizes(world: &World) -> Result<String> {
    let row = sqlx::query(
        "SELECT pg_total_relation_size('payments') / (SELECT count(*) FROM payments), \
         (SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits WHERE inhparent = 'transitions'::regclass) \
             / (SELECT count(*) FROM transitions)",
    )
    .fetch_one(&world.postgres)
    .await?;
    let (payment, transition): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    Ok(format!("bytes in Postgres, indexes included: {payment} a payment, {transition} a transition"))
}

fn show(what: &str, events: u64, took: Duration, more: &str) {
    let rate = u128::from(events) * 1000 / took.as_millis().max(1);
    println!("{what:30} {events} events in {:.1} s: {rate} a second{more}", took.as_secs_f64());
}
