//! The store on SQLite: the embedded default, one file a context, one process at a time.
//!
//! ```text
//!  committers, starters, leases, claims ──► queue ──► writer thread ──► one connection: BEGIN IMMEDIATE … COMMIT
//!  loads and reads ─────────────────────────────────► a small pool of read-only connections (in memory: the writer)
//! ```
//!
//! What waits in the writer's queue together is committed together, whoever sent it: one fsync for all. A write is
//! carried out whole once it is queued, also where its caller stops waiting, so no transaction is ever left open.
//!
//! | room | what is there |
//! |---|---|
//! | [`SqliteStore`], [`SqliteOptions`] | the handle, and how to open it |
//! | `connect`, `lock`, `schema` | connections and their settings; the lock beside the file; migrations |
//! | `writer`, `work` | the one writer and its queue; what it carries out |
//! | `db`, `bulk`, `args`, `fields`, `records`, `error` | statements of one and of many rows; values in, values out |
//! | `membership`, `trees`, `reading`, `choreography` | the roles of the port |
//! | `commit`, `birth`, `outbox` | turns: trees, invocations, journal, timers, events |
//! | `start`, `positions` | starts and intake |
//! | `claims`, `loading` | what a worker takes, and what it reads of it |
//! | `lanes`, `log`, `hints` | publishers of the outbox; the store's own log; hints among clones |

mod args;
mod birth;
mod bulk;
mod choreography;
mod claims;
mod commit;
mod connect;
mod db;
mod error;
mod fields;
mod hints;
mod lanes;
mod loading;
mod lock;
mod log;
mod membership;
mod options;
mod outbox;
mod positions;
mod reading;
mod records;
mod schema;
mod start;
mod store;
mod trees;
mod work;
mod writer;

pub use options::SqliteOptions;
pub use store::SqliteStore;
