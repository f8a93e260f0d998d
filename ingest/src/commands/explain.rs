//! `ingest verify explain`.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use domain::explain::{Configured, Finding, Received, Verdict, explain};
use domain::providers::{Delivery, parse_time_ms};
use domain::signature::Refusal;
use hyper::header::{CONTENT_TYPE, HOST};
use platform::clock::now_ms;
use platform::config::{Config, ConfiguredSource};
use platform::program::printable;
use serde_json::{Value, json};

use super::capture::{Capture, CaptureArgs};
use super::{Outcome as End, items, source};
use crate::answer::Outcome;
use crate::intake::check_media;

/// Say why a captured webhook is refused, or what it means
///
/// The provider's own check decides; what is said beyond its word was tried with that check: another secret of the
/// configuration, another time, another body. Secrets and signatures are never printed, and no service is asked.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ingest verify explain stripe --request dump.txt --config tollgate.toml
  ingest verify explain stripe --body body.json --headers headers.txt --at 2026-11-24T10:00:00Z
  ingest verify explain shop --body body.json --header 'webhook-id: msg_1' --header 'webhook-timestamp: 1795514400' \\
    --header 'webhook-signature: v1,…' --json

Exit status: 0 verified, 1 refused, 2 it could not run.")]
pub struct Explain {
    /// A source of the configuration
    source: String,
    #[command(flatten)]
    capture: CaptureArgs,
    /// When it was received: RFC 3339 or Unix seconds; now if not given
    #[arg(long, value_name = "TIME", value_parser = parse_unix)]
    at: Option<i64>,
    /// Print the outcome as JSON
    #[arg(long)]
    json: bool,
}

fn parse_unix(text: &str) -> Result<i64, String> {
    let unix = text.parse().ok().or_else(|| parse_time_ms(text).map(|ms| ms.div_euclid(1000)));
    unix.ok_or_else(|| "a time is written 2026-11-24T10:00:00Z, or in Unix seconds".to_owned())
}

/// A source with its secrets' texts.
struct Known {
    configured: ConfiguredSource,
    texts: Vec<String>,
}

impl Known {
    fn read(config: &Config, name: &str, folder: &Path) -> Result<Self, String> {
        let configured = source(config, name, folder)?;
        let secrets = config.sources.get(name).map(|source| &source.secrets[..]).unwrap_or_default();
        let mut texts = Vec::with_capacity(secrets.len());
        for (index, secret) in secrets.iter().enumerate() {
            texts.extend(secret.read(index, folder)?.into_iter().map(|(_, text)| text.expose().trim().to_owned()));
        }
        Ok(Self { configured, texts })
    }

    fn as_configured(&self) -> Configured<'_> {
        let ConfiguredSource { provider, source, secrets, .. } = &self.configured;
        Configured { provider, source, secrets, texts: &self.texts }
    }
}

impl Explain {
    pub(super) fn run(self, config: &Config, folder: &Path) -> End {
        let own = Known::read(config, &self.source, folder)?;
        let mut capture = self.capture.read()?;
        let body = capture.body.take().ok_or("there is no body: give --body FILE, or a --request that has one")?;
        let mut others = Vec::new();
        for name in config.sources.keys().filter(|name| **name != self.source) {
            match Known::read(config, name, folder) {
                Ok(known) => others.push(known),
                Err(why) => capture.notes.push(format!("the source {name} was not tried: {why}")),
            }
        }
        let others: Vec<_> = others.iter().map(Known::as_configured).collect();
        let before = before_the_signature(&own.configured, &mut capture, &body, config.ingest.body_bytes_max);
        let now_ms = self.at.map_or_else(now_ms, |unix| unix.saturating_mul(1000));
        let delivery = Delivery { headers: &capture.headers, body: &body };
        let urls = urls(&capture, &self.source);
        let received = Received { delivery, urls: &urls, now_unix: now_ms.div_euclid(1000) };
        let verdict = explain(&own.as_configured(), &others, &received);
        let items = match verdict {
            Verdict::Verified(_) => items::read(&own.configured, &delivery, now_ms),
            Verdict::Refused(..) => Vec::new(),
        };
        let report =
            Report { source: &self.source, own: &own.configured, before, verdict, notes: capture.notes, items };
        if self.json {
            println!("{:#}", report.to_json())
        } else {
            report.print()
        }
        Ok(ExitCode::from(u8::from(report.outcome() != Outcome::Accepted)))
    }
}

