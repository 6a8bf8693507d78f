//! What settles outside of a tree while it is driven: its driver is told, reads it, and records it.

use std::sync::Arc;

use sapwood_core::store::StoreResult;
use sapwood_core::tree::SettledPromise;

use super::{Driver, Outside};
use crate::tree::hold::Stage;

impl Driver {
    /// Whether something has settled from outside that is not recorded yet.
    pub(super) fn has_news(&self) -> bool {
        self.is_hearing || self.tree.has_settled() || self.is_to_ask()
    }

    fn is_to_ask(&self) -> bool {
        self.told > self.tree.inbox() || self.tree.asks_for_settles()
    }

    /// Reads what has settled from outside, if this worker was told that something has, and records what was read, unless
    /// nothing may be recorded now.
    pub(super) fn look_into_inbox(&mut self, stage: Stage) {
        if stage != Stage::Holding {
            let woken = self.tree.take_settled();
            self.queue_all(woken);
        }
        if self.is_hearing || !self.is_to_ask() {
            return;
        }
        // A hint may be wrong: what is not there is asked for once.
        self.told = 0;
        self.tree.asked_for_settles();
        self.is_hearing = true;
        let (services, tree, after) = (Arc::clone(&self.services), self.tree.id(), self.tree.inbox());
        self.outside.push(Box::pin(async move { Outside::Heard(services.promise_inbox(tree, after).await) }));
    }

    pub(super) fn heard(&mut self, settled: StoreResult<Vec<SettledPromise>>) {
        self.is_hearing = false;
        match settled {
            Ok(settled) => self.tree.hears(settled),
            // It was repeated until the store answered: loading the tree meets the same row, and sets it aside.
            Err(error) => {
                tracing::error!(tree = %self.tree.id(), "what has settled cannot be read: {error}");
                self.is_outdated = true;
            }
        }
    }
}
