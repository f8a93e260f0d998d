//! Recorded requests, changed as an attacker or a broken sender would: bytes, and whole values and members of a body.

use proptest::prelude::*;
use proptest::sample::Index;

use super::checks::Request;
use super::configured::CONFIGURED;
use super::xml::payload;

/// One change of a body.
#[derive(Debug, Clone)]
pub enum Change {
    Byte(Index, u8),
    Cut(Index),
    /// A value, of those that the body has, is replaced.
    Value(Index, String),
    /// A value is put into so many arrays or objects.
    Nest(Index, usize, bool),
    /// A value or a member stands there so many times, with commas.
    Repeat(Index, usize),
    /// One part of the body is put behind another.
    Splice(Index, Index, Index),
}

/// Numbers and texts at the limits of what is read.
const EXTREMES: [&str; 34] = [
    "null",
    "true",
    "[]",
    "{}",
    "0",
    "-0",
    "-1",
    "1.5",
    "1e400",
    "-9223372036854775808",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551615",
    "18446744073709551616",
    "10000000000000001",
    "253402300800",
    "\"\"",
    "\"-9223372036854775808\"",
    "\"9223372036854775807\"",
    "\"-0.5\"",
    "\"1e400\"",
    "\"99999999999999999999.99\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\ud83d\\ude00\\\"\\\\\\/\\n\"",
    "\"\u{202e}\u{feff}\u{1f600}e\u{301}\"",
    "\"\u{0}\u{7f}\u{85}\"",
    "\"a:b:c|d&e=f\"",
    "\"-262143-01-01T00:00:00Z\"",
    "\"9999-12-31T23:59:60.999999999Z\"",
    "\"2026-11-24T09:00:00+25:59\"",
    "&#x110000;&lt;&unknown;",
    "<![CDATA[x]]><!--x--><?x?><x/>",
];

fn change() -> impl Strategy<Value = Change> {
    let index = any::<Index>;
    let extreme = prop::sample::select(EXTREMES.to_vec()).prop_map(str::to_owned);
    let text = prop_oneof![
        3 => extreme,
        1 => any::<i64>().prop_map(|number| number.to_string()),
        1 => "\\PC{0,40}".prop_map(|text| format!("\"{text}\"")),
        1 => (1..400_usize, "[a-z\u{e4}\\\\\"]").prop_map(|(times, text)| format!("\"{}\"", text.repeat(times))),
    ];
    prop_oneof![
        4 => (index(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        1 => index().prop_map(Change::Cut),
        6 => (index(), text).prop_map(|(at, text)| Change::Value(at, text)),
        1 => (index(), 1..300_usize, any::<bool>()).prop_map(|(at, depth, array)| Change::Nest(at, depth, array)),
        2 => (index(), 2..200_usize).prop_map(|(at, times)| Change::Repeat(at, times)),
        1 => (index(), index(), index()).prop_map(|(from, to, at)| Change::Splice(from, to, at)),
    ]
}

/// A recorded request to any source, changed; of a form the XML inside, which is signed again.
pub fn requests() -> impl Strategy<Value = Request<'static>> {
    let changes = prop::collection::vec(change(), 0..5);
    (any::<Index>(), any::<Index>(), changes, any::<bool>()).prop_map(|(which, recorded, changes, inside)| {
        let which = which.index(CONFIGURED.len());
        let recorded = recorded.get(&CONFIGURED[which].recorded);
        let body = Some(&recorded.body).filter(|_| inside).and_then(|body| payload(body));
        let mut body = body.unwrap_or_else(|| recorded.body.clone());
        changes.iter().for_each(|change| apply(&mut body, change));
        let which = u8::try_from(which).unwrap();
        Request { which, now_unix: recorded.now_unix, headers: recorded.headers.clone(), body: body.into() }
    })
}

pub fn apply(body: &mut Vec<u8>, change: &Change) {
    if body.is_empty() {
        return;
    }
    match change {
        Change::Byte(at, byte) => {
            let at = at.index(body.len());
            body[at] = *byte;
        }
        Change::Cut(at) => body.truncate(at.index(body.len())),
        Change::Value(at, text) => replace(body, at, |_| text.clone().into_bytes()),
        Change::Nest(at, depth, array) => replace(body, at, |value| {
            let (open, close) = if *array { ("[", "]") } else { ("{\"id\":", "}") };
            [open.repeat(*depth).as_bytes(), value, close.repeat(*depth).as_bytes()].concat()
        }),
        Change::Repeat(at, times) => replace(body, at, |value| vec![value; *times].join(&b',')),
        Change::Splice(from, to, at) => {
            let (from, to) = (from.index(body.len()), to.index(body.len()));
            let part = body[from.min(to)..from.max(to)].to_vec();
            let at = at.index(body.len());
            body.splice(at..at, part);
        }
    }
}

fn replace(body: &mut Vec<u8>, at: &Index, by: impl FnOnce(&[u8]) -> Vec<u8>) {
    let spans = spans(body);
    if spans.is_empty() {
        return;
    }
    let (from, to) = *at.get(&spans);
    let new = by(&body[from..to]);
    body.splice(from..to, new);
}

/// Where the values and members of a JSON text are, and the texts of XML.
fn spans(body: &[u8]) -> Vec<(usize, usize)> {
    let (mut spans, mut open, mut key) = (Vec::new(), Vec::new(), None);
    let mut at = 0;
    while at < body.len() {
        let from = at;
        at += 1;
        match body[from] {
            b'{' | b'[' => {
                open.push((from, key.take()));
                continue;
            }
            b'}' | b']' => {
                let Some((start, before)) = open.pop() else { continue };
                spans.push((start, at));
                spans.extend(before.map(|key| (key, at)));
                continue;
            }
            b'>' => {
                at += body[at..].iter().take_while(|byte| **byte != b'<').count();
                spans.push((from + 1, at));
                continue;
            }
            b'"' => {
                while at < body.len() && body[at] != b'"' {
                    at += if body[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(body.len());
            }
            b'-' | b'0'..=b'9' | b'a'..=b'z' => {
                at +=
                    body[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
            }
            _ => continue,
        }
        if body.get(at) == Some(&b':') {
            key = Some(from);
        } else {
            spans.push((from, at));
            spans.extend(key.take().map(|key| (key, at)));
        }
    }
    spans
}
