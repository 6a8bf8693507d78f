//! `cx.step`: a side effect whose result is memoized.

use std::panic::Location;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use sapwood_core::failure::CallFailureKind;
use sapwood_core::json::NotRecordable;
use sapwood_core::retry::RetryPolicy;
use sapwood_core::{CallFailure, Dependencies, Failure, Position};

use tokio::time::Sleep;

use super::Cx;
use super::result::StepResult;
use crate::activation::{Cell, StepKind, StepPoll, StepWaker};
use crate::function::Recordable;
use crate::payload::{BodyError, BodyResult, record_and_read};
use crate::replay::{Asked, OpKind};

impl<D: Dependencies> Cx<D> {
    /// Runs a side effect in this function's own activation, and records its result: once that is durable, `run` is
    /// never called again (R3). A crash before that runs it again, so give the outside [`Cx::idempotency_key`].
    ///
    /// It starts when the handle is first polled and everything recorded before is durable. A transient error is
    /// retried by the step's policy ([`StepHandle::retry`]); a terminal one is given at once.
    ///
    /// ```text
    /// let receipt = cx.step("gateway", || dependencies.payments.charge(&key, &card, total)).await?;   // borrows locals
    /// ```
    ///
    /// # Errors
    /// The handle gives the last error of `run`.
    #[track_caller]
    pub fn step<'a, T, E, Fut, Run>(&mut self, name: &str, mut run: Run) -> StepHandle<'a, T, E>
    where
        T: Recordable,
        E: Failure,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
        Run: FnMut() -> Fut + Send + 'a,
    {
        let location = Location::caller();
        let asked = Asked { kind: OpKind::Step, name, input: None, location };
        let (position, _) = self.cell.ask(&asked);
        let cell = Arc::clone(&self.cell);
        let run = Box::new(move || Box::pin(run()) as Attempt<'a, T, E>);
        let timeout = cell.facts().step_timeout;
        StepHandle {
            cell,
            position,
            location,
            policy: RetryPolicy::STEP,
            timeout,
            kind: StepKind::Binding,
            run,
            attempt: None,
            result: StepResult::new(),
            waker: None,
        }
    }
}

/// An attempt under way.
struct Running<'a, T, E> {
    attempt: Attempt<'a, T, E>,
    /// Ends it.
    timer: Option<(Duration, Pin<Box<Sleep>>)>,
}

/// An attempt of a step.
type Attempt<'a, T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send + 'a>>;

/// A step. Await it for its result.
///
/// Its closure is boxed. If the handle had the types of closure and future, and the closure borrowed locals, the handle
/// could not be given to `join!`, because the compiler could not prove that the body may move between threads.
#[must_use = "a step does nothing unless it is awaited"]
pub struct StepHandle<'a, T, E> {
    cell: Arc<Cell>,
    position: Position,
    location: &'static Location<'static>,
    policy: RetryPolicy,
    /// How long an attempt may take.
    timeout: Option<Duration>,
    /// Whether a cancellation drops an attempt under way.
    kind: StepKind,
    run: Box<dyn FnMut() -> Attempt<'a, T, E> + Send + 'a>,
    /// The attempt under way; `None` between two attempts.
    attempt: Option<Running<'a, T, E>>,
    result: StepResult<T, E>,
    /// What the attempt was last polled with.
    waker: Option<StepWaker>,
}

impl<T, E> StepHandle<'_, T, E> {
    /// Gives the step a retry policy of its own instead of [`RetryPolicy::STEP`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Gives each attempt this time. One that takes longer is dropped, and counts like a transient error; so what it began
    /// in the outside world may still come about.
    ///
    /// If the last attempt times out, the handle gives the error's variant that is marked `#[failure(call)]`, with
    /// [`CallFailureKind::TimedOut`]. If the type has none, the function ends, and its caller is told.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Lets a cancellation interrupt the step: an attempt under way is dropped where it waits, and nothing of it is recorded.
    /// Without this, a cancellation waits until the attempt has ended, and its result is recorded (K4). For what may wait long
    /// and has no effect that would have to be known.
    pub fn interruptible(mut self) -> Self {
        self.kind = StepKind::Interruptible;
        self
    }
}

impl<T: Recordable, E: Failure> Future for StepHandle<'_, T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.cell.poll_step(self.position, task.waker(), self.location, self.kind) {
            StepPoll::Ready(completion) => {
                let this = &mut *self;
                Poll::Ready(this.result.read(&this.cell, (this.position, this.location), completion))
            }
            StepPoll::Wait => Poll::Pending,
            StepPoll::Run => {
                let result = self.run_on(task);
                self.cell.leave_step(self.position, &self.policy, self.location, result, None);
                Poll::Pending
            }
        }
    }
}

impl<T: Recordable, E: Failure> StepHandle<'_, T, E> {
    /// Polls the attempt under way; begins one if there is none. Its result is not given now: it is recorded first and
    /// delivered in the order of its number.
    fn run_on(&mut self, task: &mut Context<'_>) -> Option<Result<BodyResult, NotRecordable>> {
        let this = &mut *self;
        let waker = StepWaker::of(task.waker(), &mut this.waker);
        let task = &mut Context::from_waker(&waker);
        let (run, timeout) = (&mut this.run, this.timeout);
        let running = this.attempt.get_or_insert_with(|| Running {
            attempt: run(),
            timer: timeout.map(|timeout| (timeout, Box::pin(tokio::time::sleep(timeout)))),
        });
        let ended = match running.attempt.as_mut().poll(task) {
            Poll::Ready(Ok(value)) => record_and_read(&value).map(|(stored, read)| {
                this.result.keep(read);
                Ok(stored)
            }),
            Poll::Ready(Err(error)) => BodyError::of(&error).map(Err),
            Poll::Pending => {
                let (timeout, timer) = running.timer.as_mut()?;
                if timer.as_mut().poll(task).is_pending() {
                    return None;
                }
                timed_out::<E>(&this.cell, this.position, *timeout)
            }
        };
        this.attempt = None;
        Some(ended)
    }
}

/// What an attempt ends with that took too long.
pub(super) fn timed_out<E: Failure>(
    cell: &Cell,
    position: Position,
    timeout: Duration,
) -> Result<BodyResult, NotRecordable> {
    let (name, attempts) = cell.step(position);
    let failure = CallFailure {
        function: format!("step {name}"),
        path: cell.path().child(position).to_string(),
        attempts: attempts + 1,
        kind: CallFailureKind::TimedOut,
    };
    BodyError::timed_out::<E>(format!("step {name} timed out after {timeout:?}"), failure).map(Err)
}

impl<T, E> Drop for StepHandle<'_, T, E> {
    fn drop(&mut self) {
        self.cell.dropped(self.position);
    }
}
