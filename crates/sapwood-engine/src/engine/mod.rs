//! A running engine: one context on one store, as one worker.

mod handle;
mod starting;
mod trees;

use std::any::Any;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;
use sapwood_core::limits::Limits;
use sapwood_core::store::{
    Claimed, Hint, Intake, KeyScope, Outcome, Started, Store, StoreError, StoreErrorKind, StoreResult, TreeFilter, Turn,
};
use sapwood_core::tree::{Cause, InvocationImage, TreeImage, TreeRow};
use sapwood_core::{BoundedContext, Dependencies, Path, Position, TreeId, WorkerId};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use crate::activation::StartOrder;
use crate::committer::{self, Submission};
use crate::cx::StartOutcome;
use crate::error::{EngineError, ReadError, StartError};
use crate::lease::LeaseWatch;
use crate::options::{CachePolicy, EngineOptions};
use crate::pause::Pause;
use crate::registry::{Registry, Trigger, encode};
use crate::replay::causation_of;
use crate::starter::{self, Request};
use crate::tree::{Mailbox, Signal, Tree};
use crate::view::TreeView;
use crate::waiters::Waiters;
use crate::{Call, Function, claims, lease};

pub use handle::{ResultError, TreeHandle};
use starting::is_id;

/// One bounded context, running on its store. Cloning gives another handle of the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

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
