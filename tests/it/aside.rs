//! What was set aside is put through again: quarantined bodies after a correction, dead letters after their cause is gone.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use domain::frame::Record;
use domain::providers;
use domain::quarantine::Quarantined;
use hmac::{Hmac, KeyInit, Mac};
use it::{Running, Setup, eventually, own_setup, program_binary, send, services_up};
use platform::config;
use scylla::value::CqlTimestamp;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::support::{World, ready};
use crate::writing::record;

/// A source whose payment id is looked for where it is not.
const ACME: &str = "[reconciler]\nparked_poll_ms = 100\n[sweep]\nenabled = false\n\
    [sources.acme]\nprovider = \"generic\"\nregion = \"eu\"\nsecrets = [{ value = \"acme-tests-only\" }]\n\
    [sources.acme.generic]\nheader = \"x-acme-signature\"\n\
    [sources.acme.generic.fields]\nid = \"header:x-acme-event\"\ntype = \"/type\"\ntime = \"/at\"\n\
    payment = \"/not/there\"\ntransaction = \"/charge\"\namount = \"/amount\"\ncurrency = \"/currency\"\norder = \"/order\"\n\
    [sources.acme.generic.kinds]\n\"charge.ok\" = \"captured\"\n";

struct Shop {
    setup: Setup,
    world: World,
    writer: Running,
    file: PathBuf,
}

impl Shop {
    async fn open(name: &str, extra: &str) -> Result<Self> {
        Self::with(own_setup(name, extra)?).await
    }

    async fn with(setup: Setup) -> Result<Self> {
        let writer = Running::writer(setup.config.clone());
        ready(setup.config.writer.internal_listen).await?;
        let world = World::new(setup.config.clone()).await?;
        let file = std::env::temp_dir().join(format!("{}_aside.toml", setup.config.postgres.schema));
        let shop = Self { setup, world, writer, file };
        shop.write_configuration()?;
        Ok(shop)
    }

    fn write_configuration(&self) -> Result<()> {
        Ok(std::fs::write(&self.file, &self.setup.text)?)
    }

    /// The configuration is corrected; programs that run keep the old one.
    fn correct(&mut self, wrong: &str, right: &str) -> Result<()> {
        ensure!(self.setup.text.contains(wrong));
        self.setup.text = self.setup.text.replace(wrong, right);
        self.setup.config = config::parse("test", &self.setup.text, &self.setup.variables)?;
        self.write_configuration()
    }

    fn program(&self, arguments: &[&str]) -> Result<tokio::process::Command> {
        let mut program = tokio::process::Command::new(program_binary("writer")?);
        program.args(arguments).arg("--config").arg(&self.file).envs(&self.setup.variables);
        program.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Ok(program)
    }

    /// Runs `writer …` to its end; exit status and standard output.
    async fn run(&self, arguments: &[&str]) -> Result<(i32, String)> {
        let output = self.program(arguments)?.output().await?;
        let text = String::from_utf8(output.stdout)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        println!("writer {}: {}\n{text}{errors}", arguments.join(" "), output.status);
        Ok((output.status.code().unwrap_or(-1), text))
    }

    async fn json(&self, arguments: &[&str]) -> Result<(i32, Value)> {
        let (status, text) = self.run(&[arguments, &["--json"]].concat()).await?;
        Ok((status, serde_json::from_str(&text)?))
    }

    /// The rows of `list`.
    async fn list(&self, of: &str, extra: &[&str]) -> Result<Vec<Value>> {
        let (status, listed) = self.json(&[&[of, "list"], extra].concat()).await?;
        ensure!(status == 0 && listed["more"] == false, "{listed}");
        Ok(listed["rows"].as_array().context("no rows")?.clone())
    }

