//! The vocabulary of the domain and the two ports, `Store` and `Broker`; no I/O, no runtime.
//!
//! Every other crate of Sapwood depends on this one; this one depends on none of them but its derives. A contract crate
//! of a bounded context depends on it alone (feature `macros`).
//!
//! | room | what is there |
//! |---|---|
//! | [`context`], [`event`], [`failure`] | what authors declare: bounded contexts, domain events, typed errors |
//! | [`id`], [`retry`], [`limits`] | identities, policies, bounds |
//! | [`json`] | values as JSON that can be read back, and their comparison |
//! | [`tree`], [`journal`], [`control`] | the records of a tree, of its invocations and of its promises; what is asked of them from outside |
//! | [`store`], [`broker`] | the two ports |
//! | [`clock`] | where time comes from |
//! | [`nearest`] | the name that was probably meant, for errors |

pub mod broker;
pub mod clock;
mod code;
pub mod context;
pub mod control;
pub mod deadline;
pub mod event;
pub mod failure;
pub mod id;
pub mod journal;
pub mod json;
pub mod limits;
pub mod nearest;
pub mod retry;
pub mod store;
pub mod tree;

pub use context::{BoundedContext, Dependencies, Transactional};
pub use deadline::Deadline;
pub use event::{EmittableFrom, Event};
pub use failure::{CallError, CallFailure, Error, Failure, PromiseError};
pub use id::{CallerId, EventId, FunctionVersion, Path, Position, ProcessId, PromiseId, TreeId, WorkerId};

#[cfg(feature = "macros")]
pub use sapwood_macros::{BoundedContext, Event, Failure};

/// What the derives expand to; not part of the API.
#[doc(hidden)]
pub mod __private {
    pub use inventory;
    pub use schemars;
    pub use serde;
    pub use serde_json;
}
