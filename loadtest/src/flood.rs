//! A flood of forged webhooks beside the load: well-formed, of one source, from many addresses, each with a wrong signature.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::client::{ANSWER_TIMEOUT, Connection, Outcome};
use crate::facts::Run;
use crate::options::Options;
use crate::payload::{Kits, Request};

/// Enough that none waits for another at any rate that one thread can send.
const CONNECTIONS: u32 = 64;
/// How often connections look whether they are due.
const TICK: Duration = Duration::from_millis(1);

/// What became of a flood.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Flood {
    /// What was asked for, a second.
    pub asked_per_second: u32,
    /// What was sent and answered, a second.
    pub per_second: f64,
    /// Requests sent.
    pub sent: u64,
    /// Those that broke or were not answered in time.
    pub broken: u64,
    /// Answers by status.
    pub by_status: BTreeMap<u16, u64>,
    /// Addresses that they came from.
    pub addresses: u8,
}

impl Flood {
    /// Answers that let a forgery in.
    #[must_use]
    pub fn let_in(&self) -> u64 {
        self.by_status.iter().filter(|(status, _)| (200..300).contains(*status)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked_per_second, per_second, addresses, .. } = self;
        write!(f, "flood      {per_second:.0} of {asked_per_second} forgeries/s from {addresses} addresses  ")?;
        self.by_status.iter().try_for_each(|(status, count)| write!(f, "{status}: {count}  "))?;
        writeln!(f, "broken: {}", self.broken)
    }
}

/// A flood on its way.
pub struct Flooding {
    stop: CancellationToken,
    end: oneshot::Receiver<Flood>,
}

impl Flooding {
    /// Starts one on a thread of its own, if one is asked for.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(
        options: &Options,
        run: &Arc<Run>,
        kits: &Arc<Kits>,
        address: SocketAddr,
    ) -> std::io::Result<Option<Self>> {
        if options.flood == 0 {
            return Ok(None);
        }
        let (sender, end) = oneshot::channel();
        let stop = CancellationToken::new();
        let flood = Flood { asked_per_second: options.flood, addresses: options.flood_addresses, ..Flood::default() };
        let (run, kits, stopped) = (Arc::clone(run), Arc::clone(kits), stop.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("flood".into()).spawn(move || {
            let local = tokio::task::LocalSet::new();
            let _receiver_gone = sender.send(local.block_on(&runtime, send(flood, run, kits, address, stopped)));
        })?;
        Ok(Some(Self { stop, end }))
    }

    /// Ends it; what became of it.
    pub async fn end(self) -> Flood {
        self.stop.cancel();
        self.end.await.unwrap_or_default()
    }
}

/// A connection's share of the flood.
struct Share {
    run: Arc<Run>,
    kits: Arc<Kits>,
    started: Instant,
    per_second: f64,
    /// Requests that connections have taken on.
    taken: Cell<u64>,
    stop: CancellationToken,
}

async fn send(mut flood: Flood, run: Arc<Run>, kits: Arc<Kits>, address: SocketAddr, stop: CancellationToken) -> Flood {
    let (started, per_second) = (Instant::now(), f64::from(flood.asked_per_second));
    let share = Rc::new(Share { run, kits, started, per_second, taken: Cell::new(0), stop });
    let from = |connection: u32| {
        // 127.0.0.1 is the load's own.
        let host = 2 + u8::try_from(connection % u32::from(flood.addresses)).unwrap_or(0);
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, host))
    };
    let connections = (0..CONNECTIONS).map(|n| Connection::from(from(n), address, ANSWER_TIMEOUT));
    let tasks: Vec<_> =
        connections.map(|connection| tokio::task::spawn_local(serve(share.clone(), connection))).collect();
    for task in tasks {
        let Ok(outcomes) = task.await else { continue };
        for (outcome, count) in outcomes {
            flood.sent += count;
            match outcome {
                Some(status) => *flood.by_status.entry(status).or_default() += count,
                None => flood.broken += count,
            }
        }
    }
    let sent = f64::from(u32::try_from(flood.sent).unwrap_or(u32::MAX));
    flood.per_second = sent / started.elapsed().as_secs_f64().max(0.001);
    flood
}

/// Sends what is due until the end; answers by status, `None` for no answer.
async fn serve(share: Rc<Share>, mut connection: Connection) -> BTreeMap<Option<u16>, u64> {
    let mut outcomes = BTreeMap::new();
    let (mut request, mut signed_at) = (Request::default(), 0);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !share.stop.is_cancelled() {
        let due = share.started.elapsed().as_secs_f64() * share.per_second;
        let taken = share.taken.get();
        if f64::from(u32::try_from(taken).unwrap_or(u32::MAX)) >= due {
            ticks.tick().await;
            continue;
        }
        share.taken.set(taken + 1);
        let now_unix = platform::clock::now_ms() / 1000;
        // A signed time that is too old would cost the gateway less.
        if now_unix != signed_at {
            request.forge(&share.kits, &share.run, 0, now_unix);
            signed_at = now_unix;
        }
        let outcome = match connection.exchange(request.bytes()).await {
            Outcome::Answered { status, .. } => Some(status),
            Outcome::Broken | Outcome::TimedOut => None,
        };
        *outcomes.entry(outcome).or_default() += 1;
    }
    outcomes
}
