//! Polls a body: with a waker of ours, outside of tokio's budget, and with panics caught.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::cell::{Cell, Report, StopMarker};
use crate::registry::{Body, BodyResult};

/// Who is told that a body wants to be polled.
pub(crate) trait Wakes: Send + Sync {
    /// The body of node `node` wants to be polled.
    fn woken(&self, node: u32);
}

/// The waker of one body. While it is raised, further wakes cost nothing.
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

/// A body in memory.
pub(crate) struct Activation {
    pub(crate) cell: Arc<Cell>,
    body: Body,
    state: Arc<BodyWaker>,
    waker: Waker,
}

/// What a poll of a body came to.
pub(crate) enum Polled {
    /// It waits.
    Pending,
    /// It returned.
    Returned(BodyResult),
    /// It was stopped; the report says why.
    Stopped,
    /// It panicked, with this message.
    Panicked(String),
}

impl Activation {
    pub(crate) fn new(cell: Arc<Cell>, body: Body, state: Arc<BodyWaker>) -> Self {
        let waker = Waker::from(Arc::clone(&state));
        Self { cell, body, state, waker }
    }

    /// Polls the body once. Wakes that were raised before are spent by it; [`Self::is_woken`] tells of new ones.
    pub(crate) fn poll(&mut self, deliver: bool) -> (Polled, Report) {
        // What is woken until the poll begins is spent by it: the engine, which is here, need not be told.
        self.state.raised.store(true, Ordering::Release);
        self.cell.begin_poll(deliver);
        // The edge to whoever raised it: what they did before is seen by the poll.
        self.state.raised.swap(false, Ordering::AcqRel);
        let mut context = Context::from_waker(&self.waker);
        // The body is dropped after a panic; nothing looks at what it left half done.
        let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let body = std::pin::pin!(tokio::task::coop::unconstrained(self.body.as_mut()));
            body.poll(&mut context)
        }));
        let report = self.cell.end_poll();
        let polled = match polled {
            Ok(_) if report.stop.is_some() => Polled::Stopped,
            Ok(Poll::Pending) => Polled::Pending,
            Ok(Poll::Ready(result)) => Polled::Returned(result),
            Err(payload) if payload.is::<StopMarker>() => Polled::Stopped,
            Err(payload) => Polled::Panicked(panic_message(payload.as_ref())),
        };
        (polled, report)
    }

    /// Whether the body asked to be polled again since the last poll began.
    pub(crate) fn is_woken(&self) -> bool {
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
