//! The harness: real databases and a real broker for each test, a clock that tests move, and what both ports promise.
//!
//! | room | what is there |
//! |---|---|
//! | [`store`] | a store of its own for a test, on either database or in memory |
//! | [`postgres`], [`sqlite`], [`kafka`] | a schema, a database, a file, the broker |
//! | [`front`] | what stands before such a store: it tells of changes and makes faults |
//! | [`changes`], [`wait`] | what tells a test that something has changed, and how it waits |
//! | [`faults`] | faults that a test plans, of stores and of brokers |
//! | [`engine`] | engines on such a store, crashed and taken over |
//! | [`probe`] | what functions under test tell their test, and are told by it |
//! | [`cases`] | the macros that make a test of each case, on every database, engine or broker |
//! | [`conformance`] | the cases that every store and every broker passes |
//! | [`pooler`], [`cluster`] | a pgbouncer before PostgreSQL; a primary and its standby |
//! | [`process`] | programs of the workspace, run as processes and watched |
//! | [`fleet`] | what the fleet test and its processes share: plans of trees, and the file of effects |
//! | [`http`] | requests, with no library between them and the socket |
//! | [`clock`], [`environment`] | the clock that tests move; chance from a seed, on one thread |
//! | [`workspace`] | what cargo knows of the workspace, and its files |
//!
//! The tests are in `it/`. Those that need a server are ignored by a plain `cargo test`; `./test` brings the servers
//! and ignores none.

// The cases of `it/ui.rs` are compiled against the crates that this library refers to. These no module here names.
use {sapwood as _, schemars as _, serde as _, thiserror as _};

pub mod cases;
pub mod changes;
pub mod clock;
pub mod cluster;
pub mod conformance;
pub mod damage;
pub mod engine;
pub mod environment;
pub mod faults;
pub mod fleet;
pub mod front;
pub mod http;
pub mod kafka;
pub mod logs;
pub mod pooler;
pub mod postgres;
pub mod probe;
pub mod process;
pub mod sqlite;
pub mod store;
pub mod wait;
pub mod workspace;
