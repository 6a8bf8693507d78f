//! The [`Store`](sapwood_core::store::Store) port in memory: for models and for the tests of authors, which want many
//! stores, no file, and runs that repeat.
//!
//! ```text
//!  handles, committers, starters, leases ──► one lock ──► one state: trees, keys, lanes, offsets, log, workers
//! ```
//!
//! It promises what the two databases promise, and passes their conformance suite, but for durability: it lives as long
//! as one of its handles. Several workers may use it at once, each as if it were a process of its own.
//!
//! It does no I/O and starts no thread and no task. Every call takes the lock, decides, and is over: its future is ready
//! at the first poll. Nothing here draws from chance, and whatever has an order is kept in it. So a run on one thread, with
//! a clock that its test moves, repeats exactly.
//!
//! A change is decided before it is made: what a call may refuse is refused while all is as it was. So none of them
//! has anything to undo.
//!
//! | room | what is there |
//! |---|---|
//! | `store`, `handle`, `hints` | the handle and its clones, what acts for one of them, hints among them |
//! | `state` | all of the data; which workers are alive |
//! | `forest`, `tree` | all trees, with who owns them and when they are due; the rows of one |
//! | `membership`, `lease` | workers: joining, burying, leaving; renewing a lease |
//! | `fenced` | the fence that every commit and start names |
//! | `committer` | commits of turns |
//! | `starter` | starts with keys, and the intake of events |
//! | `trees`, `claims`, `loading` | the role of workers: claiming trees, and what a worker reads of them |
//! | `governing`, `promises` | requests for trees, and settles of external promises, from outside |
//! | `reading` | what readers ask |
//! | `outbox` | lanes, and the rows that wait in them to be published |
//! | `offsets`, `log` | the offsets of groups; the store's own log |
//! | `time`, `error` | times as databases keep them; the classes of errors |

mod claims;
mod committer;
mod error;
mod fenced;
mod forest;
mod governing;
mod handle;
mod hints;
mod lease;
mod loading;
mod log;
mod membership;
mod offsets;
mod outbox;
mod promises;
mod reading;
mod starter;
mod state;
mod store;
mod time;
mod tree;
mod trees;

pub use store::MemoryStore;
