//! The [`Store`](sapwood_core::store::Store) port on PostgreSQL 15 and newer.
//!
//! Each bounded context has a schema of its name, found through `search_path`; the statements are static files under
//! `queries/`, one each, the tables are made by `migrations/postgres`. Time is `sapwood_now()` throughout.
//!
//! | room | what is there |
//! |---|---|
//! | `connect` | options, the settings every connection gets, clear errors of connecting |
//! | `store` | the store itself: what it is, whether it answers, closing it |
//! | `migrate` | the schema: making it, and refusing one of another version |
//! | `committer` | the committing statement, and what became of a commit whose outcome is unknown |
//! | `starter` | starts with keys, and the intake of events |
//! | `membership`, `lease` | workers, burials, renewals |
//! | `claims`, `loads` | claiming trees and loading what an activation reads |
//! | `reading` | what readers ask |
//! | `choreography` | outbox, lanes, positions of consumers, the store's own log |
//! | `hints` | `LISTEN` and a coalesced `NOTIFY` |
//! | `fenced` | a connection bound to a fence slot |
//! | `rows`, `error` | conversions, and the classes of errors |
//!
//! ```no_run
//! use sapwood_core::store::{Store, StoreResult};
//! use sapwood_postgres::{PostgresOptions, PostgresStore};
//!
//! # async fn example() -> StoreResult<()> {
//! let store = PostgresStore::connect(PostgresOptions::new("postgres://localhost/sapwood", "orders")).await?;
//! store.migrate().await?;
//! println!("{:?}", store.info());
//! # Ok(())
//! # }
//! ```
//!
//! Two things are nowhere in this crate: a `BEGIN … COMMIT` around a commit of trees (one statement is one round trip
//! and one flush of the log), and a `NOTIFY` inside of one (it would serialize all commits of the database).

mod choreography;
mod claims;
mod committer;
mod connect;
mod error;
mod fenced;
mod hints;
mod lease;
mod loads;
mod membership;
mod migrate;
mod reading;
mod rows;
mod starter;
mod store;

pub use connect::PostgresOptions;
pub use store::PostgresStore;
