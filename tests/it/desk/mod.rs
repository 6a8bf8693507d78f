//! Processes of the smallest app, `tests/src/bin/desk.rs`: its command line, and its life as a worker.

mod backup;
mod rejoin;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sapwood_tests::http::{self, Reply};
use sapwood_tests::process::{Process, Program};
use sapwood_tests::wait::until_asked;
use serde_json::{Value, json};

/// How often a process or its database is asked.
pub(super) const ASK_EVERY: Duration = Duration::from_millis(20);

/// A process of the app, as its clients see it.
pub(super) struct Desk {
    pub(super) process: Process,
    address: String,
}

impl Desk {
    pub(super) fn start(place: &Path, store: &str) -> Self {
        let settings =
            [("SAPWOOD_STORE", store), ("SAPWOOD_LISTEN", "127.0.0.1:0"), ("SAPWOOD_SHUTDOWN_TIMEOUT", "20s")];
        let process = Program::new("desk", place).environment(settings).start();
        let told = process.told("listening on http://");
        let address = told.split(';').next().expect("an address").to_owned();
        Self { process, address }
    }

    pub(super) async fn get(&self, path: &str) -> Reply {
        http::send(&self.address, "GET", path, &[], b"").await
    }

    /// Asks for a tree that waits for the file.
    pub(super) async fn begin(&self, file: &Path) -> Reply {
        let headers = [("content-type", "application/json")];
        let input = json!({"file": file}).to_string();
        http::send(&self.address, "POST", "/v1/desk/functions/await_file", &headers, input.as_bytes()).await
    }

    /// Returns once the process is ready.
    pub(super) async fn is_ready(&self) {
        let ask = async || match self.get("/health/ready").await {
            Reply { status: 200, .. } => Ok(()),
            reply => Err(reply.body),
        };
        until_asked("a process that is ready", ASK_EVERY, ask).await;
    }

    /// Returns once starts are refused with this code.
    pub(super) async fn refuses_starts(&self, place: &Path, code: &str) {
        let ask = async || match self.begin(&place.join("refused")).await {
            Reply { status: 503, body, .. } if body.contains(&format!("\"{code}\"")) => Ok(()),
            reply => Err(reply.body),
        };
        until_asked(&format!("starts that are refused with {code}"), ASK_EVERY, ask).await;
    }

    /// The outcome of a tree, once it has one.
    pub(super) async fn outcome(&self, begun: &Value) -> Value {
        let path = begun["urls"]["result"].as_str().expect("a path");
        self.get(&format!("{path}?wait=50s")).await.expect(200)
    }
}

/// Returns once so many lines of the file's log say so; all of its lines.
pub(super) async fn noted(file: &Path, what: &str, count: usize) -> Vec<String> {
    let log = PathBuf::from(format!("{}.log", file.display()));
    let mut lines = Vec::new();
    let ask = async || {
        lines = std::fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect();
        let found = lines.iter().filter(|line| line.starts_with(what)).count();
        if found >= count { Ok(()) } else { Err(lines.clone()) }
    };
    until_asked(&format!("{count} lines `{what}`"), ASK_EVERY, ask).await;
    lines
}
