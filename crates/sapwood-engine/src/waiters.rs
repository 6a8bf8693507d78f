//! Those who wait for the outcome of a tree: told by the commit that settles it, without a read.

use std::collections::HashMap;

use parking_lot::Mutex;
use sapwood_core::TreeId;
use sapwood_core::store::Outcome;
use tokio::sync::oneshot;

/// See the module.
#[derive(Default)]
pub(crate) struct Waiters {
    seats: Mutex<HashMap<TreeId, Vec<oneshot::Sender<Outcome>>>>,
}

/// A waiter's place.
pub(crate) struct Seat {
    told: oneshot::Receiver<Outcome>,
}

impl Waiters {
    pub(crate) fn seat(&self, tree: TreeId) -> Seat {
        let (tell, told) = oneshot::channel();
        let mut seats = self.seats.lock();
        let waiting = seats.entry(tree).or_default();
        // Who gave up leaves an empty seat behind; the next to come clears it away.
        waiting.retain(|seat| !seat.is_closed());
        waiting.push(tell);
        Seat { told }
    }

    pub(crate) fn settled(&self, tree: TreeId, outcome: Outcome) {
        for seat in self.seats.lock().remove(&tree).unwrap_or_default() {
            // Who gave up is not told.
            let _ = seat.send(outcome.clone());
        }
    }

    /// Makes those look again who wait for trees that `elsewhere` names.
    pub(crate) fn look_again(&self, elsewhere: impl Fn(&TreeId) -> bool) {
        self.seats.lock().retain(|tree, _| !elsewhere(tree));
    }

    pub(crate) fn clear(&self) {
        self.seats.lock().clear();
    }
}

impl Seat {
    /// The outcome; `None` means look again.
    pub(crate) async fn wait(self) -> Option<Outcome> {
        self.told.await.ok()
    }
}
