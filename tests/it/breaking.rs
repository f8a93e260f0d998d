//! Faults made on purpose, and mended again: in requests, in a shop's orders, in programs and in services.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use it::{event_body, eventually, free_ports, post, send, within};
use sqlx::AssertSqlSafe;
use stack::certificates::Authority;
use stack::{Service, Stack};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::cluster::Cluster;
use crate::faults::{Programs, signal};
use crate::support::World;

/// The break of a parked event opens as much sooner as the alerts come sooner. The first sweep comes a minute after the
/// start and judges what is five seconds old.
const CONFIGURATION: &str = "[reconciler]\nparked_break_after_ms = 4000\n\
                             [sweep]\nrecent_every_minutes = 1\nsettle_seconds = 5\n\
                             [sources.asked]\nprovider = \"mollie-classic\"\nregion = \"eu\"\n\
                             secrets = [{ value = \"live_testsOnly\" }]\napi_url = \"http://API\"";
/// Good webhooks a second, all the time.
const RATE: u64 = 100;
/// How long anything may take: far longer than it does, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(150);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Somebody posts to `stripe` with a signature that is wrong.
    ForgedSignatures,
    /// The source `shop` sends a kind of event that Tollgate does not know.
    UnknownEvents,
    /// The secret of `shop` ends within the hour.
    SecretEnds,
    /// The gateway is told to read a configuration that cannot be used.
    ReloadRefused,
    /// The API that `asked` asks refuses connections; mended by one that knows no payment.
    ProviderSilent,
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
    /// Nobody tells the writer which nodes have copies of its queues.
    MembersUnknown,
    /// The writer takes one frame at a time, and is given a tenth of the time.
    WriterSlow,
    /// Postgres is killed.
    PostgresKilled,
    /// Cassandra is killed.
    CassandraKilled,
    /// RabbitMQ is allowed no memory.
    MemoryShort,
    /// The gateway shows a certificate that ends in three days.
    CertificateEnds,
}

/// The shop, its payments, and who breaks and mends what.
pub struct Shop {
    pub programs: Programs,
    world: World,
    /// What goes on until the fault is mended.
    sustained: BTreeMap<Fault, JoinHandle<()>>,
    payments: Option<JoinHandle<()>>,
    /// When a good webhook was last refused, or answered later than a second, ms since 1970.
    pub missed_at: Arc<AtomicI64>,
    /// Where nobody listens until [`Fault::ProviderSilent`] is mended.
    api: SocketAddr,
    /// The cluster of which a node is frozen.
    cluster: Cluster,
    pub folder: PathBuf,
}

impl Shop {
    /// Starts the programs and a second Cassandra, and lets payments come.
    pub async fn open() -> Result<Self> {
        // RabbitMQ counts the frames of a queue every so many milliseconds, as it was told when the queue was made.
        let counts_every = |millis| format!("application:set_env(rabbit, quorum_tick_interval, {millis}).");
        stack(|stack| stack.rabbitmqctl(&["eval", &counts_every(1000)]))?;
        let [api] = free_ports()?;
        let configuration = CONFIGURATION.replace("API", &api.to_string());
        let programs = Programs::start_with("tollgate_alerting", &configuration).await;
        stack(|stack| stack.rabbitmqctl(&["eval", &counts_every(5000)]))?;
        let mut programs = programs?;
        // What this test itself asks of Cassandra may be large, and slow is not failed.
        programs.setup.config.cassandra.timeout_ms = 60_000;
        let config = programs.config().clone();
        let world = World::new(config.clone()).await?;
        let folder = std::env::temp_dir().join(&config.rabbitmq.queue_prefix);
        let mut shop = Self {
            payments: None,
            missed_at: Arc::default(),
            programs,
            world,
            sustained: BTreeMap::new(),
            api,
            cluster: Cluster::start(&folder)?,
            folder,
        };
        for order in (0..ORDERS).map(|n| format!("A-{n}")).chain(["A-wrong", "A-lost"].map(str::to_owned)) {
            shop.create_order(&order).await?;
        }
        shop.capture("A-lost", 1000, "c").await?;
        shop.start_payments();
        Ok(shop)
    }

