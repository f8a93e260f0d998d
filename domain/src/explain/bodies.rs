//! What becomes of a body on its way: the changes that proxies, frameworks and editors make, undone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Bodies beyond this size are not written anew in all ways.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bodies that a sender may have signed where this one was received, each with what sets it apart, in words; all different.
pub fn variations(body: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all = Variations { body, found: Vec::new() };
    if body.len() <= BYTES_MAX {
        all.line_ends();
        all.encodings();
        all.wrappings();
        all.json();
    }
    all.found
}

struct Variations<'a> {
    body: &'a [u8],
    found: Vec<(String, Vec<u8>)>,
}

impl Variations<'_> {
    fn put(&mut self, what: &str, body: impl Into<Vec<u8>>) {
        let body = body.into();
        if body != self.body && !self.found.iter().any(|(_, known)| *known == body) {
            self.found.push((what.to_owned(), body));
        }
    }

    fn line_ends(&mut self) {
        let body = self.body;
        self.put("without the line end behind it", body.strip_suffix(b"\n").unwrap_or(body));
        self.put("without the line end behind it", body.strip_suffix(b"\r\n").unwrap_or(body));
        self.put("with a line end behind it", [body, b"\n"].concat());
        self.put("with a line end (CRLF) behind it", [body, b"\r\n"].concat());
        self.put("without white space around it", body.trim_ascii());
        let unix = replaced(body, b"\r\n", b"\n");
        self.put("with LF where it has CRLF", unix.clone());
        self.put("with LF where it has CRLF, and without the last one", unix.strip_suffix(b"\n").unwrap_or(&unix));
        self.put("with CRLF where it has LF", replaced(&unix, b"\n", b"\r\n"));
    }

    fn encodings(&mut self) {
        const MARK: &[u8] = b"\xef\xbb\xbf";
        let body = self.body;
        self.put("without the byte order mark before it", body.strip_prefix(MARK).unwrap_or(body));
        self.put("with a byte order mark before it", [MARK, body].concat());
        if let Ok(text) = std::str::from_utf8(body) {
            let latin: Option<Vec<u8>> = text.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect();
            if let Some(latin) = latin {
                self.put("in Latin-1 where it is in UTF-8, or with UTF-8 that was taken for Latin-1", latin);
            }
        }
        let text: String = body.iter().map(|byte| char::from(*byte)).collect();
        self.put("in UTF-8 where it is in Latin-1", text.into_bytes());
    }

    /// Bodies in something that stores or forwards requests.
    fn wrappings(&mut self) {
        if let Ok(decoded) = STANDARD.decode(self.body.trim_ascii()) {
            self.put("decoded from base64", decoded);
        }
        match serde_json::from_slice(self.body) {
            Ok(Value::String(text)) => self.put("taken out of the JSON text that it is in", text),
            Ok(Value::Object(object)) => {
                if let Some(Value::String(text)) = object.get("body") {
                    if let Ok(decoded) = STANDARD.decode(text) {
                        self.put("taken out of the object's `body` and decoded from base64", decoded);
                    }
                    self.put("taken out of the object's `body`", text.as_str());
                }
            }
            _ => {}
        }
    }

    /// Parsed and written again by a framework: the order of keys is kept, white space and escapes are not.
    fn json(&mut self) {
        if serde_json::from_slice::<serde::de::IgnoredAny>(self.body).is_err() {
            return;
        }
        let layouts: [(&str, Option<Layout>); 5] = [
            ("as it stands", None),
            ("as JSON without white space", Some(Layout::Compact)),
            ("as JSON with spaces behind , and : (Python's json.dumps)", Some(Layout::Spaced)),
            ("as JSON indented by 2", Some(Layout::Indented(2))),
            ("as JSON indented by 4", Some(Layout::Indented(4))),
        ];
        let escapes: [(&str, Escape); 5] = [
            ("", str::to_owned),
            (", letters escaped (\\u00e4)", ascii),
            (", letters not escaped", plain),
            (", slashes escaped (PHP)", |text| plain(text).replace('/', "\\/")),
            (", letters and slashes escaped (PHP)", |text| ascii(&plain(text)).replace('/', "\\/")),
        ];
        let Ok(text) = std::str::from_utf8(self.body) else { return };
        for (layout_name, layout) in layouts {
            for (escapes_name, escape) in escapes {
                let written = write(text, layout, escape);
                self.put(&format!("{layout_name}{escapes_name}"), written);
            }
        }
    }
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        match rest.strip_prefix(from) {
            Some(behind) => {
                out.extend_from_slice(to);
                rest = behind;
            }
            None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    out
}

