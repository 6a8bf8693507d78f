//! One physical run of an invocation: its body, and the cell that body and engine share.
//!
//! The body is polled by the engine only. During a poll the body's operations work on the [`Cell`]; after it the
//! engine takes a [`Report`] of what happened. The cell's lock is only ever held for moments and never contended:
//! body and engine take turns.

mod cell;
mod poll;

pub(crate) use cell::{Cell, Facts, Fresh, Report, StartOrder, StepDone, StepTurn, Stop};
pub(crate) use poll::{Activation, BodyWaker, Polled, Wakes};
