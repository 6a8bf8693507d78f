//! Runs durable function trees: replays, suspends, resumes and retries them on any [`Store`](sapwood_core::store).
//! Knows no HTTP, no Kafka and no SQL.
//!
//! | room | what is there |
//! |---|---|
//! | [`function`](Function), [`consumer`](Consumer), [`registry`](Registry) | functions as values, collected at link time |
//! | `cx` | the operations of a function's body, one file each |
//! | `replay` | pure: journal in, decision out |
//! | `activation` | one run of a body, and what it shares with the engine |
//! | `tree` | one owned tree: the task that drives it, and what its turns say |
//! | `committer`, `starter` | group commit of turns; starts that others may contest |
//! | `lease`, `claims`, `hints` | who is alive, whose trees are whose, who tells whom |
//! | [`engine`](Engine), [`view`](TreeView), `waiters` | the handle: start, attach, read, drain |

mod activation;
mod claims;
mod committer;
mod consumer;
mod cx;
mod engine;
mod error;
mod function;
mod hints;
mod lease;
mod nearest;
mod options;
mod outcome;
mod pause;
mod random;
mod registry;
mod replay;
mod starter;
mod tree;
mod view;
mod waiters;

pub use consumer::{Consumer, ConsumerCx, Delivered};
pub use cx::{CallHandle, Cx, SleepHandle, StartHandle, StepHandle};
pub use engine::{Engine, Health, ResultError, StartReply, TreeHandle};
pub use error::{EngineError, MAX_ID_CHARS, ReadError, StartError};
pub use function::{Call, CallableFrom, Function, Recorded, Returned};
pub use nearest::nearest;
pub use options::{CachePolicy, EngineOptions};
pub use outcome::{Rejection, RejectionKind};
pub use registry::{Definition, FunctionEntry, Registry, RegistryError, Subscription, Trigger};
pub use view::{EmittedView, NodeView, TreeView, WaitsOn};
