//! `cx.step`: a side effect whose result is memoized.

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sapwood_core::retry::RetryPolicy;
use sapwood_core::{Dependencies, Failure, Position};

use super::Cx;
use crate::activation::{Cell, StepDone, StepTurn};
use crate::function::Recorded;
use crate::outcome::Rejection;
use crate::registry::{BodyError, encode};
use crate::replay::{Asked, Completion, OpKind};

impl<A: Dependencies> Cx<A> {
    /// Runs a side effect in this function's own activation, and records its result: once that is durable, `run` is
    /// never called again (R3). A crash before that runs it again, so give the outside [`Cx::idempotency_key`].
    ///
    /// It starts when the handle is first polled and everything recorded before is durable. A transient error is
    /// retried by the step's policy ([`StepHandle::retry`]); a terminal one is given at once.
    ///
    /// ```text
    /// let receipt = cx.step("gateway", || app.payments.charge(&key, &card, total)).await?;   // borrows locals
    /// ```
    ///
    /// # Errors
    /// The handle gives the last error of `run`.
    #[track_caller]
    pub fn step<'a, T, E, Fut, Run>(&mut self, name: &str, mut run: Run) -> StepHandle<'a, T, E>
    where
        T: Recorded,
        E: Failure,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
        Run: FnMut() -> Fut + Send + 'a,
    {
        let location = Location::caller();
        let asked = Asked { kind: OpKind::Step, name, input: None, location };
        let (position, _) = self.cell.ask(&asked);
        let cell = Arc::clone(&self.cell);
        let run = Box::new(move || Box::pin(run()) as Try<'a, T, E>);
        StepHandle { cell, position, location, policy: RetryPolicy::STEP, run, attempt: None }
    }
}

/// A try of a step.
type Try<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// A step. Await it for its result.
///
/// Its closure is boxed: a handle that had the types of closure and future could not be given to `join!` where the
/// closure borrows locals, for the compiler cannot tell then that the body may move between threads.
#[must_use = "a step does nothing unless it is awaited"]
pub struct StepHandle<'a, T, E> {
    cell: Arc<Cell>,
    position: Position,
    location: &'static Location<'static>,
    policy: RetryPolicy,
    run: Box<dyn FnMut() -> Try<'a, T, E> + Send + 'a>,
    /// The try under way.
    attempt: Option<Try<'a, T, E>>,
}

impl<T, E> StepHandle<'_, T, E> {
    /// Gives the step a retry policy of its own instead of [`RetryPolicy::STEP`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }
}

impl<T: Recorded, E: Failure> Future for StepHandle<'_, T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.cell.poll_step(self.position, context.waker(), self.location) {
            StepTurn::Ready(completion) => Poll::Ready(self.read(completion)),
            StepTurn::Wait => Poll::Pending,
            StepTurn::Run => {
                let done = self.run_on(context);
                self.cell.leave_step(done);
                Poll::Pending
            }
        }
    }
}

impl<T: Recorded, E: Failure> StepHandle<'_, T, E> {
    /// Polls the try under way, begun here if there is none. Its result is not given now: it is recorded first and
    /// delivered in the order of its number.
    fn run_on(&mut self, context: &mut Context<'_>) -> Option<StepDone> {
        let this = &mut *self;
        let attempt = this.attempt.get_or_insert_with(&mut this.run);
        let Poll::Ready(result) = attempt.as_mut().poll(context) else { return None };
        this.attempt = None;
        let result = match result {
            Ok(value) => Ok(encode(&value)),
            Err(error) => Err(BodyError::of(&error)),
        };
        Some(StepDone { position: this.position, policy: this.policy, result })
    }

    fn read(&self, completion: Completion) -> Result<T, E> {
        match completion {
            Completion::StepOk(value) => match serde_json::from_slice(&value) {
                Ok(value) => Ok(value),
                Err(error) => self.unreadable::<T>(&error),
            },
            Completion::StepErr(rejection) => Err(self.read_error(&rejection)),
            Completion::Call { .. } | Completion::SleepEnded | Completion::Started(_) => {
                self.unreadable::<T>(&"the completion of another kind of operation")
            }
        }
    }

    fn read_error(&self, rejection: &Bytes) -> E {
        let rejection = match Rejection::read(rejection) {
            Ok(rejection) => rejection,
            Err(error) => self.unreadable::<E>(&error),
        };
        let error = rejection.error.as_ref().map_or("null", |error| error.get());
        match serde_json::from_str(error) {
            Ok(error) => error,
            Err(error) => self.unreadable::<E>(&error),
        }
    }

    fn unreadable<V>(&self, error: &dyn std::fmt::Display) -> ! {
        self.cell.unreadable(self.position, std::any::type_name::<V>(), error)
    }
}

impl<T, E> Drop for StepHandle<'_, T, E> {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}
