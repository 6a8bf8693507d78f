//! A client of a process's REST API, with no library between it and the socket.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sapwood_tests::process::{PATIENCE, Process};
use serde_json::Value;

/// How often is asked for what is waited for.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// A process, as clients see it.
pub(super) struct Client {
    address: String,
}

impl Client {
    /// Waits until the process listens.
    pub(super) fn of(process: &Process) -> Self {
        Self { address: process.told("listening on http://") }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "")
    }

    pub(super) fn send(&self, method: &str, path: &str, headers: &[String], body: &str) -> Reply {
        let mut headers = headers.join("\r\n");
        if !headers.is_empty() {
            headers.push_str("\r\n");
        }
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        let mut stream = TcpStream::connect(&self.address).expect("the process listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).expect("it answers");
        Reply::read(&String::from_utf8_lossy(&response))
    }

    /// A function's trees, by state.
    pub(super) fn trees(&self, context: &str, function: &str) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/{context}/trees?function={function}&limit=200{cursor}")).json();
            for tree in page["trees"].as_array().expect("a page of trees") {
                *states.entry(tree["state"].as_str().expect("a state").to_owned()).or_default() += 1;
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return states,
            }
        }
    }

    /// Waits until a function has so many trees and all of them are resolved.
    pub(super) fn has_resolved(&self, context: &str, function: &str, count: usize) {
        let expected = BTreeMap::from([("resolved".to_owned(), count)]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let states = self.trees(context, function);
            if states == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{function}: {states:?} instead of {expected:?}");
            std::thread::sleep(ASK_EVERY);
        }
    }
}

/// A response.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Reply {
    fn read(response: &str) -> Self {
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {response}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    pub(super) fn json(&self) -> Value {
        assert!((200..300).contains(&self.status), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}
