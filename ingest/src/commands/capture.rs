//! A request that somebody captured: a dump of the whole, or its headers and its body apart.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use hyper::HeaderMap;
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};

/// More than any gateway takes.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Far more than a gateway or a proxy before it takes.
const HEADERS_MAX: usize = 1000;

/// Where a captured request is.
#[derive(Debug, Args)]
pub struct CaptureArgs {
    /// The whole request: request line, headers and body, as tcpdump -A, ngrok or a proxy shows it; - is standard input
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// The raw body, byte for byte; instead of the one in --request
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
    /// Headers, one `Name: value` a line, or what curl -v prints
    #[arg(long, value_name = "FILE", conflicts_with = "request")]
    headers: Option<PathBuf>,
    /// One more header; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
}

/// A captured request, as far as it was captured.
#[derive(Debug, Default)]
pub struct Capture {
    /// The path of its request line.
    pub path: Option<String>,
    /// All headers that were captured.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Option<Vec<u8>>,
    /// Whether the headers are all that there were.
    pub is_whole: bool,
    /// What looks wrong with the capture itself.
    pub notes: Vec<String>,
}

impl CaptureArgs {
    /// Reads the files.
    ///
    /// # Errors
    /// What cannot be read, and where.
    pub fn read(&self) -> Result<Capture, String> {
        let mut capture = match (&self.request, &self.headers) {
            (Some(file), _) => Capture { is_whole: true, ..parse(&read(file)?).map_err(in_file(file))? },
            (None, Some(file)) => Capture { body: None, ..parse(&read(file)?).map_err(in_file(file))? },
            (None, None) => Capture::default(),
        };
        for line in &self.header {
            let (name, value) = header(line.as_bytes()).ok_or("--header is written 'Name: value'")?;
            capture.add(name, value)?;
        }
        if let Some(file) = &self.body {
            capture.body = Some(read(file)?);
            if self.request.is_some() {
                capture.notes.clear();
            }
            capture.check_length();
        }
        Ok(capture)
    }
}

fn in_file(file: &Path) -> impl Fn(String) -> String {
    move |why| format!("{}: {why}", file.display())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let read = match file.to_str() {
        Some("-") => std::io::stdin().take(BYTES_MAX + 1).read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|open| open.take(BYTES_MAX + 1).read_to_end(&mut bytes)),
    };
    read.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    match bytes.len() as u64 > BYTES_MAX {
        true => Err(format!("{} is larger than {BYTES_MAX} bytes", file.display())),
        false => Ok(bytes),
    }
}

/// Reads a dump: what stands before the request line is left out, and so is what follows the body.
fn parse(dump: &[u8]) -> Result<Capture, String> {
    let of_curl = of_curl(dump);
    let dump = of_curl.as_deref().unwrap_or(dump);
    let (start, path) = request_line(dump);
    let mut capture = Capture { path, ..Capture::default() };
    let mut rest = &dump[start..];
    let mut number = dump[..start].iter().filter(|byte| **byte == b'\n').count();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (line, behind) = rest.split_at(end);
        (rest, number) = (behind, number + 1);
        let line = line.trim_ascii_end();
        if line.is_empty() {
            capture.take_body(rest);
            break;
        }
        // Names that begin with a colon stand for HTTP/2's request line.
        if line.starts_with(b":") {
            continue;
        }
        let (name, value) =
            header(line).ok_or_else(|| format!("line {number} is no header: they are written Name: value"))?;
        capture.add(name, value)?;
    }
    if capture.headers.is_empty() { Err("there are no headers in it".to_owned()) } else { Ok(capture) }
}

/// Of `curl -v`, the lines that it sent.
fn of_curl(dump: &[u8]) -> Option<Vec<u8>> {
    let lines = dump.split(|byte| *byte == b'\n');
    let sent: Vec<&[u8]> = lines.filter_map(|line| line.strip_prefix(b">")).map(<[u8]>::trim_ascii).collect();
    (!sent.is_empty()).then(|| sent.join(&b'\n'))
}

/// Where the headers begin, and the path of the request line before them, if there is one.
fn request_line(dump: &[u8]) -> (usize, Option<String>) {
    let mut start = 0;
    for line in dump.split_inclusive(|byte| *byte == b'\n') {
        start += line.len();
        let text = String::from_utf8_lossy(line.trim_ascii_end());
        let mut words = text.rsplit(' ');
        let (version, path, before) = (words.next(), words.next(), words.next());
        let is_version = version.is_some_and(|version| version.starts_with("HTTP/"));
        // Of a packet, bytes of lower layers may stand before the method.
        if let (true, Some(path), Some(_)) = (is_version, path, before) {
            return (start, Some(path.to_owned()));
        }
    }
    (0, None)
}

