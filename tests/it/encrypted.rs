//! Everything encrypted, and nobody with more rights than it needs: a stack with TLS of this test's own, the roles of
//! docs/SECURITY.md as they are written there, webhooks over https, and what must be refused.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use it::https::{Https, Version};
use it::{SHOP_SECRET, event_body, eventually, free_ports, program_binary, send, signed, within};
use platform::config::{self, Config};
use stack::Stack;
use stack::certificates::Authority;
use tokio::process::{Child, Command};

use crate::support::ready;

const DOCUMENT: &str = include_str!("../../docs/SECURITY.md");
const PASSWORD: &str = "made-up-by-encrypted-rs";
const ORDERS: usize = 1000;
/// Starts with something wrong, each with a log of its own.
const REFUSED: usize = 9;
/// Connections that send at once, half of them HTTP/2.
const SENDERS: usize = 16;

type Variables = BTreeMap<String, String>;

/// A stack with TLS in a folder of its own, and the programs on it.
struct Secured {
    folder: PathBuf,
    /// As `cargo stack env` says: the administrators'.
    variables: Variables,
    text: String,
    ingest: SocketAddr,
}

impl Secured {
    fn start() -> Result<Self> {
        let [listen, one, two, three] = free_ports::<4>()?;
        let folder = std::env::temp_dir().join(format!("tollgate-encrypted-{}", listen.port()));
        fs::create_dir_all(folder.join("stack"))?;
        // What was downloaded once is not downloaded again.
        let downloads = Stack::open()?.layout().downloads.clone();
        if downloads.exists() {
            std::os::unix::fs::symlink(downloads, folder.join("stack/downloads"))?;
        }
        let text = format!(
            "regions = [\"eu\"]\n[log]\nfilter = \"trace\"\n[rabbitmq]\ncreate = false\n[cassandra]\ncreate = false\n\
             [postgres]\nschema = \"tollgate\"\n[orders]\ncreate = false\nschema = \"public\"\n\
             [sweep]\nenabled = false\nsettle_seconds = 1\n\
             [ingest]\nlisten = \"{listen}\"\ninternal_listen = \"{one}\"\n\
             tls_certificate = \"public.pem\"\ntls_key = \"public.key\"\n\
             [writer]\ninternal_listen = \"{two}\"\n[reconciler]\ninternal_listen = \"{three}\"\n\
             [sources.shop]\nprovider = \"tollgate\"\nregion = \"eu\"\nsecrets = [{{ value = \"{SHOP_SECRET}\" }}]\n"
        );
        fs::write(folder.join("tollgate.toml"), &text)?;
        fs::write(folder.join("password"), PASSWORD)?;
        let mut secured = Self { folder, variables: Variables::new(), text, ingest: listen };
        secured.stack(&["up", "--tls", "rabbitmq", "cassandra", "postgres"])?;
        for line in secured.stack(&["env"])?.lines() {
            let (name, value) = line.trim_start_matches("export ").split_once('=').context("no variable")?;
            // As a shell reads it.
            let value = value.trim_matches('\'').replace(r"'\''", "'");
            secured.variables.insert(name.to_owned(), value);
        }
        Authority::open(&secured.folder)?.issue("public", 90)?;
        Ok(secured)
    }

