//! A running engine: one context on one store, as one worker.

use std::any::Any;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use lru::LruCache;
use parking_lot::Mutex;
use sapwood_core::limits::Limits;
use sapwood_core::store::{
    Claimed, Hint, Intake, KeyScope, NewTree, Outcome, Start, StartKey, Started, Store, StoreError, StoreErrorKind,
    StoreResult, TreeFilter, Turn,
};
use sapwood_core::tree::{Cause, InvocationImage, TreeImage, TreeRow, TreeState};
use sapwood_core::{BoundedContext, CallError, CallFailure, Dependencies, Path, Position, TreeId, WorkerId, canonical};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::activation::{Facts, StartOrder};
use crate::committer::{self, Submission};
use crate::cx::StartOutcome;
use crate::error::{EngineError, MAX_ID_CHARS, ReadError, StartError};
use crate::lease::LeaseWatch;
use crate::options::{CachePolicy, EngineOptions};
use crate::outcome::{Rejection, call_error};
use crate::pause::Pause;
use crate::registry::{Definition, Registry, Trigger, encode};
use crate::replay::{causation_of, versioned};
use crate::starter::{self, Request};
use crate::tree::{Driver, Ended, Mailbox, Signal, Tree};
use crate::view::TreeView;
use crate::waiters::Waiters;
use crate::{Call, Function, claims, lease};

/// One bounded context, running on its store. Cloning gives another handle of the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// Trees looked at in one read for those that were lost.
const STRAYS_PAGE: usize = 500;

/// How long a start that was not made waits before it is ordered again.
const START_PAUSE: Duration = Duration::from_millis(100);

/// What the tasks of an engine share.
pub(crate) struct Inner {
    context: &'static str,
    app: Arc<dyn Any + Send + Sync>,
    registry: Registry,
    store: Arc<dyn Store>,
    worker: WorkerId,
    options: EngineOptions,
    lanes: u16,
    committers: Vec<mpsc::UnboundedSender<Submission>>,
    starter: mpsc::Sender<Request>,
    slots: Arc<Semaphore>,
    /// Trees driven here.
    owned: Mutex<HashMap<TreeId, Driven>>,
    /// Told when a tree is not driven here any more.
    left: Notify,
    /// Bodies of trees that nobody owns.
    cache: Option<Mutex<LruCache<TreeId, Box<Tree>>>>,
    waiters: Waiters,
    pub(crate) lease: LeaseWatch,
    pub(crate) claim_signal: claims::ClaimSignal,
    pub(crate) hinter: crate::hints::Hinter,
    outbox_signal: Arc<Notify>,
    is_draining: AtomicBool,
    is_killed: AtomicBool,
    stopped: Notify,
    store_error: Mutex<Option<String>>,
    tasks: Mutex<JoinSet<()>>,
}

/// A tree that is driven here.
struct Driven {
    mailbox: Arc<Mailbox>,
    /// The tree was claimed again before its driver heard that it had been given up; then it is driven anew.
    claimed_again: Option<Claimed>,
}

/// How an engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The store's last error, until it answers again.
    pub store_error: Option<String>,
    /// Whether this worker's lease is good: without one it starts no side effect.
    pub lease_is_good: bool,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// Whether it was declared dead, or killed: it does nothing any more.
    pub is_stopped: bool,
    /// Trees driven here now.
    pub trees: usize,
}

/// What a start came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartReply {
    /// The tree.
    pub tree: TreeId,
    /// Whether this start began it.
    pub created: bool,
}

