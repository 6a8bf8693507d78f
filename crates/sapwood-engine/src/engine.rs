//! A running engine: one context on one store, as one worker.

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::limits::Limits;
use sapwood_core::store::{Hint, Intake, KeyScope, ListedTree, Started, Store, StoreResult, TreeFilter, TreeOutcome};
use sapwood_core::tree::Cause;
use sapwood_core::{BoundedContext, CallerId, Dependencies, TreeId, WorkerId};
use tokio::sync::{Notify, Semaphore};

use crate::committer::{self, Committers};
use crate::definition::{AnyDependencies, Definition};
use crate::due::Due;
use crate::environment::Environment;
use crate::error::{EngineError, ReadError, StartError};
use crate::hints::{self, Hinter, OutboxSignal};
use crate::lease::{Heartbeat, LeaseWatch};
use crate::life::Life;
use crate::options::{CachePolicy, EngineOptions};
use crate::outage::Outage;
use crate::registry::Registry;
use crate::services::Services;
use crate::starting::{StartReply, Starts};
use crate::tasks::Tasks;
use crate::tree::Signal;
use crate::trees::Trees;
use crate::trigger::Trigger;
use crate::view::TreeView;
use crate::waiters::Waiters;
use crate::{claims, starter};

/// One bounded context, running on its store. Cloning gives another handle of the same engine.
#[derive(Clone)]
pub struct Engine {
    /// Shared with the drivers of all trees.
    services: Arc<Services>,
    trees: Arc<Trees>,
    /// Awaited at the end of a drain.
    tasks: Arc<Tasks>,
    /// Callers here that wait for the outcome of a tree.
    waiters: Arc<Waiters>,
    /// Wakes the claims.
    due: Arc<Due>,
    /// How long a caller waits for the hint that a tree of another worker has settled, before it reads the store
    /// again: a hint may be lost.
    poll: Duration,
}

/// The condition of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The store's last error, until it answers again.
    pub store_error: Option<String>,
    /// Whether this worker's lease is good: without one it starts no side effect.
    pub lease_is_good: bool,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// Whether it was declared dead, or killed: it does nothing more.
    pub is_stopped: bool,
    /// Trees driven here now.
    pub trees: usize,
    /// Trees that this worker set aside because it could not drive them, with the reason, the last ones first; until it
    /// claims them again.
    pub set_aside: Vec<(TreeId, String)>,
}

impl Engine {
    /// Joins the store as a worker and begins to run the trees that are ready.
    ///
    /// # Errors
    /// [`EngineError`] if the context's functions contradict each other or the store refuses the worker.
    pub async fn launch<D: Dependencies>(
        dependencies: Arc<D>,
        store: Arc<dyn Store>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let registry = Arc::new(Registry::of::<D>()?);
        Self::launch_with(D::Context::NAME, dependencies, registry, store, options).await
    }

