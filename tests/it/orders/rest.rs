//! A client of a process's REST API.

use std::collections::BTreeMap;
use std::time::Duration;

use sapwood_tests::http::{self, Reply};
use sapwood_tests::process::Process;
use sapwood_tests::wait::until_asked;

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

    pub(super) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "").await
    }

    pub(super) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        http::send(&self.address, method, path, headers, body.as_bytes()).await
    }

    /// A function's trees, by state.
    pub(super) async fn trees(&self, context: &str, function: &str) -> BTreeMap<String, usize> {
        let mut states = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page =
                self.get(&format!("/v1/{context}/trees?function={function}&limit=200{cursor}")).await.expect(200);
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
    pub(super) async fn has_resolved(&self, context: &str, function: &str, count: usize) {
        let expected = BTreeMap::from([("resolved".to_owned(), count)]);
        let is_so = async || {
            let states = self.trees(context, function).await;
            if states == expected { Ok(()) } else { Err(states) }
        };
        until_asked(&format!("{count} resolved trees of {function}"), ASK_EVERY, is_so).await;
    }
}