impl Engine {
    /// Joins the store as a worker and begins to run what there is.
    ///
    /// # Errors
    /// [`EngineError`] where the context's functions contradict each other or the store does not take the worker.
    pub async fn launch<A: Dependencies>(
        app: Arc<A>,
        store: Arc<dyn Store>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let registry = Registry::of::<A>()?;
        let committers = options.committers.min(store.info().committers).max(1);
        let worker = store.worker_join(&options.name, committers + 1, options.lease).await?;
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..committers).map(|_| mpsc::unbounded_channel()).unzip();
        let (starter_sender, starter_receiver) = mpsc::channel(starter::QUEUE);
        let cache = match options.cache {
            CachePolicy::Trees(trees) => NonZeroUsize::new(trees).map(|trees| Mutex::new(LruCache::new(trees))),
            CachePolicy::Evict => None,
        };
        let inner = Arc::new(Inner {
            context: A::Context::NAME,
            app,
            registry,
            lanes: store.info().lanes,
            worker,
            committers: senders,
            starter: starter_sender,
            slots: Arc::new(Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS))),
            owned: Mutex::default(),
            left: Notify::new(),
            cache,
            waiters: Waiters::default(),
            lease: LeaseWatch::begun(options.lease),
            claim_signal: claims::ClaimSignal::default(),
            hinter: crate::hints::Hinter::default(),
            outbox_signal: Arc::default(),
            is_draining: AtomicBool::new(false),
            is_killed: AtomicBool::new(false),
            stopped: Notify::new(),
            store_error: Mutex::default(),
            tasks: Mutex::default(),
            store,
            options,
        });
        for (slot, submissions) in (0..committers).zip(receivers) {
            let committer = inner.store.committer(worker, slot);
            inner.spawn(committer::run(Arc::clone(&inner), committer, submissions));
        }
        let starter = inner.store.starter(Some((worker, committers)));
        inner.spawn(starter::run(Arc::clone(&inner), starter, starter_receiver));
        lease::begin(Arc::clone(&inner)).map_err(EngineError::Heartbeat)?;
        inner.spawn(claims::run(Arc::clone(&inner)));
        inner.spawn(crate::hints::listen(Arc::clone(&inner)));
        inner.spawn(crate::hints::tell(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// The context's name.
    #[must_use]
    pub fn context(&self) -> &'static str {
        self.inner.context
    }

    /// The context's functions.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    /// The context's store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Who this engine is on its store.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.inner.worker
    }

    /// The bounds of a tree.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.options.limits
    }

    /// Starts a root. With an id, starting it again gives the same tree (P5); returns once the tree durably exists.
    ///
    /// # Errors
    /// [`StartError::Conflict`] where the id belongs to a tree with another function or input.
    pub async fn start<F: Function>(&self, call: Call<F>) -> Result<TreeHandle<F>, StartError> {
        let Some(definition) = self.inner.registry.find(F::NAME, F::VERSION) else {
            return Err(self.inner.unknown(F::NAME));
        };
        let reply = self.inner.start(definition, encode(&call.input), call.id, None).await?;
        Ok(self.attach(reply.tree))
    }

    /// Starts a root of the newest version of a function, from an object of its parameters.
    ///
    /// # Errors
    /// [`StartError`], each with a stable code.
    pub async fn start_json(
        &self,
        function: &str,
        input: serde_json::Value,
        id: Option<String>,
        cause: Option<Cause>,
    ) -> Result<StartReply, StartError> {
        let definition = self.inner.registry.newest(function).ok_or_else(|| self.inner.unknown(function))?;
        if definition.trigger != Trigger::Call {
            return Err(StartError::NotStartable { name: function.to_owned() });
        }
        if let Err(message) = definition.check_input(&input) {
            return Err(StartError::InvalidInput { function: function.to_owned(), message });
        }
        self.inner.start(definition, encode(&input), id, cause).await
    }

    /// A handle of a tree that is there, or will be: starting and awaiting are separate (P6).
    #[must_use]
    pub fn attach<F: Function>(&self, tree: TreeId) -> TreeHandle<F> {
        TreeHandle { engine: self.clone(), tree, function: PhantomData }
    }

    /// The tree that a caller's id belongs to.
    ///
    /// # Errors
    /// The store's error.
    pub async fn find(&self, id: &str) -> StoreResult<Option<TreeId>> {
        self.inner.store.key_find(&KeyScope::Caller, id).await
    }

    /// The outcome of a tree, waiting for it at most `wait`; `None` where it is pending still.
    ///
    /// # Errors
    /// [`ReadError::Unknown`] where there is no such tree.
    pub async fn outcome(&self, tree: TreeId, wait: Duration) -> Result<Option<Outcome>, ReadError> {
        let waiting = self.inner.outcome(tree);
        match tokio::time::timeout(wait, waiting).await {
            Ok(outcome) => outcome.map(Some),
            // Whether there is such a tree is told even to those who do not wait.
            Err(_) => match self.inner.store.outcome_read(tree).await? {
                None => Err(ReadError::Unknown(tree)),
                Some(outcome) => Ok(Some(outcome).filter(|outcome| outcome.state.is_settled())),
            },
        }
    }

    /// A whole tree: every node with what it waits on (G1, G2).
    ///
    /// # Errors
    /// The store's error.
    pub async fn tree(&self, tree: TreeId) -> StoreResult<Option<TreeView>> {
        Ok(self.inner.store.tree_read(tree).await?.map(TreeView::of))
    }

    /// Rows of trees, newest first.
    ///
    /// # Errors
    /// The store's error.
    pub async fn list(&self, filter: &TreeFilter) -> StoreResult<Vec<TreeRow>> {
        self.inner.store.tree_list(filter).await
    }

    /// Takes a batch of events in: positions, keys and trees in one commit. The trees run here.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`] where another member has one of the partitions.
    pub async fn intake(&self, batch: Intake) -> StoreResult<Vec<Started>> {
        let (reply, answer) = oneshot::channel();
        let stopped = || StoreError::new(StoreErrorKind::Fenced, "this worker has stopped");
        if self.inner.is_draining() {
            return Err(stopped());
        }
        self.inner.starter.send(Request::Intake { batch, reply }).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Notified after each commit with events of this process.
    #[must_use]
    pub fn outbox_signal(&self) -> Arc<Notify> {
        Arc::clone(&self.inner.outbox_signal)
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            store_error: self.inner.store_error.lock().clone(),
            lease_is_good: self.inner.may_start(),
            is_draining: self.inner.is_draining(),
            is_stopped: self.inner.is_killed(),
            trees: self.inner.owned.lock().len(),
        }
    }

    /// Makes every tree look at the clock, and the worker look for trees that are due. For tests that move time.
    pub fn poke(&self) {
        self.inner.claim_signal.raise();
        self.inner.tell_trees(|| Signal::Poke);
    }

    /// Shuts down: starts nothing more, lets steps in flight end, gives every tree up, and leaves.
    ///
    /// # Errors
    /// The store's error; the trees are then taken over when this worker's lease ends.
    pub async fn drain(&self) -> StoreResult<()> {
        let inner = &self.inner;
        if inner.is_killed() {
            return Ok(());
        }
        inner.is_draining.store(true, Ordering::Release);
        inner.claim_signal.raise();
        inner.tell_trees(|| Signal::Drain);
        loop {
            let left = inner.left.notified();
            if inner.owned.lock().is_empty() {
                break;
            }
            left.await;
        }
        let result = inner.store.worker_leave(inner.worker).await;
        // Others go on with what was given up now, and not when they look by themselves.
        let _ = inner.store.hint(&[Hint::Ready]).await;
        inner.stop();
        inner.join().await;
        result
    }

    /// Stops at once, as if the process had died: nothing more is committed, nobody is told, the lease runs out.
    pub fn kill(&self) {
        self.inner.stop();
    }

    /// Waits until the engine has stopped: it was killed, or declared dead by another worker.
    pub async fn stopped(&self) {
        let stopped = self.inner.stopped.notified();
        if !self.inner.is_killed() {
            stopped.await;
        }
    }
}

