//! Differences between the two databases: found, healed or reported; and tables built again from Cassandra.

use anyhow::{Result, ensure};
use domain::partition::day_of;
use it::{Running, Setup, eventually, own_setup, program_binary, run_program, services_up};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::support::{World, ready};
use crate::writing::record;

/// Nothing is too young for the sweeps of these tests.
const SWEEP_ALL: &str = "[reconciler]\nparked_poll_ms = 100\n[sweep]\nsettle_seconds = 0\nenabled = false";

struct Shop {
    setup: Setup,
    world: World,
    writer: Running,
}

impl Shop {
    async fn open(name: &str, extra: &str) -> Result<Self> {
        let setup = own_setup(name, extra)?;
        let writer = Running::writer(setup.config.clone());
        ready(setup.config.writer.internal_listen).await?;
        let world = World::new(setup.config.clone()).await?;
        Ok(Self { setup, world, writer })
    }

    async fn reconciler(&self) -> Result<Running> {
        let running = Running::reconciler(self.setup.config.clone());
        ready(self.setup.config.reconciler.internal_listen).await?;
        Ok(running)
    }

    /// Runs `reconciler …` with this test's configuration; its exit status and output.
    fn command(&self, arguments: &[&str]) -> Result<(i32, String)> {
        run_program("reconciler", &self.setup, arguments)
    }

    async fn sweep(&self, extra: &[&str]) -> Result<(i32, String)> {
        let (day, arguments) = (today(), ["sweep", "--region", "eu", "--day"]);
        self.command(&[&arguments[..], &[&day], extra].concat())
    }

    async fn replay(&self, extra: &[&str]) -> Result<(i32, String)> {
        let day = today();
        self.command(&[&["replay", "--region", "eu", "--from", &day, "--to", &day][..], extra].concat())
    }

    async fn execute(&self, statement: &str) -> Result<u64> {
        let done = sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&self.world.postgres).await?;
        Ok(done.rows_affected())
    }

    /// Orders `A-0`… of 10 EUR.
    async fn insert_orders(&self, count: usize) -> Result<()> {
        let orders = format!("SELECT 'A-' || n, 10, 'EUR' FROM generate_series(0, {count} - 1) n");
        self.execute(&format!("INSERT INTO orders (reference, total, currency) {orders}")).await?;
        Ok(())
    }

    /// Rows of a query as text, one line each.
    async fn lines(&self, query: &str) -> Result<Vec<String>> {
        let query = format!("SELECT r::text FROM ({query}) AS r");
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&self.world.postgres).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Everything that the fold decides, without times of detection.
    async fn books(&self) -> Result<Vec<Vec<String>>> {
        Ok(vec![
            self.lines("SELECT reference, status, paid, refunded, disputed FROM orders ORDER BY 1").await?,
            self.lines(
                "SELECT payment_id, order_ref, provider, account, provider_ref, region, currency, status, captured, \
                 refunded, disputed, facts, day FROM payments ORDER BY 1",
            )
            .await?,
            self.lines("SELECT kind, subject, currency, expected, actual, detail FROM breaks ORDER BY 1, 2").await?,
            self.lines("SELECT event_id, content_hash, payment_id, order_ref FROM parked_events ORDER BY 1, 2").await?,
        ])
    }

    async fn clean(self) -> Result<()> {
        self.writer.stop().await?;
        self.world.clean().await
    }
}

fn today() -> String {
    let now = jiff::Timestamp::from_millisecond(platform::clock::now_ms()).unwrap_or_default();
    jiff::tz::Offset::UTC.to_datetime(now).date().to_string()
}

/// Orders `A-0`… of 10 EUR, each with an authorization and a capture; every third is refunded in part, every fifth is
/// captured twice.
fn events(orders: usize) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    for n in 0..orders {
        let (order, payment) = (format!("A-{n}"), format!("p{n}"));
        records.push(record(&format!("a{n}"), "payment.authorized", &payment, Some(&order), 1000, "a"));
        records.push(record(&format!("c{n}"), "payment.captured", &payment, Some(&order), 1000, "c"));
        if n % 3 == 0 {
            records.push(record(&format!("r{n}"), "refund.succeeded", &payment, None, 400, "r"));
        }
        if n % 5 == 0 {
            records.push(record(&format!("d{n}"), "payment.captured", &format!("{payment}b"), Some(&order), 1000, "c"));
        }
    }
    records
}

