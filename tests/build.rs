//! Decides whether tests that need PostgreSQL or Kafka run or are reported as ignored.
//!
//! The switch is a variable of its own instead of the services' addresses: an address changes from run to run, and
//! with it this package would be compiled again each time.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(sapwood_services)");
    println!("cargo::rerun-if-env-changed=SAPWOOD_TEST_SERVICES");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("SAPWOOD_TEST_SERVICES").is_ok_and(|value| value == "1") {
        println!("cargo::rustc-cfg=sapwood_services");
    }
}
