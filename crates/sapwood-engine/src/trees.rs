//! The trees that this worker drives: it starts, claims, releases and reloads them, and caches those it has released.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use jiff::Timestamp;
use parking_lot::Mutex;
use sapwood_core::TreeId;
use sapwood_core::store::{Claimed, NewTree, OwnedTree, StoreResult};
use sapwood_core::tree::{Cause, TreeImage};
use tokio::sync::{Notify, oneshot};

use crate::cache::Cache;
use crate::definition::Definition;
use crate::due::Due;
use crate::error::StartError;
use crate::hints::HeedsTrees;
use crate::options::CachePolicy;
use crate::outage::User;
use crate::payload::ParkedCode;
use crate::quarantine::PARKED_AT;
use crate::services::Services;
use crate::starting::{StartReply, new_tree};
use crate::tasks::Tasks;
use crate::tree::{Carried, Created, Driver, Ended, LiveTree, Mailbox, Signal, Tree};
use crate::waiters::Waiters;

/// Trees per read in the search for strays: a page of this size takes little memory.
const STRAYS_PAGE: usize = 1_000;

/// The most trees set aside that health names: one is reason enough to look, and the lists have them all.
const SET_ASIDE: usize = 20;

/// The trees that this worker drives.
pub(crate) struct Trees {
    /// What each driver is given.
    services: Arc<Services>,
    /// Runs the drivers.
    tasks: Arc<Tasks>,
    /// Callers here that are told when a promise of a tree may have settled.
    promises: Waiters,
    /// Told when a released tree will be due.
    due: Arc<Due>,
    /// The trees driven here: from the moment a driver begins until its end has been handled.
    driven: Mutex<HashMap<TreeId, Driven>>,
    /// Notified when a tree is no longer driven here.
    left: Notify,
    /// Released trees with their bodies.
    cache: Cache,
    /// The last trees that were set aside here, and why.
    set_aside: Mutex<VecDeque<(TreeId, String)>>,
}

/// A tree that is driven here, or is about to be.
#[derive(Default)]
struct Driven {
    mailbox: Arc<Mailbox>,
    /// Whether it had its outcome before: something of it is undone again.
    is_settled: bool,
    /// Whether it was loaded to be parked, because the store refused its last commit for good.
    parks: bool,
    /// The last request that was made for it, as far as it was told.
    governed: u32,
    /// The last number of its inbox counter, as far as it was told.
    inbox: u32,
    /// A claim of the tree that came before its driver heard of the release: a new driver follows this one.
    claimed_again: Option<Claimed>,
}

