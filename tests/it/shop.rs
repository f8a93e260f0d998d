//! A Django shop on top of it, as `examples/django-shop` has one: orders in Postgres, payments in Cassandra, hot reads in
//! Redis, all by Django's own libraries.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use domain::ids::reference_id;
use it::{Setup, eventually, free_ports, own_setup, run_program, send, services_up, within};
use platform::config;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio::process::{Child, Command};

use crate::faults::{Programs, signal};
use crate::support::World;

const TOLLGATE: &str = include_str!("../../examples/django-shop/tollgate.toml");
/// Less than an order stays in Redis unless it is renewed.
const SOON: Duration = Duration::from_secs(30);

/// The shop's processes.
struct Shop {
    setup: Setup,
    python: String,
    schema: String,
    address: SocketAddr,
    redis: SocketAddr,
    log: PathBuf,
}

impl Shop {
    /// A shop with tables of its own, as Django makes them, and with the configuration that is its example's.
    async fn open() -> Result<Self> {
        let python = std::env::var("SHOP_PYTHON").context("SHOP_PYTHON is not set")?;
        let mut setup = own_setup("django", "")?;
        let schema = format!("{}_shop", setup.config.postgres.schema);
        setup.variables.insert("TOLLGATE_ORDERS_SCHEMA".to_owned(), schema.clone());
        TOLLGATE.clone_into(&mut setup.text);
        setup.config = config::parse("the example", &setup.text, &setup.variables)?;
        setup.variables.insert("STRIPE_SECRET".to_owned(), "whsec_example".to_owned());
        let [address, redis] = free_ports()?;
        let log = std::env::temp_dir().join(&schema);
        let world = World::new(setup.config.clone()).await?;
        sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA \"{schema}\""))).execute(&world.postgres).await?;
        Ok(Self { setup, python, schema, address, redis, log })
    }

    fn manage(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.python);
        command
            .arg("manage.py")
            .args(arguments)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/django-shop"))
            .envs(&self.setup.variables)
            .env("SHOP_SCHEMAS", format!("{},{}", self.schema, self.setup.config.postgres.schema))
            .env("SHOP_REDIS_URL", format!("redis://{}/0", self.redis))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .kill_on_drop(true);
        command
    }

    async fn run(&self, arguments: &[&str]) -> Result<()> {
        let output = self.manage(arguments).output().await?;
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "{arguments:?}: {text}");
        Ok(())
    }

    fn redis(&self) -> Result<Child> {
        let port = self.redis.port().to_string();
        let mut redis = Command::new("redis-server");
        redis.args(["--bind", "127.0.0.1", "--port", &port, "--save", ""]).stdout(Stdio::null()).kill_on_drop(true);
        redis.spawn().context("redis-server")
    }

    /// Starts the command that renews orders in Redis, and waits until it does.
    async fn follow(&self) -> Result<Child> {
        let child = self.manage(&["follow_orders"]).stderr(std::fs::File::create(&self.log)?).spawn()?;
        eventually("the orders are followed", async || {
            let log = std::fs::read_to_string(&self.log)?;
            ensure!(log.contains("follows the orders"), "{log}");
            Ok(())
        })
        .await?;
        Ok(child)
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Result<(u16, Value)> {
        let answer = send(self.address, method, path, &[("host", "127.0.0.1")], body.as_bytes()).await?;
        Ok((answer.status, serde_json::from_str(&answer.body).with_context(|| answer.body.clone())?))
    }

    async fn place(&self) -> Result<i64> {
        let (status, order) = self.ask("POST", "/orders", r#"{"product": 1}"#).await?;
        ensure!(status == 201 && order["total"] == "19.99", "{status}: {order}");
        order["id"].as_i64().context("no number")
    }

    /// What a customer sees of an order.
    async fn sees(&self, number: i64) -> Result<[String; 3]> {
        let (status, order) = self.ask("GET", &format!("/orders/{number}"), "").await?;
        ensure!(status == 200, "{status}: {order}");
        Ok(["status", "paid", "refunded"].map(|name| order[name].as_str().unwrap_or_default().to_owned()))
    }

    async fn will_see(&self, number: i64, wanted: [&str; 3]) -> Result<()> {
        within(SOON, "what the customer sees", async || {
            let seen = self.sees(number).await?;
            ensure!(seen == wanted, "{seen:?} is not {wanted:?}");
            Ok(())
        })
        .await
    }

    /// The one payment of an order, as the shop reads it from Cassandra.
    async fn will_have(&self, number: i64, status: &str) -> Result<()> {
        within(SOON, "the payment", async || {
            let (_, answer) = self.ask("GET", &format!("/orders/{number}/payments"), "").await?;
            let payment = &answer["payments"][0];
            let seen = (&payment["status"], &payment["amount"], &payment["order_id"]);
            let order = json!(reference_id(&number.to_string()).to_string());
            ensure!(seen == (&json!(status), &json!("19.99"), &order), "{answer}");
            Ok(())
        })
        .await
    }

    /// A signed webhook of the provider.
    fn stripe_says(&self, kind: &str, number: i64, amount: &str) -> Result<()> {
        let order = number.to_string();
        let arguments = ["send", "stripe", "--type", kind, "--order", &order, "--amount", amount];
        let (status, text) = run_program("ingest", &self.setup, &arguments)?;
        ensure!(status == 0, "{text}");
        Ok(())
    }
}

/// Run by `cargo verify`, which installs Django and Redis.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs examples/django-shop/requirements.txt and redis-server: SHOP_PYTHON=python cargo test --release -p it -- --ignored shop::"]
async fn a_django_shop_sees_what_became_of_its_orders() -> Result<()> {
    let _services = services_up().await;
    let shop = Shop::open().await?;
    let mut redis = shop.redis()?;
    // The shop was there first: its table of payments has the columns of its model, and no others.
    shop.run(&["migrate"]).await?;
    shop.run(&["sync_cassandra"]).await?;
    let serve = ["runserver", "--noreload", &shop.address.to_string()];
    let _site = shop.manage(&serve).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let mut follower = shop.follow().await?;
    eventually("the site", async || shop.ask("GET", "/orders/0", "").await).await?;
    let programs = Programs::start_as(shop.setup.clone()).await?;

    let number = shop.place().await?;
    assert_eq!(shop.sees(number).await?, ["placed", "0.00", "0.00"]);
    shop.stripe_says("payment_intent.succeeded", number, "19.99")?;
    shop.will_see(number, ["paid", "19.99", "0.00"]).await?;
    shop.will_have(number, "captured").await?;
    shop.stripe_says("refund.created", number, "5")?;
    shop.will_see(number, ["partly_refunded", "19.99", "5.00"]).await?;
    shop.will_have(number, "partially_refunded").await?;

    // What changes while nobody follows is seen as soon as somebody does again.
    let another = shop.place().await?;
    shop.will_see(another, ["placed", "0.00", "0.00"]).await?;
    signal(follower.id().context("ended by itself")?, "TERM").await?;
    follower.wait().await?;
    shop.stripe_says("payment_intent.succeeded", another, "19.99")?;
    shop.will_have(another, "captured").await?;
    assert_eq!(shop.sees(another).await?, ["placed", "0.00", "0.00"], "it was not read from Redis");
    let _follower = shop.follow().await?;
    assert_eq!(shop.sees(another).await?, ["paid", "19.99", "0.00"]);

    // Without Redis orders come from Postgres; when it is back it is followed again.
    redis.kill().await?;
    assert_eq!(shop.sees(another).await?, ["paid", "19.99", "0.00"]);
    let _redis = shop.redis()?;
    eventually("Redis answers", async || Ok(tokio::net::TcpStream::connect(shop.redis).await?)).await?;
    shop.sees(another).await?;
    shop.stripe_says("refund.created", another, "19.99")?;
    shop.will_see(another, ["refunded", "19.99", "19.99"]).await?;

    let world = World::new(shop.setup.config.clone()).await?;
    sqlx::query(AssertSqlSafe(format!("DROP SCHEMA \"{}\" CASCADE", shop.schema))).execute(&world.postgres).await?;
    std::fs::remove_file(&shop.log)?;
    programs.clean().await
}
