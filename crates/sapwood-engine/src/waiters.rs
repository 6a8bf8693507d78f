//! Callers that wait for the outcome of a tree: the commit that settles it tells them, without a read.

use std::collections::HashMap;

use parking_lot::Mutex;
use sapwood_core::TreeId;
use sapwood_core::store::TreeOutcome;
use tokio::sync::oneshot;

/// Callers that wait, by the tree they wait for.
#[derive(Default)]
pub(crate) struct Waiters {
    /// Dropping a sender makes its caller read again.
    waiting: Mutex<HashMap<TreeId, Vec<oneshot::Sender<TreeOutcome>>>>,
}

/// One caller that waits.
pub(crate) struct Waiter {
    told: oneshot::Receiver<TreeOutcome>,
}

impl Waiters {
    pub(crate) fn wait_for(&self, tree: TreeId) -> Waiter {
        let (tell, told) = oneshot::channel();
        let mut waiting = self.waiting.lock();
        let waiters = waiting.entry(tree).or_default();
        // A caller that stopped waiting stays in the list until the next one comes.
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(tell);
        Waiter { told }
    }

    pub(crate) fn settled(&self, tree: TreeId, outcome: &TreeOutcome) {
        for waiter in self.waiting.lock().remove(&tree).unwrap_or_default() {
            // The caller may have stopped waiting.
            let _ = waiter.send(outcome.clone());
        }
    }

    /// Makes the callers read again that wait for trees for which `elsewhere` is true.
    pub(crate) fn look_again(&self, elsewhere: impl Fn(&TreeId) -> bool) {
        self.waiting.lock().retain(|tree, _| !elsewhere(tree));
    }
}

impl Waiter {
    /// Waits for the outcome; `None` means that the caller must read again.
    pub(crate) async fn told(self) -> Option<TreeOutcome> {
        self.told.await.ok()
    }
}
