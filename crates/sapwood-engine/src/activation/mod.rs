//! One physical run of an invocation: its body, and the cell that body and driver share.
//!
//! The body is polled by the driver only. During a poll the body's operations work on the [`Cell`]; after it the driver
//! takes a [`Report`] of what happened, and how the body goes on. The cell's lock is taken for moments only and is
//! never contended, because body and driver take it one after the other.

mod cell;
mod checks;
mod poll;
mod report;
mod state;
mod steps;
mod waker;

pub(crate) use cell::Cell;
pub(crate) use poll::{Activation, Body, panic_message};
#[cfg(test)]
pub(crate) use report::RetryBasis;
pub(crate) use report::{Finish, Fresh, Notice, OpenTransaction, Polled, Report, Stand, StartOrder, StepEnd, Work};
pub(crate) use state::{StepKind, StepPoll};
pub(crate) use waker::{BodyWaker, StepWaker, Wakes};
