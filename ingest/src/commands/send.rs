//! `ingest send`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use domain::ids::reference_id;
use domain::providers::{Delivery, Gaps, Sample, Unsigned, samples};
use domain::signature::Secret;
use domain::{Currency, Money};
use hyper::{HeaderMap, Uri};
use platform::clock::now_ms;
use platform::config::{Config, ConfiguredSource};
use platform::program::printable;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::capture::{Capture, CaptureArgs};
use super::client::{self, Answer};
use super::{Outcome, items, source};

/// Post a signed sample, or a captured webhook, to a running gateway
///
/// A sample is signed now with the source's first secret that is valid. With --body that body is signed instead, and with
/// headers too (or --request) it is sent as it was captured.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ingest send shop --order A-1001 --amount 19.99 --config tollgate.toml
  ingest send stripe --type refund.created --order A-1001 --amount 5
  ingest send paypal --request dump.txt --url http://127.0.0.1:8080
  ingest send shop --url https://pay.example.com --ca ca.pem

Exit status: 0 all were accepted, 1 one was not, 2 it could not run.")]
pub struct Send {
    /// A source of the configuration
    source: String,
    /// The provider's name of the event type; the first is money taken, a wrong one lists them
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// The shop's order reference; one of its own if not given
    #[arg(long, value_name = "REFERENCE")]
    order: Option<String>,
    /// Letters and digits that make the payment its own; made of the order if not given, so that a refund finds it
    #[arg(long, value_name = "ID", value_parser = parse_token)]
    payment: Option<String>,
    /// The amount in whole units
    #[arg(long, default_value = "19.99")]
    amount: String,
    /// ISO 4217
    #[arg(long, default_value = "EUR")]
    currency: String,
    /// Events, each of a payment of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
    /// The gateway, http:// or https://; that of the configuration if not given
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// PEM: the authority of the gateway's certificate; the public ones if not given
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    capture: CaptureArgs,
    /// Print the answers as JSON
    #[arg(long)]
    json: bool,
}

