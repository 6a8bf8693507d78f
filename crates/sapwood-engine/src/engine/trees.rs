//! Which trees are driven here: begun, claimed, given up, looked for.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use sapwood_core::TreeId;
use sapwood_core::store::{Claimed, NewTree, StoreResult, TreeFilter};
use sapwood_core::tree::{Cause, TreeState};
use tokio::sync::oneshot;

use super::{Driven, Inner};
use crate::activation::Facts;
use crate::tree::{Driver, Ended, Signal, Tree};

/// Trees looked at in one read for those that were lost.
const STRAYS_PAGE: usize = 500;

impl Inner {
    /// Drives a tree that was inserted a moment ago, owned by this worker.
    pub(crate) fn run_begun(self: &Arc<Self>, new: NewTree) {
        let facts = self.facts(new.id, &new.cause);
        let tree = Tree::begun(new, facts, &self.registry, false);
        self.drive(Box::new(tree), None, false);
    }

    /// Drives a tree that was claimed: from memory, where its bodies are as the claim found it, else from its rows.
    pub(crate) async fn run_claimed(self: &Arc<Self>, claimed: Claimed) {
        if let Some(driven) = self.owned.lock().get_mut(&claimed.row.id) {
            driven.claimed_again = Some(claimed);
            return;
        }
        let Claimed { row, taken_over } = claimed;
        let cached = self.cache.as_ref().and_then(|cache| cache.lock().pop(&row.id));
        if let Some(mut tree) = cached.filter(|tree| !taken_over && tree.revision + 1 == row.revision) {
            tree.refresh(&row);
            return self.drive(tree, None, true);
        }
        match self.tree_load(row.id).await {
            Ok(Some(image)) => {
                let facts = self.facts(row.id, &image.row.cause);
                self.drive(Box::new(Tree::loaded(image, facts, &self.registry)), None, !taken_over);
            }
            Ok(None) => tracing::error!(tree = %row.id, "a claimed tree has no rows"),
            Err(error) => tracing::error!(tree = %row.id, "a claimed tree could not be loaded: {error}"),
        }
    }

    pub(super) fn drive(self: &Arc<Self>, tree: Box<Tree>, born: Option<oneshot::Sender<()>>, is_due: bool) {
        let id = tree.id();
        {
            let mut owned = self.owned.lock();
            if owned.contains_key(&id) {
                // A start that was sent twice; the tree runs already.
                return;
            }
            owned.insert(id, Driven { mailbox: Arc::clone(&tree.mailbox), claimed_again: None });
        }
        let mut driver = Driver::new(tree, Arc::clone(self), born);
        if is_due {
            driver = driver.claimed_when_due();
        }
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            // Polls catch the panics of bodies; what else runs of an author's code, a `Drop`, a decoder, is caught here.
            let drive = AssertUnwindSafe(driver.drive()).catch_unwind();
            let ended = drive.await.unwrap_or_else(|_| Ended::Failed("a panic outside of a body's poll".to_owned()));
            engine.ended(id, ended);
        });
    }

    pub(super) fn ended(self: &Arc<Self>, id: TreeId, ended: Ended) {
        let driven = self.owned.lock().remove(&id);
        match ended {
            Ended::Settled { tree, outcome } => {
                self.waiters.settled(tree, outcome);
                self.hinter.settled();
            }
            Ended::Released { tree, ready_at } => {
                if let Some(cache) = &self.cache {
                    cache.lock().put(id, tree);
                }
                if let Some(ready_at) = ready_at {
                    self.claim_signal.due(ready_at);
                }
            }
            Ended::Refused => self.reload(id, None),
            Ended::Failed(error) => self.reload(id, Some(error)),
            Ended::Stopped => {}
        }
        if let Some(claimed) = driven.and_then(|driven| driven.claimed_again) {
            let engine = Arc::clone(self);
            self.spawn(async move { engine.run_claimed(claimed).await });
        }
        self.left.notify_waiters();
    }

    /// Looks again at a tree whose commit was refused: where it is this worker's still, it was changed from outside
    /// and goes on as its rows tell. One whose commit the store refused for good is parked as a whole, with `error`.
    pub(super) fn reload(self: &Arc<Self>, id: TreeId, error: Option<String>) {
        let engine = Arc::clone(self);
        self.spawn(async move {
            let Ok(Some(image)) = engine.tree_load(id).await else { return };
            if image.row.owner != Some(engine.worker) {
                return;
            }
            let facts = engine.facts(id, &image.row.cause);
            let mut tree = Tree::loaded(image, facts, &engine.registry);
            if let Some(error) = error {
                tree.park_all(&error);
            }
            engine.drive(Box::new(tree), None, false);
        });
    }

    /// Looks for trees that are this worker's and not driven here: those of a claim whose answer was lost. What the
    /// starter is about to adopt has revision 0 and is left to it.
    pub(crate) async fn reload_strays(self: &Arc<Self>) -> StoreResult<()> {
        let mut filter = TreeFilter { state: Some(TreeState::Running), limit: STRAYS_PAGE, ..TreeFilter::default() };
        loop {
            let rows = self.store.tree_list(&filter).await?;
            for row in &rows {
                let is_stray = row.owner == Some(self.worker) && row.revision > 0;
                if is_stray && !self.owned.lock().contains_key(&row.id) {
                    self.reload(row.id, None);
                }
            }
            match rows.last() {
                Some(last) if rows.len() == STRAYS_PAGE => filter.before = Some(last.id),
                _ => return Ok(()),
            }
        }
    }

    pub(super) fn facts(&self, tree: TreeId, cause: &Cause) -> Arc<Facts> {
        Arc::new(Facts {
            tree,
            context: self.context,
            correlation: cause.correlation.clone(),
            traceparent: cause.traceparent.clone(),
            lanes: self.lanes,
            limits: self.options.limits,
            clock: Arc::clone(&self.options.clock),
        })
    }

    pub(super) fn tell_trees(&self, signal: impl Fn() -> Signal) {
        let mailboxes: Vec<_> = self.owned.lock().values().map(|driven| Arc::clone(&driven.mailbox)).collect();
        mailboxes.into_iter().for_each(|mailbox| mailbox.send(signal()));
    }
}
