//! One connection through the proxy: two pumps and what ends them.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;

use super::{Link, State, Towards};

/// What one direction holds at most.
const PIECE_BYTES: usize = 16 * 1024;
/// The same of a slow link, and how many pass in a second.
const SLOW_PIECE_BYTES: usize = 8 * 1024;
const SLOW_BYTES_PER_SECOND: f64 = 65536.0;
/// A torn piece is read by the other side before it learns of the reset.
const BEFORE_RESET: Duration = Duration::from_millis(5);

/// How a connection ends when not by both sides' closing it.
enum End {
    Closed,
    Reset,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Reset
    }
}

impl From<watch::error::RecvError> for End {
    fn from(_: watch::error::RecvError) -> Self {
        Self::Closed
    }
}

/// Carries a client's connection until it ends.
pub async fn carry(mut client: TcpStream, server: SocketAddr, state: watch::Receiver<State>) {
    let Ok(mut server) = TcpStream::connect(server).await else {
        reset(&client);
        return;
    };
    let ended = pass_on(&mut client, &mut server, state).await;
    if let Err(End::Reset) = ended {
        reset(&client);
        reset(&server);
    }
}

/// Makes the coming close a reset. A socket that is gone already needs none.
fn reset(stream: &TcpStream) {
    let _gone = stream.set_zero_linger();
}

async fn pass_on(client: &mut TcpStream, server: &mut TcpStream, state: watch::Receiver<State>) -> Result<(), End> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let lost = AtomicBool::new(false);
    let up = Pump { towards: Towards::Server, state: state.clone(), lost: &lost };
    let down = Pump { towards: Towards::Client, state: state.clone(), lost: &lost };
    tokio::select! {
        end = cut(state) => Err(end),
        ended = async { tokio::try_join!(up.run(from_client, to_server), down.run(from_server, to_client)) } => {
            ended.map(|_| ())
        }
    }
}

/// Returns when all connections are closed.
async fn cut(mut state: watch::Receiver<State>) -> End {
    let cuts = state.borrow().cuts;
    let over = state.wait_for(|state| state.cuts != cuts || state.link == Link::Refused).await;
    over.map_or_else(End::from, |_| End::Closed)
}

/// One direction of a connection.
struct Pump<'a> {
    towards: Towards,
    state: watch::Receiver<State>,
    /// Whether bytes of this connection have vanished, in whichever direction.
    lost: &'a AtomicBool,
}

impl Pump<'_> {
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<(), End> {
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            let room = if let Link::Slow(_) = self.moving().await? { SLOW_PIECE_BYTES } else { PIECE_BYTES };
            let len = tokio::select! {
                read = from.read(&mut buffer[..room]) => read?,
                changed = self.state.changed() => { changed?; continue }
            };
            let piece = &buffer[..len];
            match self.moving().await? {
                Link::HalfOpen(gone) if gone == self.towards => {
                    self.lost.store(true, Ordering::Relaxed);
                    if len == 0 {
                        self.state.changed().await?;
                    }
                    continue;
                }
                Link::HalfOpen(_) => {}
                _ if self.lost.load(Ordering::Relaxed) => return Err(End::Reset),
                Link::Resetting if len > 0 => {
                    to.write_all(&piece[..len / 2]).await?;
                    tokio::time::sleep(BEFORE_RESET).await;
                    return Err(End::Reset);
                }
                Link::Slow(latency) => {
                    let bytes = f64::from(u32::try_from(len).unwrap_or(0));
                    tokio::time::sleep(latency + Duration::from_secs_f64(bytes / SLOW_BYTES_PER_SECOND)).await;
                }
                Link::Whole | Link::Resetting | Link::Refused | Link::Stalled => {}
            }
            if len == 0 {
                to.shutdown().await?;
                return Ok(());
            }
            to.write_all(piece).await?;
        }
    }

    /// The link as it is, once it is not stalled.
    async fn moving(&mut self) -> Result<Link, End> {
        Ok(self.state.wait_for(|state| state.link != Link::Stalled).await?.link)
    }
}