fn parse_token(text: &str) -> Result<String, String> {
    let is_token = (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_token { Ok(text.to_owned()) } else { Err("1 to 64 letters and digits".to_owned()) }
}

/// A request that is ready.
struct Ready {
    headers: HeaderMap,
    body: Vec<u8>,
    /// The order that a sample is about.
    order: Option<String>,
}

impl Send {
    pub(super) async fn run(self, config: &Config, folder: &Path, stop: &CancellationToken) -> Outcome {
        let configured = source(config, &self.source, folder)?;
        let uri = self.uri(config)?;
        let mut capture = self.capture.read()?;
        let media = configured.provider.media.first().copied().unwrap_or_default();
        let ca = self.ca.as_deref().unwrap_or(Path::new(""));
        let mut sent = Vec::new();
        let mut order = None;
        for number in 0..self.count {
            if stop.is_cancelled() {
                return Err(format!("stopped after {number} of {} were sent", self.count).into());
            }
            let ready = self.ready(&configured, &mut capture, number)?;
            let answer = client::post(&uri, ca, &ready.headers, media, &ready.body).await?;
            let delivery = Delivery { headers: &ready.headers, body: &ready.body };
            let meaning = items::read(&configured, &delivery, now_ms());
            if !self.json {
                print(&answer, &meaning);
            }
            order = order.or(ready.order);
            sent.push((answer, meaning));
        }
        if self.json {
            println!("{:#}", Value::Array(sent.iter().map(|(answer, meaning)| to_json(answer, meaning)).collect()));
        } else if let Some((last, meaning)) = sent.last() {
            println!("\n{}", self.next(config, last, meaning, order.as_deref()));
        }
        Ok(ExitCode::from(u8::from(sent.iter().any(|(answer, _)| answer.status != 200))))
    }

    /// The gateway's address of the source.
    fn uri(&self, config: &Config) -> Result<Uri, String> {
        let mut listen = config.ingest.listen;
        if listen.ip().is_unspecified() {
            listen.set_ip(IpAddr::from([127, 0, 0, 1]));
        }
        let scheme = if config.ingest.tls_certificate.as_os_str().is_empty() { "http" } else { "https" };
        let text = self.url.clone().unwrap_or_else(|| format!("{scheme}://{listen}"));
        let uri: Uri = text.parse().map_err(|_| format!("--url: {text:?} is not like http://127.0.0.1:8080"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err(format!("--url: {text:?} is not like http://127.0.0.1:8080"));
        }
        match uri.path() {
            "/" | "" => format!("{}/webhooks/{}", text.trim_end_matches('/'), self.source).parse(),
            _ => Ok(uri),
        }
        .map_err(|_| format!("--url: {text:?} is no address"))
    }

    /// The next request: as captured, a given body signed, or a sample.
    fn ready(&self, configured: &ConfiguredSource, capture: &mut Capture, number: u32) -> Result<Ready, String> {
        let ConfiguredSource { provider, source, secrets, .. } = configured;
        if !capture.headers.is_empty() {
            let body = capture.body.clone().ok_or("there is no body: give --body FILE, or a --request that has one")?;
            return Ok(Ready { headers: capture.headers.clone(), body, order: None });
        }
        let name = provider.name;
        let sign = provider.sign.ok_or_else(|| {
            format!(
                "{name} signs with a key that only {name} has, so nothing can be signed here: send a captured webhook, with \
                 --request FILE, or with --body FILE and its headers (--headers FILE or --header 'Name: value')"
            )
        })?;
        if provider.fetch.is_some() {
            let body = capture.body.clone().ok_or_else(|| {
                format!(
                    "{name}'s webhooks only name a payment, which must be one that its API knows: give it with --body FILE, \
                     like id=tr_5B8cwPMGnU6qLbRvo7qEZo"
                )
            })?;
            return Ok(Ready { headers: HeaderMap::new(), body, order: None });
        }
        let now_ms = now_ms();
        let secret = signing_secret(secrets, now_ms.div_euclid(1000)).ok_or(
            "no secret of the source that is valid now can sign: public keys (whpk_) only verify. Send a captured webhook, \
             with --request FILE",
        )?;
        let id = uuid::Uuid::new_v4().simple().to_string();
        if let Some(body) = &capture.body {
            let unsigned = Unsigned { event_key: &id, body: body.clone() };
            let signed = sign(unsigned, source, secret, now_ms.div_euclid(1000))
                .ok_or_else(|| format!("the body is not of {name}'s form, so it cannot be signed"))?;
            return Ok(Ready { headers: signed.header_map(), body: signed.body, order: None });
        }
        let sample = self.sample(configured)?;
        let currency = Currency::parse(&self.currency).map_err(|error| format!("--currency: {error}"))?;
        let amount = Money::parse(&self.amount, currency).map_err(|error| format!("--amount: {error}"))?;
        let order = self.order.clone().unwrap_or_else(|| format!("sample-{}", &id[..8]));
        let payment = self.payment.clone().unwrap_or_else(|| reference_id(&order).simple().to_string());
        let payment = if number == 0 { payment } else { format!("{payment}n{number}") };
        let gaps = Gaps { id: &id, payment: &payment, order: &order, amount, now_ms };
        let signed = sample.request(provider, source, secret, &gaps)?;
        Ok(Ready { headers: signed.header_map(), body: signed.body, order: Some(order) })
    }

    fn sample(&self, configured: &ConfiguredSource) -> Result<Sample, String> {
        let provider = configured.provider;
        let mut known = samples(provider);
        let found = match &self.event_type {
            None => known.next(),
            Some(wanted) => known.find(|sample| sample.event_type == wanted),
        };
        found.ok_or_else(|| match samples(provider).map(|sample| sample.event_type).collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => {
                format!("there are no samples of {}: give one with --body FILE; it is signed", provider.name)
            }
            known => format!("--type: the samples of {} are {known}; any other with --body FILE", provider.name),
        })
    }

    /// What to look at next.
    fn next(&self, config: &Config, last: &Answer, meaning: &[Value], order: Option<&str>) -> String {
        let (source, internal) = (&self.source, config.ingest.internal_listen);
        let is_change = meaning.iter().any(items::is_change);
        match last.status {
            200 if !is_change => "Nothing of it reaches an order.".to_owned(),
            200 => {
                let orders = &config.orders;
                let shown = [&orders.status, &orders.paid, &orders.refunded, &orders.disputed];
                let shown: Vec<&str> = shown.iter().map(|name| name.as_str()).filter(|name| !name.is_empty()).collect();
                let order = order.unwrap_or("…").replace('\'', "''");
                format!(
                    "next: psql \"$TOLLGATE_POSTGRES_URL\" -c \"select {} from {} where {} = '{order}'\"\n\
                     An event whose order is not there yet waits for it; `reconciler breaks list` shows what does not fit.",
                    shown.join(", "),
                    orders.table,
                    orders.key,
                )
            }
            401 => format!(
                "next: that gateway has another secret of the source {source} than this configuration, or another clock. Of a \
                 captured webhook, `ingest verify explain {source}` says why."
            ),
            404 => format!("next: that gateway has no source {source}: was it started with this configuration?"),
            429 => "next: wait for as long as it says; ingest.client_rate_per_second, unverified_rate_per_second or the source's \
                    rate_per_second is used up."
                .to_owned(),
            503 => format!("next: http://{internal}/readyz says what the gateway waits for; send it again."),
            _ => "next: docs/OPERATIONS.md, \"A webhook is refused\".".to_owned(),
        }
    }
}

/// The first secret that is valid and signs.
fn signing_secret(secrets: &[Secret], now_unix: i64) -> Option<&Secret> {
    secrets.iter().find(|secret| secret.is_valid_at(now_unix) && !secret.sign(&[]).is_empty())
}

/// What a problem document says to do.
fn detail(answer: &Answer) -> Option<String> {
    let document: Value = serde_json::from_str(&answer.body).ok()?;
    document["detail"].as_str().map(str::to_owned)
}

fn print(answer: &Answer, meaning: &[Value]) {
    let milliseconds = answer.elapsed.as_secs_f64() * 1000.0;
    match (answer.status, detail(answer)) {
        (status, Some(detail)) => println!("{status} after {milliseconds:.1} ms: {}", printable(&detail)),
        (status, None) => println!("{status} after {milliseconds:.1} ms"),
    }
    answer.retry_after_seconds.iter().for_each(|seconds| println!("  Retry-After: {seconds} s"));
    meaning.iter().for_each(|item| println!("  {}", printable(&items::line(item))));
}

fn to_json(answer: &Answer, meaning: &[Value]) -> Value {
    json!({
        "status": answer.status,
        "elapsed_ms": answer.elapsed.as_secs_f64() * 1000.0,
        "detail": detail(answer),
        "retry_after_seconds": answer.retry_after_seconds,
        "items": meaning,
    })
}
