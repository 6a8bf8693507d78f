//! The [`Store`](sapwood_core::store::Store) port on PostgreSQL 15 and newer.
//!
//! Each bounded context has a schema of its name, which is written into the statements as they are prepared. These are
//! static files under `queries/`, one each; the tables are made by `migrations/postgres`. All statements read the time
//! from `sapwood_now()`. No answer depends on the state of a session, so a pooler may lend sessions by transaction.
//!
//! | room | what is there |
//! |---|---|
//! | `store`, `options` | the store itself: what it is, whether it answers, closing it; how to reach it |
//! | `connect`, `pool` | connections: opening them, clear errors of it; the one way that calls on shared ones go |
//! | `statements` | the statements of one schema |
//! | `server` | what the server is, and whether a store can be on it |
//! | `schema` | making the schema, and refusing one that this build cannot work with |
//! | `membership`, `lease` | workers: joining, burying, leaving; renewing a lease |
//! | `fenced` | a connection bound to a fence, which refuses the commits of a dead worker |
//! | `committer` | the committing statement, and what became of a commit whose outcome is unknown |
//! | `starter` | starts with keys, and the intake of events |
//! | `trees`, `claims`, `loading` | the role of workers: claiming trees, and what a worker reads of them |
//! | `governing`, `promises` | requests for trees, and settles of external promises |
//! | `reading` | what readers ask |
//! | `outbox` | lanes, and the rows that wait in them to be published |
//! | `offsets`, `log` | the offsets of groups; the store's own log |
//! | `hints` | `LISTEN` and a coalesced `NOTIFY` |
//! | `fields`, `rows`, `error` | values in and out of statements, the records of the port, the classes of errors |
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

mod claims;
mod committer;
mod connect;
mod deadlines;
mod error;
mod fenced;
mod fields;
mod governing;
mod hints;
mod lease;
mod loading;
mod log;
mod membership;
mod offsets;
mod options;
mod outbox;
mod pool;
mod promises;
mod reading;
mod rows;
mod schema;
mod server;
mod starter;
mod statements;
mod store;
mod transactions;
mod trees;

pub use options::PostgresOptions;
pub use store::PostgresStore;
pub use transactions::Postgres;
