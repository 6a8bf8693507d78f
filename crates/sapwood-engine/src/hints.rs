//! Hints across the processes of a store: received one by one, sent in batches, and never part of a commit of trees.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use sapwood_core::TreeId;
use sapwood_core::store::{Hint, Store};
use tokio::sync::Notify;

use crate::due::Due;

/// How long hints are gathered: a busy worker sends at most twenty batches per second, and a waiter in another process
/// learns of an outcome at most this much later.
const GATHER: Duration = Duration::from_millis(50);

/// The hints that this worker is to send: one flag per kind, however many trees raise it.
#[derive(Default)]
pub(crate) struct Hinter {
    settled: AtomicBool,
    emitted: AtomicBool,
    /// Wakes the sender when a flag is raised.
    raised: Notify,
}

impl Hinter {
    /// A tree has settled.
    pub(crate) fn settled(&self) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.raised.notify_one();
        }
    }

    fn emitted(&self) {
        if !self.emitted.swap(true, Ordering::AcqRel) {
            self.raised.notify_one();
        }
    }

    fn take(&self) -> Vec<Hint> {
        let settled = self.settled.swap(false, Ordering::AcqRel).then_some(Hint::Settled);
        let emitted = self.emitted.swap(false, Ordering::AcqRel).then_some(Hint::Outbox);
        settled.into_iter().chain(emitted).collect()
    }

    /// Sends until the task is dropped.
    pub(crate) async fn send(self: Arc<Self>, store: Arc<dyn Store>) {
        loop {
            self.raised.notified().await;
            tokio::time::sleep(GATHER).await;
            let hints = self.take();
            // Without the hint, other processes only wait until their next poll.
            if !hints.is_empty()
                && let Err(error) = store.hint(&hints).await
            {
                tracing::debug!("hints were not sent: {error}");
            }
        }
    }
}

/// Raised when events of this process were committed: wakes the relay here and those of other processes.
pub(crate) struct OutboxSignal {
    /// Wakes the relay of this process.
    pub(crate) here: Arc<Notify>,
    /// Another worker may publish the lanes of these events.
    pub(crate) hinter: Arc<Hinter>,
}

impl OutboxSignal {
    pub(crate) fn emitted(&self) {
        self.here.notify_one();
        self.hinter.emitted();
    }
}

/// Where hints about trees go.
pub(crate) trait HeedsTrees {
    /// A tree of another process may have settled.
    fn look_again(&self);

    /// A request was made for a tree, with this number of its control counter.
    fn governed(&self, tree: TreeId, control: u32);

    /// What was told of any tree may have been missed.
    fn missed(&self);

    /// Something outside settled what a tree waits for, with this number of its inbox counter.
    fn settled(&self, tree: TreeId, inbox: u32);
}

/// Receives hints until the store closes.
pub(crate) async fn receive(store: Arc<dyn Store>, due: Arc<Due>, outbox: Arc<Notify>, trees: Arc<impl HeedsTrees>) {
    let mut hints = store.hints();
    // What was given before this moment was missed.
    let mut next = Some(Hint::Missed);
    while let Some(hint) = next {
        match hint {
            Hint::Missed => {
                due.raise();
                outbox.notify_one();
                trees.missed();
            }
            Hint::Ready => due.raise(),
            Hint::Outbox => outbox.notify_one(),
            Hint::Settled => trees.look_again(),
            Hint::Governed(tree, control) => trees.governed(tree, control),
            Hint::Inbox(tree, inbox) => trees.settled(tree, inbox),
            // The log broker has a listener of its own.
            Hint::Log(_) => {}
        }
        next = hints.next().await;
    }
}