    fn stack(&self, arguments: &[&str]) -> Result<String> {
        let mut command = std::process::Command::new(program_binary("stack")?);
        command.args(arguments);
        for name in config::environment()?.into_keys() {
            command.env_remove(name);
        }
        let output = command.env("TOLLGATE_STACK_DIR", self.folder.join("stack")).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "stack {}: {said}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The configuration of the administrators.
    fn admin(&self) -> Result<Config> {
        Ok(config::parse("test", &self.text, &self.variables)?)
    }

    /// The variables of a role: its name in the addresses, its password in a file.
    fn role(&self, role: &str) -> Variables {
        let mut variables = self.variables.clone();
        for service in ["RABBITMQ", "POSTGRES", "CASSANDRA"] {
            variables.remove(&format!("TOLLGATE_{service}_PASSWORD"));
            let file = self.folder.join("password").display().to_string();
            variables.insert(format!("TOLLGATE_{service}_PASSWORD_FILE"), file);
            if let Some(url) = variables.get_mut(&format!("TOLLGATE_{service}_URL")) {
                *url = url.replacen("tollgate@", &format!("{role}@"), 1);
            }
        }
        variables.insert("TOLLGATE_CASSANDRA_USER".into(), role.into());
        variables
    }

    fn config_of(&self, role: &str) -> Result<Config> {
        Ok(config::parse("test", &self.text, &self.role(role))?)
    }

    fn log(&self, name: &str) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join(format!("{name}.log")))?)
    }

    fn command(&self, program: &str, variables: &Variables) -> Result<Command> {
        let mut command = Command::new(program_binary(program)?);
        for name in config::environment()?.into_keys() {
            command.env_remove(name);
        }
        command.arg("--config").arg(self.folder.join("tollgate.toml")).envs(variables).kill_on_drop(true);
        Ok(command)
    }

    /// Starts a program; `name` is its log's.
    fn spawn(&self, program: &str, name: &str, variables: &Variables) -> Result<Child> {
        let log = File::create(self.folder.join(format!("{name}.log")))?;
        Ok(self.command(program, variables)?.stderr(log).spawn()?)
    }

    /// Runs a command to its end; what it said.
    async fn run(&self, program: &str, arguments: &[&str], variables: &Variables) -> Result<String> {
        let output = self.command(program, variables)?.args(arguments).output().await?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
        Ok(said)
    }

    /// A program with something changed for the worse says what is wrong, and does not become ready.
    async fn refused(&self, program: &str, role: &str, changes: &[(&str, &str)], says: &[&str]) -> Result<()> {
        let mut variables = self.role(role);
        for (name, value) in changes {
            variables.insert(format!("TOLLGATE_{name}"), (*value).to_owned());
            variables.retain(|_, value| value != "-");
        }
        let names: Vec<&str> = changes.iter().map(|(name, _)| *name).collect();
        // A number of its own: a later log must not hide an earlier one.
        let name = format!("{program}-{}-{}", names.join("-"), fs::read_dir(&self.folder)?.count());
        let mut child = self.spawn(program, &name, &variables)?;
        let said = within(Duration::from_secs(60), &name, async || {
            let log = self.log(&name)?;
            ensure!(says.iter().all(|words| log.contains(words)), "{says:?} not in {log}");
            Ok(log)
        })
        .await;
        child.kill().await?;
        let line = said?.lines().find(|line| line.contains(says[0])).unwrap_or_default().to_owned();
        println!("{name}: {line}");
        ensure!(!line.contains(PASSWORD) && !line.contains("wrong-password"), "a password is told");
        Ok(())
    }

    async fn management(&self, path: &str, body: &serde_json::Value) -> Result<()> {
        let state: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(self.folder.join("stack/state.json"))?)?;
        let address = format!("127.0.0.1:{}", state["ports"]["rabbitmq_management"]).parse()?;
        let user = format!("tollgate:{}", self.variables["TOLLGATE_RABBITMQ_PASSWORD"]);
        let basic = format!("Basic {}", STANDARD.encode(user));
        let headers = [("authorization", basic.as_str()), ("content-type", "application/json")];
        // It listens before it knows its users.
        eventually(path, async || {
            let answer = send(address, "PUT", path, &headers, body.to_string().as_bytes()).await?;
            ensure!((200..300).contains(&answer.status), "{path}: {answer:?}");
            Ok(())
        })
        .await
    }

    /// The users of RabbitMQ, by its management as `rabbitmqctl` would.
    async fn make_rabbitmq_users(&self) -> Result<()> {
        for line in block("rabbitmq").lines() {
            let words: Vec<&str> = line.split_whitespace().map(|word| word.trim_matches('"')).collect();
            match words[1..] {
                ["add_user", name, password] => {
                    let body = serde_json::json!({"password": password, "tags": ""});
                    self.management(&format!("/api/users/{name}"), &body).await?;
                }
                ["set_permissions", "-p", "/", name, configure, write, read] => {
                    let body = serde_json::json!({"configure": configure, "write": write, "read": read});
                    self.management(&format!("/api/permissions/%2F/{name}"), &body).await?;
                }
                _ => anyhow::bail!("unknown: {line}"),
            }
        }
        Ok(())
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let stopped = self.stack(&["reset"]).map(drop).and_then(|()| Ok(fs::remove_dir_all(&self.folder)?));
        if let Err(error) = stopped {
            println!("left behind: {error:#}");
        }
    }
}