impl Inner {
    // ---- what trees ask -------------------------------------------------------------------------------------------

    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed.load(Ordering::Acquire)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Acquire)
    }

    /// Whether a side effect may begin: the lease is good for a while yet.
    pub(crate) fn may_start(&self) -> bool {
        self.lease.is_good()
    }

    pub(crate) fn evicts(&self) -> bool {
        self.options.cache == CachePolicy::Evict
    }

    pub(crate) fn slots(&self) -> &Arc<Semaphore> {
        &self.slots
    }

    pub(crate) fn app(&self) -> &Arc<dyn Any + Send + Sync> {
        &self.app
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(crate) fn worker(&self) -> WorkerId {
        self.worker
    }

    pub(crate) fn options(&self) -> &EngineOptions {
        &self.options
    }

    pub(crate) fn outbox_signal(&self) -> &Notify {
        &self.outbox_signal
    }

    /// Events of this process were committed.
    pub(crate) fn emitted(&self) {
        self.outbox_signal.notify_one();
        self.hinter.emitted();
    }

    /// Sends a turn to its committer.
    pub(crate) fn submit(&self, turn: Turn, mailbox: Arc<Mailbox>) {
        // Any spread does; the low bits of a version 7 UUID are random.
        let committer = turn.tree.uuid().as_u128() as usize % self.committers.len();
        // Closed only when the engine has stopped; then the tree is told by the kill.
        let _ = self.committers[committer].send(Submission { turn, mailbox });
    }

    /// [`Trees::tree_load`](sapwood_core::store::Trees), as often as it takes.
    async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>> {
        let mut pause = Pause::new();
        loop {
            match self.store.tree_load(tree).await {
                Err(error) if pause.after(self, &error).await => {}
                result => return result,
            }
        }
    }

    /// [`Trees::invocation_load`](sapwood_core::store::Trees), as often as it takes.
    pub(crate) async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>> {
        let mut pause = Pause::new();
        loop {
            match self.store.invocation_load(tree, path).await {
                Err(error) if pause.after(self, &error).await => {}
                result => return result,
            }
        }
    }

    /// Starts a root for a consumer. `None` where the engine stops before it knows.
    pub(crate) async fn start_by_consumer(
        &self,
        tree: TreeId,
        correlation: &str,
        path: &Path,
        position: Position,
        order: StartOrder,
    ) -> Option<Bytes> {
        let (scope, key) = match order.id {
            Some(id) => (KeyScope::Caller, id),
            None => (KeyScope::Operation, causation_of(tree, &path.child(position))),
        };
        let cause =
            Cause { correlation: correlation.to_owned(), causation: Some(causation_of(tree, path)), traceparent: None };
        let definition = self.registry.find(order.function, order.version)?;
        let started = match scope {
            KeyScope::Caller if !is_id(&key) => Err(StartError::InvalidId),
            scope => self.start_keyed(definition, order.input, scope, key, cause).await,
        };
        let outcome = match started {
            Ok(reply) => StartOutcome::Tree(reply.tree),
            Err(StartError::Store(error)) if error.is_passing() => return self.not_started(tree, &error).await,
            Err(error @ StartError::Draining) => return self.not_started(tree, &error).await,
            Err(error) => StartOutcome::Refused { message: error.to_string() },
        };
        Some(encode(&outcome))
    }

    /// A start that is ordered again, after a pause.
    async fn not_started(&self, tree: TreeId, error: &(dyn std::fmt::Display + Sync)) -> Option<Bytes> {
        tracing::warn!(%tree, "a start was not made and is ordered again: {error}");
        tokio::time::sleep(START_PAUSE).await;
        None
    }

    // ---- what the store does --------------------------------------------------------------------------------------

    /// The store failed in passing; health says so until it answers.
    pub(crate) fn store_failed(&self, error: &StoreError) {
        let mut last = self.store_error.lock();
        if last.is_none() {
            tracing::warn!("the store does not answer: {error}");
        }
        *last = Some(error.to_string());
    }

    pub(crate) fn store_answered(&self) {
        if self.store_error.lock().take().is_some() {
            tracing::info!("the store answers again");
        }
    }

    /// This worker was declared dead: others have its trees.
    pub(crate) fn fenced(&self, error: &StoreError) {
        if !self.is_killed() {
            tracing::error!("this worker was declared dead and stops: {error}");
        }
        self.stop();
    }

    // ---- trees ----------------------------------------------------------------------------------------------------

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

    fn drive(self: &Arc<Self>, tree: Box<Tree>, born: Option<oneshot::Sender<()>>, is_due: bool) {
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

    fn ended(self: &Arc<Self>, id: TreeId, ended: Ended) {
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
    fn reload(self: &Arc<Self>, id: TreeId, error: Option<String>) {
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

    fn facts(&self, tree: TreeId, cause: &Cause) -> Arc<Facts> {
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

    fn tell_trees(&self, signal: impl Fn() -> Signal) {
        let mailboxes: Vec<_> = self.owned.lock().values().map(|driven| Arc::clone(&driven.mailbox)).collect();
        mailboxes.into_iter().for_each(|mailbox| mailbox.send(signal()));
    }

    // ---- starting and reading -------------------------------------------------------------------------------------

    fn unknown(&self, name: &str) -> StartError {
        let mut names: Vec<&str> = self.registry.functions().map(|definition| definition.name).collect();
        names.dedup();
        let nearest = crate::nearest::nearest(name, names).map(ToOwned::to_owned);
        StartError::UnknownFunction { name: name.to_owned(), nearest }
    }

    async fn start(
        self: &Arc<Self>,
        definition: &Definition,
        input: Bytes,
        id: Option<String>,
        cause: Option<Cause>,
    ) -> Result<StartReply, StartError> {
        let limit = self.options.limits.payload_bytes;
        if input.len() > limit {
            return Err(StartError::TooLarge { bytes: input.len(), limit });
        }
        if self.is_draining() || self.is_killed() {
            return Err(StartError::Draining);
        }
        match id {
            Some(id) if !is_id(&id) => Err(StartError::InvalidId),
            Some(id) => self.start_keyed(definition, input, KeyScope::Caller, id, cause.unwrap_or_default()).await,
            None => self.start_free(definition, input, cause.unwrap_or_default()).await,
        }
    }

    /// A start that nobody contests: the tree is born in its first turn.
    async fn start_free(
        self: &Arc<Self>,
        definition: &Definition,
        input: Bytes,
        cause: Cause,
    ) -> Result<StartReply, StartError> {
        let new = new_tree(definition, input, cause);
        let id = new.id;
        let facts = self.facts(id, &new.cause);
        let (born, is_born) = oneshot::channel();
        self.drive(Box::new(Tree::begun(new, facts, &self.registry, true)), Some(born), false);
        match is_born.await {
            Ok(()) => Ok(StartReply { tree: id, created: true }),
            Err(_) => Err(StartError::Draining),
        }
    }

    async fn start_keyed(
        &self,
        definition: &Definition,
        input: Bytes,
        scope: KeyScope,
        key: String,
        cause: Cause,
    ) -> Result<StartReply, StartError> {
        let value = serde_json::from_slice(&input).unwrap_or_default();
        let new = new_tree(definition, input.clone(), cause);
        let id = new.id;
        let start = Start { tree: new, key: StartKey { scope, key, digest: canonical::digest(&value) } };
        let (reply, answer) = oneshot::channel();
        self.starter.send(Request::Start { start, reply }).await.map_err(|_| StartError::Draining)?;
        match answer.await.map_err(|_| StartError::Draining)?.map_err(StartError::Store)? {
            Started::Created => Ok(StartReply { tree: id, created: true }),
            Started::Existing { tree, .. } if tree == id => Ok(StartReply { tree, created: true }),
            Started::Existing { tree, function, same_digest } => {
                self.check_same(tree, &function, same_digest, definition, &input).await?;
                Ok(StartReply { tree, created: false })
            }
        }
    }

    /// Whether the tree that holds a key is the one that was to be started; unequal digests are decided by comparing
    /// with the recorded input.
    async fn check_same(
        &self,
        tree: TreeId,
        function: &str,
        same_digest: bool,
        definition: &Definition,
        input: &[u8],
    ) -> Result<(), StartError> {
        let conflict = |message: String| Err(StartError::Conflict { tree, message });
        if function != definition.name {
            return conflict(format!("whose function is `{function}`"));
        }
        if same_digest {
            return Ok(());
        }
        let image = self.store.invocation_load(tree, &Path::root()).await.map_err(StartError::Store)?;
        match image {
            Some(image) if canonical::covers_bytes(&image.invocation.input, input) => Ok(()),
            _ => conflict("which was started with another input".to_owned()),
        }
    }

    /// Waits for a tree's outcome.
    async fn outcome(&self, tree: TreeId) -> Result<Outcome, ReadError> {
        loop {
            // First the seat, then the look: a tree that settles in between finds the waiter.
            let seat = self.waiters.seat(tree);
            if !self.owned.lock().contains_key(&tree) {
                match self.store.outcome_read(tree).await? {
                    None => return Err(ReadError::Unknown(tree)),
                    Some(outcome) if outcome.state.is_settled() => return Ok(outcome),
                    Some(_) => {}
                }
            }
            // Being told across processes is a hint; the pause bounds what a lost one costs.
            if let Ok(Some(outcome)) = tokio::time::timeout(self.options.poll, seat.wait()).await {
                return Ok(outcome);
            }
        }
    }

    /// Somebody on this store settled something: those who wait for trees of other workers look again.
    pub(crate) fn look_again(&self) {
        let owned = self.owned.lock();
        self.waiters.look_again(|tree| !owned.contains_key(tree));
    }

    // ---- tasks ----------------------------------------------------------------------------------------------------

    fn spawn(self: &Arc<Self>, task: impl Future<Output = ()> + Send + 'static) {
        let engine = Arc::clone(self);
        self.tasks.lock().spawn(async move {
            tokio::select! {
                () = engine.until_stopped() => {}
                () = task => {}
            }
        });
    }

    pub(crate) async fn until_stopped(&self) {
        let stopped = self.stopped.notified();
        if !self.is_killed() {
            stopped.await;
        }
    }

    fn stop(&self) {
        if !self.is_killed.swap(true, Ordering::AcqRel) {
            self.is_draining.store(true, Ordering::Release);
            self.tell_trees(|| Signal::Kill);
            self.waiters.clear();
            self.stopped.notify_waiters();
        }
    }

    async fn join(&self) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        while tasks.join_next().await.is_some() {}
    }
}

fn new_tree(definition: &Definition, input: Bytes, cause: Cause) -> NewTree {
    let id = TreeId::fresh();
    let correlation = if cause.correlation.is_empty() { id.to_string() } else { cause.correlation };
    NewTree {
        id,
        function: definition.name.to_owned(),
        version: definition.version,
        input,
        cause: Cause { correlation, ..cause },
    }
}

fn is_id(id: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A tree, by its id: attach to it from anywhere.
pub struct TreeHandle<F> {
    engine: Engine,
    tree: TreeId,
    function: PhantomData<fn() -> F>,
}

impl<F: Function> TreeHandle<F> {
    /// The tree's identity.
    #[must_use]
    pub fn id(&self) -> TreeId {
        self.tree
    }

    /// Waits for the root's result.
    ///
    /// # Errors
    /// [`ResultError::Call`] with the root's own error, or how else it ended.
    pub async fn result(&self) -> Result<F::Output, ResultError<F::Error>> {
        let outcome = self.engine.inner.outcome(self.tree).await?;
        let value = outcome.value.unwrap_or_default();
        let phase = match outcome.state {
            TreeState::Resolved => {
                return serde_json::from_slice(&value).map_err(ResultError::Unreadable);
            }
            TreeState::TimedOut => sapwood_core::tree::Phase::TimedOut,
            TreeState::Cancelled => sapwood_core::tree::Phase::Cancelled,
            _ => sapwood_core::tree::Phase::Rejected,
        };
        let root = CallFailure {
            function: versioned(&outcome.function, outcome.version),
            path: Path::root().to_string(),
            attempts: outcome.attempts,
            kind: sapwood_core::failure::CallFailureKind::Cancelled,
        };
        Err(ResultError::Call(call_error(root, phase, Rejection::read(&value))))
    }
}

/// Why a tree gave no result to who waited for it.
#[derive(Debug, thiserror::Error)]
pub enum ResultError<E: std::fmt::Debug + std::fmt::Display + 'static> {
    /// The root gave none.
    #[error("{0}")]
    Call(CallError<E>),
    /// The tree could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The result is none that this build can read.
    #[error("the result is not readable")]
    Unreadable(#[source] serde_json::Error),
}
