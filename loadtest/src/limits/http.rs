//! Raw cost of HTTP: the same generator against a server that only reads and answers.

use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use platform::config::Config;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{LimitsError, Step};
use crate::client::{Counters, Load, Recorder, drive};
use crate::cpu::{Meter, Place};
use crate::facts::Run;
use crate::identity::RunName;
use crate::options::Mix;
use crate::payload::Kits;
use crate::schedule::{Schedule, Shape};

/// Serves until the process ends: prints its port, reads every request to its end and answers 200.
///
/// # Errors
/// When no port can be had.
pub async fn serve_plain() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // A body that breaks off ends its connection by itself.
    let _body = request.into_body().collect().await;
    Ok(Response::new(Full::new(Bytes::from_static(b"{\"received\":true}"))))
}

pub async fn measure(
    config: &Config,
    folder: &Path,
    program: &Path,
    rate: u32,
    seconds: u32,
) -> Result<Step, LimitsError> {
    let mut server = tokio::process::Command::new(program)
        .args(["plain-http", "--workers", &config.ingest.workers.to_string()])
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pid = server.id().ok_or_else(|| std::io::Error::other("the plain server ended at once"))?;
    let output = server.stdout.take().ok_or_else(|| std::io::Error::other("the plain server has no output"))?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).await?;
    let port: u16 = line.trim().parse().map_err(std::io::Error::other)?;

    let now_unix = platform::clock::now_ms() / 1000;
    let kits = Kits::prepare(&config.sources, folder, &format!("127.0.0.1:{port}"), now_unix);
    let kits = kits.map_err(|error| LimitsError::Config(error.to_string()))?;
    let mix = Mix::default().of(|provider| kits.get(provider).is_some());
    let schedule = Schedule::of(Shape { rate, warm_up_seconds: 0, seconds, mix, seed: 1 });
    let requests = u64::from(schedule.slot_count());
    let run = Run::new(RunName::new(1, platform::clock::now_us()), 1, schedule);
    run.start(now_unix);
    let (late_orders, _nobody) = mpsc::unbounded_channel();
    let recorder = Recorder::new().map_err(std::io::Error::other)?;
    let meter = Meter::of(&[("generator", Place::Own), ("server", Place::Process(pid))]);
    drive(Load {
        run: Arc::new(run),
        kits: Arc::new(kits),
        address: ([127, 0, 0, 1], port).into(),
        connections: 64,
        threads: 1,
        give_up: Duration::from_secs(5),
        resend_after: Duration::ZERO,
        counters: Arc::new(Counters::default()),
        recorders: vec![Arc::new(Mutex::new(recorder))],
        late_orders,
        stop: CancellationToken::new(),
        finish: CancellationToken::new(),
    })
    .await?;
    let step = Step::of("webhook sent, read and answered", 1, requests, meter);
    server.kill().await?;
    Ok(step)
}
