//! Every alert of dashboards/rules.yml, made to fire by a fault of its kind, while the others stay silent.
//!
//! The rules are the shipped ones with all times shortened (shortened.rs), in a Prometheus of this test's own that
//! scrapes as the shipped configuration says.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use it::{event_body, eventually, post, send, services_mine, within};
use sqlx::AssertSqlSafe;
use stack::{ScrapeTargets, Service, Stack};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::cluster::Cluster;
use crate::faults::{Programs, signal};
use crate::prometheus::Prometheus;
use crate::shortened::{duration, shortened};
use crate::support::World;

const RULES: &str = include_str!("../../dashboards/rules.yml");
/// A kind of break opens as much sooner as its alert comes; the others' defaults are minutes and hours. The first sweep
/// comes a minute after the start.
const CONFIGURATION: &str = "[reconciler]\nparked_break_after_ms = 4000\n\
                             [sweep]\nrecent_every_minutes = 1\nsettle_seconds = 5";
/// Good webhooks a second, all the time.
const RATE: u64 = 100;
/// Three days, shortened.
const LONGEST_WINDOW_MS: i64 = 64_000;
/// How long anything may take: far longer than it does, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(150);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    /// Somebody posts to `stripe` with a signature that is wrong.
    ForgedSignatures,
    /// The source `shop` sends a kind of event that Tollgate does not know.
    UnknownEvents,
    /// Frames that are none, in the queues of both stages.
    PoisonedFrames,
    /// Half of an order's total is captured; mended by the other half.
    WrongAmount,
    /// A payment of an order that the shop has not created; mended by creating it.
    OrderMissing,
    /// A payment's row is deleted from Postgres; the sweep finds it in Cassandra.
    PaymentLost,
    /// The gateway is killed.
    GatewayKilled,
    /// One of two Cassandra nodes is frozen.
    CassandraNodeFrozen,
    /// 110 MB in one partition of Cassandra, on disk.
    PartitionFilled,
    /// The writer takes one frame at a time, and is given a tenth of the time.
    WriterSlow,
    /// Postgres is killed.
    PostgresKilled,
    /// Cassandra is killed.
    CassandraKilled,
    /// RabbitMQ is allowed no memory.
    MemoryShort,
}

/// What a fault must bring about, and what it may.
struct Row {
    fault: Fault,
    /// These fire while it lasts.
    fires: &'static [&'static str],
    /// These fire once it is mended.
    afterwards: &'static [&'static str],
    /// These may fire as well, for a reason.
    may: &'static [(&'static str, &'static str)],
}

const fn row(fault: Fault, fires: &'static [&'static str]) -> Row {
    Row { fault, fires, afterwards: &[], may: &[] }
}

const ACKNOWLEDGED_LATE: [&str; 2] = ["TollgateAckBudgetBurnsFast", "TollgateAckBudgetBurnsSlowly"];
const APPLIED_LATE: [&str; 2] = ["TollgateApplyBudgetBurnsFast", "TollgateApplyBudgetBurnsSlowly"];

/// The faults of a scene are made together: none of them can make an alert of another one fire.
const SCENES: [&[Row]; 4] = [
    &[
        row(Fault::ForgedSignatures, &["TollgateSignatureFailuresJump{source=stripe}"]),
        row(Fault::UnknownEvents, &["TollgateQuarantineGrows{source=shop}"]),
        row(Fault::PoisonedFrames, &["TollgateDeadLetters{stage=write}", "TollgateDeadLetters{stage=reconcile}"]),
        row(Fault::WrongAmount, &["TollgateBreaksOpen{kind=amount}"]),
        row(Fault::OrderMissing, &["TollgateParkedEventsWait", "TollgateBreaksOpen{kind=missing_order}"]),
        row(Fault::PaymentLost, &["TollgateSweepFindsLosses{found=event}"]),
    ],
    &[
        row(Fault::CassandraNodeFrozen, &["TollgateCassandraNodeDown", "TollgateTargetDown{job=cassandra}"]),
        row(Fault::GatewayKilled, &["TollgateTargetDown{job=ingest}"]),
        row(Fault::PartitionFilled, &["TollgatePartitionLarge{table=dead_letters}"]),
    ],
    &[
        Row { afterwards: &APPLIED_LATE, ..row(Fault::WriterSlow, &["TollgateBacklogGrows{stage=write}"]) },
        Row {
            afterwards: &APPLIED_LATE,
            ..row(
                Fault::PostgresKilled,
                &["TollgatePostgresDown{job=postgres}", "TollgateStageStandsStill{stage=reconcile}"],
            )
        },
    ],
    &[
        Row {
            may: &[
                ("TollgateStageStandsStill{stage=reconcile}", "the shop's view is in Cassandra, too"),
                (APPLIED_LATE[0], "what waited is applied late"),
                (APPLIED_LATE[1], "what waited is applied late"),
            ],
            ..row(
                Fault::CassandraKilled,
                &["TollgateTargetDown{job=cassandra}", "TollgateStageStandsStill{stage=write}"],
            )
        },
        row(
            Fault::MemoryShort,
            &["TollgateRabbitmqAlarm{resource=memory}", "TollgateAckBudgetBurnsFast", "TollgateAckBudgetBurnsSlowly"],
        ),
    ],
];

