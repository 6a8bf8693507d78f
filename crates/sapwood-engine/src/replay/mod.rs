//! Replay: the journal goes in, decisions come out. Pure: not async, no clock, no random, no store.
//!
//! A [`Script`] is one activation's reading of its journal. The body *asks* for operations in program order; the
//! script answers from the record, or that the operation is new, or with a violation if the two differ (R8).
//! Completions are *offered*, one per poll, in the order of their numbers, to handles that are awaited (R7).
//!
//! ```text
//!   ask(op) ──► position            polled(position) ──► ready or not
//!   complete(position, number)      offer() ──► the position the next poll makes ready
//!   end_of_poll()                   unasked() ──► what the record has and the body never asked for
//! ```

mod operation;
mod record;
mod script;

pub(crate) use operation::{Asked, Completion, OpKind};
pub(crate) use record::{RecordedOperation, Replay};
pub(crate) use script::Script;