fn header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let middle = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = (line[..middle].trim_ascii(), line[middle + 1..].trim_ascii());
    Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?))
}

impl Capture {
    fn add(&mut self, name: HeaderName, value: HeaderValue) -> Result<(), String> {
        self.headers.append(name, value);
        match self.headers.len() > HEADERS_MAX {
            true => Err(format!("there are more than {HEADERS_MAX} headers")),
            false => Ok(()),
        }
    }

    /// What its header says its body's length is.
    fn length(&self) -> Option<usize> {
        self.headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    fn take_body(&mut self, rest: &[u8]) {
        if rest.is_empty() && self.length() != Some(0) {
            return;
        }
        let is_chunked =
            self.headers.get(TRANSFER_ENCODING).is_some_and(|value| value.as_bytes().ends_with(b"chunked"));
        let body = match (is_chunked, self.length()) {
            (true, _) => unchunked(rest).unwrap_or_else(|| rest.to_vec()),
            // What an editor or the next request adds is no part of it.
            (false, Some(length)) if length < rest.len() => {
                let behind = rest.len() - length;
                self.notes
                    .push(format!("{behind} bytes behind the body, whose Content-Length is {length}, are left out"));
                rest[..length].to_vec()
            }
            (false, _) => rest.to_vec(),
        };
        self.body = Some(body);
        self.check_length();
    }

    fn check_length(&mut self) {
        let (Some(length), Some(body)) = (self.length(), &self.body) else { return };
        if length != body.len() {
            let has = body.len();
            self.notes.push(format!(
                "the Content-Length is {length}, but the body has {has} bytes: it is not the one that was sent"
            ));
        }
    }
}

fn unchunked(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        let size = std::str::from_utf8(&rest[..end]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        let chunk = rest.get(end + 1..)?.get(..size)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk);
        let behind = &rest[end + 1 + size..];
        rest = behind.strip_prefix(b"\r\n").or_else(|| behind.strip_prefix(b"\n"))?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn value<'c>(capture: &'c Capture, name: &str) -> &'c str {
        capture.headers[name].to_str().unwrap()
    }

    #[test]
    fn dumps_of_all_kinds_are_read() {
        let request = b"POST /webhooks/s HTTP/1.1\r\nHost: h\r\nX-Sig: a: b\r\nContent-Length: 4\r\n\r\n{\r\n}\n";
        let packet = [&b"12:00:01.2 IP a > b: Flags [P.]\nE..4..@.@..\x01.."[..], request].concat();
        for dump in [&request[..], &packet] {
            let capture = parse(dump).unwrap();
            assert_eq!((capture.path.as_deref(), capture.body.as_deref()), (Some("/webhooks/s"), Some(&b"{\r\n}"[..])));
            assert_eq!(value(&capture, "x-sig"), "a: b");
            assert!(capture.notes[0].contains("1 bytes behind the body"), "{:?}", capture.notes);
        }
        let curl = b"* Connected\n> POST /webhooks/s HTTP/2\n> Host: h\n> X-Sig: a\n> \n< HTTP/2 401\n< date: x\n";
        let capture = parse(curl).unwrap();
        assert_eq!((capture.headers.len(), value(&capture, "x-sig"), capture.body.as_deref()), (2, "a", None));
        let lines = parse(b":path: /x\nX-Sig: a\n\nbody").unwrap();
        assert_eq!((lines.path, lines.body.as_deref()), (None, Some(&b"body"[..])));
        let chunked = b"POST / HTTP/1.1\nTransfer-Encoding: chunked\n\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).unwrap().body.as_deref(), Some(&b"abcde"[..]));
    }

    #[test]
    fn a_request_of_nothing_but_headers_is_refused() {
        let lines: String = (0..40_000).map(|number| format!("x-{number}: a\r\n")).collect();
        let refused = parse(format!("POST / HTTP/1.1\r\n{lines}\r\n{{}}").as_bytes());
        assert_eq!(refused.err().as_deref(), Some("there are more than 1000 headers"));
    }

    #[test]
    fn what_is_cut_short_or_no_header_is_told() {
        let cut = parse(b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\n{}").unwrap();
        assert!(cut.notes[0].contains("the body has 2 bytes"), "{:?}", cut.notes);
        assert!(parse(b"X: a\nwhsec_FAKE\n").unwrap_err().starts_with("line 2 is no header"));
        assert!(parse(b"").is_err());
    }
}
