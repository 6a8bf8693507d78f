//! `cx.step`: a side effect whose result is memoized.

use std::marker::PhantomData;
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
    /// ```ignore
    /// let receipt = cx.step("gateway", || app.payments.charge(&key, &card, total)).await?;   // borrows locals
    /// ```
    ///
    /// # Errors
    /// The handle gives the last error of `run`.
    #[track_caller]
    pub fn step<T, E, Fut, Run>(&mut self, name: &str, run: Run) -> StepHandle<T, E, Fut, Run>
    where
        T: Recorded,
        E: Failure,
        Fut: Future<Output = Result<T, E>>,
        Run: FnMut() -> Fut,
    {
        let location = Location::caller();
        let asked = Asked { kind: OpKind::Step, name, input: None, location };
        let (position, _) = self.cell.ask(&asked);
        let cell = Arc::clone(&self.cell);
        StepHandle { cell, position, location, policy: RetryPolicy::STEP, run, attempt: None, result: PhantomData }
    }
}

/// A step. Await it for its result.
#[must_use = "a step does nothing unless it is awaited"]
pub struct StepHandle<T, E, Fut, Run> {
    cell: Arc<Cell>,
    position: Position,
    location: &'static Location<'static>,
    policy: RetryPolicy,
    run: Run,
    /// The try under way.
    attempt: Option<Pin<Box<Fut>>>,
    result: PhantomData<fn() -> (T, E)>,
}

impl<T, E, Fut, Run> StepHandle<T, E, Fut, Run> {
    /// Gives the step a retry policy of its own instead of [`RetryPolicy::STEP`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }
}

// The try under way is boxed, everything else is moved freely between polls.
impl<T, E, Fut, Run> Unpin for StepHandle<T, E, Fut, Run> {}

impl<T, E, Fut, Run> Future for StepHandle<T, E, Fut, Run>
where
    T: Recorded,
    E: Failure,
    Fut: Future<Output = Result<T, E>>,
    Run: FnMut() -> Fut,
{
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

impl<T, E, Fut, Run> StepHandle<T, E, Fut, Run>
where
    T: Recorded,
    E: Failure,
    Fut: Future<Output = Result<T, E>>,
    Run: FnMut() -> Fut,
{
    /// Polls the try under way, begun here if there is none. Its result is not given now: it is recorded first and
    /// delivered in the order of its number.
    fn run_on(&mut self, context: &mut Context<'_>) -> Option<StepDone> {
        let this = &mut *self;
        let attempt = this.attempt.get_or_insert_with(|| Box::pin((this.run)()));
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

impl<T, E, Fut, Run> Drop for StepHandle<T, E, Fut, Run> {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}