    async fn execute(&self, statement: &str) -> Result<()> {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&self.world.postgres).await?;
        Ok(())
    }

    async fn lines(&self, query: &str) -> Result<Vec<String>> {
        let query = format!("SELECT r::text FROM ({query}) AS r");
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&self.world.postgres).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    async fn change_cassandra(&self, statement: &str) -> Result<()> {
        let statement = statement.replace("{ks}", &self.setup.config.cassandra.keyspace);
        self.world.cassandra.query_unpaged(statement, ()).await?;
        Ok(())
    }

    /// What both databases say of payments, without times of detection.
    async fn books(&self) -> Result<(Vec<String>, Vec<String>, Vec<(Uuid, Uuid, Vec<u8>)>)> {
        let mut events: Vec<(Uuid, Uuid, Vec<u8>)> =
            self.world.rows("SELECT payment_id, event_id, content_hash FROM {ks}.payment_events").await?;
        events.sort();
        Ok((
            self.lines("SELECT reference, status, paid FROM orders ORDER BY 1").await?,
            self.lines("SELECT payment_id, order_ref, status, captured, facts FROM payments ORDER BY 1").await?,
            events,
        ))
    }

    /// All that is in queues has been settled.
    async fn settled(&self) -> Result<()> {
        eventually("the queues are empty", async || {
            ensure!(self.world.depth("write.0").await? == 0 && self.world.depth("reconcile.0").await? == 0);
            Ok(())
        })
        .await
    }

    /// How many rows of `quarantine` have the mark.
    async fn marked(&self) -> Result<usize> {
        let rows: Vec<(Option<CqlTimestamp>,)> = self.world.rows("SELECT retried_of FROM {ks}.quarantine").await?;
        Ok(rows.iter().filter(|(of,)| of.is_some()).count())
    }

    /// As after a kill between the publish and the mark: rows as new as those that never had one.
    async fn take_marks_off(&self) -> Result<()> {
        let rows: Vec<(String, i32, Uuid, String)> =
            self.world.rows("SELECT source, bucket, id, reason FROM {ks}.quarantine").await?;
        for (source, bucket, id, reason) in rows {
            let row = format!("WHERE source = '{source}' AND bucket = {bucket} AND id = {id}");
            for set in ["retried_of = null".to_owned(), format!("reason = '{reason}'")] {
                self.change_cassandra(&format!("UPDATE {{ks}}.quarantine SET {set} {row}")).await?;
            }
        }
        ensure!(self.marked().await? == 0);
        Ok(())
    }

    async fn clean(self) -> Result<()> {
        self.writer.stop().await?;
        std::fs::remove_file(&self.file)?;
        self.world.clean().await
    }
}

