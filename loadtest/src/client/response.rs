//! Reading HTTP/1.1 answers: the status line, the few headers that matter, and a body of a stated length.

/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What an answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub retry_after_seconds: Option<u32>,
    /// Whether the connection can be used again.
    pub keep_alive: bool,
    /// Bytes of head and body.
    pub len: usize,
}

/// An answer that cannot be read; the connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Reads the answer at the start of `bytes`; `None` if it is not there completely.
pub fn parse(bytes: &[u8]) -> Result<Option<Response>, Unreadable> {
    let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(Unreadable) } else { Ok(None) };
    };
    let mut lines = bytes[..head_end].split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    let version = first.strip_prefix(b"HTTP/1.").ok_or(Unreadable)?;
    let status = match version {
        [b'0' | b'1', b' ', status @ ..] => number(status.get(..3).ok_or(Unreadable)?).ok_or(Unreadable)?,
        _ => return Err(Unreadable),
    };
    let mut response = Response {
        status: u16::try_from(status).map_err(|_| Unreadable)?,
        retry_after_seconds: None,
        keep_alive: version[0] == b'1',
        len: 0,
    };
    let mut body = None;
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Unreadable)?;
        let value = line[colon + 1..].trim_ascii();
        match &line[..colon] {
            name if name.eq_ignore_ascii_case(b"content-length") => body = Some(number(value).ok_or(Unreadable)?),
            name if name.eq_ignore_ascii_case(b"retry-after") => response.retry_after_seconds = number(value),
            name if name.eq_ignore_ascii_case(b"connection") => {
                response.keep_alive &= !value.eq_ignore_ascii_case(b"close");
            }
            name if name.eq_ignore_ascii_case(b"transfer-encoding") => return Err(Unreadable),
            _ => {}
        }
    }
    let no_body = response.status == 204;
    let body = if no_body { 0 } else { body.ok_or(Unreadable)? };
    response.len = head_end + 4 + body as usize;
    Ok((bytes.len() >= response.len).then_some(response))
}

fn number(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits.iter().try_fold(0_u32, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
        Retry-After: 2\r\ncontent-length: 3\r\ndate: Tue, 24 Nov 2026 10:00:00 GMT\r\n\r\n{}\n";

    #[test]
    fn an_answer_is_read_when_it_is_complete() {
        let expected = Response { status: 503, retry_after_seconds: Some(2), keep_alive: true, len: BUSY.len() };
        assert_eq!(parse(BUSY), Ok(Some(expected)));
        for cut in 0..BUSY.len() {
            assert_eq!(parse(&BUSY[..cut]), Ok(None));
        }
        let followed = [BUSY, b"HTTP/1.1 200"].concat();
        assert_eq!(parse(&followed), Ok(Some(expected)));
    }

    #[test]
    fn closing_is_noticed() {
        let closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        assert!(parse(closing).is_ok_and(|r| r.is_some_and(|r| !r.keep_alive)));
        let old = b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
        assert!(parse(old).is_ok_and(|r| r.is_some_and(|r| !r.keep_alive)));
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for bytes in [
            &b"SSH-2.0-OpenSSH\r\n\r\n"[..],
            b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 20",
        ] {
            let complete = bytes.windows(4).any(|w| w == b"\r\n\r\n");
            assert_eq!(parse(bytes).is_err(), complete);
        }
        assert_eq!(parse(&[b'x'; HEAD_BYTES_MAX + 1]), Err(Unreadable));
    }
}
