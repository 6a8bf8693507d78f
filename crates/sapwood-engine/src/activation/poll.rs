//! Polls a body: with a waker of ours, outside of tokio's budget, and with panics caught.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::future::BoxFuture;
use sapwood_core::Position;
use sapwood_core::json::NotRecordable;

use super::cell::{Cell, How, StopMarker};
use super::report::{Finish, Notice, Polled, Report, RetryBasis, Stand, StartOrder, Stop, Work};
use super::waker::BodyWaker;
use crate::payload::{BodyResult, Parked, ParkedCode, excerpt};

/// The future of a function's body.
pub(crate) type Body = BoxFuture<'static, Result<BodyResult, NotRecordable>>;

/// How often in a row a body may wake itself before it gets a completion all the same: far more than the branches of a
/// body tell each other, few enough that one that wakes itself without end holds up nothing.
const REACTIONS: u32 = 64;

/// What a body takes of memory besides its future and the results that it was given: its cell, its wakers, its script. As
/// measured, rounded up.
const BODY_BYTES: usize = 3 * 1024;

/// A body in memory. After a poll, and after news of its operations, it reports how it goes on.
pub(crate) struct Activation {
    cell: Arc<Cell>,
    /// `None` only while it is dropped.
    body: Option<Body>,
    /// Its waker, which knows who woke it.
    state: Arc<BodyWaker>,
    /// The same waker, in the form that a poll takes.
    waker: Waker,
    /// In how many polls in a row it woke itself.
    reactions: u32,
}

impl Activation {
    pub(crate) fn new(cell: Arc<Cell>, body: Body, state: Arc<BodyWaker>) -> Self {
        let waker = Waker::from(Arc::clone(&state));
        cell.set_body(waker.clone());
        Self { cell, body: Some(body), state, waker, reactions: 0 }
    }

    /// Polls the body once. With `deliver`, the poll makes the next completion ready, unless the body woke itself. Then
    /// it first reacts to its own wake, so that a replay, which has more completions to deliver, takes the same polls.
    pub(crate) fn poll(&mut self, deliver: bool) -> (Polled, Report) {
        let deliver = deliver && !self.reacts_first();
        self.reactions = if self.state.is_by_itself() { self.reactions + 1 } else { 0 };
        if self.state.take_by_another() {
            self.cell.woken_by_another();
        }
        // This poll answers every wake that was raised before it begins, so the driver need not be told of those.
        self.state.raise();
        self.cell.begin_poll(deliver);
        self.state.lower();
        let polled = if self.cell.is_stopped() { Ok(Poll::Pending) } else { self.poll_body() };
        let waits = matches!(polled, Ok(Poll::Pending));
        let after = self.cell.end_poll(waits, || self.state.is_raised());
        let polled = match (after.how, polled) {
            (How::Stopped(Stop::Parked(parked)), _) => Polled::Finished(Finish::Parked(parked)),
            (How::Stopped(Stop::Limit(limit)), _) => Polled::Finished(Finish::Limited(limit)),
            (How::Stopped(Stop::StepTimedOut(message)), _) => Polled::Finished(Finish::StepTimedOut(message)),
            (How::Waits(stand, work), _) => Polled::Pending(stand, work),
            (How::Ended { retry, .. }, Err(payload)) if payload.is::<StopMarker>() => {
                let message = "it polled a handle of another function's body: handles stay in the body that made them";
                let parked = Parked::new(ParkedCode::Misuse, message, retry.position, retry.location());
                Polled::Finished(Finish::Parked(parked))
            }
            (How::Ended { retry, .. }, Err(payload)) => {
                Polled::Finished(Finish::Panicked(panic_message(payload), self.with_chance(retry)))
            }
            (How::Ended { unasked: Some(parked), .. }, _) => Polled::Finished(Finish::Parked(parked)),
            (How::Ended { retry, .. }, Ok(Poll::Ready(Err(error)))) => {
                let message = format!("the result of the function: {error}");
                let parked = Parked::new(ParkedCode::NotRecordable, message, retry.position, retry.location());
                Polled::Finished(Finish::Parked(parked))
            }
            (How::Ended { retry, .. }, Ok(Poll::Ready(Ok(result)))) => {
                let may_retry = matches!(&result, Err(error) if error.transient);
                let retry = if may_retry { self.with_chance(retry) } else { retry };
                Polled::Finished(Finish::Returned(result, retry))
            }
            (How::Ended { .. }, Ok(Poll::Pending)) => unreachable!("a body that waits has not ended"),
        };
        (polled, after.report)
    }