#[test]
fn there_is_a_fault_for_every_alert() {
    let alerts: BTreeSet<_> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let of_row = |row: &Row| [row.fires, row.afterwards].concat();
    let made = SCENES.iter().copied().flatten().flat_map(of_row);
    let made = made.map(|alert| alert.split('{').next().unwrap_or(alert));
    assert_eq!(alerts, made.collect());
}

/// The shop, its payments, and who breaks and mends what.
struct Shop {
    programs: Programs,
    world: World,
    /// What goes on until the fault is mended.
    sustained: BTreeMap<Fault, JoinHandle<()>>,
    payments: JoinHandle<()>,
    /// When a good webhook was last refused, or answered later than a second, ms since 1970.
    missed_at: Arc<AtomicI64>,
    /// The cluster of which a node is frozen, until it is mended.
    cluster: Option<Cluster>,
    folder: PathBuf,
}

impl Shop {
    async fn open() -> Result<Self> {
        // RabbitMQ counts the frames of a queue every so many milliseconds, as it was told when the queue was made.
        let counts_every = |millis| format!("application:set_env(rabbit, quorum_tick_interval, {millis}).");
        stack(|stack| stack.rabbitmqctl(&["eval", &counts_every(1000)]))?;
        let mut programs = Programs::start_with("tollgate_alerting", CONFIGURATION).await?;
        // What this test itself asks of Cassandra may be large, and slow is not failed.
        programs.setup.config.cassandra.timeout_ms = 60_000;
        let config = programs.config().clone();
        stack(|stack| stack.rabbitmqctl(&["eval", &counts_every(5000)]))?;
        let world = World::new(config.clone()).await?;
        let folder = std::env::temp_dir().join(&config.rabbitmq.queue_prefix);
        let missed_at = Arc::new(AtomicI64::new(0));
        let shop = Self {
            payments: tokio::spawn(payments(config.ingest.listen, missed_at.clone())),
            missed_at,
            programs,
            world,
            sustained: BTreeMap::new(),
            cluster: Some(Cluster::start(&folder)?),
            folder,
        };
        for order in (0..ORDERS).map(|n| format!("A-{n}")).chain(["A-wrong", "A-lost"].map(str::to_owned)) {
            shop.create_order(&order).await?;
        }
        shop.capture("A-lost", 1000, "c").await?;
        Ok(shop)
    }

    fn gateway(&self) -> SocketAddr {
        self.programs.config().ingest.listen
    }

    async fn create_order(&self, order: &str) -> Result<()> {
        let insert = "INSERT INTO {s}.orders (reference, total, currency) VALUES ('{o}', 10, 'EUR')";
        self.sql(&insert.replace("{o}", order)).await.map(drop)
    }

    async fn sql(&self, statement: &str) -> Result<u64> {
        let statement = statement.replace("{s}", &self.programs.config().postgres.schema);
        Ok(sqlx::query(AssertSqlSafe(statement)).execute(&self.world.postgres).await?.rows_affected())
    }

    async fn cql(&self, statement: &str) -> Result<()> {
        let statement = statement.replace("{ks}", &self.programs.config().cassandra.keyspace);
        self.world.cassandra.query_unpaged(statement, ()).await?;
        Ok(())
    }

    async fn capture(&self, order: &str, amount: i64, transaction: &str) -> Result<()> {
        let body = event_body("payment.captured", &format!("pay-{order}"), Some(order), amount, transaction);
        let answer = post(self.gateway(), &format!("{order}-{transaction}"), &body).await?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    }

    async fn restart(&mut self, program: &'static str, variables: &[(&str, &str)]) -> Result<()> {
        let variables = variables.iter().map(|(name, value)| (format!("TOLLGATE_{name}"), (*value).to_owned()));
        self.programs.setup.variables.extend(variables);
        self.programs.restart(program, "TERM").await
    }

