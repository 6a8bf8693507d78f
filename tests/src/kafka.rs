//! The Kafka that the environment names, and kcat: a client of it that is not ours.

use std::path::Path;

use crate::process::Program;

/// Names the broker: `kafka://HOST:PORT`.
pub const KAFKA_URL: &str = "SAPWOOD_TEST_KAFKA_URL";

/// The broker's address.
///
/// # Panics
/// If the environment names none; tests that call this are ignored by then, see `build.rs`.
#[must_use]
pub fn kafka_url() -> String {
    std::env::var(KAFKA_URL).unwrap_or_else(|_| panic!("{KAFKA_URL} is not set; ./test sets it"))
}

/// The broker's address as clients name it: `HOST:PORT`.
#[must_use]
pub fn bootstrap() -> String {
    kafka_url().trim_start_matches("kafka://").to_owned()
}

/// The client of the system's packages, with these arguments.
#[must_use]
pub fn kcat(arguments: &[&str]) -> Program {
    Program::foreign("kcat", Path::new("/")).arguments(["-b", &bootstrap()]).arguments(arguments)
}
