//! The trees that this worker drives: it starts, claims, releases and reloads them, and caches those it has released.

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use lru::LruCache;
use parking_lot::Mutex;
use sapwood_core::TreeId;
use sapwood_core::store::{Claimed, ListedTree, NewTree, StoreResult, TreeFilter};
use sapwood_core::tree::{Cause, TreeImage, TreeState};
use tokio::sync::{Notify, oneshot};

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

/// The most trees set aside that health names: one is reason enough to look, and the lists have them all.
const SET_ASIDE: usize = 20;

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
    /// Released trees with their bodies; `None` if every body leaves memory when it waits.
    cache: Option<Mutex<LruCache<TreeId, Box<LiveTree>>>>,
    /// The last trees that were set aside here, and why.
    set_aside: Mutex<VecDeque<(TreeId, String)>>,
}

/// A tree that is driven here.
struct Driven {
    mailbox: Arc<Mailbox>,
    /// Whether it was loaded to be parked, because the store refused its last commit for good.
    parks: bool,
    /// A claim of the tree that came before its driver heard of the release: a new driver follows this one.
    claimed_again: Option<Claimed>,
}

/// How a driver begins.
#[derive(Default)]
struct Manner {
    /// The tree was claimed because it was due.
    is_due: bool,
    /// It was loaded to be parked.
    parks: bool,
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
        let cache = match cache {
            CachePolicy::Trees(trees) => NonZeroUsize::new(trees).map(|trees| Mutex::new(LruCache::new(trees))),
            CachePolicy::Evict => None,
        };
        Self {
            services,
            tasks,
            waiters,
            hinter,
            due,
            driven: Mutex::default(),
            left: Notify::new(),
            cache,
            set_aside: Mutex::default(),
        }
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
        self.drive(LiveTree::new(tree), Some(created), Manner::default());
        match is_created.await {
            Ok(()) => Ok(StartReply { tree: id, created: true }),
            Err(_) => Err(StartError::Draining),
        }
    }

    /// Drives a tree that the starter has just inserted, owned by this worker.
    pub(crate) fn run_created(self: &Arc<Self>, new: NewTree) {
        let facts = self.services.facts(new.id, &new.cause);
        let tree = Tree::created(new, facts, &self.services.registry, false);
        self.drive(LiveTree::new(tree), None, Manner::default());
    }

    /// Drives a tree that was claimed: from the cache, if nothing was committed since its release, else from its rows.
    /// One that cannot be loaded is set aside: no worker could drive it, and it must not stay with one that does not.
    pub(crate) async fn run_claimed(self: &Arc<Self>, claimed: Claimed) {
        if let Some(driven) = self.driven.lock().get_mut(&claimed.row.id) {
            driven.claimed_again = Some(claimed);
            return;
        }
        let Claimed { row, taken_over } = claimed;
        // An operator has mended it, or thinks so.
        self.set_aside.lock().retain(|(tree, _)| *tree != row.id);
        let cached = self.cache.as_ref().and_then(|cache| cache.lock().pop(&row.id));
        match cached {
            Some(mut live) if !taken_over && live.is_as(&row) => {
                live.tree.refresh(&row);
                return self.drive(*live, None, Manner { is_due: true, parks: false });
            }
            stale => drop_guarded(stale),
        }
        match self.services.tree_load(row.id).await {
            Ok(Some(image)) => match self.loaded(row.id, image) {
                Ok(tree) => self.drive(LiveTree::new(tree), None, Manner { is_due: !taken_over, parks: false }),
                Err(reason) => self.set_aside(row.id, &reason).await,
            },
            Ok(None) => tracing::error!(tree = %row.id, "a claimed tree has no rows"),
            // It was repeated until the store answered: this error does not pass, or the engine has ended.
            Err(error) if error.is_passing() => tracing::warn!(tree = %row.id, "a claimed tree is not driven: {error}"),
            Err(error) => self.set_aside(row.id, &error.to_string()).await,
        }
    }

    /// A tree from its rows. They may be readable one by one, and yet be no tree.
    fn loaded(&self, id: TreeId, image: TreeImage) -> Result<Tree, String> {
        let facts = self.services.facts(id, &image.row.cause);
        let load = AssertUnwindSafe(|| Tree::loaded(image, facts, &self.services.registry));
        std::panic::catch_unwind(load).map_err(|_| "its rows do not fit together".to_owned())
    }

    /// Sets a tree aside that this worker owns and cannot drive. It is parked then, and no claim meets it any longer.
    pub(crate) async fn set_aside(&self, id: TreeId, reason: &str) {
        let Services { store, worker, outage, .. } = self.services.as_ref();
        match outage.outlast(|| store.tree_set_aside(*worker, id, reason)).await {
            Ok(true) => {
                tracing::error!(tree = %id, reason, "a tree is set aside: it cannot be driven");
                let mut set_aside = self.set_aside.lock();
                set_aside.retain(|(tree, _)| *tree != id);
                set_aside.push_front((id, reason.to_owned()));
                set_aside.truncate(SET_ASIDE);
            }
            // Another worker has it, or it was set aside by a call whose answer was lost.
            Ok(false) => {}
            Err(error) => tracing::error!(tree = %id, reason, "a tree that cannot be driven is not set aside: {error}"),
        }
    }

    /// The trees that were set aside here, and why.
    pub(crate) fn all_set_aside(&self) -> Vec<(TreeId, String)> {
        self.set_aside.lock().iter().cloned().collect()
    }

    fn drive(self: &Arc<Self>, live: LiveTree, created: Option<oneshot::Sender<()>>, manner: Manner) {
        let id = live.tree.id();
        {
            let mut driven = self.driven.lock();
            if driven.contains_key(&id) {
                // The start was sent twice; the tree is driven already.
                return;
            }
            let mailbox = Arc::clone(&live.mailbox);
            driven.insert(id, Driven { mailbox, parks: manner.parks, claimed_again: None });
        }
        let mut driver = Driver::new(live, Arc::clone(&self.services), created);
        if manner.is_due {
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
                self.keep(id, tree);
                if let Some(ready_at) = ready_at {
                    self.due.at(ready_at);
                }
            }
            Ended::Refused => self.reload(id, None),
            // The store refuses even the turn that parks it.
            Ended::Failed(error) if driven.as_ref().is_some_and(|driven| driven.parks) => {
                let trees = Arc::clone(self);
                self.tasks.spawn_until_end(async move { trees.set_aside(id, &error).await });
            }
            Ended::Failed(error) => self.reload(id, Some(error)),
            Ended::Stopped => {}
        }
        if let Some(claimed) = driven.and_then(|driven| driven.claimed_again) {
            let trees = Arc::clone(self);
            self.tasks.spawn_until_end(async move { trees.run_claimed(claimed).await });
        }
        self.left.notify_waiters();
    }

    /// Keeps a released tree in the cache. The one that has to leave for it is dropped outside of the lock, and where the
    /// panic of an author's `Drop` is caught.
    fn keep(&self, id: TreeId, tree: Box<LiveTree>) {
        let Some(cache) = &self.cache else { return };
        let leaves = cache.lock().push(id, tree);
        drop_guarded(leaves.map(|(_, tree)| tree));
    }

    /// Loads a tree again after its commit was refused. If this worker still owns it, the tree was changed from outside
    /// and goes on as its rows say. With `error` the store refused the commit for good: every invocation is parked.
    fn reload(self: &Arc<Self>, id: TreeId, error: Option<String>) {
        let trees = Arc::clone(self);
        self.tasks.spawn_until_end(async move {
            let services = &trees.services;
            let image = match services.tree_load(id).await {
                Ok(Some(image)) if image.row.owner == Some(services.worker) => image,
                Ok(_) => return,
                Err(error) if error.is_passing() => return,
                Err(error) => return trees.set_aside(id, &error.to_string()).await,
            };
            let mut tree = match trees.loaded(id, image) {
                Ok(tree) => tree,
                Err(reason) => return trees.set_aside(id, &reason).await,
            };
            let manner = Manner { is_due: false, parks: error.is_some() };
            if let Some(error) = error {
                tree.park_all(&error);
            }
            trees.drive(LiveTree::new(tree), None, manner);
        });
    }

    /// Loads the trees that this worker owns and does not drive: those of a claim whose answer was lost. A tree at
    /// revision 0 is left to the starter, which is about to drive it.
    pub(crate) async fn reload_strays(self: &Arc<Self>) -> StoreResult<()> {
        let mut filter = TreeFilter { state: Some(TreeState::Running), limit: STRAYS_PAGE, ..TreeFilter::default() };
        loop {
            let rows = self.services.store.tree_list(&filter).await?;
            for listed in &rows {
                let row = match listed {
                    ListedTree::Row(row) => row,
                    // Only what this worker owns is set aside.
                    ListedTree::Unreadable(tree) => {
                        self.set_aside(tree.id, &tree.reason).await;
                        continue;
                    }
                };
                let is_stray = row.owner == Some(self.services.worker) && row.revision > 0;
                if is_stray && !self.drives(&row.id) {
                    self.reload(row.id, None);
                }
            }
            match rows.last() {
                Some(last) if rows.len() == STRAYS_PAGE => filter.before = Some(last.id()),
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

/// Drops a tree with its bodies; a panic of an author's `Drop` ends with it.
fn drop_guarded(tree: Option<Box<LiveTree>>) {
    if std::panic::catch_unwind(AssertUnwindSafe(|| drop(tree))).is_err() {
        tracing::error!("a body panicked as it was dropped from the cache");
    }
}