/// Why the gateway refuses a request before it looks at the signature.
fn before_the_signature(
    own: &ConfiguredSource,
    capture: &mut Capture,
    body: &[u8],
    bytes_max: usize,
) -> Option<(Outcome, String)> {
    let media = own.provider.media.join(" or ");
    if capture.headers.get(CONTENT_TYPE).is_none() && !capture.is_whole {
        capture.notes.push(format!("no Content-Type was captured; without {media} the gateway answers 415"));
    } else if check_media(&capture.headers, own.provider.media).is_err() {
        return Some((
            Outcome::UnsupportedMedia,
            format!("Its Content-Type is not {media}, or it has a Content-Encoding."),
        ));
    }
    if body.len() > bytes_max {
        let says = format!("The body has {} bytes; ingest.body_bytes_max is {bytes_max}.", body.len());
        return Some((Outcome::TooLarge, says));
    }
    body.is_empty().then(|| (Outcome::Malformed, "The body is empty.".to_owned()))
}

/// The addresses under which the sender may know the gateway.
fn urls(capture: &Capture, source: &str) -> Vec<String> {
    let path = capture.path.clone().unwrap_or_else(|| format!("/webhooks/{source}"));
    let hosts = ["x-forwarded-host", HOST.as_str(), "x-original-host"];
    let hosts = hosts.iter().filter_map(|name| capture.headers.get(*name)?.to_str().ok());
    hosts.flat_map(|host| ["https", "http"].map(|scheme| format!("{scheme}://{host}{path}"))).collect()
}

struct Report<'a> {
    source: &'a str,
    own: &'a ConfiguredSource,
    before: Option<(Outcome, String)>,
    verdict: Verdict,
    notes: Vec<String>,
    items: Vec<Value>,
}

impl Report<'_> {
    /// How the gateway ends such a request, if RabbitMQ takes it.
    fn outcome(&self) -> Outcome {
        match (&self.before, &self.verdict) {
            (Some((outcome, _)), _) => *outcome,
            (None, Verdict::Refused(refusal, _)) => Outcome::of_refusal(*refusal),
            (None, Verdict::Verified(_)) => Outcome::Accepted,
        }
    }

    fn refusal(&self) -> Option<(Refusal, &[Finding])> {
        match &self.verdict {
            Verdict::Refused(refusal, findings) => Some((*refusal, findings)),
            Verdict::Verified(_) => None,
        }
    }

    fn to_json(&self) -> Value {
        let before = self.before.iter().map(|(outcome, says)| json!({ "code": outcome.as_str(), "says": says }));
        let findings =
            self.refusal().into_iter().flat_map(|(_, findings)| findings).map(
                |finding| json!({ "code": finding.code(), "says": finding.to_string(), "advice": finding.advice() }),
            );
        json!({
            "source": self.source,
            "provider": self.own.provider.name,
            "verdict": if self.outcome() == Outcome::Accepted { "verified" } else { "refused" },
            "status": self.outcome().status().as_u16(),
            "signature": self.refusal().map_or("accepted", |(refusal, _)| refusal.as_str()),
            "secret": match self.verdict { Verdict::Verified(index) => index, Verdict::Refused(..) => None },
            "findings": before.chain(findings).collect::<Vec<_>>(),
            "items": self.items,
            "notes": self.notes,
        })
    }

    fn print(&self) {
        let (outcome, provider) = (self.outcome(), self.own.provider.name);
        let status = outcome.status().as_u16();
        match &self.verdict {
            Verdict::Refused(refusal, _) => {
                println!(
                    "refused: {refusal}. The gateway answers {status} at the source {} ({provider}).",
                    self.source
                );
            }
            Verdict::Verified(index) => {
                let by = index.map_or_else(|| "several secrets".to_owned(), |index| format!("secrets[{index}]"));
                println!("the signature is accepted: by {by} of the source {} ({provider}).", self.source);
            }
        }
        if let Some((_, says)) = &self.before {
            println!("\n  {}\n  The gateway answers {status} before it looks at the signature.", printable(says));
        }
        for finding in self.refusal().into_iter().flat_map(|(_, findings)| findings) {
            println!("\n  {}\n  {}", printable(&finding.to_string()), finding.advice());
        }
        self.items.iter().for_each(|item| println!("  {}", printable(&items::line(item))));
        self.notes.iter().for_each(|note| println!("\n  note: {}", printable(note)));
    }
}