/// A block of docs/SECURITY.md, with passwords.
fn block(language: &str) -> String {
    let begin = format!("```{language}\n");
    let text = DOCUMENT.split_once(&begin).and_then(|(_, rest)| rest.split_once("```")).map(|(block, _)| block);
    text.unwrap_or_default().replace('…', PASSWORD)
}

fn statements(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim).filter(|statement| !statement.is_empty())
}

/// All that is made before the programs start, by those who may.
async fn prepare(secured: &Secured) -> Result<()> {
    let admin = secured.admin()?;
    let postgres = platform::postgres::pool(&admin.postgres, Duration::from_secs(5))?;
    let shop = "CREATE TABLE public.orders (reference text PRIMARY KEY, customer text NOT NULL, total numeric NOT NULL, \
                currency text NOT NULL, status text NOT NULL DEFAULT 'pending', paid numeric NOT NULL DEFAULT 0, \
                refunded numeric NOT NULL DEFAULT 0, disputed numeric NOT NULL DEFAULT 0, \
                updated_at timestamptz NOT NULL DEFAULT now()); \
                CREATE TABLE public.users (email text PRIMARY KEY, password_hash text NOT NULL);";
    for statement in statements(shop).chain(statements(&block("sql"))) {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned()))
            .execute(&postgres)
            .await
            .context(statement.to_owned())?;
    }
    sqlx::query(
        "INSERT INTO public.orders (reference, customer, total, currency) SELECT 'A-' || n, 'somebody', 10, 'EUR' \
         FROM generate_series(0, $1::int - 1) AS n",
    )
    .bind(i32::try_from(ORDERS)?)
    .execute(&postgres)
    .await?;
    secured.make_rabbitmq_users().await?;
    let cassandra = platform::cassandra::connect(&admin.cassandra).await?;
    for statement in statements(&block("cql")) {
        cassandra.query_unpaged(statement, ()).await.context(statement.to_owned())?;
    }
    println!("{}", secured.run("writer", &["setup"], &secured.role("tollgate_deploy")).await?);
    for statement in statements(&block("cql-after-setup")) {
        cassandra.query_unpaged(statement, ()).await.context(statement.to_owned())?;
    }
    Ok(())
}

