//! The mailbox of a tree: what happened outside of its task, read by the driver.

use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use parking_lot::Mutex;
use sapwood_core::store::Turn;

use super::node::NodeId;
use crate::activation::Wakes;

/// What is reported to a tree's driver.
#[derive(Debug)]
pub(crate) enum Signal {
    /// A body wants to be polled.
    Woken(NodeId),
    /// The turn under way is durable.
    Committed,
    /// The turn under way was refused: the tree is not as this worker knew it.
    Refused(Box<Turn>),
    /// The store refuses the turn under way for good.
    Failed(String),
    /// A request was made for the tree; with the number that it gave the control counter.
    Governed(u32),
    /// Something outside settled what the tree waits for; with the number that it gave the inbox counter.
    Settled(u32),
    /// The clock was moved: read it again.
    Poke,
    /// Start nothing new; release the tree when nothing is in flight.
    Drain,
    /// Stop at once, as if the process had died.
    Kill,
}

/// The mailbox of one tree.
#[derive(Default)]
pub(crate) struct Mailbox {
    signals: Mutex<Vec<Signal>>,
    /// Wakes the driver's task.
    waker: AtomicWaker,
}

impl Mailbox {
    pub(crate) fn send(&self, signal: Signal) {
        self.signals.lock().push(signal);
        self.waker.wake();
    }

    /// Takes all signals. Never ready with an empty list.
    pub(crate) fn poll(&self, task: &mut Context<'_>) -> Poll<Vec<Signal>> {
        self.waker.register(task.waker());
        let signals = std::mem::take(&mut *self.signals.lock());
        if signals.is_empty() { Poll::Pending } else { Poll::Ready(signals) }
    }
}

impl Wakes for Mailbox {
    fn woken(&self, node: NodeId) {
        self.send(Signal::Woken(node));
    }
}
