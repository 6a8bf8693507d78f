//! The harness: real databases and a real broker for each test, a clock that tests move, and what both ports promise.
//!
//! | room | what is there |
//! |---|---|
//! | [`store`] | a store of its own for a test, on either database, and `on_both_stores!` |
//! | [`postgres`], [`sqlite`] | a schema, a file, for one test |
//! | [`engine`], [`faults`] | engines on such a store, crashed and taken over; a store that fails on purpose |
//! | [`wait`] | waits that give up |
//! | [`process`] | programs of the workspace, run as processes and watched |
//! | [`workspace`] | what cargo knows of the workspace, and its files |
//! | [`clock`], [`environment`] | the clock that tests move; chance from a seed, on one thread |
//! | [`conformance`] | the cases that every store and every broker passes |
//!
//! The tests are in `it/`. Those that need a server are ignored by a plain `cargo test`; `./test` brings the servers
//! and ignores none.

// The cases of `it/ui.rs` are compiled against the crates that this library refers to. These no module here names.
use {sapwood as _, schemars as _, serde as _, thiserror as _};

pub mod clock;
pub mod conformance;
pub mod engine;
pub mod environment;
pub mod faults;
pub mod postgres;
pub mod process;
pub mod sqlite;
pub mod store;
pub mod wait;
pub mod workspace;
