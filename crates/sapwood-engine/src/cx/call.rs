//! `cx.call`: a child, in its own boundary.

use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sapwood_core::tree::PromiseState;
use sapwood_core::{CallError, CallFailure, Dependencies, FunctionVersion, Position};

use super::Cx;
use crate::activation::Cell;
use crate::function::{Call, CallableFrom, Function, Undo};
use crate::outcome::call_error;
use crate::payload::{Rejection, decode};
use crate::replay::{Asked, Completion, OpKind};

impl<D: Dependencies> Cx<D> {
    /// Calls a function of this context: a child with its own retries, which starts when the body next waits.
    ///
    /// # Errors
    /// The handle gives a [`CallError`]: the child's own error, or how else it ended.
    ///
    /// If the handle is dropped while the body goes on, or is still there when the function ends, the child is cancelled.
    #[track_caller]
    pub fn call<F: CallableFrom<D>>(&mut self, call: Call<F>) -> CallHandle<F> {
        let location = Location::caller();
        let input = self.cell.record(&call.input, format_args!("the input of call {}", F::NAME), location);
        let asked = Asked { kind: OpKind::Call, name: F::NAME, input: Some(&input), location };
        let (position, recorded) = self.cell.ask(&asked);
        if recorded.is_none() {
            let undo = call.undo.as_ref().map(|undo| undo.function.clone());
            self.cell.call(position, (F::NAME, F::VERSION), input, undo, call.deadline_or_declared());
        }
        CallHandle { cell: Arc::clone(&self.cell), position, location, undo: call.undo, function: PhantomData }
    }
}

/// A child's durable promise. Await it for the child's result.
#[must_use = "dropping a call's handle cancels the call; await it, or emit an event if its result is not needed"]
pub struct CallHandle<F> {
    cell: Arc<Cell>,
    position: Position,
    location: &'static Location<'static>,
    undo: Option<Undo>,
    function: PhantomData<fn() -> F>,
}

impl<F: Function> Future for CallHandle<F> {
    type Output = Result<F::Output, CallError<F::Error>>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.cell.poll_handle(self.position, task.waker(), self.location) {
            Some(Completion::Call { version, promise, attempts, outcome }) => {
                Poll::Ready(self.read(version, promise, attempts, &outcome))
            }
            _ => Poll::Pending,
        }
    }
}

impl<F: Function> CallHandle<F> {
    /// `version` is the version that ran: the newest when the call was made (V1).
    fn read(
        &self,
        version: u32,
        promise: PromiseState,
        attempts: u32,
        outcome: &Bytes,
    ) -> Result<F::Output, CallError<F::Error>> {
        if promise == PromiseState::Resolved {
            if let Some(undo) = self.undo.as_ref().filter(|undo| cfg!(debug_assertions) && !(undo.agrees)(outcome)) {
                self.cell.misuse(self.position, self.location, &format!("the undo of call {} is not {} itself, so another call than it makes would undo it: write `.undo({})`", F::NAME, undo.function, undo.function.name()));
            }
            return match decode(outcome) {
                Ok(value) => Ok(value),
                Err(error) => {
                    self.cell.unreadable(self.position, self.location, std::any::type_name::<F::Output>(), &error)
                }
            };
        }
        let child = CallFailure {
            function: FunctionVersion::new(F::NAME, version).to_string(),
            path: self.cell.path().child(self.position).to_string(),
            attempts,
            kind: sapwood_core::failure::CallFailureKind::Cancelled,
        };
        Err(call_error(child, promise, Rejection::read(outcome)))
    }
}

impl<F> Drop for CallHandle<F> {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}
