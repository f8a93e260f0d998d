//! What a client sees of each fault, with a server that sends back what it gets.
#![allow(clippy::unwrap_used)]

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Link, Proxy, Towards};

/// Longer than anything that is to happen takes.
const SOON: Duration = Duration::from_secs(5);
/// How long nothing must happen.
const QUIET: Duration = Duration::from_millis(200);

/// A proxy in front of an echo server, and how many bytes that has received.
async fn echo() -> (Proxy, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = listener.local_addr().unwrap();
    let received = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&received);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(len @ 1..) = stream.read(&mut buffer).await {
                    count.fetch_add(len, Ordering::Relaxed);
                    if stream.write_all(&buffer[..len]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (Proxy::start(0, server).await.unwrap(), received)
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends and expects the same back.
async fn is_echoed(stream: &mut TcpStream, bytes: &[u8]) {
    let mut back = vec![0; bytes.len()];
    let (mut read, mut write) = stream.split();
    let both = async { tokio::try_join!(write.write_all(bytes), read.read_exact(&mut back)) };
    tokio::time::timeout(SOON, both).await.unwrap().unwrap();
    assert_eq!(back, bytes);
}

async fn read(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    let mut buffer = [0; 64];
    tokio::time::timeout(SOON, stream.read(&mut buffer)).await.unwrap().map_err(|error| error.kind())
}

async fn is_silent(stream: &mut TcpStream) {
    let read = tokio::time::timeout(QUIET, stream.read(&mut [0; 64])).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn a_whole_link_passes_everything_on_and_closes_with_either_side() {
    let (proxy, _) = echo().await;
    let mut stream = connect(&proxy).await;
    is_echoed(&mut stream, &[7; 300_000]).await;
    stream.shutdown().await.unwrap();
    assert_eq!(read(&mut stream).await, Ok(0));
}

#[tokio::test]
async fn a_cut_closes_what_is_open_and_lets_new_connections_in() {
    let (proxy, _) = echo().await;
    let mut stream = connect(&proxy).await;
    is_echoed(&mut stream, b"before").await;
    proxy.cut();
    assert!(matches!(read(&mut stream).await, Ok(0) | Err(ErrorKind::ConnectionReset)));
    is_echoed(&mut connect(&proxy).await, b"after").await;
}

#[tokio::test]
async fn a_refused_link_has_no_listener_until_it_is_whole_again() {
    let (proxy, _) = echo().await;
    let mut stream = connect(&proxy).await;
    is_echoed(&mut stream, b"before").await;
    proxy.set(Link::Refused);
    assert!(matches!(read(&mut stream).await, Ok(0) | Err(ErrorKind::ConnectionReset)));
    let refused = async {
        while TcpStream::connect(proxy.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        TcpStream::connect(proxy.address()).await.unwrap_err().kind()
    };
    assert_eq!(tokio::time::timeout(SOON, refused).await.unwrap(), ErrorKind::ConnectionRefused);
    proxy.set(Link::Whole);
    let again = async {
        loop {
            if let Ok(stream) = TcpStream::connect(proxy.address()).await {
                return stream;
            }
            tokio::task::yield_now().await;
        }
    };
    is_echoed(&mut tokio::time::timeout(SOON, again).await.unwrap(), b"after").await;
}

#[tokio::test]
async fn a_stalled_link_keeps_connections_and_loses_nothing() {
    let (proxy, received) = echo().await;
    let mut stream = connect(&proxy).await;
    is_echoed(&mut stream, b"before").await;
    proxy.set(Link::Stalled);
    stream.write_all(b"during").await.unwrap();
    is_silent(&mut stream).await;
    assert_eq!(received.load(Ordering::Relaxed), b"before".len());
    proxy.set(Link::Whole);
    assert_eq!(read(&mut stream).await, Ok(b"during".len()));
    is_echoed(&mut stream, b"after").await;
}

#[tokio::test]
async fn a_slow_link_passes_everything_on_slowly() {
    let (proxy, _) = echo().await;
    proxy.set(Link::Slow(Duration::from_millis(10)));
    let mut stream = connect(&proxy).await;
    let start = Instant::now();
    is_echoed(&mut stream, &[7; 32 * 1024]).await;
    assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_server_that_is_gone_gets_nothing_and_resets_afterwards() {
    let (proxy, received) = echo().await;
    let mut stream = connect(&proxy).await;
    is_echoed(&mut stream, b"before").await;
    proxy.set(Link::HalfOpen(Towards::Server));
    stream.write_all(b"lost").await.unwrap();
    is_silent(&mut stream).await;
    proxy.set(Link::Whole);
    // Who only waits learns nothing.
    is_silent(&mut stream).await;
    assert_eq!(received.load(Ordering::Relaxed), b"before".len());
    stream.write_all(b"more").await.unwrap();
    assert_eq!(read(&mut stream).await, Err(ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn a_client_that_is_gone_is_served_and_never_told() {
    let (proxy, received) = echo().await;
    let mut stream = connect(&proxy).await;
    is_echoed(&mut stream, b"before").await;
    proxy.set(Link::HalfOpen(Towards::Client));
    stream.write_all(b"heard").await.unwrap();
    is_silent(&mut stream).await;
    assert_eq!(received.load(Ordering::Relaxed), b"beforeheard".len());
    proxy.set(Link::Whole);
    is_silent(&mut stream).await;
    stream.write_all(b"more").await.unwrap();
    assert_eq!(read(&mut stream).await, Err(ErrorKind::ConnectionReset));
    // A connection on which nothing was lost is as good as new.
    is_echoed(&mut connect(&proxy).await, b"after").await;
}

#[tokio::test]
async fn a_resetting_link_tears_a_piece_in_two() {
    let (proxy, received) = echo().await;
    let mut stream = connect(&proxy).await;
    is_echoed(&mut stream, b"before").await;
    proxy.set(Link::Resetting);
    stream.write_all(&[7; 1000]).await.unwrap();
    let ended = loop {
        match read(&mut stream).await {
            Ok(1..) => {}
            ended => break ended,
        }
    };
    assert_eq!(ended, Err(ErrorKind::ConnectionReset));
    assert_eq!(received.load(Ordering::Relaxed), b"before".len() + 500);
    proxy.set(Link::Whole);
    is_echoed(&mut connect(&proxy).await, b"after").await;
}
