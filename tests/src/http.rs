//! Requests over HTTP, with no library between the test and the socket: what is read is what goes over the wire.

use std::collections::HashMap;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends a request to `HOST:PORT`, and reads the response.
///
/// # Panics
/// As [`send_raw`].
pub async fn send(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    send_raw(address, &request(method, path, headers, body)).await
}

/// As [`send`], to a server that may have ended, or may end before it has answered.
///
/// # Errors
/// If nothing listens, or what comes back is no whole head of a response.
pub async fn try_send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&request(method, path, headers, body)).await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    let is_cut = !response.windows(4).any(|bytes| bytes == b"\r\n\r\n");
    if is_cut { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(Reply::read(&response)) }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if method != "GET" {
        request.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    [request.as_bytes(), body].concat()
}

/// Sends these bytes, and reads until the server closes the connection.
///
/// # Panics
/// If nothing listens, or what comes back is no response.
pub async fn send_raw(address: &str, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.expect("the server listens");
    // A server that refuses a body closes without reading it; what matters is what it answered.
    let _ = stream.write_all(request).await;
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response).await;
    Reply::read(&response)
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers, by their names as they were sent.
    pub headers: HashMap<String, String>,
    /// Its body.
    pub body: String,
}

impl Reply {
    fn read(response: &[u8]) -> Self {
        let response = String::from_utf8_lossy(response);
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {response:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { status: status.expect("a status"), headers: headers.collect(), body: body.to_owned() }
    }

    /// A header; empty if it has none of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body.
    ///
    /// # Panics
    /// If it is no JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The body of an answer with this status.
    ///
    /// # Panics
    /// If it has another.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.json()
    }

    /// The body of a problem with this status and code.
    ///
    /// # Panics
    /// If it is another answer.
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("/problems/{code}"));
        assert!(["title", "detail", "instance"].iter().all(|member| body[member].is_string()), "{body}");
        body
    }
}