impl Trees {
    pub(crate) fn new(services: Arc<Services>, tasks: Arc<Tasks>, due: Arc<Due>, cache: CachePolicy) -> Self {
        let cache = Cache::new(cache);
        Self {
            services,
            tasks,
            promises: Waiters::default(),
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
        deadline: Option<Timestamp>,
    ) -> Result<StartReply, StartError> {
        let new = new_tree(self.services.environment.as_ref(), definition, input, cause, deadline);
        let id = new.id;
        let facts = self.services.facts(id, &new.cause);
        let (created, is_created) = oneshot::channel();
        let tree = Tree::created(new, facts, &self.services.registry, true);
        // Nobody else knows the new id.
        if let Some(place) = self.reserve(id) {
            place.drive(LiveTree::boxed(tree), Some(created), false);
        }
        match is_created.await {
            Ok(Ok(())) => Ok(StartReply { tree: id, created: true }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(StartError::of_life(&self.services.life)),
        }
    }

    /// Drives a tree that the starter has just inserted, owned by this worker.
    pub(crate) fn run_created(self: &Arc<Self>, new: NewTree) {
        // The start may have been sent twice; then the tree is driven already.
        let Some(place) = self.reserve(new.id) else { return };
        let facts = self.services.facts(new.id, &new.cause);
        let tree = Tree::created(new, facts, &self.services.registry, false);
        place.drive(LiveTree::boxed(tree), None, false);
    }

    /// Drives a tree that was claimed: from the cache, if nothing was committed since its release, else from its rows.
    /// One that cannot be loaded is set aside: no worker could drive it, and it must not stay with one that does not.
    pub(crate) async fn run_claimed(self: &Arc<Self>, claimed: Claimed) {
        let id = claimed.row.id;
        let Some(place) = self.reserve(id) else {
            match self.driven.lock().get_mut(&id) {
                Some(driven) => driven.claimed_again = Some(claimed),
                // It has left meanwhile; the search for strays finds it.
                None => self.services.outage.look_for_strays(),
            }
            return;
        };
        let Claimed { row, takeovers } = claimed;
        let taken_over = takeovers > 0;
        // The claim itself has moved it on.
        self.services.setbacks.is_at(id, row.revision.saturating_sub(1));
        // An operator has mended it, or thinks so.
        self.set_aside.lock().retain(|(tree, _)| *tree != id);
        match self.cache.take(id) {
            Some(mut live) if !taken_over && live.is_as(&row) => {
                live.tree.refresh(&row);
                place.told(row.inbox);
                return place.drive(live, None, true);
            }
            stale => drop(stale),
        }
        match self.services.tree_load(id).await {
            Ok(Some(image)) => match self.loaded(id, image) {
                Ok(mut tree) => {
                    if takeovers >= PARKED_AT {
                        let why = format!("its workers died {takeovers} times in a row while they had it");
                        tree.park_all(ParkedCode::Quarantine, &why);
                        place.parks();
                    }
                    place.drive(LiveTree::boxed(tree), None, !taken_over);
                }
                Err(reason) => self.set_aside(id, &reason).await,
            },
            Ok(None) => tracing::error!(tree = %id, "a claimed tree has no rows"),
            // It was repeated until the store answered: this error does not pass, or the engine has ended.
            Err(error) if error.is_passing() => tracing::warn!(tree = %id, "a claimed tree is not driven: {error}"),
            Err(error) => self.set_aside(id, &error.to_string()).await,
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
        match outage.of(User::Claims).outlast(|| store.tree_set_aside(*worker, id, reason)).await {
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

    /// Takes the place of a tree among those driven here, before it is loaded: from then on nobody else drives it here.
    /// `None` if another driver has it.
    fn reserve(self: &Arc<Self>, id: TreeId) -> Option<Place> {
        match self.driven.lock().entry(id) {
            Entry::Occupied(_) => None,
            Entry::Vacant(vacant) => {
                vacant.insert(Driven::default());
                Some(Place { trees: Arc::clone(self), id })
            }
        }
    }

    fn ended(self: &Arc<Self>, place: Place, ended: Ended) {
        let id = place.id;
        match ended {
            Ended::Settled { tree, revision, outcome } => {
                self.services.setbacks.left(tree, revision);
                if let Some(outcome) = outcome {
                    self.services.announce(tree, &outcome);
                }
                self.promises.look_again(|of| *of == tree);
            }
            Ended::Released { tree, ready_at } => {
                self.services.setbacks.left(id, tree.tree.revision());
                // What came just after the release was told to the driver, which could not hear of it any longer.
                let (asked, inbox) =
                    self.driven.lock().get(&id).map_or((0, 0), |driven| (driven.governed, driven.inbox));
                if asked > tree.tree.control() || inbox > tree.tree.inbox() {
                    self.due.raise();
                }
                self.cache.keep(id, tree);
                if let Some(ready_at) = ready_at {
                    self.due.at(ready_at, self.services.clock.now());
                }
            }
            Ended::Refused { committed, carried, has_times } => {
                let trees = Arc::clone(self);
                self.tasks.spawn_until_end(async move {
                    if has_times {
                        trees.services.asked.renewal().await;
                    }
                    trees.reload(place, Some((committed, carried)), None);
                });
            }
            // The store refuses even the turn that parks it.
            Ended::Failed(error) if self.parks(id) => {
                let trees = Arc::clone(self);
                self.tasks.spawn_until_end(async move { trees.set_aside(place.id, &error).await });
            }
            Ended::Failed(error) => self.reload(place, None, Some(error)),
            Ended::Stopped => {}
        }
    }

    /// Loads a tree again after its commit was refused. If this worker still owns it, the tree was changed from outside
    /// and goes on as its rows say. With `error` the store refused the commit for good: every invocation is parked, and if
    /// even that is refused, the tree is set aside. `left` is the revision that this worker was told of, and what goes on.
    fn reload(self: &Arc<Self>, place: Place, left: Option<(u64, Carried)>, error: Option<String>) {
        let trees = Arc::clone(self);
        self.tasks.spawn_until_end(async move {
            let (services, id) = (&trees.services, place.id);
            let image = match services.tree_load(id).await {
                Ok(image) => image,
                Err(error) if error.is_passing() => return,
                Err(error) => return trees.set_aside(id, &error.to_string()).await,
            };
            let found = image.as_ref().map_or(0, |image| image.row.revision);
            if let Some((committed, _)) = left.as_ref().filter(|(committed, _)| found < *committed) {
                services.setbacks.found(id, *committed, found);
            }
            let Some(image) = image.filter(|image| image.row.owner == Some(services.worker)) else { return };
            let mut tree = match trees.loaded(id, image) {
                Ok(tree) => tree,
                Err(reason) => return trees.set_aside(id, &reason).await,
            };
            if let Some(error) = error {
                tree.park_all(ParkedCode::Refused, &format!("the store refuses what the tree recorded: {error}"));
                place.parks();
            }
            let live = match left {
                Some((_, carried)) => carried.into(tree),
                None => LiveTree::boxed(tree),
            };
            place.drive(live, None, false);
        });
    }

    /// Whether a tree is driven to be parked.
    fn parks(&self, id: TreeId) -> bool {
        self.driven.lock().get(&id).is_some_and(|driven| driven.parks)
    }

    /// Looks for trees that this worker owns and does not drive, until the engine has ended: after each outage, because an
    /// answer may have been lost or the store gone back, and slowly always.
    pub(crate) async fn find_strays(self: Arc<Self>, period: Duration) {
        loop {
            let jittered = period.mul_f64(0.75 + 0.5 * self.services.environment.jitter());
            let claims = self.services.outage.of(User::Claims);
            let was_away = tokio::select! {
                biased;

                () = self.services.outage.over() => true,
                () = tokio::time::sleep(jittered) => false,
            };
            if was_away && let Err(error) = claims.outlast(|| self.compare_left()).await {
                tracing::error!("the store was not searched for commits that it lost: {error}");
            }
            if let Err(error) = claims.outlast(|| self.reload_strays()).await {
                tracing::error!("trees that are owned and not driven were not found: {error}");
            }
        }
    }

    /// Asks the store how far the trees are that left this worker last: it may have gone back.
    async fn compare_left(&self) -> StoreResult<()> {
        let Services { store, setbacks, .. } = self.services.as_ref();
        let left = setbacks.all_left();
        setbacks.compare(&left, &store.tree_revisions(&left).await?);
        Ok(())
    }

    /// Loads the trees that this worker owns and does not drive. A tree at revision 0 is left to the starter, which is
    /// about to drive it.
    async fn reload_strays(self: &Arc<Self>) -> StoreResult<()> {
        let mut after = None;
        loop {
            let owned = self.services.store.tree_owned(self.services.worker, after, STRAYS_PAGE).await?;
            for OwnedTree { id, revision, control, inbox } in &owned {
                if (*control > 0 || *inbox > 0) && self.drives(id) {
                    // The hints may have been lost.
                    self.governed(*id, *control);
                    self.settled(*id, *inbox);
                } else if *revision > 0
                    && let Some(place) = self.reserve(*id)
                {
                    tracing::warn!(tree = %id, "the tree is owned by this worker and was not driven; it goes on");
                    self.reload(place, None, None);
                }
            }
            match owned.last() {
                Some(last) if owned.len() == STRAYS_PAGE => after = Some(last.id),
                _ => return Ok(()),
            }
        }
    }

    /// Callers here that wait for promises, by the tree of these.
    pub(crate) const fn promises(&self) -> &Waiters {
        &self.promises
    }

    pub(crate) fn drives(&self, tree: &TreeId) -> bool {
        self.driven.lock().contains_key(tree)
    }

    /// Whether it is driven here and has no outcome yet: then the waiters are told here.
    pub(crate) fn will_settle(&self, tree: &TreeId) -> bool {
        self.driven.lock().get(tree).is_some_and(|driven| !driven.is_settled)
    }

    /// Trees driven here now.
    pub(crate) fn count(&self) -> usize {
        self.driven.lock().len()
    }

    /// One of the trees driven here.
    pub(crate) fn any(&self) -> Option<TreeId> {
        self.driven.lock().keys().next().copied()
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

    /// Tells every tree how far the engine's life has come, until it has ended.
    pub(crate) async fn follow_life(self: Arc<Self>) {
        self.services.life.drains().await;
        self.tell_all(|| Signal::Drain);
        self.services.life.ends().await;
        self.tell_all(|| Signal::Kill);
        if let Some(transactor) = &self.services.transactor {
            transactor.close();
        }
        self.services.waiters.look_again(|_| true);
        self.promises.look_again(|_| true);
    }
}

impl HeedsTrees for Trees {
    /// Makes callers that wait for trees of other workers read again.
    fn look_again(&self) {
        let driven = self.driven.lock();
        self.services.waiters.look_again(|tree| !driven.contains_key(tree));
        self.promises.look_again(|tree| !driven.contains_key(tree));
    }

    /// Tells the tree's driver, or claims the tree if no worker owns it.
    fn governed(&self, tree: TreeId, control: u32) {
        match self.driven.lock().get_mut(&tree) {
            Some(driven) => {
                driven.governed = driven.governed.max(control);
                driven.mailbox.send(Signal::Governed(control));
            }
            None => self.due.raise(),
        }
    }

    /// Makes callers read again, and compares what this worker owns with what it drives.
    fn missed(&self) {
        self.look_again();
        self.services.outage.look_for_strays();
    }

    /// Tells those who wait for promises of the tree, and its driver; claims the tree if no worker owns it.
    fn settled(&self, tree: TreeId, inbox: u32) {
        self.promises.look_again(|of| *of == tree);
        match self.driven.lock().get_mut(&tree) {
            Some(driven) => {
                driven.inbox = driven.inbox.max(inbox);
                driven.mailbox.send(Signal::Settled(inbox));
            }
            None => self.due.raise(),
        }
    }
}

/// The place of a tree among those driven here. Dropped, the tree is not driven here any longer; a claim that came
/// meanwhile is taken up.
struct Place {
    trees: Arc<Trees>,
    id: TreeId,
}

impl Place {
    /// The tree is driven to be parked: if even that is refused, it is set aside.
    fn parks(&self) {
        if let Some(driven) = self.trees.driven.lock().get_mut(&self.id) {
            driven.parks = true;
        }
    }

    /// The tree's inbox counter is at this number.
    fn told(&self, inbox: u32) {
        if let Some(driven) = self.trees.driven.lock().get_mut(&self.id) {
            driven.inbox = driven.inbox.max(inbox);
        }
    }

    fn drive(self, live: Box<LiveTree>, created: Option<Created>, is_due: bool) {
        let trees = Arc::clone(&self.trees);
        let is_settled = live.tree.is_settled();
        let mut told = 0;
        if let Some(driven) = trees.driven.lock().get_mut(&self.id) {
            driven.is_settled = is_settled;
            driven.mailbox = Arc::clone(&live.mailbox);
            // It may have been told between two drivers.
            driven.mailbox.send(Signal::Governed(driven.governed));
            told = driven.inbox;
        }
        if is_settled {
            // Who came while it was loaded reads the outcome.
            trees.services.waiters.look_again(|tree| *tree == self.id);
        }
        let services = Arc::clone(&trees.services);
        trees.tasks.spawn(async move {
            // A poll catches the panics of its body, and a body is dropped behind a guard. What is left is the engine's own.
            let drive = async move {
                // In a box, because a task of its size would be moved from future to future.
                let driver = Box::new(Driver::new(*live, services, created)).told(told);
                if is_due { driver.claimed_when_due().drive().await } else { driver.drive().await }
            };
            let ended = AssertUnwindSafe(drive).catch_unwind().await;
            let ended = ended.unwrap_or_else(|_| Ended::Failed("a panic outside of a body's poll".to_owned()));
            let trees = Arc::clone(&self.trees);
            trees.ended(self, ended);
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.trees.services.quarantine.left(self.id);
        self.trees.services.waiters.left(self.id);
        let driven = self.trees.driven.lock().remove(&self.id);
        if let Some(claimed) = driven.and_then(|driven| driven.claimed_again) {
            let trees = Arc::clone(&self.trees);
            self.trees.tasks.spawn_until_end(async move { trees.run_claimed(claimed).await });
        }
        self.trees.left.notify_waiters();
    }
}
