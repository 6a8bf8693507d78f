//! The examples as their users run them: processes that are started, asked, killed and started again.

mod bad_input;
mod failover;
mod hello;
mod kafka;
mod kills;
mod ledger;
mod openapi;
mod place;
mod processes;
mod quick_start;
mod rest;
mod stalls;

use std::path::Path;
use std::time::Duration;

use sapwood_tests::process::{Process, Program};
use sapwood_tests::wait::until_asked;

use self::place::Place;

/// Where a run notes its effects, in its directory.
const EFFECTS: &str = "effects.log";

/// How often the file of effects is looked at: a few effects a millisecond are made.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What becomes of the 1,000 orders, however they are run.
const TOTALS: [&str; 8] = [
    "orders 1000",
    "completed 877",
    "rejected 29 (card declined: card expired)",
    "rejected 34 (card declined: insufficient funds)",
    "rejected 60 (out of stock)",
    "events published 877",
    "events handled 877 by add_points",
    "events handled 877 by book_courier",
];

/// The orders program, with REST on a port of its own.
fn orders(directory: &Path) -> Program {
    Program::new("orders", directory).arguments(["--listen", "127.0.0.1:0"])
}

/// A run of the 1,000 orders that notes its effects and takes some seconds.
fn program(place: &Place) -> Program {
    let arguments = ["--once", "--latency", "2", "--effects", EFFECTS];
    orders(place.directory()).arguments(arguments).environment(place.settings())
}

/// Returns once the file of effects has so many lines.
async fn noted(file: &Path, lines: usize, process: &mut Process) {
    let has_lines = async || {
        let text = std::fs::read(file).unwrap_or_default();
        let found = text.iter().filter(|byte| **byte == b'\n').count();
        if found >= lines {
            return Ok(());
        }
        assert!(process.runs(), "{} has no {lines} lines: {}", file.display(), process.printed());
        Err(found)
    };
    until_asked(&format!("{lines} effects"), LOOK_EVERY, has_lines).await;
}

/// The totals that a run printed, without how many of the orders were new to it.
fn totals(out: &str) -> Vec<String> {
    let lines = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    let counts = ["orders ", "completed ", "rejected ", "events "];
    let lines = lines.filter(|line| counts.iter().any(|count| line.starts_with(count)));
    lines.map(|line| line.split(" (new: ").next().unwrap_or_default().to_owned()).collect()
}

/// A file of orders: as many as `count`, each completed at once.
fn few_orders(directory: &Path, count: usize) -> String {
    let order = |n: usize| {
        let line = serde_json::json!({"sku": "sku-1", "quantity": 1, "price_cents": 500});
        let order = serde_json::json!({
            "id": format!("few-{n}"), "customer": "me", "card": {"number": "4000-1"}, "lines": [line],
        });
        format!("{order}\n")
    };
    std::fs::write(directory.join("few.jsonl"), (0..count).map(order).collect::<String>()).expect("orders are written");
    "few.jsonl".to_owned()
}
