//! Asks a service in its own protocol whether it does its work: an open port alone says little.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

const ANSWER_WITHIN: Duration = Duration::from_secs(3);

fn connect(address: &str) -> Result<TcpStream> {
    let resolved = address.to_socket_addrs().with_context(|| format!("{address} is no address"))?;
    let mut last: Result<TcpStream> = Err(anyhow::anyhow!("{address} has no address"));
    // `localhost` may name an IPv6 address first where the service listens on IPv4 alone.
    for one in resolved.collect::<Vec<SocketAddr>>() {
        last = TcpStream::connect_timeout(&one, ANSWER_WITHIN).with_context(|| format!("nothing listens on {address}"));
        if last.is_ok() {
            break;
        }
    }
    let stream = last?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    Ok(stream)
}

/// Something accepts connections; all that can be asked of a service behind TLS.
///
/// # Errors
/// When nothing does.
pub fn tcp(address: &str) -> Result<()> {
    connect(address).map(drop)
}

/// A broker answers the AMQP 0-9-1 protocol header with `connection.start`.
///
/// # Errors
/// When it does not.
pub fn amqp(address: &str) -> Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    let mut frame = [0_u8; 11];
    stream.read_exact(&mut frame).context("no answer to the AMQP protocol header")?;
    // A method frame (1) of class connection (10), method start (10).
    ensure!(frame[0] == 1 && frame[7..] == [0, 10, 0, 10], "{address} does not speak AMQP 0-9-1");
    Ok(())
}

/// A Cassandra node answers OPTIONS with SUPPORTED.
///
/// # Errors
/// When it does not.
pub fn cql(address: &str) -> Result<()> {
    const OPTIONS: u8 = 0x05;
    const SUPPORTED: u8 = 0x06;
    let mut stream = connect(address)?;
    stream.write_all(&[4, 0, 0, 0, OPTIONS, 0, 0, 0, 0])?;
    let mut header = [0_u8; 9];
    stream.read_exact(&mut header).context("no answer to a CQL OPTIONS frame")?;
    ensure!(header[4] == SUPPORTED, "{address} answers opcode {} to a CQL OPTIONS frame", header[4]);
    Ok(())
}

/// A Postgres server takes a session for `user` and `database` and is ready for a query.
///
/// # Errors
/// When it does not, with the server's own reason.
pub fn postgres(address: &str, user: &str, database: &str) -> Result<()> {
    let mut stream = connect(address)?;
    stream.write_all(&postgres_startup(user, database)?)?;
    loop {
        let (kind, body) = postgres_message(&mut stream)?;
        match kind {
            b'Z' => {
                // Terminate, so that the server does not log a lost connection.
                stream.write_all(&[b'X', 0, 0, 0, 4])?;
                return Ok(());
            }
            b'E' => bail!("{}", postgres_error(&body)),
            b'R' if body != [0, 0, 0, 0] => bail!("the server wants a password"),
            _ => {}
        }
    }
}

/// A Postgres server answers at all; whether it lets this user in is for the programs to find out.
///
/// # Errors
/// When it does not answer.
pub fn postgres_answers(address: &str) -> Result<()> {
    let mut stream = connect(address)?;
    // SSLRequest: every server answers it with one byte before any authentication.
    stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47])?;
    let mut answer = [0_u8];
    stream.read_exact(&mut answer).context("no answer to a Postgres request")?;
    ensure!(matches!(answer, [b'S' | b'N' | b'E']), "{address} does not speak Postgres's protocol");
    Ok(())
}

fn postgres_startup(user: &str, database: &str) -> Result<Vec<u8>> {
    let mut message = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for text in ["user", user, "database", database] {
        message.extend_from_slice(text.as_bytes());
        message.push(0);
    }
    message.push(0);
    let length = u32::try_from(message.len())?;
    message[..4].copy_from_slice(&length.to_be_bytes());
    Ok(message)
}

fn postgres_message(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut header = [0_u8; 5];
    stream.read_exact(&mut header).context("the Postgres server closed the connection")?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    ensure!((4..65_536).contains(&length), "that is not Postgres's protocol");
    let mut body = vec![0; usize::try_from(length - 4)?];
    stream.read_exact(&mut body)?;
    Ok((header[0], body))
}

/// The human part of an error message: the field that starts with `M`.
fn postgres_error(body: &[u8]) -> String {
    let message = body.split(|byte| *byte == 0).find(|field| field.first() == Some(&b'M'));
    message
        .map_or_else(|| "an error without a text".to_owned(), |field| String::from_utf8_lossy(&field[1..]).into_owned())
}

/// An HTTP GET of `path` is answered with status 200. `authorization` is the header's value, where one is needed.
///
/// # Errors
/// When it is not.
pub fn http(address: &str, path: &str, authorization: Option<&str>) -> Result<()> {
    let mut stream = connect(address)?;
    let authorization = authorization.map(|value| format!("Authorization: {value}\r\n")).unwrap_or_default();
    // In one piece: a server may answer and close upon the first.
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).with_context(|| format!("no answer from http://{address}{path}"))?;
    let answer = String::from_utf8_lossy(&answer);
    let first = answer.lines().next().unwrap_or_default();
    ensure!(first.split(' ').nth(1) == Some("200"), "http://{address}{path} answers: {first}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::TcpListener;

    /// Answers one connection with fixed bytes and hands back what it was sent.
    fn server(answer: &'static [u8]) -> (String, std::thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = vec![0; 512];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            request.truncate(length);
            request
        });
        (address, thread)
    }

    #[test]
    fn a_postgres_that_recovers_is_not_healthy_and_says_why() {
        let (address, thread) = server(b"E\0\0\0\x34SFATAL\0C57P03\0Mthe database system is starting\0\0");
        let error = postgres(&address, "tollgate", "tollgate").unwrap_err().to_string();
        assert_eq!(error, "the database system is starting");
        let request = thread.join().unwrap();
        assert!(request.ends_with(b"user\0tollgate\0database\0tollgate\0\0"));
    }

    #[test]
    fn only_status_200_is_healthy() {
        let (address, _thread) = server(b"HTTP/1.1 200 OK\r\n\r\nok");
        http(&address, "/readyz", None).unwrap();
        let (address, _thread) = server(b"HTTP/1.1 503 Service Unavailable\r\n\r\nqueue");
        assert!(http(&address, "/readyz", None).unwrap_err().to_string().contains("503"));
    }

    #[test]
    fn another_protocol_on_the_port_is_not_healthy() {
        let (address, _thread) = server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(amqp(&address).is_err());
        let (address, _thread) = server(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(cql(&address).is_err());
    }
}
