//! Where a tree is told what happened: one mailbox a tree, read by the task that drives it.

use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use sapwood_core::store::Verdict;

use super::NodeId;
use crate::activation::Wakes;

/// What a tree is told.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A body wants to be polled.
    Woken(NodeId),
    /// What became of the turn in flight.
    Verdict(Result<Verdict, String>),
    /// Look again: the clock moved, or the lease is good again.
    Poke,
    /// Start nothing new, give the tree up when nothing is in flight.
    Drain,
    /// Stop at once, as if the process had died.
    Kill,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Mailbox {
    signals: Mutex<Vec<Signal>>,
    waker: AtomicWaker,
}

impl Mailbox {
    pub(crate) fn send(&self, signal: Signal) {
        self.signals.lock().push(signal);
        self.waker.wake();
    }

    /// All signals there are; waits where there are none. Never ready with an empty list.
    pub(crate) fn poll(&self, context: &mut Context<'_>) -> Poll<Vec<Signal>> {
        self.waker.register(context.waker());
        let signals = std::mem::take(&mut *self.signals.lock());
        if signals.is_empty() { Poll::Pending } else { Poll::Ready(signals) }
    }
}

impl Wakes for Mailbox {
    fn woken(&self, node: NodeId) {
        self.send(Signal::Woken(node));
    }
}
