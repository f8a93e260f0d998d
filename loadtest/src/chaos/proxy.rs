//! A TCP proxy whose link can be made faulty while connections run through it.

mod carry;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How soon a port that cannot be listened on is tried again.
const LISTEN_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// The side that bytes travel to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Towards {
    /// Who was connected to: requests.
    Server,
    /// Who connected: answers.
    Client,
}

/// What the link does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Passes them on.
    Whole,
    /// Nobody listens, and there are no connections.
    Refused,
    /// Connections stay and nothing is passed on; what was sent meanwhile arrives afterwards.
    Stalled,
    /// Each piece waits this long, and its length at 64 KiB a second.
    Slow(Duration),
    /// Bytes to one side vanish, as if that side had gone without a word. Afterwards it knows nothing of these
    /// connections and resets them, but only when it is sent something: who waits in silence learns nothing.
    HalfOpen(Towards),
    /// Half of the next piece arrives, then the connection is reset.
    Resetting,
}

#[derive(Debug, Clone, Copy)]
struct State {
    link: Link,
    /// How often all connections were closed at once.
    cuts: u64,
}

/// A proxy on loopback; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a port and passes on to `server`.
    ///
    /// # Errors
    /// When the port cannot be listened on.
    pub async fn start(port: u16, server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let address = listener.local_addr()?;
        let (state, receiver) = watch::channel(State { link: Link::Whole, cuts: 0 });
        let task = tokio::spawn(serve(listener, address, server, receiver));
        Ok(Self { address, state, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the link is like this, for old and new connections.
    pub fn set(&self, link: Link) {
        self.state.send_modify(|state| state.link = link);
    }

    /// Closes all connections; new ones are welcome.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, address: SocketAddr, server: SocketAddr, mut state: watch::Receiver<State>) {
    let mut listening = Some(listener);
    // The channel closes when the proxy is dropped, and so do all connections.
    loop {
        if state.borrow_and_update().link == Link::Refused {
            listening = None;
            if state.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(listener) = &listening else {
            match TcpListener::bind(address).await {
                Ok(listener) => listening = Some(listener),
                Err(_) => tokio::time::sleep(LISTEN_AGAIN_AFTER).await,
            }
            continue;
        };
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => drop(tokio::spawn(carry::carry(client, server, state.clone()))),
                // Out of files, or a client that is gone already.
                Err(_) => tokio::time::sleep(LISTEN_AGAIN_AFTER).await,
            },
        }
    }
}
