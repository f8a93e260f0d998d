//! Asking Prometheus for a stretch of time.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

/// Series are asked for at this many moments.
const STEPS: f64 = 120.0;

/// A Prometheus server, and the time that is looked at.
pub struct Prometheus {
    address: String,
    /// Unix seconds.
    pub from: f64,
    /// Unix seconds.
    pub to: f64,
}

/// The values of one series, by their Unix seconds.
#[derive(Debug)]
pub struct Line {
    /// What a panel's legend makes of its labels.
    pub name: String,
    /// Moments without a value are left out.
    pub points: Vec<(f64, f64)>,
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: std::collections::BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

impl Prometheus {
    /// The last `minutes` of the server at `url`, like `http://127.0.0.1:9090`.
    ///
    /// # Errors
    /// When it is not such an address.
    pub fn last(url: &str, minutes: f64) -> io::Result<Self> {
        let rest = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/').to_owned());
        let address = rest.ok_or_else(|| io::Error::other(format!("{url} is not like http://127.0.0.1:9090")))?;
        let to = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Ok(Self { address, from: to - minutes * 60.0, to })
    }

    /// The lines of an expression that has no variables left.
    ///
    /// # Errors
    /// What Prometheus or the connection says.
    pub fn lines(&self, expression: &str, legend: &str) -> io::Result<Vec<Line>> {
        let step = ((self.to - self.from) / STEPS).max(1.0);
        let query = escape(expression);
        let path = format!("/api/v1/query_range?query={query}&start={}&end={}&step={step}", self.from, self.to);
        let answer: Answer = serde_json::from_str(&self.get(&path)?).map_err(io::Error::other)?;
        let Some(data) = answer.data else {
            return Err(io::Error::other(format!("{expression}: {}", answer.error.unwrap_or_default())));
        };
        Ok(data.result.into_iter().map(|series| line(series, legend)).collect())
    }

    /// HTTP/1.0, so that the answer is not in chunks and ends with the connection.
    fn get(&self, path: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((_, body)) => Ok(body.to_owned()),
            None => Err(io::Error::other("that is no HTTP answer")),
        }
    }
}

fn line(series: Series, legend: &str) -> Line {
    let mut name = legend.to_owned();
    for (label, value) in &series.metric {
        name = name.replace(&format!("{{{{{label}}}}}"), value);
    }
    let values = series.values.into_iter().filter_map(|(at, value)| Some((at, value.parse::<f64>().ok()?)));
    Line { name, points: values.filter(|(_, value)| value.is_finite()).collect() }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