async fn publish(shop: &Shop, records: &[Vec<u8>]) -> Result<()> {
    for records in records.chunks(20) {
        let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        shop.world.publish("write.0", &records).await?;
    }
    Ok(())
}

async fn settled(shop: &Shop) -> Result<()> {
    eventually("all applied", async || {
        ensure!(shop.world.depth("write.0").await? == 0 && shop.world.depth("reconcile.0").await? == 0);
        let open = shop.lines("SELECT 1 FROM orders WHERE status IN ('pending', 'authorized')").await?;
        ensure!(open.is_empty(), "{} orders are not paid", open.len());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_difference_is_healed_or_reported() -> Result<()> {
    let _services = services_up().await;
    let shop = Shop::open("sweep", SWEEP_ALL).await?;
    let running = shop.reconciler().await?;
    shop.insert_orders(60).await?;
    publish(&shop, &events(60)).await?;
    settled(&shop).await?;
    running.stop().await?;
    let books = shop.books().await?;
    let (status, text) = shop.sweep(&["--dry-run"]).await?;
    assert_eq!(status, 0, "a clean day has no difference: {text}");

    // Lost rows, a shop that wrote old values back, a row of the view that is gone, an order that was deleted.
    assert_eq!(shop.execute("DELETE FROM payments WHERE order_ref IN ('A-1', 'A-6', 'A-10')").await?, 4);
    shop.execute("DELETE FROM breaks WHERE subject = 'A-15'").await?;
    shop.execute("UPDATE orders SET status = 'pending', paid = 0 WHERE reference IN ('A-7', 'A-8')").await?;
    shop.execute("UPDATE payments SET captured = 1, status = 'failed' WHERE order_ref = 'A-11'").await?;
    let payment = domain::ids::payment_id("tollgate", "", "p20");
    let keyspace = &shop.setup.config.cassandra.keyspace;
    shop.world
        .cassandra
        .query_unpaged(format!("DELETE FROM {keyspace}.payments WHERE payment_id = {payment}"), ())
        .await?;
    // A payment that Cassandra never had.
    let stranger = Uuid::new_v5(&Uuid::NAMESPACE_OID, b"stranger");
    shop.execute(&format!(
        "INSERT INTO payments SELECT '{stranger}', 'A-30', provider, account, 'stranger', region, currency, status, captured, \
         refunded, disputed, facts, version, day FROM payments WHERE payment_id = '{payment}'"
    ))
    .await?;
    // Stored, but the queue was purged before the reconciler came back.
    let purged = record("late", "payment.captured", "p60", Some("A-60"), 1000, "c");
    shop.execute("INSERT INTO orders (reference, total, currency) VALUES ('A-60', 10, 'EUR')").await?;
    publish(&shop, &[purged]).await?;
    eventually("stored", async || {
        ensure!(shop.world.depth("write.0").await? == 0 && shop.world.depth("reconcile.0").await? >= 1);
        Ok(())
    })
    .await?;
    shop.world.channel.queue_purge(shop.world.queue("reconcile.0").as_str().into(), Default::default()).await?;

    let (status, text) = shop.sweep(&["--dry-run"]).await?;
    assert_eq!(status, 1);
    for found in [
        "A-1)",
        "A-6)",
        "A-10)",
        "A-60)",
        "order A-7, in EUR, is pending: 0.00 paid",
        "order A-8, in EUR, is pending: 0.00 paid",
        "the columns of payment",
        "break duplicate_capture of order A-15",
    ] {
        assert!(text.contains(found), "the dry run does not show {found}");
    }
    assert!(
        text.contains(&format!("view of payment {payment}"))
            && text.contains(&format!("missing_payment of {stranger}"))
    );
    assert_ne!(shop.books().await?, books, "a dry run changes nothing");
    // What was changed a moment ago may still be on its way to the view.
    let mut patient = shop.setup.clone();
    patient.variables.insert("TOLLGATE_SWEEP_SETTLE_SECONDS".into(), "3600".into());
    let arguments = ["sweep", "--region", "eu", "--day", &today(), "--dry-run"];
    let (_, text) = run_program("reconciler", &patient, &arguments)?;
    assert!(text.contains("order A-7, in EUR, is pending") && !text.contains("view of payment"), "{text}");

    let (status, _) = shop.sweep(&[]).await?;
    assert_eq!(status, 1, "breaks are left for a person");
    let view: Vec<(String,)> =
        shop.world.rows(&format!("SELECT status FROM {{ks}}.payments WHERE payment_id = {payment}")).await?;
    assert_eq!(view, [("captured".to_owned(),)]);
    assert_eq!(shop.lines("SELECT status FROM orders WHERE reference = 'A-60'").await?, ["(paid)"]);
    let missing = shop.lines("SELECT subject FROM breaks WHERE kind = 'missing_payment'").await?;
    assert_eq!(missing, [format!("({stranger})")]);

    // A person looks into it and takes the stranger out; the rest is as it was.
    shop.execute(&format!("DELETE FROM payments WHERE payment_id = '{stranger}'")).await?;
    let (status, _) =
        shop.command(&["breaks", "resolve", "missing_payment", &stranger.to_string(), "--note", "made by hand"])?;
    assert_eq!(status, 0);
    let (_, text) = shop.command(&["breaks", "list", "--format", "csv"])?;
    assert!(text.contains("duplicate_capture,A-15,A-15") && !text.contains("missing_payment"), "{text}");
    shop.execute("DELETE FROM breaks WHERE kind = 'missing_payment'").await?;
    shop.execute("DELETE FROM payments WHERE order_ref = 'A-60'").await?;
    shop.execute("DELETE FROM orders WHERE reference = 'A-60'").await?;
    shop.sweep(&[]).await?;
    let healed = shop.books().await?;
    for (healed, before) in healed.iter().zip(&books).take(3) {
        assert_eq!(healed, before);
    }
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_were_dropped_are_built_again_from_cassandra() -> Result<()> {
    let _services = services_up().await;
    let shop = Shop::open("replay", SWEEP_ALL).await?;
    let running = shop.reconciler().await?;
    shop.insert_orders(100).await?;
    publish(&shop, &events(100)).await?;
    // Its order never comes.
    publish(&shop, &[record("w", "payment.captured", "pw", Some("B-1"), 1000, "c")]).await?;
    settled(&shop).await?;
    eventually("parked", async || {
        ensure!(shop.lines("SELECT 1 FROM parked_events").await?.len() == 1);
        Ok(())
    })
    .await?;
    running.stop().await?;
    let books = shop.books().await?;
    assert_eq!((books[0].len(), books[1].len(), books[2].len()), (100, 120, 20));

    shop.execute(
        "DROP TABLE payments, links, parked_events, breaks, closed_breaks, transitions, sweeps, _sqlx_migrations",
    )
    .await?;
    let (status, text) = shop.replay(&["--dry-run"]).await?;
    assert!(status == 0 && text.contains("would be new            254 events"), "{text}");
    assert!(shop.lines("SELECT 1 FROM payments").await?.is_empty(), "a dry run writes nothing");
    assert_eq!(shop.replay(&[]).await?.0, 0);
    assert_eq!(shop.books().await?, books);

    // A window of one order changes nothing else, and a window of known events nothing at all.
    shop.execute("DELETE FROM payments WHERE order_ref IN ('A-3', 'A-4')").await?;
    let (_, text) = shop.replay(&["--order", "A-3"]).await?;
    assert!(text.contains("were new            3 events"), "{text}");
    assert_eq!(shop.lines("SELECT 1 FROM payments WHERE order_ref IN ('A-3', 'A-4')").await?.len(), 1);
    shop.replay(&[]).await?;
    assert_eq!(shop.books().await?, books);
    assert!(day_of(platform::clock::now_ms()) > 20_000);
    shop.clean().await
}

const DJANGO: &str = "[reconciler]\nparked_poll_ms = 100\n[sweep]\nsettle_seconds = 0\nenabled = false\n\
    [orders]\ncreate = false\ntable = \"shop_order\"\nkey = \"id\"\nkey_type = \"bigint\"\ntotal = \"total_amount\"\n\
    currency = \"\"\ncurrency_code = \"EUR\"\nstatus = \"state\"\npaid = \"amount_paid\"\nrefunded = \"\"\ndisputed = \"\"\n\
    updated_at = \"\"\nreplaceable = [\"new\", \"awaiting_payment\", \"payment_failed\", \"paid\", \"refunded\"]\n\
    [orders.words]\npending = \"awaiting_payment\"\nauthorized = \"awaiting_payment\"\npartially_paid = \"\"\n\
    paid = \"paid\"\noverpaid = \"paid\"\npartially_refunded = \"\"\nrefunded = \"refunded\"\ndisputed = \"\"\n\
    failed = \"payment_failed\"\ncancelled = \"payment_failed\"\n\
    [orders.agrees]\nshipped = [\"paid\", \"overpaid\"]\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_orders_of_a_django_shop_are_driven_by_configuration_alone() -> Result<()> {
    let _services = services_up().await;
    let shop = Shop::open("django", DJANGO).await?;
    shop.execute(&format!("CREATE SCHEMA \"{}\"", shop.setup.config.postgres.schema)).await?;
    let refused = Running::reconciler(shop.setup.config.clone()).ended().await;
    assert!(refused.unwrap_err().to_string().contains("there is no table"));
    shop.execute(
        "CREATE TABLE shop_order (id bigserial PRIMARY KEY, state varchar(20) NOT NULL DEFAULT 'new', \
         total_amount numeric(12, 2) NOT NULL, amount_paid numeric(12, 2) NOT NULL DEFAULT 0 \
         CONSTRAINT not_flagged CHECK (amount_paid < 5000), note text NOT NULL DEFAULT 'the shop''s own')",
    )
    .await?;
    shop.execute(
        "CREATE TABLE shop_line (id bigserial PRIMARY KEY, order_id bigint NOT NULL REFERENCES shop_order (id))",
    )
    .await?;
    let running = shop.reconciler().await?;
    shop.execute("INSERT INTO shop_order (total_amount) SELECT 10 FROM generate_series(1, 4)").await?;
    shop.execute("INSERT INTO shop_order (total_amount) VALUES (9000)").await?;
    // The largest key that there can be; one more is none.
    shop.execute("INSERT INTO shop_order (id, total_amount) VALUES (9223372036854775807, 10)").await?;
    publish(
        &shop,
        &[
            record("m1", "payment.captured", "p1", Some("1"), 1000, "c"),
            record("m2", "payment.failed", "p2", Some("2"), 1000, "f"),
            record("m3", "payment.captured", "p3", Some("003"), 1000, "c"),
            record("m5", "payment.captured", "p5", Some("5"), 900_000, "c"),
            record("m4", "payment.captured", "p4", Some("4"), 1000, "c"),
            record("m7", "payment.captured", "p7", Some("9223372036854775807"), 1000, "c"),
            record("m8", "payment.captured", "p8", Some("9223372036854775808"), 1000, "c"),
        ],
    )
    .await?;
    let state =
        async || shop.lines("SELECT id, state, amount_paid, note FROM shop_order WHERE id < 100 ORDER BY 1").await;
    let expect = async |rows: [&str; 5]| {
        eventually("the orders", async || {
            let found = state().await?;
            let expected = rows.map(|row| format!("({row},\"the shop's own\")"));
            ensure!(found == expected, "{found:?}");
            Ok(())
        })
        .await
    };
    // The fifth row's constraint refuses what was paid: it stays, and holds up nobody.
    expect(["1,paid,10.00", "2,payment_failed,0.00", "3,new,0.00", "4,paid,10.00", "5,new,0.00"]).await?;
    let open = async || shop.lines("SELECT kind, subject FROM breaks ORDER BY 1, 2").await;
    eventually("a break", async || {
        let open = open().await?;
        ensure!(open == ["(status,5)"], "{open:?}");
        Ok(())
    })
    .await?;
    assert_eq!(shop.lines("SELECT order_ref, captured FROM payments WHERE order_ref = '5'").await?, ["(5,900000)"]);
    // `003` is not the reference of order 3. These may be in a later transaction than the break.
    eventually("what has no order waits, and the largest key is found", async || {
        let parked = shop.lines("SELECT order_ref FROM parked_events ORDER BY 1").await?;
        ensure!(parked == ["(003)", "(9223372036854775808)"], "{parked:?}");
        let largest = shop.lines("SELECT state FROM shop_order WHERE id = 9223372036854775807").await?;
        ensure!(largest == ["(paid)"], "{largest:?}");
        Ok(())
    })
    .await?;

    // Shipped is never turned back; a refund of a shipped order is for a person.
    shop.execute("UPDATE shop_order SET state = 'shipped' WHERE id IN (1, 4)").await?;
    shop.execute("INSERT INTO shop_line (order_id) VALUES (1)").await?;
    publish(&shop, &[record("m6", "refund.succeeded", "p4", None, 1000, "r")]).await?;
    eventually("a break", async || {
        let open = open().await?;
        ensure!(open == ["(status,4)", "(status,5)"], "{open:?}");
        Ok(())
    })
    .await?;
    expect(["1,shipped,10.00", "2,payment_failed,0.00", "3,new,0.00", "4,shipped,10.00", "5,new,0.00"]).await?;
    // What a person has settled is another thing as soon as one of the two words is another.
    assert_eq!(shop.command(&["breaks", "resolve", "status", "4", "--note", "sent back"])?.0, 0);
    let unresolved = async || shop.lines("SELECT detail FROM breaks WHERE subject = '4' AND resolved_at IS NULL").await;
    assert!(unresolved().await?.is_empty());
    shop.execute("UPDATE shop_order SET state = 'returned' WHERE id = 4").await?;
    publish(&shop, &[record("m9", "refund.pending", "p4", None, 100, "r2")]).await?;
    eventually("the break is open again", async || {
        let open = unresolved().await?;
        ensure!(open.len() == 1 && open[0].contains("the shop says returned"), "{open:?}");
        Ok(())
    })
    .await?;
    shop.execute("UPDATE shop_order SET state = 'shipped' WHERE id = 4").await?;
    running.stop().await?;
    // The shop's own save writes an old amount back.
    shop.execute("UPDATE shop_order SET amount_paid = 0 WHERE id = 1").await?;
    let (status, text) = shop.sweep(&[]).await?;
    assert_eq!(status, 0, "{text}");
    expect(["1,shipped,10.00", "2,payment_failed,0.00", "3,new,0.00", "4,shipped,10.00", "5,new,0.00"]).await?;
    shop.clean().await
}

/// Whatever the code of the error, and whenever it comes.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_the_shops_triggers_refuse_or_somebody_holds_is_in_no_others_way() -> Result<()> {
    let _services = services_up().await;
    let shop = Shop::open("triggers", DJANGO).await?;
    for statement in [
        &*format!("CREATE SCHEMA \"{}\"", shop.setup.config.postgres.schema),
        "CREATE TABLE shop_order (id bigserial PRIMARY KEY, state varchar(20) NOT NULL DEFAULT 'new', \
         total_amount numeric(12, 2) NOT NULL, amount_paid numeric(12, 2) NOT NULL DEFAULT 0)",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF NEW.id = 1 THEN RAISE 'by a code of its own' USING ERRCODE = 'S0001'; END IF; \
         IF NEW.id = 2 THEN PERFORM (SELECT generate_series(1, 2)); END IF; \
         IF NEW.id = 3 AND TG_WHEN = 'AFTER' THEN RAISE 'at the commit'; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER at_once BEFORE UPDATE ON shop_order FOR EACH ROW EXECUTE FUNCTION refuse()",
        "CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON shop_order DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION refuse()",
        "INSERT INTO shop_order (total_amount) SELECT 10 FROM generate_series(1, 6)",
    ] {
        shop.execute(statement).await?;
    }
    let running = shop.reconciler().await?;
    // The last is locked by somebody who has gone home.
    let world = World::new(shop.setup.config.clone()).await?;
    let mut held = world.postgres.begin().await?;
    sqlx::query("SELECT 1 FROM shop_order WHERE id = 6 FOR UPDATE").execute(&mut *held).await?;
    let taken: Vec<_> = (1..=6)
        .map(|n| record(&format!("t{n}"), "payment.captured", &format!("q{n}"), Some(&n.to_string()), 1000, "c"))
        .collect();
    publish(&shop, &taken).await?;
    let expect = async |wanted: &[&str]| {
        eventually("the orders", async || {
            let found = shop.lines("SELECT id, state FROM shop_order ORDER BY 1").await?;
            ensure!(found == wanted, "{found:?}");
            Ok(())
        })
        .await
    };
    expect(&["(1,new)", "(2,new)", "(3,new)", "(4,paid)", "(5,paid)", "(6,new)"]).await?;
    eventually("breaks, and the payments all the same", async || {
        let breaks = shop.lines("SELECT kind, subject FROM breaks ORDER BY 2").await?;
        ensure!(breaks == ["(status,1)", "(status,2)", "(status,3)"], "{breaks:?}");
        let payments = shop.lines("SELECT order_ref FROM payments ORDER BY 1").await?;
        ensure!(payments == ["(1)", "(2)", "(3)", "(4)", "(5)"], "{payments:?}");
        Ok(())
    })
    .await?;
    // The queue goes on meanwhile.
    publish(&shop, &[record("t7", "refund.succeeded", "q5", None, 1000, "r")]).await?;
    expect(&["(1,new)", "(2,new)", "(3,new)", "(4,paid)", "(5,refunded)", "(6,new)"]).await?;
    held.rollback().await?;
    expect(&["(1,new)", "(2,new)", "(3,new)", "(4,paid)", "(5,refunded)", "(6,paid)"]).await?;
    running.stop().await?;
    assert!(shop.lines("SELECT 1 FROM parked_events").await?.is_empty());
    drop(world);
    shop.clean().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_was_stopped_goes_on_where_it_was() -> Result<()> {
    let _services = services_up().await;
    let shop = Shop::open("resume", SWEEP_ALL).await?;
    let running = shop.reconciler().await?;
    shop.insert_orders(60).await?;
    publish(&shop, &events(60)).await?;
    settled(&shop).await?;
    running.stop().await?;

    // Some 150 events at 40 a second, a lane at a time.
    let file = std::env::temp_dir().join(format!("{}_slow.toml", shop.setup.config.postgres.schema));
    std::fs::write(&file, &shop.setup.text)?;
    let mut slow = tokio::process::Command::new(program_binary("reconciler")?)
        .args(["sweep", "--region", "eu", "--day", &today(), "--rows-per-second", "40", "--config"])
        .arg(&file)
        .envs(&shop.setup.variables)
        .kill_on_drop(true)
        .spawn()?;
    let lanes = async |condition: &str| {
        Ok::<_, anyhow::Error>(shop.lines(&format!("SELECT lane FROM sweeps WHERE {condition}")).await?.len())
    };
    eventually("a lane is done", async || {
        ensure!(lanes("finished_at IS NOT NULL").await? > 0);
        Ok(())
    })
    .await?;
    tokio::process::Command::new("kill").arg("-TERM").arg(slow.id().unwrap_or_default().to_string()).status().await?;
    assert_eq!(slow.wait().await?.code(), Some(2), "it says that it did not come to its end");
    std::fs::remove_file(&file)?;
    let left = lanes("finished_at IS NULL").await?;
    assert!(left > 0, "nothing was left to do");
    assert_eq!(lanes("claimed_until IS NOT NULL").await?, 0, "a claim was not given back");

    let (status, text) = shop.sweep(&["--json"]).await?;
    assert_eq!(status, 0, "{text}");
    let tally: serde_json::Value = serde_json::from_str(&text)?;
    assert!(tally["events"].as_u64().is_some_and(|events| events > 0 && events < 152), "{text}");
    assert_eq!(lanes("finished_at IS NULL").await?, 0);
    shop.clean().await
}
