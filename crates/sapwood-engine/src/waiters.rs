//! Callers that wait for the outcome of a tree: the commit that settles it tells them, without a read.

use std::collections::HashMap;

use parking_lot::Mutex;
use sapwood_core::TreeId;
use sapwood_core::store::TreeOutcome;
use tokio::sync::oneshot;

/// Callers that wait.
#[derive(Default)]
pub(crate) struct Waiters {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By the tree they wait for. Dropping a sender makes its caller read again.
    waiting: HashMap<TreeId, Vec<oneshot::Sender<TreeOutcome>>>,
    /// The outcomes of trees that have settled and that are driven here until they are closed: who comes later is told of
    /// them too.
    unclosed: HashMap<TreeId, TreeOutcome>,
}

/// One caller that waits.
pub(crate) struct Waiter {
    told: oneshot::Receiver<TreeOutcome>,
}

impl Waiters {
    pub(crate) fn wait_for(&self, tree: TreeId) -> Waiter {
        let (tell, told) = oneshot::channel();
        let mut state = self.state.lock();
        if let Some(outcome) = state.unclosed.get(&tree) {
            let _ = tell.send(outcome.clone());
            return Waiter { told };
        }
        let waiters = state.waiting.entry(tree).or_default();
        // A caller that stopped waiting stays in the list until the next one comes.
        waiters.retain(|waiter| !waiter.is_closed());
        waiters.push(tell);
        Waiter { told }
    }

    pub(crate) fn settled(&self, tree: TreeId, outcome: &TreeOutcome) {
        let mut state = self.state.lock();
        if !outcome.state.is_closed() {
            state.unclosed.insert(tree, outcome.clone());
        }
        for waiter in state.waiting.remove(&tree).unwrap_or_default() {
            // The caller may have stopped waiting.
            let _ = waiter.send(outcome.clone());
        }
    }

    /// A tree is no longer driven here: whoever asks for it reads.
    pub(crate) fn left(&self, tree: TreeId) {
        self.state.lock().unclosed.remove(&tree);
    }

    /// Makes the callers read again that wait for trees for which `elsewhere` is true.
    pub(crate) fn look_again(&self, elsewhere: impl Fn(&TreeId) -> bool) {
        self.state.lock().waiting.retain(|tree, _| !elsewhere(tree));
    }
}

impl Waiter {
    /// Waits for the outcome; `None` means that the caller must read again.
    pub(crate) async fn told(self) -> Option<TreeOutcome> {
        self.told.await.ok()
    }
}