    async fn make(&mut self, fault: Fault) -> Result<()> {
        let gateway = self.gateway();
        match fault {
            Fault::ForgedSignatures => {
                let forge =
                    move |_| async move { send(gateway, "POST", "/webhooks/stripe", &FORGED, b"{}").await.map(drop) };
                self.sustained.insert(fault, tokio::spawn(send_often(20, forge)));
            }
            Fault::UnknownEvents => {
                let unknown = move |n| async move {
                    let body = event_body("payment.pondered", "pay", None, 1000, "c");
                    post(gateway, &format!("unknown-{n}"), &body).await.map(drop)
                };
                self.sustained.insert(fault, tokio::spawn(send_often(10, unknown)));
            }
            Fault::PoisonedFrames => {
                for stage in ["write.0", "reconcile.0"] {
                    self.world.publish_bytes(stage, b"not a frame at all").await?;
                }
            }
            Fault::WrongAmount => self.capture("A-wrong", 500, "c1").await?,
            Fault::OrderMissing => self.capture("A-late", 1000, "c").await?,
            Fault::PaymentLost => {
                eventually("it was there", async || {
                    let deleted = self.sql("DELETE FROM {s}.payments WHERE order_ref = 'A-lost'").await?;
                    ensure!(deleted == 1, "{deleted} payments");
                    Ok(())
                })
                .await?;
            }
            Fault::CassandraNodeFrozen => {
                let cluster = self.cluster.as_ref().context("no cluster")?;
                within(PATIENCE, "both nodes are up", async || cluster.check_up(2).await).await?;
                self.scrape_nodes(&cluster.metrics)?;
                cluster.signal_second("STOP").await?;
            }
            Fault::GatewayKilled => self.programs.end("ingest", "KILL").await?,
            Fault::PartitionFilled => self.fill_partition().await?,
            Fault::WriterSlow => {
                self.restart("writer", &[("WRITER_PREFETCH_FRAMES", "1")]).await?;
                let pid = self.programs.pid("writer")?;
                self.sustained.insert(fault, tokio::spawn(throttle(pid)));
            }
            Fault::PostgresKilled => stack(|stack| stack.kill(Service::Postgres))?,
            Fault::CassandraKilled => stack(|stack| stack.kill(Service::Cassandra))?,
            Fault::MemoryShort => stack(|stack| stack.rabbitmqctl(&["set_vm_memory_high_watermark", "0"]))?,
        }
        Ok(())
    }

    /// Mends a fault, or what there is of it.
    async fn mend(&mut self, fault: Fault) -> Result<()> {
        if let Some(task) = self.sustained.remove(&fault) {
            task.abort();
        }
        match fault {
            Fault::ForgedSignatures | Fault::UnknownEvents | Fault::PoisonedFrames => {}
            Fault::WrongAmount => self.capture("A-wrong", 500, "c2").await?,
            Fault::OrderMissing => self.create_order("A-late").await?,
            // The sweep has mended it. Those to come would meet what waits in the scenes to come.
            Fault::PaymentLost => self.restart("reconciler", &[("SWEEP_ENABLED", "false")]).await?,
            Fault::CassandraNodeFrozen => {
                let cluster = self.cluster.take().context("no cluster")?;
                cluster.signal_second("CONT").await?;
                within(PATIENCE, "both nodes are up again", async || cluster.check_up(2).await).await?;
                self.scrape_nodes(&[])?;
            }
            Fault::GatewayKilled => {
                if !self.programs.is_running("ingest") {
                    self.programs.spawn("ingest")?;
                }
                self.programs.ready().await?;
            }
            Fault::PartitionFilled => {
                self.cql("ALTER TABLE {ks}.dead_letters WITH memtable_flush_period_in_ms = 0").await?;
                self.cql("TRUNCATE {ks}.dead_letters").await?;
            }
            Fault::WriterSlow => {
                signal(self.programs.pid("writer")?, "CONT").await?;
                self.restart("writer", &[("WRITER_PREFETCH_FRAMES", "512")]).await?;
            }
            Fault::PostgresKilled => stack(|stack| stack.start(Service::Postgres))?,
            Fault::CassandraKilled => stack(|stack| stack.start(Service::Cassandra))?,
            // As in stack/assets/rabbitmq.conf.
            Fault::MemoryShort => {
                stack(|stack| stack.rabbitmqctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]))?;
            }
        }
        Ok(())
    }

    /// Has Prometheus scrape these Cassandra nodes, too.
    fn scrape_nodes(&self, nodes: &[SocketAddr]) -> Result<()> {
        let fresh = self.folder.join("nodes.new");
        std::fs::write(&fresh, serde_json::json!([{"targets": nodes}]).to_string())?;
        Ok(std::fs::rename(fresh, self.folder.join("nodes.json"))?)
    }

    async fn fill_partition(&self) -> Result<()> {
        let keyspace = &self.programs.config().cassandra.keyspace;
        let insert =
            format!("INSERT INTO {keyspace}.dead_letters (stage, bucket, id, record) VALUES ('write', 0, ?, ?)");
        let insert = self.world.cassandra.prepare(insert).await?;
        let record = vec![0_u8; 1_000_000];
        for _ in 0..110 {
            self.world.cassandra.execute_unpaged(&insert, (uuid::Uuid::new_v4(), &record)).await?;
        }
        // Cassandra measures partitions when it writes them to disk.
        self.cql("ALTER TABLE {ks}.dead_letters WITH memtable_flush_period_in_ms = 1000").await
    }
}