    fn start_payments(&mut self) {
        self.stop_payments();
        self.payments = Some(tokio::spawn(payments(self.gateway(), self.missed_at.clone())));
    }

    pub fn stop_payments(&mut self) {
        if let Some(payments) = self.payments.take() {
            payments.abort();
        }
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

    /// Makes a fault.
    pub async fn make(&mut self, fault: Fault) -> Result<()> {
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
            Fault::SecretEnds => {
                let hour = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
                let secret = format!("{{ value = \"{}\"", it::SHOP_SECRET);
                let ends = format!("{secret}, not_after = \"{hour}\"");
                self.programs.reconfigure(&self.programs.setup.text.replace(&secret, &ends)).await?;
                // Read before the next fault writes another file.
                eventually("the end is in force", async || {
                    let internal = self.programs.config().ingest.internal_listen;
                    let name = "tollgate_ingest_secret_not_after_timestamp_seconds";
                    let ends = it::metric_sum(internal, name, "source=\"shop\"").await?;
                    ensure!(ends > 0.0, "none has an end");
                    Ok(())
                })
                .await?;
            }
            // Only the gateway reads secrets: the others may be restarted with this.
            Fault::ReloadRefused => {
                let without =
                    "[sources.shop]\nprovider = \"tollgate\"\nregion = \"eu\"\nsecrets = [{ env = \"NOT_THERE\" }]";
                self.programs.reconfigure(without).await?;
            }
            Fault::ProviderSilent => {
                for payment in 0..10 {
                    let form = [("content-type", "application/x-www-form-urlencoded")];
                    let body = format!("id=tr_{payment}");
                    let answer = send(gateway, "POST", "/webhooks/asked", &form, body.as_bytes()).await?;
                    ensure!(answer.status == 200, "{answer:?}");
                }
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
                within(PATIENCE, "both nodes are up", async || self.cluster.check_up().await).await?;
                self.scrape_cluster()?;
                self.cluster.signal_second("STOP").await?;
            }
            Fault::GatewayKilled => {
                // It refuses some while it starts again.
                self.stop_payments();
                self.programs.end("ingest", "KILL").await?;
            }
            Fault::PartitionFilled => self.fill_partition().await?,
            Fault::MembersUnknown => {
                let [nobody] = free_ports()?;
                self.programs.setup.variables.insert(MANAGEMENT.into(), format!("http://{nobody}"));
                // It is not ready without having known.
                self.programs.end("writer", "TERM").await?;
                self.programs.spawn("writer")?;
            }
            Fault::WriterSlow => {
                self.restart("writer", &[("WRITER_PREFETCH_FRAMES", "1")]).await?;
                let pid = self.programs.pid("writer")?;
                self.sustained.insert(fault, tokio::spawn(throttle(pid)));
            }
            Fault::PostgresKilled => stack(|stack| stack.kill(Service::Postgres))?,
            Fault::CassandraKilled => stack(|stack| stack.kill(Service::Cassandra))?,
            Fault::MemoryShort => stack(|stack| stack.rabbitmqctl(&["set_vm_memory_high_watermark", "0"]))?,
            Fault::CertificateEnds => {
                // They are sent in the clear.
                self.stop_payments();
                let issued = Authority::open(&self.folder.join("tls"))?.issue("public", 3)?;
                let (certificate, key) = (issued.certificate.display().to_string(), issued.key.display().to_string());
                let variables = [("INGEST_TLS_CERTIFICATE", certificate.as_str()), ("INGEST_TLS_KEY", &key)];
                self.restart("ingest", &variables).await?;
            }
        }
        Ok(())
    }

