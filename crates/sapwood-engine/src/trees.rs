//! The trees that this worker drives: it starts, claims, releases and reloads them, and caches those it has released.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use parking_lot::Mutex;
use sapwood_core::TreeId;
use sapwood_core::store::{Claimed, NewTree, StoreResult, TreeFilter};
use sapwood_core::tree::{Cause, TreeState};
use tokio::sync::{Notify, oneshot};

use crate::cache::Cache;
use crate::definition::Definition;
use crate::due::Due;
use crate::error::StartError;
use crate::hints::Hinter;
use crate::options::CachePolicy;
use crate::services::Services;
use crate::starting::{StartReply, new_tree};
use crate::tasks::Tasks;
use crate::tree::{Driver, Ended, LiveTree, Mailbox, Signal, Tree};
use crate::waiters::Waiters;

/// Rows per read in the search for strays: a page of this size takes little memory, and a worker has few strays.
const STRAYS_PAGE: usize = 500;

/// The trees that this worker drives.
pub(crate) struct Trees {
    /// What each driver is given.
    services: Arc<Services>,
    /// Runs the drivers.
    tasks: Arc<Tasks>,
    /// Callers here that are told when a tree settles.
    waiters: Arc<Waiters>,
    /// Told when a tree settles: callers in other processes may wait for it.
    hinter: Arc<Hinter>,
    /// Told when a released tree will be due.
    due: Arc<Due>,
    /// The trees driven here: from the moment a driver begins until its end has been handled.
    driven: Mutex<HashMap<TreeId, Driven>>,
    /// Notified when a tree is no longer driven here.
    left: Notify,
    /// Released trees with their bodies.
    cache: Cache,
}

/// A tree that is driven here.
struct Driven {
    mailbox: Arc<Mailbox>,
    /// A claim of the tree that came before its driver heard of the release: a new driver follows this one.
    claimed_again: Option<Claimed>,
}

impl Trees {
    pub(crate) fn new(
        services: Arc<Services>,
        tasks: Arc<Tasks>,
        waiters: Arc<Waiters>,
        hinter: Arc<Hinter>,
        due: Arc<Due>,
        cache: CachePolicy,
    ) -> Self {
        let cache = Cache::new(cache);
        Self { services, tasks, waiters, hinter, due, driven: Mutex::default(), left: Notify::new(), cache }
    }

    /// Starts a tree that no other start contests: its first turn creates it. Returns once that turn is durable.
    pub(crate) async fn start(
        self: &Arc<Self>,
        definition: &Definition,
        input: Bytes,
        cause: Cause,
    ) -> Result<StartReply, StartError> {
        let new = new_tree(self.services.environment.as_ref(), definition, input, cause);
        let id = new.id;
        let facts = self.services.facts(id, &new.cause);
        let (created, is_created) = oneshot::channel();
        let tree = Tree::created(new, facts, &self.services.registry, true);
        self.drive(LiveTree::new(tree), Some(created), false);
        match is_created.await {
            Ok(()) => Ok(StartReply { tree: id, created: true }),
            Err(_) => Err(StartError::Draining),
        }
    }

    /// Drives a tree that the starter has just inserted, owned by this worker.
    pub(crate) fn run_created(self: &Arc<Self>, new: NewTree) {
        let facts = self.services.facts(new.id, &new.cause);
        let tree = Tree::created(new, facts, &self.services.registry, false);
        self.drive(LiveTree::new(tree), None, false);
    }

    /// Drives a tree that was claimed: from the cache, if nothing was committed since its release, else from its rows.
    pub(crate) async fn run_claimed(self: &Arc<Self>, claimed: Claimed) {
        if let Some(driven) = self.driven.lock().get_mut(&claimed.row.id) {
            driven.claimed_again = Some(claimed);
            return;
        }
        let Claimed { row, taken_over } = claimed;
        match self.cache.take(row.id) {
            Some(mut live) if !taken_over && live.is_as(&row) => {
                live.tree.refresh(&row);
                return self.drive(*live, None, true);
            }
            stale => drop(stale),
        }
        match self.services.tree_load(row.id).await {
            Ok(Some(image)) => {
                let facts = self.services.facts(row.id, &image.row.cause);
                let tree = Tree::loaded(image, facts, &self.services.registry);
                self.drive(LiveTree::new(tree), None, !taken_over);
            }
            Ok(None) => tracing::error!(tree = %row.id, "a claimed tree has no rows"),
            Err(error) => tracing::error!(tree = %row.id, "a claimed tree could not be loaded: {error}"),
        }
    }