    async fn launch_with(
        context: &'static str,
        dependencies: AnyDependencies,
        registry: Arc<Registry>,
        store: Arc<dyn Store>,
        options: EngineOptions,
    ) -> Result<Self, EngineError> {
        let count = options.committers.min(store.info().committers).max(1);
        // One fence for each committer, and one for the starter.
        let joined = options.environment.monotonic();
        let worker = store.worker_join(&options.name, count + 1, options.lease).await?;
        let environment = Arc::clone(&options.environment);
        let life = Arc::new(Life::default());
        let outage = Arc::new(Outage::new(Arc::clone(&life), Arc::clone(&environment)));
        let lease = Arc::new(LeaseWatch::begun(Arc::clone(&environment), joined, options.lease));
        let tasks = Arc::new(Tasks::new(Arc::clone(&environment), Arc::clone(&life)));
        let (waiters, due, hinter) = (Arc::<Waiters>::default(), Arc::<Due>::default(), Arc::<Hinter>::default());
        let (committers, submissions) = Committers::new(count);
        let (starts, requests) =
            Starts::new(Arc::clone(&registry), Arc::clone(&store), Arc::clone(&environment), Arc::clone(&life));
        let services = Arc::new(Services {
            context,
            dependencies,
            registry,
            store: Arc::clone(&store),
            worker,
            environment,
            life,
            outage,
            lease,
            slots: Arc::new(Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS))),
            committers,
            starts,
            outbox: OutboxSignal { here: Arc::default(), hinter: Arc::clone(&hinter) },
            lanes: store.info().lanes,
            limits: options.limits,
            evicts: options.cache == CachePolicy::Evict,
        });
        let trees = Arc::new(Trees::new(
            Arc::clone(&services),
            Arc::clone(&tasks),
            Arc::clone(&waiters),
            Arc::clone(&hinter),
            Arc::clone(&due),
            options.cache,
        ));
        let engine = Self { services, trees, tasks, waiters, due, poll: options.poll };
        engine.heartbeat(&options).begin().map_err(EngineError::Heartbeat)?;
        for (fence, submissions) in (0..count).zip(submissions) {
            let (life, outage) = (Arc::clone(&engine.services.life), Arc::clone(&engine.services.outage));
            engine.tasks.spawn_until_end(committer::run(store.committer(worker, fence), submissions, life, outage));
        }
        engine.spawn_services(store.starter(Some((worker, count))), requests, hinter, options.poll);
        Ok(engine)
    }

    fn heartbeat(&self, options: &EngineOptions) -> Heartbeat {
        let services = &self.services;
        Heartbeat {
            store: Arc::clone(&services.store),
            worker: services.worker,
            environment: Arc::clone(&services.environment),
            watch: Arc::clone(&services.lease),
            life: Arc::clone(&services.life),
            outage: Arc::clone(&services.outage),
            due: Arc::clone(&self.due),
            lease: options.lease,
            period: options.heartbeat,
        }
    }

    /// Begins the tasks of the worker besides its committers and its heartbeat.
    fn spawn_services(
        &self,
        starter: Box<dyn sapwood_core::store::Starter>,
        requests: tokio::sync::mpsc::Receiver<crate::starting::Request>,
        hinter: Arc<Hinter>,
        poll: Duration,
    ) {
        let services = || Arc::clone(&self.services);
        let trees = || Arc::clone(&self.trees);
        let tasks = &self.tasks;
        tasks.spawn_until_end(starter::run(services(), trees(), starter, requests));
        tasks.spawn_until_end(claims::run(services(), trees(), Arc::clone(&self.due), poll));
        let (store, outbox) = (Arc::clone(&self.services.store), self.outbox_signal());
        let look_again = {
            let trees = trees();
            move || trees.look_again()
        };
        tasks.spawn_until_end(hints::receive(Arc::clone(&store), Arc::clone(&self.due), outbox, look_again));
        tasks.spawn_until_end(hinter.send(store));
        tasks.spawn(trees().follow_life());
    }

    /// The context's name.
    #[must_use]
    pub fn context(&self) -> &'static str {
        self.services.context
    }

    /// The context's functions.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.services.registry
    }

    /// The context's store.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.services.store
    }

    /// This engine's id in its store.
    #[must_use]
    pub fn worker(&self) -> WorkerId {
        self.services.worker
    }

    /// The limits of a tree.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.services.limits
    }

    /// Where time, chance, identities and tasks of this engine come from.
    #[must_use]
    pub fn environment(&self) -> &Arc<dyn Environment> {
        &self.services.environment
    }

    // ---- starts ---------------------------------------------------------------------------------------------------

    /// Starts a root of the newest version of a function, from an object of its parameters as JSON. What is recorded is
    /// what the function's type makes of it.
    ///
    /// # Errors
    /// [`StartError`], each with a stable code.
    pub async fn start_json(
        &self,
        function: &str,
        input: &[u8],
        id: Option<CallerId>,
        cause: Option<Cause>,
    ) -> Result<StartReply, StartError> {
        let definition = self.services.registry.newest(function).ok_or_else(|| self.unknown(function))?;
        if definition.trigger != Trigger::Call {
            return Err(StartError::NotStartable { name: function.to_owned() });
        }
        let input = definition
            .read_input(input)
            .map_err(|message| StartError::InvalidInput { function: function.to_owned(), message })?;
        self.start_definition(definition, input, id, cause.unwrap_or_default()).await
    }

    pub(crate) async fn start_definition(
        &self,
        definition: &Definition,
        input: bytes::Bytes,
        id: Option<CallerId>,
        cause: Cause,
    ) -> Result<StartReply, StartError> {
        let limit = self.services.limits.payload_bytes;
        if input.len() > limit {
            return Err(StartError::TooLarge { bytes: input.len(), limit });
        }
        if self.services.life.is_draining() {
            return Err(StartError::Draining);
        }
        match id {
            Some(id) => self.services.starts.keyed(definition, input, KeyScope::Caller, id.into(), cause).await,
            None => self.trees.start(definition, input, cause).await,
        }
    }

    pub(crate) fn unknown(&self, name: &str) -> StartError {
        let mut names: Vec<&str> = self.services.registry.functions().map(|definition| definition.name).collect();
        names.dedup();
        let nearest = sapwood_core::nearest::nearest(name, names).map(ToOwned::to_owned);
        StartError::UnknownFunction { name: name.to_owned(), nearest }
    }

    /// Takes in a batch of events: offsets, keys and trees in one commit. The trees run here.
    ///
    /// # Errors
    /// [`StoreErrorKind::Refused`](sapwood_core::store::StoreErrorKind::Refused) if another member has one of the
    /// partitions.
    pub async fn intake(&self, batch: Intake) -> StoreResult<Vec<Started>> {
        self.services.starts.intake(batch).await
    }

    // ---- reads ----------------------------------------------------------------------------------------------------

    /// The tree that has this caller's id.
    ///
    /// # Errors
    /// The store's error.
    pub async fn find(&self, id: &CallerId) -> StoreResult<Option<TreeId>> {
        self.services.store.start_key_find(&KeyScope::Caller, id.as_str()).await
    }

    /// The outcome of a tree, waiting for it at most `wait`; `None` if it is still pending.
    ///
    /// # Errors
    /// [`ReadError::Unknown`] if no tree has this id.
    pub async fn outcome(&self, tree: TreeId, wait: Duration) -> Result<Option<TreeOutcome>, ReadError> {
        match tokio::time::timeout(wait, self.outcome_awaited(tree)).await {
            Ok(outcome) => outcome.map(Some),
            // Even a caller that does not wait learns whether the tree exists.
            Err(_) => match self.services.store.outcome_read(tree).await? {
                None => Err(ReadError::Unknown(tree)),
                Some(outcome) => Ok(Some(outcome).filter(|outcome| outcome.state.is_settled())),
            },
        }
    }

    /// The outcome of a tree, once it has one.
    pub(crate) async fn outcome_awaited(&self, tree: TreeId) -> Result<TreeOutcome, ReadError> {
        loop {
            // Register the waiter first, then read: a tree that settles in between finds it.
            let waiter = self.waiters.wait_for(tree);
            if !self.trees.drives(&tree) {
                match self.services.store.outcome_read(tree).await? {
                    None => return Err(ReadError::Unknown(tree)),
                    Some(outcome) if outcome.state.is_settled() => return Ok(outcome),
                    Some(_) => {}
                }
            }
            // What settles in another process is announced by a hint; the pause bounds what a lost hint costs.
            if let Ok(Some(outcome)) = tokio::time::timeout(self.poll, waiter.told()).await {
                return Ok(outcome);
            }
        }
    }

    /// A whole tree: every node with what it waits on (G1, G2).
    ///
    /// # Errors
    /// The store's error.
    pub async fn tree(&self, tree: TreeId) -> StoreResult<Option<TreeView>> {
        Ok(self.services.store.tree_read(tree).await?.map(TreeView::of))
    }

    /// Rows of trees, newest first; one that cannot be read is named.
    ///
    /// # Errors
    /// The store's error.
    pub async fn list(&self, filter: &TreeFilter) -> StoreResult<Vec<ListedTree>> {
        self.services.store.tree_list(filter).await
    }

    /// The condition of this engine.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            store_error: self.services.outage.error(),
            lease_is_good: self.services.lease.is_good(),
            is_draining: self.services.life.is_draining(),
            is_stopped: self.services.life.has_ended(),
            trees: self.trees.count(),
            set_aside: self.trees.all_set_aside(),
        }
    }

    /// Notified after each commit with events of this process.
    #[must_use]
    pub fn outbox_signal(&self) -> Arc<Notify> {
        Arc::clone(&self.services.outbox.here)
    }

    // ---- life -----------------------------------------------------------------------------------------------------

    /// Makes every driver read the clock, and the worker claim trees that are due. For tests that move time.
    pub fn poke(&self) {
        self.due.raise();
        self.trees.tell_all(|| Signal::Poke);
    }

    /// Shuts down: starts nothing more, lets steps in flight end, releases every tree, and leaves.
    ///
    /// # Errors
    /// The store's error; the trees are then taken over when this worker's lease ends.
    pub async fn drain(&self) -> StoreResult<()> {
        let Services { life, store, worker, .. } = self.services.as_ref();
        if life.has_ended() {
            return Ok(());
        }
        life.drain();
        self.due.raise();
        self.trees.all_left().await;
        let result = store.worker_leave(*worker).await;
        // With the hint, other workers claim the released trees now, and not at their next poll.
        let _ = store.hint(&[Hint::Ready]).await;
        life.end();
        self.tasks.join().await;
        result
    }

    /// Stops at once, as if the process had died: nothing more is committed, no other worker is told, the lease runs
    /// out.
    pub fn kill(&self) {
        self.services.life.end();
    }

    /// Waits until no tree is driven here. For tests.
    #[doc(hidden)]
    pub async fn idle(&self) {
        self.trees.all_left().await;
    }

    /// Waits until the engine has stopped: it was killed, or declared dead by another worker.
    pub async fn stopped(&self) {
        self.services.life.ends().await;
    }
}