/// Two events an order, over https; how long each took until its 2xx.
async fn send_webhooks(secured: &Secured) -> Result<Vec<Duration>> {
    let ca = secured.folder.join("ca.pem");
    let address = secured.ingest;
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let ca = ca.clone();
            tokio::spawn(async move {
                let version = if sender % 2 == 0 { Version::Http1 } else { Version::Http2 };
                let mut client = Https::connect(address, &ca, version).await?;
                let mut times = Vec::new();
                for order in (sender..ORDERS).step_by(SENDERS) {
                    for (kind, transaction) in [("payment.authorized", "a"), ("payment.captured", "c")] {
                        let (payment, order) = (format!("pay_{order}"), format!("A-{order}"));
                        let body = event_body(kind, &payment, Some(&order), 1000, transaction);
                        let begun = Instant::now();
                        let headers = signed(&format!("{payment}-{transaction}"), &body);
                        let status = client.post("/webhooks/shop", &headers, body).await?;
                        ensure!(status == 200, "{order}: {status}");
                        times.push(begun.elapsed());
                    }
                }
                Ok(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for sender in senders {
        times.extend(sender.await??);
    }
    times.sort();
    Ok(times)
}

/// Every order is paid, every event is in Cassandra once, nothing differs.
async fn audit(secured: &Secured) -> Result<()> {
    let admin = secured.admin()?;
    let postgres = platform::postgres::pool(&admin.postgres, Duration::from_secs(5))?;
    let count =
        async |query: &'static str| -> Result<i64> { Ok(sqlx::query_scalar(query).fetch_one(&postgres).await?) };
    let orders = i64::try_from(ORDERS)?;
    eventually("every order is paid", async || {
        let paid = count("SELECT count(*) FROM public.orders WHERE status = 'paid' AND paid = total").await?;
        ensure!(paid == orders, "{paid} of {orders}");
        Ok(())
    })
    .await?;
    ensure!(count("SELECT count(*) FROM tollgate.breaks").await? == 0, "breaks");
    ensure!(count("SELECT count(*) FROM tollgate.parked_events").await? == 0, "parked");
    let cassandra = platform::cassandra::connect(&admin.cassandra).await?;
    for (table, expected) in
        [("payment_events", 2 * orders), ("payments", orders), ("dead_letters", 0), ("quarantine", 0)]
    {
        eventually(table, async || {
            let query = format!("SELECT count(*) FROM tollgate.{table}");
            let rows = cassandra.query_unpaged(query, ()).await?.into_rows_result()?;
            let (found,): (i64,) = rows.first_row()?;
            ensure!(found == expected, "{found} rows of {table}, not {expected}");
            Ok(())
        })
        .await?;
    }
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let arguments = ["sweep", "--region", "eu", "--day", &day, "--dry-run"];
    println!("{}", secured.run("reconciler", &arguments, &secured.role("tollgate_reconciler")).await?);
    let writer = secured.role("tollgate_writer");
    secured.run("writer", &["quarantine", "list"], &writer).await?;
    secured.run("writer", &["dead-letters", "list"], &writer).await?;
    secured.run("reconciler", &["breaks", "list"], &secured.role("tollgate_reconciler")).await?;
    Ok(())
}

/// What each role must not be able to do.
async fn roles_are_narrow(secured: &Secured) -> Result<()> {
    use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeleteOptions};
    for (role, reads, publishes) in [
        ("tollgate_ingest", &[][..], true),
        ("tollgate_writer", &["payments.write.0", "payments.dead"][..], true),
        ("tollgate_reconciler", &["payments.reconcile.0"][..], false),
    ] {
        let connection = platform::amqp::connect(&secured.config_of(role)?.rabbitmq, "test").await?;
        let refused = |what: String, error: Option<lapin::Error>| {
            ensure!(error.is_some_and(|error| error.to_string().contains("ACCESS_REFUSED")), "{role} may {what}");
            Ok(())
        };
        for queue in ["payments.write.0", "payments.reconcile.0", "payments.dead"] {
            let channel = connection.create_channel().await?;
            let read = channel.basic_get(queue.into(), BasicGetOptions { no_ack: false }).await;
            match reads.contains(&queue) {
                true => drop(read?),
                false => refused(format!("read {queue}"), read.err())?,
            }
            let channel = connection.create_channel().await?;
            let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
            refused(format!("delete {queue}"), deleted.err())?;
        }
        if !publishes {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let options = BasicPublishOptions { mandatory: true, immediate: false };
            let queue = "payments.reconcile.0".into();
            let published = channel.basic_publish("".into(), queue, options, b"x", Default::default()).await;
            let confirmed = match published {
                Ok(confirm) => confirm.await.err(),
                Err(error) => Some(error),
            };
            ensure!(confirmed.is_some(), "{role} may publish");
        }
    }
    let pool = platform::postgres::pool(&secured.config_of("tollgate_reconciler")?.postgres, Duration::from_secs(5))?;
    for statement in [
        "SELECT email FROM public.users",
        "SELECT customer FROM public.orders",
        "UPDATE public.orders SET total = 0",
        "DELETE FROM public.orders",
        "INSERT INTO public.orders (reference, customer, total, currency) VALUES ('x', 'x', 1, 'EUR')",
        "CREATE TABLE public.mine (x int)",
        "CREATE ROLE more",
    ] {
        let error =
            sqlx::query(statement).execute(&pool).await.err().with_context(|| statement.to_owned())?.to_string();
        ensure!(error.contains("permission denied"), "{statement}: {error}");
    }
    for (role, table) in [("tollgate_writer", "payments"), ("tollgate_reconciler", "quarantine")] {
        let session = platform::cassandra::connect(&secured.config_of(role)?.cassandra).await?;
        let read = format!("SELECT * FROM tollgate.{table}");
        for statement in
            [read.as_str(), "DROP TABLE tollgate.days", "TRUNCATE tollgate.payments", "DROP ROLE tollgate_deploy"]
        {
            let allowed = role == "tollgate_reconciler" && statement.starts_with("TRUNCATE");
            let ended = if allowed { continue } else { session.query_unpaged(statement, ()).await };
            let error = ended.err().with_context(|| format!("{role}: {statement}"))?.to_string();
            ensure!(error.contains("permission") || error.contains("privileges"), "{role}: {statement}: {error}");
        }
    }
    Ok(())
}

/// Another authority, another password, no TLS: each says what is wrong.
async fn others_are_refused(secured: &Secured) -> Result<()> {
    let other = Authority::open(&secured.folder.join("other"))?.certificate();
    let other = other.to_str().context("no text")?;
    fs::write(secured.folder.join("wrong"), "wrong-password")?;
    let wrong = secured.folder.join("wrong");
    let wrong = wrong.to_str().context("no text")?;
    let url = |role: &str, service: &str| secured.role(role)[&format!("TOLLGATE_{service}_URL")].clone();
    let (ingest, writer, reconciler) = ("tollgate_ingest", "tollgate_writer", "tollgate_reconciler");
    let plain = url(ingest, "RABBITMQ").replace("amqps://", "amqp://");
    let check = async |program, role, changes: &[(&str, &str)], says: &[&str]| {
        secured.refused(program, role, changes, says).await
    };
    check("ingest", ingest, &[("RABBITMQ_CA_FILE", other)], &["rabbitmq.ca_file must hold"]).await?;
    check("ingest", ingest, &[("RABBITMQ_PASSWORD_FILE", wrong)], &["rabbitmq.password_file is wrong"]).await?;
    check("ingest", ingest, &[("RABBITMQ_URL", &plain), ("RABBITMQ_CA_FILE", "-")], &["cannot use rabbitmq"]).await?;
    check("writer", writer, &[("CASSANDRA_CA_FILE", other)], &["invalid peer certificate"]).await?;
    check("writer", writer, &[("CASSANDRA_PASSWORD_FILE", wrong)], &["incorrect"]).await?;
    check("writer", writer, &[("CASSANDRA_TLS", "false"), ("CASSANDRA_CA_FILE", "-")], &["cassandra is not ready"])
        .await?;
    let address = url(reconciler, "POSTGRES");
    let (before, _) = address.split_once('?').context("no TLS")?;
    let untrusted = format!("{before}?sslmode=verify-full&sslrootcert={other}");
    check("reconciler", reconciler, &[("POSTGRES_URL", &untrusted)], &["invalid peer certificate"]).await?;
    check("reconciler", reconciler, &[("POSTGRES_PASSWORD_FILE", wrong)], &["password authentication failed"]).await?;
    let open = format!("{before}?sslmode=disable");
    check("reconciler", reconciler, &[("POSTGRES_URL", &open)], &["no encryption"]).await
}

/// No password and no secret in anything that the programs said, at the most verbose.
fn nothing_was_told(folder: &Path, secured: &Secured) -> Result<()> {
    let admin = &secured.variables["TOLLGATE_RABBITMQ_PASSWORD"];
    let secrets = [PASSWORD, admin, SHOP_SECRET.trim_start_matches("whsec_"), "wrong-password"];
    let (mut logs, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let log = fs::read_to_string(&path)?;
            ensure!(!log.is_empty(), "{} is empty", path.display());
            (logs, bytes) = (logs + 1, bytes + log.len());
            for secret in secrets {
                ensure!(!log.contains(secret), "{} has a secret", path.display());
            }
        }
    }
    println!("{bytes} bytes of {logs} logs without a secret");
    // The three programs', and those of the starts that were refused.
    ensure!(logs == 3 + REFUSED, "{logs} logs");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "starts services of its own, with TLS: cargo test --release -p it -- --ignored encrypted"]
async fn the_whole_way_is_encrypted_and_each_role_has_just_enough() -> Result<()> {
    let secured = Secured::start()?;
    prepare(&secured).await?;
    let mut running = Vec::new();
    for program in ["writer", "reconciler", "ingest"] {
        running.push(secured.spawn(program, program, &secured.role(&format!("tollgate_{program}")))?);
    }
    let admin = secured.admin()?;
    for listener in [admin.ingest.internal_listen, admin.writer.internal_listen, admin.reconciler.internal_listen] {
        ready(listener).await?;
    }
    let begun = Instant::now();
    let times = send_webhooks(&secured).await?;
    let took = begun.elapsed();
    audit(&secured).await?;
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1000.0;
    println!(
        "{} webhooks over https in {:.1} s: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms to 2xx; audit clean",
        times.len(),
        took.as_secs_f64(),
        at(50),
        at(90),
        at(99)
    );
    roles_are_narrow(&secured).await?;
    for mut program in running {
        program.kill().await?;
    }
    others_are_refused(&secured).await?;
    nothing_was_told(&secured.folder, &secured)
}
