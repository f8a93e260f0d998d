//! Every alert of dashboards/rules.yml, made to fire by a fault of its kind, while the others stay silent.
//!
//! The rules are the shipped ones with all times shortened (shortened.rs), in a Prometheus of this test's own that
//! scrapes as the shipped configuration says.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use it::{services_mine, within};
use stack::{ScrapeTargets, Stack};

use crate::breaking::{Fault, PATIENCE, Shop};
use crate::prometheus::Prometheus;
use crate::shortened::shortened;

const RULES: &str = include_str!("../../dashboards/rules.yml");
/// Three days, shortened.
const LONGEST_WINDOW_MS: i64 = 64_000;
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What a fault must bring about, and what it may.
struct Row {
    fault: Fault,
    /// These fire while it lasts.
    fires: &'static [&'static str],
    /// These fire once it is mended, before the next one is.
    afterwards: &'static [&'static str],
    /// These may fire as well, for a reason.
    may: &'static [(&'static str, &'static str)],
}

const fn row(fault: Fault, fires: &'static [&'static str]) -> Row {
    Row { fault, fires, afterwards: &[], may: &[] }
}

const ACKNOWLEDGED_LATE: [&str; 2] = ["TollgateAckBudgetBurnsFast", "TollgateAckBudgetBurnsSlowly"];
const APPLIED_LATE: [&str; 2] = ["TollgateApplyBudgetBurnsFast", "TollgateApplyBudgetBurnsSlowly"];
const WAITED: [(&str, &str); 2] =
    [(APPLIED_LATE[0], "what waited is applied late"), (APPLIED_LATE[1], "what waited is applied late")];

/// The faults of a scene are made together: none of them can make an alert of another one fire. They are mended one
/// after another, the last one first.
const SCENES: [&[Row]; 5] = [
    &[
        row(Fault::ForgedSignatures, &["TollgateSignatureFailuresJump{source=stripe}"]),
        row(Fault::UnknownEvents, &["TollgateQuarantineGrows{source=shop}"]),
        row(Fault::SecretEnds, &["TollgateSecretEnds{secret=0,source=shop}"]),
        row(Fault::ReloadRefused, &["TollgateReloadRefused"]),
        row(Fault::ProviderSilent, &["TollgateProviderSilent{source=asked}"]),
        row(Fault::PoisonedFrames, &["TollgateDeadLetters{stage=write}", "TollgateDeadLetters{stage=reconcile}"]),
        row(Fault::WrongAmount, &["TollgateBreaksOpen{kind=amount}"]),
        row(Fault::OrderMissing, &["TollgateParkedEventsWait", "TollgateBreaksOpen{kind=missing_order}"]),
        row(Fault::PaymentLost, &["TollgateSweepFindsLosses{found=event}"]),
    ],
    &[
        row(Fault::CassandraNodeFrozen, &["TollgateCassandraNodeDown", "TollgateTargetDown{job=cassandra}"]),
        row(Fault::GatewayKilled, &["TollgateTargetDown{job=ingest}"]),
        row(Fault::PartitionFilled, &["TollgatePartitionLarge{table=dead_letters}"]),
        row(
            Fault::MembersUnknown,
            &["TollgateQueueLacksMembers{stage=reconcile}", "TollgateQueueLacksMembers{stage=dead}"],
        ),
    ],
    &[
        Row { may: &WAITED, ..row(Fault::WriterSlow, &["TollgateBacklogGrows{stage=write}"]) },
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
                WAITED[0],
                WAITED[1],
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
    // Cassandra's start may have taken so long that what waited is applied only now.
    &[Row { may: &WAITED, ..row(Fault::CertificateEnds, &["TollgateCertificateEnds"]) }],
];

#[test]
fn there_is_a_fault_for_every_alert() {
    let alerts: BTreeSet<_> = RULES.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let of_row = |row: &Row| [row.fires, row.afterwards].concat();
    let made = SCENES.iter().copied().flatten().flat_map(of_row);
    let made = made.map(|alert| alert.split('{').next().unwrap_or(alert));
    assert_eq!(alerts, made.collect());
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
    let begun = Instant::now();
    let begun_ms = platform::clock::now_ms();

    let mut made = Ok(());
    for row in rows {
        made = made.and(shop.make(row.fault).await.with_context(|| format!("{:?}", row.fault)));
    }
    let mut result = match made {
        Ok(()) => watch.until("what must fire has fired", |_, seen| fires.is_subset(seen)).await,
        Err(error) => Err(error),
    };
    for row in rows.iter().rev() {
        // In any case: others use these services, too.
        let mended = shop.mend(row.fault).await.with_context(|| format!("cannot mend {:?}", row.fault));
        result = result.and(mended);
        if result.is_ok() && !row.afterwards.is_empty() {
            let have_fired = |_: &BTreeSet<String>, seen: &BTreeSet<String>| {
                row.afterwards.iter().all(|alert| seen.contains(*alert))
            };
            result = watch.until("what must fire afterwards has fired", have_fired).await;
        }
    }
    result?;
    let quiet = |firing: &BTreeSet<String>, _: &BTreeSet<String>| {
        firing.iter().all(|alert| afterwards.contains(alert) || may.contains(alert))
    };
    watch.until("mended", quiet).await?;
    let mut expected: BTreeSet<String> = fires.iter().chain(&afterwards).chain(&may).cloned().collect();
    if shop.missed_at.load(Relaxed) > begun_ms - LONGEST_WINDOW_MS {
        println!("answers were late or refused, so the budget of answers may burn");
        expected.extend(ACKNOWLEDGED_LATE.map(str::to_owned));
    }
    // What came and went while nobody looked, too.
    watch.seen.extend(watch.prometheus.fired(begun.elapsed()).await?);
    let others: Vec<_> = watch.seen.difference(&expected).collect();
    ensure!(others.is_empty(), "{names} made these fire, too: {others:?}");
    Ok(())
}

/// Leaves out the queues and keyspaces of others, who may have left them in any state; adds the nodes that
/// [`Shop`] names; and gives Cassandra, which may have to read its beans beside a compiler, the shipped time-out.
fn own_scraping(name: &str, folder: &Path, scraping: &str) -> String {
    let only = format!(
        "\n    metric_relabel_configs:\n      - source_labels: [queue, keyspace]\n        separator: \"\"\n        \
         regex: \"({name}.*)?\"\n        action: keep\n"
    );
    let nodes = format!("    file_sd_configs:\n      - files: [{}/nodes.json]\n", folder.display());
    let (queues, cassandra) = ("job_name: rabbitmq-queues\n", "job_name: cassandra\n");
    let hurried = format!("{cassandra}    scrape_interval: 2s\n    scrape_timeout: 2s\n");
    let patient = format!("{cassandra}    scrape_interval: 8s\n    scrape_timeout: 8s\n");
    assert!(scraping.contains(queues) && scraping.contains(&hurried), "another scrape configuration: {scraping}");
    let scraping = scraping.replace(queues, &format!("{}{only}", queues.trim_end()));
    scraping
        .replace(&hurried, &format!("{}{only}{nodes}{}", cassandra.trim_end(), patient.trim_start_matches(cassandra)))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "four minutes, and a machine that does nothing else: cargo test --release -p it -- --ignored alerting"]
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
    let scraping = shortened(&shipped.replace(&rules_path, "{rules}"))?;
    let scraping = own_scraping(&config.rabbitmq.queue_prefix, &folder, &scraping);
    // A value counts for longer than a scrape that times out, and the next, take.
    let prometheus = Prometheus::start(&folder, &scraping, &shortened(RULES)?, "20s").await?;

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
    shop.stop_payments();
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