    fn poll_body(&mut self) -> std::thread::Result<Poll<Result<BodyResult, NotRecordable>>> {
        let mut context = Context::from_waker(&self.waker);
        let Some(body) = &mut self.body else { return Ok(Poll::Pending) };
        // After a panic the body is dropped, so nothing looks at what the panic left half done.
        self.state.polled(|| {
            catch_unwind(AssertUnwindSafe(|| {
                std::pin::pin!(tokio::task::coop::unconstrained(body.as_mut())).poll(&mut context)
            }))
        })
    }

    /// Tells the body what became of its operations; returns how it goes on then.
    pub(crate) fn tell(&mut self, notices: Vec<Notice>) -> (Stand, Work) {
        self.cell.tell(notices, || self.state.is_raised())
    }

    /// Lets every wanted step begin in the next poll, and takes the starts that were ordered, because everything recorded
    /// is durable. `None` if the body goes on by itself first.
    pub(crate) fn grant(&mut self) -> Option<Vec<(Position, StartOrder)>> {
        // The driver polls next, and that poll spends this wake: it need not be told of it.
        self.cell.grant(self.reacts_first(), || self.state.raise())
    }

    /// Whether a start that this body ordered is in flight.
    pub(crate) fn awaits_start(&self, position: Position) -> bool {
        self.cell.awaits_start(position)
    }

    /// Whether it has a transaction open, which may be one that waits to be committed.
    pub(crate) fn has_transaction(&self) -> bool {
        self.cell.has_transaction()
    }

    /// The transaction of a step is committed now, and no longer open.
    pub(crate) fn commits_step(&self, position: Position) {
        self.cell.commits_step(position);
    }

    /// The end of a step was never: its transaction was rolled back.
    pub(crate) fn void_step(&self, position: Position) {
        self.cell.void_step(position);
    }

    /// Whether the body has dropped the handle of an operation, or has its result.
    pub(crate) fn is_done(&self, position: Position) -> bool {
        self.cell.is_done(position)
    }

    /// It is left behind, because its tree is loaded again: whether a step of it is in flight. Starts that it ordered are
    /// forgotten: they are idempotent, and the next body orders them again.
    pub(crate) fn is_left_behind(&self) -> bool {
        self.cell.forget_starts()
    }

    /// From now on it is the body of another node, of the tree that was loaded again.
    pub(crate) fn is_of(&mut self, node: u32) {
        self.state.is_of(node);
    }

    /// What it takes of memory at most, in bytes, as far as that is known: its future, and what it was given.
    pub(crate) fn bytes(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |body| std::mem::size_of_val(&**body));
        BODY_BYTES + body + self.cell.held_bytes()
    }

    /// Whether the body woke itself, and reacts to that before anything else happens to it.
    fn reacts_first(&self) -> bool {
        self.state.is_by_itself() && self.reactions < REACTIONS
    }

    fn with_chance(&self, retry: RetryBasis) -> RetryBasis {
        let facts = self.cell.facts();
        RetryBasis { ended_at: facts.clock.now(), fraction: facts.environment.fraction(), ..retry }
    }
}

impl Drop for Activation {
    /// Drops the body. Its own values are dropped with it, and their `Drop` is an author's code, which may panic: that
    /// ends here, and concerns nothing else.
    fn drop(&mut self) {
        self.cell.end();
        let body = self.body.take();
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(body))) {
            let (tree, path, message) = (self.cell.facts().tree, self.cell.path(), panic_message(payload));
            tracing::error!(%tree, %path, "a value of the body panicked as it was dropped: {message}");
        }
    }
}

/// What a panic says. What it carries is dropped here, and may be of an author's type that panics as it is dropped.
pub(crate) fn panic_message(payload: Box<dyn Any + Send>) -> String {
    let message = if let Some(text) = payload.downcast_ref::<&str>() {
        excerpt(*text)
    } else if let Some(text) = payload.downcast_ref::<String>() {
        excerpt(text.as_str())
    } else {
        "a panic without a message".to_owned()
    };
    if let Err(another) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // It may be of the same type: to drop it could go on without end.
        std::mem::forget(another);
    }
    message
}