/// White space of JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Compact,
    Spaced,
    Indented(usize),
}

/// Writes a JSON text, quotes included, in another way.
type Escape = fn(&str) -> String;

/// Writes valid JSON with other white space (`None`: its own) and other texts; nothing else changes.
fn write(json: &str, layout: Option<Layout>, escape: Escape) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth: usize = 0;
    let mut rest = json;
    let break_line = |out: &mut String, depth: usize| {
        if let Some(Layout::Indented(width)) = layout {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
    };
    while let Some(first) = rest.chars().next() {
        let length = if first == '"' { text_length(rest) } else { first.len_utf8() };
        let (token, behind) = rest.split_at(length);
        rest = behind;
        match (first, layout) {
            ('"', _) => out.push_str(&escape(token)),
            (_, None) => out.push(first),
            (' ' | '\n' | '\r' | '\t', _) => {}
            ('{' | '[', _) => {
                out.push(first);
                depth += 1;
                if !rest.trim_ascii_start().starts_with(['}', ']']) {
                    break_line(&mut out, depth);
                }
            }
            ('}' | ']', _) => {
                depth = depth.saturating_sub(1);
                if !out.ends_with(['{', '[']) {
                    break_line(&mut out, depth);
                }
                out.push(first);
            }
            (',', Some(Layout::Spaced)) => out.push_str(", "),
            (',', _) => {
                out.push(first);
                break_line(&mut out, depth);
            }
            (':', Some(Layout::Compact)) => out.push(first),
            (':', _) => out.push_str(": "),
            _ => out.push(first),
        }
    }
    out
}

/// The length of the text that JSON begins with, quotes included.
fn text_length(json: &str) -> usize {
    let mut escaped = false;
    let end = json.bytes().enumerate().skip(1).find(|(_, byte)| {
        let is_end = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        is_end
    });
    end.map_or(json.len(), |(at, _)| at + 1)
}

/// A JSON text with all that is not ASCII escaped.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_ascii() {
            true => out.push(char),
            false => char.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    out
}

/// A JSON text with as few escapes as can be.
fn plain(text: &str) -> String {
    let read: Result<String, _> = serde_json::from_str(text);
    read.and_then(|text| serde_json::to_string(&text)).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(body: &[u8], wanted: &[u8]) -> bool {
        variations(body).iter().any(|(_, varied)| varied == wanted)
    }

    #[test]
    fn what_is_done_to_bodies_is_undone() {
        let signed = "{\"a\": [1, {\"b\": \"\u{e4}/x\\\"\"}], \"c\": {}, \"d\": []}".as_bytes();
        let compact = "{\"a\":[1,{\"b\":\"\u{e4}/x\\\"\"}],\"c\":{},\"d\":[]}".as_bytes();
        let indented =
            "{\n  \"a\": [\n    1,\n    {\n      \"b\": \"\u{e4}/x\\\"\"\n    }\n  ],\n  \"c\": {},\n  \"d\": []\n}"
                .as_bytes();
        let php = "{\"a\":[1,{\"b\":\"\\u00e4\\/x\\\"\"}],\"c\":{},\"d\":[]}".as_bytes();
        let forms = [signed, compact, indented, php];
        for (from, to) in forms.iter().flat_map(|from| forms.iter().map(move |to| (from, to))) {
            assert!(from == to || has(from, to), "{}", String::from_utf8_lossy(to));
        }
        for (from, to) in [
            (&b"x\n"[..], &b"x"[..]),
            (b"x\r\n", b"x"),
            (b"x", b"x\n"),
            (b"a\r\nb", b"a\nb"),
            (b"a\nb", b"a\r\nb"),
            (b"\xef\xbb\xbfx", b"x"),
            ("\u{e4}".as_bytes(), b"\xe4"),
            (b"\xe4", "\u{e4}".as_bytes()),
            (b"eHk=", b"xy"),
            (b"\"{\\\"a\\\":1}\"", b"{\"a\":1}"),
            (b"{\"body\":\"{}\",\"isBase64Encoded\":false}", b"{}"),
            (b"{\"body\":\"e30=\",\"isBase64Encoded\":true}", b"{}"),
        ] {
            assert!(has(from, to), "{}", String::from_utf8_lossy(from));
        }
    }

    #[test]
    fn no_variation_is_the_body_itself_or_another() {
        for body in [&b""[..], b"{}", b"\xff", b"{\"a\":1}\n", b"\"", b"{\"a\":\"\\"] {
            let varied = variations(body);
            for (at, (what, one)) in varied.iter().enumerate() {
                assert!(one != body && varied[..at].iter().all(|(_, other)| other != one), "{what}");
            }
        }
    }
}