/// Posts an event of the source `acme`, signed.
async fn post_acme(shop: &Shop, id: &str, kind: &str, order: &str) -> Result<()> {
    let at = jiff::Timestamp::from_millisecond(platform::clock::now_ms())?.to_string();
    let body = serde_json::json!({"type": kind, "at": at, "payment": format!("pay-{id}"), "charge": format!("ch-{id}"),
        "amount": 1000, "currency": "EUR", "order": order});
    let body = serde_json::to_vec(&body)?;
    let mac = Hmac::<sha2::Sha256>::new_from_slice(b"acme-tests-only")?.chain_update(&body).finalize().into_bytes();
    let signature: String = mac.iter().map(|byte| format!("{byte:02x}")).collect();
    let headers = [
        ("content-type", "application/json"),
        ("x-acme-signature", signature.as_str()),
        ("x-acme-event", id),
        ("authorization", "Bearer tests-only"),
    ];
    let answer = send(shop.setup.config.ingest.listen, "POST", "/webhooks/acme", &headers, &body).await?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrected_source_brings_its_quarantine_into_the_orders_once() -> Result<()> {
    let _services = services_up().await;
    let mut shop = Shop::open("retry", ACME).await?;
    let reconciler = Running::reconciler(shop.setup.config.clone());
    let ingest = Running::ingest(shop.setup.config.clone());
    ready(shop.setup.config.reconciler.internal_listen).await?;
    ready(shop.setup.config.ingest.internal_listen).await?;
    shop.execute(
        "INSERT INTO orders (reference, total, currency) SELECT 'A-' || n, 10, 'EUR' FROM generate_series(0, 5) n",
    )
    .await?;
    for n in 0..6 {
        post_acme(&shop, &format!("e{n}"), "charge.ok", &format!("A-{n}")).await?;
    }
    post_acme(&shop, "e9", "charge.teleported", "A-9").await?;
    eventually("in quarantine", async || {
        let rows: Vec<(String,)> = shop.world.rows("SELECT reason FROM {ks}.quarantine").await?;
        ensure!(rows.len() == 7, "{rows:?}");
        Ok(())
    })
    .await?;

    // Listed, filtered, shown: with the headers that its meaning needs, and without what proves its sender.
    assert_eq!(shop.list("quarantine", &[]).await?.len(), 7);
    assert_eq!(shop.list("quarantine", &["--source", "acme", "--reason", "PAYMENT ID"]).await?.len(), 6);
    for none in [["--source", "shop"], ["--region", "us"], ["--until", "2020-01-01"], ["--day", "2020-01-01"]] {
        assert_eq!(shop.list("quarantine", &none).await?, [Value::Null; 0], "{none:?}");
    }
    let (status, cut) = shop.json(&["quarantine", "list", "--limit", "2"]).await?;
    assert_eq!((status, cut["rows"].as_array().map(Vec::len), &cut["more"]), (0, Some(2), &Value::Bool(true)));
    let open = shop.list("quarantine", &["--reason", "payment id"]).await?;
    let ids: Vec<&str> = open.iter().filter_map(|row| row["id"].as_str()).collect();
    let (status, shown) = shop.json(&["quarantine", "show", ids[0]]).await?;
    assert_eq!(status, 0);
    let headers =
        serde_json::json!({"content-type": "application/json", "x-acme-event": shown["headers"]["x-acme-event"]});
    assert_eq!(shown["headers"], headers);
    assert!(shown["body"].as_str().is_some_and(|body| body.contains("\"charge.ok\"")), "{shown}");
    assert_eq!(shop.run(&["quarantine", "show", &Uuid::nil().to_string()]).await?.0, 2);

    // As the configuration is, nothing is understood; as it will be, a dry run shows what comes of it.
    let (status, retried) = shop.json(&["quarantine", "retry", "--all"]).await?;
    assert_eq!((status, &retried["retried"], &retried["left"]), (1, &0.into(), &7.into()));
    shop.correct("payment = \"/not/there\"", "payment = \"/payment\"")?;
    let (status, text) = shop.run(&["quarantine", "retry", "--all", "--dry-run"]).await?;
    assert_eq!(status, 1);
    assert!(text.contains("would be retried: acme: captured 10.00 EUR pay-e0 of order A-0"), "{text}");
    assert!(text.contains("6 would be retried, 1 left"), "{text}");
    assert_eq!(shop.marked().await?, 0);
    assert_eq!(shop.books().await?.2, []);

    // Killed when some are marked, and begun again.
    let mut killed = shop.program(&["quarantine", "retry", "--all", "--per-second", "2"])?.spawn()?;
    eventually("some are marked", async || {
        ensure!(shop.marked().await? > 0);
        Ok(())
    })
    .await?;
    killed.kill().await?;
    let before = shop.marked().await?;
    assert!(before < 6, "nothing was left when it was killed");
    let (status, retried) = shop.json(&["quarantine", "retry", "--all", "--source", "acme"]).await?;
    assert_eq!((status, &retried["retried"], &retried["left"]), (1, &(6 - before).into(), &1.into()));
    eventually("orders are paid", async || {
        let paid = shop.lines("SELECT reference FROM orders WHERE status = 'paid' AND paid = 10").await?;
        ensure!(paid.len() == 6, "{paid:?}");
        Ok(())
    })
    .await?;
    let books = shop.books().await?;
    assert_eq!(books.2.len(), 6);
    let received: Vec<(CqlTimestamp,)> = shop.world.rows("SELECT received_at FROM {ks}.payment_events").await?;
    let mut received: Vec<i64> = received.into_iter().map(|(at,)| at.0).collect();
    let done = shop.list("quarantine", &["--done"]).await?;
    let arrived = |row: &Value| row["received_at"].as_str().and_then(providers::parse_time_ms);
    let mut expected: Vec<i64> = done.iter().filter_map(arrived).collect();
    received.sort_unstable();
    expected.sort_unstable();
    assert_eq!(received, expected, "an event keeps the time of its arrival");
    assert_eq!(shop.list("quarantine", &[]).await?.len(), 1, "what is not understood stays");

    // Twice is once: by name, and after a kill between the publish and the mark.
    let (status, _) = shop.run(&[&["quarantine", "retry"], &ids[..]].concat()).await?;
    assert_eq!(status, 0);
    shop.take_marks_off().await?;
    let (status, retried) = shop.json(&["quarantine", "retry", "--all"]).await?;
    assert_eq!((status, &retried["retried"], &retried["left"]), (1, &6.into(), &1.into()));
    assert_eq!(shop.marked().await?, 6);
    shop.settled().await?;
    assert_eq!(shop.books().await?, books);

    // Stopped: what is begun is finished, and what remains is told.
    shop.take_marks_off().await?;
    let slow = shop.program(&["quarantine", "retry", "--all", "--per-second", "1", "--json"])?.spawn()?;
    eventually("some are marked", async || {
        ensure!(shop.marked().await? > 0);
        Ok(())
    })
    .await?;
    let pid = slow.id().context("it has ended")?.to_string();
    tokio::process::Command::new("kill").args(["-INT", &pid]).status().await?;
    let output = slow.wait_with_output().await?;
    let sum: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(output.status.code(), Some(1), "{sum}");
    assert!(sum["cut"].as_str().is_some_and(|cut| cut.contains("stopped")), "{sum}");
    assert_eq!(sum["retried"], shop.marked().await?);

    // The same body comes again to a gateway that does not understand it yet: open again.
    let (status, _) = shop.json(&["quarantine", "retry", "--all"]).await?;
    assert_eq!(status, 1);
    let (_, shown) = shop.json(&["quarantine", "show", ids[0]]).await?;
    let again = Quarantined {
        source: "acme".into(),
        region: "eu".into(),
        provider: "generic".into(),
        reason: "malformed payment id".into(),
        received_at_ms: platform::clock::now_ms(),
        body: shown["body"].as_str().unwrap().as_bytes().into(),
        headers: vec![("x-acme-event".into(), shown["headers"]["x-acme-event"].as_str().unwrap().into())],
    };
    assert_eq!(again.id().to_string(), ids[0]);
    shop.world.publish("write.0", &[&Record::quarantined(&again)]).await?;
    eventually("open again", async || {
        let open = shop.list("quarantine", &["--reason", "payment id"]).await?;
        ensure!(open.len() == 1 && open[0]["id"] == ids[0], "{open:?}");
        Ok(())
    })
    .await?;
    assert_eq!(shop.run(&["quarantine", "retry", ids[0]]).await?.0, 0);
    shop.settled().await?;
    assert_eq!(shop.books().await?, books);

    // Dropped only when that is confirmed.
    assert_eq!(shop.run(&["quarantine", "drop", "--all"]).await?.0, 2);
    assert_eq!(shop.run(&["quarantine", "drop", "--all", "--dry-run"]).await?.0, 0);
    assert_eq!(shop.list("quarantine", &[]).await?.len(), 1);
    assert_eq!(shop.run(&["quarantine", "drop", "--all", "--yes"]).await?.0, 0);
    assert_eq!(shop.list("quarantine", &[]).await?.len(), 0);
    assert_eq!(shop.list("quarantine", &["--done"]).await?.len(), 6);
    assert_eq!(shop.run(&["quarantine", "retry", &Uuid::nil().to_string()]).await?.0, 1, "an id that there is not");
    ingest.stop().await?;
    reconciler.stop().await?;
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_back_into_their_queues() -> Result<()> {
    let _services = services_up().await;
    let setup = own_setup("redrive", "[sweep]\nenabled = false")?;
    let keyspace = &setup.config.cassandra.keyspace;
    // A table of an earlier version, with a row.
    let world = World::new(setup.config.clone()).await?;
    let earlier = [
        format!("CREATE KEYSPACE {keyspace} WITH replication = {}", setup.config.cassandra.replication),
        format!(
            "CREATE TABLE {keyspace}.dead_letters (stage text, bucket int, id uuid, queue text, reason text, \
             failed_at timestamp, record blob, PRIMARY KEY ((stage, bucket), id))"
        ),
        format!(
            "INSERT INTO {keyspace}.dead_letters (stage, bucket, id, queue, reason, failed_at, record) \
             VALUES ('write', 0, 00000000-0000-5000-8000-000000000000, 'old.write.0', 'an old one', 1000, 0x01ff)"
        ),
    ];
    for statement in earlier {
        world.cassandra.query_unpaged(statement, ()).await?;
    }
    drop(world);
    let shop = Shop::with(setup).await?;
    let reconciler = Running::reconciler(shop.setup.config.clone());
    ready(shop.setup.config.reconciler.internal_listen).await?;
    shop.execute("INSERT INTO orders (reference, total, currency) VALUES ('A-1', 10, 'EUR')").await?;

    // A frame that crashed its program again and again, a record that nobody can read, a record in the wrong stage.
    let good = record("m1", "payment.captured", "p1", Some("A-1"), 1000, "c");
    shop.world.publish("dead", &[&good]).await?;
    let unreadable = [&9_u32.to_le_bytes()[..], b"\x09whatever"].concat();
    shop.world.publish("write.0", &[&unreadable]).await?;
    shop.world.publish("reconcile.0", &[b"\x05\0\0\0\x63abcd"]).await?;
    eventually("dead letters", async || {
        let dead = shop.list("dead-letters", &[]).await?;
        ensure!(dead.len() == 4, "{dead:?}");
        Ok(())
    })
    .await?;

    let old = shop.list("dead-letters", &["--reason", "an old"]).await?;
    assert_eq!((&old[0]["attempts"], &old[0]["program_version"]), (&1.into(), &Value::Null));
    let limit = shop.list("dead-letters", &["--source", "shop", "--region", "eu"]).await?;
    let [crashed] = &limit[..] else { panic!("{limit:?}") };
    assert_eq!(crashed["reason"], "delivery limit reached");
    assert_eq!(crashed["queue"], shop.world.queue("dead"));
    assert_eq!(crashed["program_version"], env!("CARGO_PKG_VERSION"));
    let of_reconcile = shop.list("dead-letters", &["--stage", "reconcile"]).await?;
    assert_eq!(of_reconcile.len(), 1);
    assert_eq!(of_reconcile[0]["queue"], shop.world.queue("reconcile.0"));
    let id = crashed["id"].as_str().context("no id")?;
    let (status, shown) = shop.json(&["dead-letters", "show", id]).await?;
    assert_eq!((status, &shown["record"]["event"]["order_ref"]), (0, &"A-1".into()), "{shown}");
    let (_, shown) = shop.json(&["dead-letters", "show", of_reconcile[0]["id"].as_str().unwrap()]).await?;
    assert_eq!(shown["record"]["hex"], "050000006361626364");

    // What is whole now goes through; what cannot be read fails again, and is open again with one attempt more.
    let (status, text) = shop.run(&["dead-letters", "redrive", "--all", "--dry-run"]).await?;
    assert!(status == 0 && text.contains(&format!("into {}, attempt 2", shop.world.queue("write.0"))), "{text}");
    let of_region = &["dead-letters", "redrive", "--all", "--stage", "reconcile", "--region", "eu"];
    let (status, none) = shop.json(of_region).await?;
    assert_eq!((status, &none["redriven"], &none["looked_at"]), (0, &0.into(), &1.into()));
    let (status, redriven) = shop.json(&["dead-letters", "redrive", "--all", "--since", "2020-01-01"]).await?;
    assert_eq!((status, &redriven["redriven"]), (0, &3.into()), "{redriven}");
    eventually("the order is paid", async || {
        let orders = shop.lines("SELECT status, paid FROM orders").await?;
        ensure!(orders == ["(paid,10.0000)"], "{orders:?}");
        Ok(())
    })
    .await?;
    eventually("open again", async || {
        let open = shop.list("dead-letters", &["--since", "2020-01-01"]).await?;
        ensure!(open.len() == 2 && open.iter().all(|row| row["attempts"] == 2), "{open:?}");
        Ok(())
    })
    .await?;
    let done = shop.list("dead-letters", &["--done"]).await?;
    assert_eq!((done.len(), &done[0]["id"], &done[0]["attempts"]), (1, &id.into(), &2.into()));

    // Twice is once.
    let books = shop.books().await?;
    assert_eq!(books.2.len(), 1);
    assert_eq!(shop.run(&["dead-letters", "redrive", id]).await?.0, 0);
    shop.settled().await?;
    assert_eq!(shop.books().await?, books);

    // Not faster than it is told to be.
    let started = std::time::Instant::now();
    let all = &["dead-letters", "redrive", "--all", "--since", "2020-01-01", "--per-second", "1"];
    assert_eq!(shop.run(all).await?.0, 0);
    assert!(started.elapsed().as_millis() > 900, "{:?}", started.elapsed());
    eventually("open again", async || {
        ensure!(shop.list("dead-letters", &[]).await?.len() == 3);
        Ok(())
    })
    .await?;
    let (status, limited) = shop.json(&["dead-letters", "redrive", "--all", "--limit", "1", "--dry-run"]).await?;
    assert_eq!((status, &limited["redriven"]), (1, &1.into()), "{limited}");

    assert_eq!(shop.run(&["dead-letters", "drop", id]).await?.0, 2);
    assert_eq!(shop.run(&["dead-letters", "drop", id, "--yes"]).await?.0, 0);
    assert_eq!(shop.list("dead-letters", &["--done"]).await?, [Value::Null; 0]);
    reconciler.stop().await?;
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_run_says_so() -> Result<()> {
    let _services = services_up().await;
    let setup = own_setup("aside", "")?;
    for arguments in [&["quarantine", "list"][..], &["dead-letters", "redrive", "--all"], &["quarantine", "retry"]] {
        let (status, text) = it::run_program("writer", &setup, arguments)?;
        assert_eq!(status, 2, "{text}");
    }
    let (_, text) = it::run_program("writer", &setup, &["quarantine", "list"])?;
    assert!(text.contains("when a writer of this version starts"), "{text}");
    Ok(())
}