const FORGED: [(&str, &str); 2] = [
    ("content-type", "application/json"),
    ("stripe-signature", "t=1700000000,v1=00000000000000000000000000000000000000000000000000000000000000ff"),
];

/// Orders that are paid over and over, each by one payment of which the same is said again and again.
const ORDERS: u64 = 20;

async fn payments(gateway: SocketAddr, missed_at: Arc<AtomicI64>) {
    send_often(RATE, move |n| {
        let missed_at = missed_at.clone();
        async move {
            let order = n % ORDERS;
            let body = event_body("payment.captured", &format!("p-{order}"), Some(&format!("A-{order}")), 1000, "c");
            let begun = Instant::now();
            let answer = post(gateway, &format!("m-{n}"), &body).await;
            if answer.is_ok_and(|answer| answer.status != 200) || begun.elapsed() > Duration::from_secs(1) {
                missed_at.store(platform::clock::now_ms(), Relaxed);
            }
            Ok(())
        }
    })
    .await;
}

/// Sends requests at a rate whatever becomes of them, as providers do, until aborted.
async fn send_often<F>(per_second: u64, request: impl Fn(u64) -> F)
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(500));
    let mut ticks = tokio::time::interval(Duration::from_millis(1000 / per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0.. {
        ticks.tick().await;
        if let Ok(place) = places.clone().try_acquire_owned() {
            let request = request(n);
            tokio::spawn(async move {
                let _whatever = request.await;
                drop(place);
            });
        }
    }
}

/// Lets a process run for a tenth of the time, until aborted.
async fn throttle(pid: u32) {
    for (name, millis) in [("STOP", 360), ("CONT", 40)].into_iter().cycle() {
        if signal(pid, name).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }
}

fn stack(act: impl FnOnce(&Stack) -> Result<()>) -> Result<()> {
    tokio::task::block_in_place(|| act(&Stack::open()?))
}

/// Looks at what fires.
struct Watch {
    prometheus: Prometheus,
    /// What fired when it last looked.
    firing: BTreeSet<String>,
    seen: BTreeSet<String>,
    since: Instant,
}

impl Watch {
    /// Looks until `is_done` says so of what fires now and of all that has been seen firing; prints what changes.
    async fn until(
        &mut self,
        what: &str,
        is_done: impl Fn(&BTreeSet<String>, &BTreeSet<String>) -> bool,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let firing = self.prometheus.firing().await?;
            let seconds = self.since.elapsed().as_secs_f64();
            for alert in firing.difference(&self.firing) {
                println!("{seconds:6.1} s  {alert} fires");
            }
            for alert in self.firing.difference(&firing) {
                println!("{seconds:6.1} s  {alert} ends");
            }
            self.seen.extend(firing.iter().cloned());
            self.firing = firing;
            let firing = &self.firing;
            if is_done(firing, &self.seen) {
                println!("{seconds:6.1} s  {what}: after {:.1} s", begun.elapsed().as_secs_f64());
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "never came true: {what}; {firing:?} fire, seen were {:?}", self.seen);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn scene(rows: &[Row], shop: &mut Shop, watch: &mut Watch) -> Result<()> {
    let names = rows.iter().map(|row| format!("{:?}", row.fault)).collect::<Vec<_>>().join(", ");
    let owned = |list: fn(&Row) -> &'static [&'static str]| -> BTreeSet<String> {
        rows.iter().flat_map(list).map(|alert| (*alert).to_owned()).collect()
    };
    let (fires, afterwards) = (owned(|row| row.fires), owned(|row| row.afterwards));
    let may: BTreeSet<String> = rows.iter().flat_map(|row| row.may).map(|(alert, _)| (*alert).to_owned()).collect();
    println!("{:6.1} s  {names}", watch.since.elapsed().as_secs_f64());
    watch.until("nothing fires but what this scene may", |firing, _| firing.is_subset(&may)).await?;
    watch.seen.clear();
    let begun_ms = platform::clock::now_ms();

    let mut made = Ok(());
    for row in rows {
        made = made.and(shop.make(row.fault).await.with_context(|| format!("{:?}", row.fault)));
    }
    let fired = match made {
        Ok(()) => watch.until("what must fire has fired", |_, seen| fires.is_subset(seen)).await,
        Err(error) => Err(error),
    };
    // In any case: others use these services, too.
    let mut mended = Ok(());
    for row in rows.iter().rev() {
        mended = mended.and(shop.mend(row.fault).await.with_context(|| format!("cannot mend {:?}", row.fault)));
    }
    fired.and(mended)?;
    let quiet = |firing: &BTreeSet<String>, seen: &BTreeSet<String>| {
        afterwards.is_subset(seen) && firing.iter().all(|alert| afterwards.contains(alert) || may.contains(alert))
    };
    watch.until("mended", quiet).await?;
    let mut expected: BTreeSet<String> = fires.iter().chain(&afterwards).chain(&may).cloned().collect();
    if shop.missed_at.load(Relaxed) > begun_ms - LONGEST_WINDOW_MS {
        println!("answers were late or refused, so the budget of answers may burn");
        expected.extend(ACKNOWLEDGED_LATE.map(str::to_owned));
    }
    let others: Vec<_> = watch.seen.difference(&expected).collect();
    ensure!(others.is_empty(), "{names} made these fire, too: {others:?}");
    Ok(())
}

/// Leaves out the queues and keyspaces of others, who may have left them in any state, and adds the nodes of
/// [`Shop::scrape_nodes`].
fn only_of(name: &str, folder: &Path, scraping: &str) -> String {
    let only = format!(
        "\n    metric_relabel_configs:\n      - source_labels: [queue, keyspace]\n        separator: \"\"\n        \
         regex: \"({name}.*)?\"\n        action: keep\n"
    );
    let nodes = format!("    file_sd_configs:\n      - files: [{}/nodes.json]\n", folder.display());
    let (queues, cassandra) = ("job_name: rabbitmq-queues", "job_name: cassandra");
    let scraping = scraping.replace(&format!("{queues}\n"), &format!("{queues}{only}"));
    scraping.replace(&format!("{cassandra}\n"), &format!("{cassandra}{only}{nodes}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_makes_its_alerts_fire_and_no_others() -> Result<()> {
    let _services = services_mine().await;
    let since = Instant::now();
    let mut shop = Shop::open().await?;
    let config = shop.programs.config().clone();
    let targets = ScrapeTargets {
        ingest: config.ingest.internal_listen.to_string(),
        writer: config.writer.internal_listen.to_string(),
        reconciler: config.reconciler.internal_listen.to_string(),
    };
    let shipped = Stack::open()?.with_scrape_targets(targets).prometheus_configuration()?;
    let rules_path = format!("{}/dashboards/rules.yml", Stack::open()?.layout().workspace.display());
    ensure!(shipped.contains(&rules_path), "no rules in {shipped}");
    let folder = shop.folder.clone();
    let scraping =
        shortened(&only_of(&config.rabbitmq.queue_prefix, &folder, &shipped.replace(&rules_path, "{rules}")))?;
    // Five minutes is how long Prometheus takes a value for current.
    let prometheus = Prometheus::start(&folder, &scraping, &shortened(RULES)?, &duration("5m")?).await?;

    within(PATIENCE, "all targets are up, and everything is recorded", async || {
        let up = prometheus.values("up").await?;
        ensure!(up.len() == 8 && up.iter().all(|(_, up)| *up > 0.0), "{up:?}");
        for budget in ["ack", "apply"] {
            let ratio = prometheus.values(&format!("tollgate:{budget}_missed:ratio_rate3d")).await?;
            ensure!(!ratio.is_empty(), "nothing recorded for {budget}");
        }
        Ok(())
    })
    .await?;
    let mut watch = Watch { prometheus, firing: BTreeSet::new(), seen: BTreeSet::new(), since };
    let result = scenes(&mut shop, &mut watch).await;
    shop.payments.abort();
    // What went wrong says more than what could not be cleaned up after it.
    let cleaned = shop.programs.clean().await;
    result.and(cleaned)?;
    watch.prometheus.clean().await
}

async fn scenes(shop: &mut Shop, watch: &mut Watch) -> Result<()> {
    for rows in SCENES {
        scene(rows, shop, watch).await?;
    }
    watch.until("nothing fires", |firing, _| firing.is_empty()).await
}
