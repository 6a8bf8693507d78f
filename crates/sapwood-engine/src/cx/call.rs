//! `cx.call`: a child, in its own boundary.

use std::marker::PhantomData;
use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sapwood_core::tree::Phase;
use sapwood_core::{CallError, CallFailure, Dependencies, Position};

use super::Cx;
use crate::activation::Cell;
use crate::outcome::{Rejection, call_error};
use crate::registry::encode;
use crate::replay::{Asked, Completion, OpKind};
use crate::{Call, CallableFrom, Function};

impl<A: Dependencies> Cx<A> {
    /// Calls a function of this context: a child with its own retries, which starts when the body next waits.
    ///
    /// # Errors
    /// The handle gives a [`CallError`]: the child's own error, or how else it ended.
    ///
    /// Dropping the handle gives up on the child's result.
    #[track_caller]
    pub fn call<F: CallableFrom<A>>(&mut self, call: Call<F>) -> CallHandle<F> {
        let location = Location::caller();
        let input = encode(&call.input);
        let asked = Asked { kind: OpKind::Call, name: F::NAME, input: Some(&input), location };
        let (position, recorded) = self.cell.ask(&asked);
        if recorded.is_none() {
            self.cell.call(position, F::NAME, F::VERSION, input);
        }
        CallHandle { cell: Arc::clone(&self.cell), position, location, function: PhantomData }
    }
}

/// A child's durable promise. Await it for the child's result.
#[must_use = "dropping a call's handle cancels the call; await it, or emit an event if its result is not needed"]
pub struct CallHandle<F> {
    cell: Arc<Cell>,
    position: Position,
    location: &'static Location<'static>,
    function: PhantomData<fn() -> F>,
}

impl<F: Function> Future for CallHandle<F> {
    type Output = Result<F::Output, CallError<F::Error>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.cell.poll_handle(self.position, context.waker(), self.location) {
            Some(Completion::Call { version, phase, attempts, outcome }) => {
                Poll::Ready(self.read(version, phase, attempts, &outcome))
            }
            _ => Poll::Pending,
        }
    }
}

impl<F: Function> CallHandle<F> {
    /// `version` is the one that ran, which was the newest when the call was made (V1).
    fn read(
        &self,
        version: u32,
        phase: Phase,
        attempts: u32,
        outcome: &Bytes,
    ) -> Result<F::Output, CallError<F::Error>> {
        if phase == Phase::Resolved {
            return match serde_json::from_slice(outcome) {
                Ok(value) => Ok(value),
                Err(error) => self.cell.unreadable(self.position, std::any::type_name::<F::Output>(), &error),
            };
        }
        let child = CallFailure {
            function: crate::replay::versioned(F::NAME, version),
            path: self.cell.path().child(self.position).to_string(),
            attempts,
            kind: sapwood_core::failure::CallFailureKind::Cancelled,
        };
        Err(call_error(child, phase, Rejection::read(outcome)))
    }
}

impl<F> Drop for CallHandle<F> {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}