    /// Mends a fault, or what there is of it.
    pub async fn mend(&mut self, fault: Fault) -> Result<()> {
        if let Some(task) = self.sustained.remove(&fault) {
            task.abort();
            let _aborted = task.await;
        }
        match fault {
            Fault::ForgedSignatures | Fault::UnknownEvents | Fault::PoisonedFrames => {}
            Fault::SecretEnds | Fault::ReloadRefused => {
                let text = self.programs.setup.text.clone();
                self.programs.reconfigure(&text).await?;
            }
            Fault::ProviderSilent => {
                let listener = TcpListener::bind(self.api).await?;
                self.sustained.insert(fault, tokio::spawn(know_nothing(listener)));
            }
            Fault::WrongAmount => self.capture("A-wrong", 500, "c2").await?,
            Fault::OrderMissing => self.create_order("A-late").await?,
            // The sweep has mended it. Those to come would meet what waits in the scenes to come.
            Fault::PaymentLost => self.restart("reconciler", &[("SWEEP_ENABLED", "false")]).await?,
            Fault::CassandraNodeFrozen => {
                self.cluster.signal_second("CONT").await?;
                within(PATIENCE, "both nodes are up again", async || self.cluster.check_up().await).await?;
            }
            Fault::GatewayKilled => {
                if !self.programs.is_running("ingest") {
                    self.programs.spawn("ingest")?;
                }
                self.programs.ready().await?;
                self.start_payments();
            }
            Fault::PartitionFilled => {
                self.cql("ALTER TABLE {ks}.dead_letters WITH memtable_flush_period_in_ms = 0").await?;
                self.cql("TRUNCATE {ks}.dead_letters").await?;
            }
            Fault::MembersUnknown => {
                let variables = &mut self.programs.setup.variables;
                match std::env::var(MANAGEMENT) {
                    Ok(usual) => variables.insert(MANAGEMENT.into(), usual),
                    Err(_) => variables.remove(MANAGEMENT),
                };
                // The gateway is still away: who brings that back waits for all.
                self.programs.end("writer", "TERM").await?;
                self.programs.spawn("writer")?;
            }
            Fault::WriterSlow => {
                signal(self.programs.pid("writer")?, "CONT").await?;
                self.restart("writer", &[("WRITER_PREFETCH_FRAMES", "512")]).await?;
            }
            Fault::PostgresKilled => stack(|stack| stack.start(Service::Postgres))?,
            Fault::CassandraKilled => stack(|stack| stack.start(Service::Cassandra))?,
            Fault::CertificateEnds => {
                self.restart("ingest", &[("INGEST_TLS_CERTIFICATE", ""), ("INGEST_TLS_KEY", "")]).await?;
                self.start_payments();
            }
            // As in stack/assets/rabbitmq.conf.
            Fault::MemoryShort => {
                stack(|stack| stack.rabbitmqctl(&["set_vm_memory_high_watermark", "absolute", "1GB"]))?;
            }
        }
        Ok(())
    }

    /// From now on Prometheus scrapes the cluster, too.
    fn scrape_cluster(&self) -> Result<()> {
        let fresh = self.folder.join("nodes.new");
        std::fs::write(&fresh, serde_json::json!([{"targets": self.cluster.metrics}]).to_string())?;
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

const MANAGEMENT: &str = "TOLLGATE_RABBITMQ_MANAGEMENT_URL";

const FORGED: [(&str, &str); 2] = [
    ("content-type", "application/json"),
    ("stripe-signature", "t=1700000000,v1=00000000000000000000000000000000000000000000000000000000000000ff"),
];

/// Orders that are paid over and over, each by one payment of which the same is said again and again.
const ORDERS: u64 = 20;

async fn payments(gateway: SocketAddr, missed_at: Arc<AtomicI64>) {
    let series = platform::clock::now_ms();
    send_often(RATE, move |n| {
        let missed_at = missed_at.clone();
        async move {
            let order = n % ORDERS;
            let body = event_body("payment.captured", &format!("p-{order}"), Some(&format!("A-{order}")), 1000, "c");
            let begun = Instant::now();
            let answer = post(gateway, &format!("m-{series}-{n}"), &body).await;
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

/// An API that knows no payment, until aborted.
pub async fn know_nothing(listener: TcpListener) {
    const ANSWER: &[u8] = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 4096];
        let _asked = stream.read(&mut request).await;
        let _answered = stream.write_all(ANSWER).await;
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
