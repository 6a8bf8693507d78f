//! The [`Store`](sapwood_core::store::Store) port on SQLite: the embedded default, one file per context, one process at
//! a time.
//!
//! ```text
//!  committers, starters, leases, claims ──► queue ──► writer thread ──► one connection: BEGIN IMMEDIATE … COMMIT
//!  loads and reads ─────────────────────────────────► a small pool of read-only connections (in memory: the writer)
//! ```
//!
//! All that waits in the writer's queue is committed together, whoever sent it: one fsync for all. A write is carried
//! out whole once it is queued, even if its caller stops waiting, so no transaction is ever left open.
//!
//! | room | what is there |
//! |---|---|
//! | `store`, `options` | the handle, and how to open it |
//! | `connect`, `lock`, `schema` | connections and their settings; the lock beside the file; making the schema, and refusing one that this build cannot work with |
//! | `backup`, `identity` | a copy made while another process works; whether the file that is open is still at its path |
//! | `writer`, `work` | the one writer and its queue; what it carries out |
//! | `readers`, `reads` | the connections that only read; the reads under way |
//! | `checkpoint` | the bound on the write-ahead log, which a read may hold up |
//! | `db`, `bulk`, `args` | statements for one row and for many; values on their way in |
//! | `fields`, `rows`, `error` | values on their way out, the records of the port, the classes of errors |
//! | `membership`, `lease` | workers: joining, burying, leaving, and their fences; renewing a lease |
//! | `committer`, `creating` | commits of turns; new trees and new invocations |
//! | `starter` | starts with keys, and the intake of events |
//! | `trees`, `claims`, `loading` | the role of workers: claiming trees, and what a worker reads of them |
//! | `governing`, `promises` | requests for trees, and settles of external promises |
//! | `reading` | what readers ask |
//! | `outbox` | lanes, and the rows that wait in them to be published |
//! | `offsets`, `log` | the offsets of groups; the store's own log |
//! | `hints` | hints among the clones of a store |

mod args;
mod backup;
mod bulk;
mod checkpoint;
mod claims;
mod committer;
mod connect;
mod creating;
mod db;
mod deadlines;
mod error;
mod fields;
mod governing;
mod hints;
mod identity;
mod lease;
mod lent;
mod loading;
mod lock;
mod log;
mod membership;
mod offsets;
mod options;
mod outbox;
mod promises;
mod readers;
mod reading;
mod reads;
mod rows;
mod schema;
mod starter;
mod store;
mod transactions;
mod trees;
mod work;
mod writer;

pub use backup::backup;
pub use options::SqliteOptions;
pub use store::SqliteStore;
pub use transactions::Sqlite;
