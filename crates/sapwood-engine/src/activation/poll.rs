//! Polls a body: with a waker of ours, outside of tokio's budget, and with panics caught.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::future::BoxFuture;
use sapwood_core::Position;
use sapwood_core::json::NotRecordable;

use super::cell::{Cell, How};
use super::report::{Finish, Notice, Polled, Report, RetryBasis, Stand, StartOrder, Stop, Work};
use crate::payload::{BodyResult, Parked, ParkedCode};

/// The future of a function's body.
pub(crate) type Body = BoxFuture<'static, Result<BodyResult, NotRecordable>>;

/// Receives the wakes of bodies; a trait, so that a body knows nothing of its driver's mailbox.
pub(crate) trait Wakes: Send + Sync {
    /// The body of node `node` wants to be polled.
    fn woken(&self, node: u32);
}

/// The waker of one body. While it is raised, a further wake sends nothing.
pub(crate) struct BodyWaker {
    node: u32,
    raised: AtomicBool,
    wakes: Arc<dyn Wakes>,
}

impl BodyWaker {
    pub(crate) fn new(node: u32, wakes: Arc<dyn Wakes>) -> Arc<Self> {
        Arc::new(Self { node, raised: AtomicBool::new(false), wakes })
    }
}

impl Wake for BodyWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            self.wakes.woken(self.node);
        }
    }
}

/// A body in memory. After a poll, and after news of its operations, it reports how it goes on.
pub(crate) struct Activation {
    cell: Arc<Cell>,
    body: Body,
    /// Its waker, to see whether it is raised.
    state: Arc<BodyWaker>,
    /// The same waker, in the form that a poll takes.
    waker: Waker,
}

impl Activation {
    pub(crate) fn new(cell: Arc<Cell>, body: Body, state: Arc<BodyWaker>) -> Self {
        let waker = Waker::from(Arc::clone(&state));
        Self { cell, body, state, waker }
    }

    /// Polls the body once. With `deliver`, the poll makes the next completion ready, unless the body woke itself. Then
    /// it first reacts to its own wake, so that a replay, which has more completions to deliver, takes the same polls.
    pub(crate) fn poll(&mut self, deliver: bool) -> (Polled, Report) {
        let deliver = deliver && !self.is_woken();
        // This poll answers every wake that was raised before it begins, so the driver need not be told of those.
        self.state.raised.store(true, Ordering::Release);
        self.cell.begin_poll(deliver);
        // Acquire pairs with the Release of the thread that raised the waker: the poll sees what it did before that.
        self.state.raised.swap(false, Ordering::AcqRel);
        let mut context = Context::from_waker(&self.waker);
        // After a panic the body is dropped, so nothing looks at what the panic left half done.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let body = std::pin::pin!(tokio::task::coop::unconstrained(self.body.as_mut()));
            body.poll(&mut context)
        }));
        let waits = matches!(polled, Ok(Poll::Pending));
        let after = self.cell.end_poll(waits, || self.is_woken());
        let polled = match (after.how, polled) {
            (How::Stopped(Stop::Parked(parked)), _) => Polled::Finished(Finish::Parked(parked)),
            (How::Stopped(Stop::Limit(limit)), _) => Polled::Finished(Finish::Limited(limit)),
            (How::Waits(stand, work), _) => Polled::Pending(stand, work),
            (How::Ended { retry, .. }, Err(payload)) => {
                Polled::Finished(Finish::Panicked(panic_message(payload.as_ref()), self.with_chance(retry)))
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

    /// Tells the body what became of its operations; returns how it goes on then.
    pub(crate) fn tell(&mut self, notices: Vec<Notice>) -> (Stand, Work) {
        self.cell.tell(notices, || self.is_woken())
    }

    /// Lets every wanted step begin, and takes the starts that were ordered, because everything recorded is durable.
    /// `None` if the body goes on by itself first.
    pub(crate) fn grant(&mut self) -> Option<Vec<(Position, StartOrder)>> {
        self.cell.grant(
            || self.is_woken(),
            // The driver polls next, and that poll spends this wake: it need not be told of it.
            || self.state.raised.store(true, Ordering::Release),
        )
    }

    /// Whether a start that this body ordered is in flight.
    pub(crate) fn awaits_start(&self, position: Position) -> bool {
        self.cell.awaits_start(position)
    }

    fn with_chance(&self, retry: RetryBasis) -> RetryBasis {
        let environment = &self.cell.facts().environment;
        RetryBasis { ended_at: environment.now(), fraction: environment.fraction(), ..retry }
    }

    /// Whether the body asked to be polled again since the last poll began.
    fn is_woken(&self) -> bool {
        self.state.raised.load(Ordering::Acquire)
    }
}

impl Drop for Activation {
    fn drop(&mut self) {
        self.cell.end();
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without a message".to_owned()
    }
}
