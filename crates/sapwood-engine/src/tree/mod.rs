//! One owned tree. A task drives it and owns all of it, so nothing here is locked and a tree's turns are in order by
//! construction.
//!
//! | room | what is there |
//! |---|---|
//! | `model` | the tree as its owner knows it |
//! | `node`, `nodes` | one invocation, and how its status moves; all open ones, and which of them run or wait |
//! | `timers` | what is due, and when |
//! | `record` | what a poll, a step's end, a timer comes to in the journal |
//! | `settle` | what a return, a panic, a violation comes to; how promises settle up the tree |
//! | `cancel` | whom a cancellation reaches, and what becomes of each |
//! | `deadline` | until when an invocation goes forward, and what becomes of it then |
//! | `resume` | what an operator lets go on: what is parked, and compensations that failed |
//! | `undo`, `compensate` | what an invocation that does not resolve has to undo, and in which order; how it does it |
//! | `closings` | how far all of them have come with that |
//! | `draft` | what the next turn has |
//! | `hold` | what waits for which commit |
//! | `driver` | the loop around them: bodies, slots, alarms |
//! | `live`, `mailbox` | a tree with its bodies; what is reported to its driver |
//! | `carried` | what goes on when a tree is loaded again |
//!
//! All but the last three rows are pure: no clock, no chance, no store, nothing to await.

mod cancel;
mod carried;
mod closings;
mod compensate;
mod deadline;
mod draft;
mod driver;
mod hold;
mod live;
mod mailbox;
mod model;
mod node;
mod nodes;
mod record;
mod resume;
mod settle;
#[cfg(test)]
mod tests;
mod timers;
mod undo;

pub(crate) use carried::Carried;
pub(crate) use driver::{Created, Driver, Ended};
pub(crate) use live::LiveTree;
pub(crate) use mailbox::{Mailbox, Signal};
pub(crate) use model::Tree;
