//! `application/x-www-form-urlencoded`, as far as providers send it.

use crate::signature::hex_digit;

/// The decoded value of the first field of that name; `None` if there is none or it is malformed.
pub fn field(form: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut pairs = form.split(|byte| *byte == b'&').filter_map(|pair| {
        let middle = pair.iter().position(|byte| *byte == b'=')?;
        Some((&pair[..middle], &pair[middle + 1..]))
    });
    decoded(pairs.find(|(key, _)| *key == name.as_bytes())?.1)
}

fn decoded(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    // Most bytes stand for themselves and are taken in one piece.
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'+' | b'%')) {
        out.extend_from_slice(&rest[..at]);
        rest = match &rest[at..] {
            [b'%', high, low, after @ ..] => {
                out.push(hex_digit(*high)? << 4 | hex_digit(*low)?);
                after
            }
            [b'+', after @ ..] => {
                out.push(b' ');
                after
            }
            _ => return None,
        };
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// A value as it stands in a form.
pub fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 16);
    for byte in value.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{encoded, field};

    #[test]
    fn what_is_encoded_is_read_again() {
        let value = "a b+c/d=&%\u{e4}~";
        assert_eq!(field(format!("x=1&v={}", encoded(value)).as_bytes(), "v").as_deref(), Some(value.as_bytes()));
    }

    #[test]
    fn fields_are_found_and_decoded() {
        let form = b"a=1&b=x%2By+z%0A&b=2&c&=d";
        assert_eq!(field(form, "b").as_deref(), Some(&b"x+y z\n"[..]));
        assert_eq!(field(form, "a").as_deref(), Some(&b"1"[..]));
        assert_eq!(field(form, "c"), None);
        assert_eq!(field(b"a=%", "a"), None);
        assert_eq!(field(b"a=%2", "a"), None);
        assert_eq!(field(b"a=%+1", "a"), None);
    }
}