    fn drive(self: &Arc<Self>, live: LiveTree, created: Option<oneshot::Sender<()>>, is_due: bool) {
        let id = live.tree.id();
        {
            let mut driven = self.driven.lock();
            if driven.contains_key(&id) {
                // The start was sent twice; the tree is driven already.
                return;
            }
            driven.insert(id, Driven { mailbox: Arc::clone(&live.mailbox), claimed_again: None });
        }
        let mut driver = Driver::new(live, Arc::clone(&self.services), created);
        if is_due {
            driver = driver.claimed_when_due();
        }
        let trees = Arc::clone(self);
        self.tasks.spawn(async move {
            // A poll catches the panics of its body. Those of an author's `Drop` or decoder are caught here.
            let drive = AssertUnwindSafe(driver.drive()).catch_unwind();
            let ended = drive.await.unwrap_or_else(|_| Ended::Failed("a panic outside of a body's poll".to_owned()));
            trees.ended(id, ended);
        });
    }

    fn ended(self: &Arc<Self>, id: TreeId, ended: Ended) {
        let driven = self.driven.lock().remove(&id);
        match ended {
            Ended::Settled { tree, outcome } => {
                self.waiters.settled(tree, &outcome);
                self.hinter.settled();
            }
            Ended::Released { tree, ready_at } => {
                self.cache.keep(id, tree);
                if let Some(ready_at) = ready_at {
                    self.due.at(ready_at);
                }
            }
            Ended::Refused => self.reload(id, None),
            Ended::Failed(error) => self.reload(id, Some(error)),
            Ended::Stopped => {}
        }
        if let Some(claimed) = driven.and_then(|driven| driven.claimed_again) {
            let trees = Arc::clone(self);
            self.tasks.spawn_until_end(async move { trees.run_claimed(claimed).await });
        }
        self.left.notify_waiters();
    }

    /// Loads a tree again after its commit was refused. If this worker still owns it, the tree was changed from outside
    /// and goes on as its rows say. With `error` the store refused the commit for good: every invocation is parked.
    fn reload(self: &Arc<Self>, id: TreeId, error: Option<String>) {
        let trees = Arc::clone(self);
        self.tasks.spawn_until_end(async move {
            let services = &trees.services;
            let Ok(Some(image)) = services.tree_load(id).await else { return };
            if image.row.owner != Some(services.worker) {
                return;
            }
            let facts = services.facts(id, &image.row.cause);
            let mut tree = Tree::loaded(image, facts, &services.registry);
            if let Some(error) = error {
                tree.park_all(&error);
            }
            trees.drive(LiveTree::new(tree), None, false);
        });
    }

    /// Loads the trees that this worker owns and does not drive: those of a claim whose answer was lost. A tree at
    /// revision 0 is left to the starter, which is about to drive it.
    pub(crate) async fn reload_strays(self: &Arc<Self>) -> StoreResult<()> {
        let mut filter = TreeFilter { state: Some(TreeState::Running), limit: STRAYS_PAGE, ..TreeFilter::default() };
        loop {
            let rows = self.services.store.tree_list(&filter).await?;
            for row in &rows {
                let is_stray = row.owner == Some(self.services.worker) && row.revision > 0;
                if is_stray && !self.drives(&row.id) {
                    self.reload(row.id, None);
                }
            }
            match rows.last() {
                Some(last) if rows.len() == STRAYS_PAGE => filter.before = Some(last.id),
                _ => return Ok(()),
            }
        }
    }

    pub(crate) fn drives(&self, tree: &TreeId) -> bool {
        self.driven.lock().contains_key(tree)
    }

    /// Trees driven here now.
    pub(crate) fn count(&self) -> usize {
        self.driven.lock().len()
    }

    /// Waits until no tree is driven here.
    pub(crate) async fn all_left(&self) {
        loop {
            // Listen first, then look: a tree that leaves in between is noticed.
            let left = self.left.notified();
            if self.driven.lock().is_empty() {
                return;
            }
            left.await;
        }
    }

    pub(crate) fn tell_all(&self, signal: impl Fn() -> Signal) {
        let mailboxes: Vec<_> = self.driven.lock().values().map(|driven| Arc::clone(&driven.mailbox)).collect();
        mailboxes.into_iter().for_each(|mailbox| mailbox.send(signal()));
    }

    /// Makes callers that wait for trees of other workers read again: one of those trees may have settled.
    pub(crate) fn look_again(&self) {
        let driven = self.driven.lock();
        self.waiters.look_again(|tree| !driven.contains_key(tree));
    }

    /// Tells every tree how far the engine's life has come, until it has ended.
    pub(crate) async fn follow_life(self: Arc<Self>) {
        self.services.life.drains().await;
        self.tell_all(|| Signal::Drain);
        self.services.life.ends().await;
        self.tell_all(|| Signal::Kill);
        self.waiters.look_again(|_| true);
    }
}
