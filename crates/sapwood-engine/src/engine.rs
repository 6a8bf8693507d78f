//! A running engine: one context on one store, as one worker.

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::limits::Limits;
use sapwood_core::store::{
    Hint, Intake, Joined, KeyScope, ListedTree, Started, Store, StoreError, StoreErrorKind, StoreResult, TreeFilter,
    TreeOutcome,
};
use sapwood_core::{BoundedContext, CallerId, Deadline, Dependencies, TreeId, WorkerId};
use tokio::sync::{Notify, Semaphore};

use crate::clock::{StoreClock, Told};
use crate::committer::{self, Committers};
use crate::definition::{AnyDependencies, Definition};
use crate::due::Due;
use crate::environment::Environment;
use crate::error::{EngineError, ReadError, StartError};
use crate::hints::{self, Hinter, OutboxSignal};
use crate::lease::{Heartbeat, LeaseWatch};
use crate::life::{Life, Stopped};
use crate::options::{CachePolicy, EngineOptions};
use crate::outage::{Outage, Use, User};
use crate::quarantine::Quarantine;
use crate::registry::Registry;
use crate::services::Services;
use crate::setbacks::Setbacks;
use crate::starting::{Keyed, StartOptions, StartReply, Starts, deadline_of_start};
use crate::tasks::Tasks;
use crate::transactor::Transactor;
use crate::tree::Signal;
use crate::trees::Trees;
use crate::trigger::Trigger;
use crate::view::TreeView;
use crate::waiters::Waiters;
use crate::{claims, starter};

/// How long a drain takes at most, unless it is told otherwise.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(30);

/// How long each step of leaving may take once nothing runs any longer.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);

/// How often a drain says what it waits for.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How often, without an outage, a worker looks for trees that it owns and does not drive. There should be none, so this
/// only bounds how long a tree stands still that a fault of any kind left behind.
const STRAYS_EVERY: Duration = Duration::from_secs(60);

/// One bounded context, running on its store. Cloning gives another handle of the same engine.
#[derive(Clone)]
pub struct Engine {
    /// Shared with the drivers of all trees.
    services: Arc<Services>,
    trees: Arc<Trees>,
    /// Awaited at the end of a drain.
    tasks: Arc<Tasks>,
    /// Callers here that wait for the outcome of a tree.
    /// Wakes the claims.
    due: Arc<Due>,
    /// How long a caller waits for the hint that a tree of another worker has settled, before it reads the store
    /// again: a hint may be lost.
    poll: Duration,
}

/// The condition of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The users of the store that it does not answer, such as `claims` or `commits 0`, each with its last error. Each has
    /// connections of its own, so that the store may answer the others.
    pub store_errors: Vec<(String, String)>,
    /// Commits that were acknowledged and that the store has lost since: it went back.
    pub lost_commits: u64,
    /// Whether this worker's lease is good: without one it starts no side effect.
    pub lease_is_good: bool,
    /// Whether it is shutting down.
    pub is_draining: bool,
    /// Whether it was declared dead, or killed: it does nothing more.
    pub is_stopped: bool,
    /// Why it stopped, if it was not drained.
    pub stopped: Option<Stopped>,
    /// Trees driven here now.
    pub trees: usize,
    /// Trees that this worker set aside because it could not drive them, with the reason, the last ones first; until it
    /// claims them again.
    pub set_aside: Vec<(TreeId, String)>,
}

impl Health {
    /// What the store does not answer, in words.
    #[must_use]
    pub fn store_error(&self) -> Option<String> {
        let words: Vec<String> = self.store_errors.iter().map(|(user, error)| format!("{user}: {error}")).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
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
        let found = store.info().kind;
        if let Some(needed) = D::DATABASE.filter(|needed| *needed != found) {
            return Err(EngineError::WrongDatabase { context: D::Context::NAME, needed, found });
        }
        let transactions = D::DATABASE.map_or(0, |_| options.transactions.max(1));
        let options = EngineOptions { transactions, ..options };
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
        // One fence for each committer, one for the starter, and one for each transaction of an author.
        let fences = count + 1..(count + 1).saturating_add(options.transactions);
        let (process, sent) = (options.environment.process(), options.environment.monotonic());
        let Joined { worker, now } = store.worker_join(&options.name, fences.end, options.lease, process).await?;
        let environment = Arc::clone(&options.environment);
        let told = Told { now, sent, answered: environment.monotonic() };
        let clock = Arc::new(StoreClock::new(Arc::clone(&environment), told));
        let life = Arc::new(Life::default());
        let outage = Arc::new(Outage::new(Arc::clone(&life), Arc::clone(&environment)));
        let lease = Arc::new(LeaseWatch::begun(Arc::clone(&environment), sent, options.lease));
        let tasks = Arc::new(Tasks::new(Arc::clone(&environment), Arc::clone(&life)));
        let hinter = Arc::<Hinter>::default();
        let due = Arc::new(Due::new(claims::longest_pause(options.poll)));
        let (committers, submissions) = Committers::new(count);
        let (starts, requests) =
            Starts::new(Arc::clone(&registry), Arc::clone(&store), Arc::clone(&environment), &clock, Arc::clone(&life));
        let transactions = (!fences.is_empty()).then(|| store.transactions(worker, fences)).flatten();
        let transactor = transactions.map(|begin| Arc::new(Transactor::new(begin, &environment, &life, &outage)));
        let services = Arc::new(Services {
            context,
            dependencies,
            registry,
            store: Arc::clone(&store),
            worker,
            environment,
            clock,
            asked: Arc::default(),
            life,
            outage,
            quarantine: Quarantine::default(),
            setbacks: Setbacks::default(),
            lease,
            slots: Arc::new(Semaphore::new(options.concurrency.clamp(1, Semaphore::MAX_PERMITS))),
            committers,
            starts,
            waiters: Waiters::default(),
            outbox: OutboxSignal { here: Arc::default(), hinter: Arc::clone(&hinter) },
            transactor,
            findings: Arc::default(),
            lanes: store.info().lanes,
            limits: options.limits,
            step_timeout: options.step_timeout,
            evicts: options.cache == CachePolicy::Evict,
        });
        let trees = Arc::new(Trees::new(Arc::clone(&services), Arc::clone(&tasks), Arc::clone(&due), options.cache));
        let engine = Self { services, trees, tasks, due, poll: options.poll };
        engine.heartbeat(&options).begin().map_err(EngineError::Heartbeat)?;
        for (fence, submissions) in (0..count).zip(submissions) {
            let (life, outage) = (Arc::clone(&engine.services.life), Arc::clone(&engine.services.outage));
            let (committer, user) = (store.committer(worker, fence), User::Commits(fence));
            engine.tasks.spawn_vital(user.to_string(), committer::run(committer, submissions, life, outage, user));
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
            clock: Arc::clone(&services.clock),
            on_clock_set: {
                let (trees, due) = (Arc::clone(&self.trees), Arc::clone(&self.due));
                Box::new(move || {
                    trees.tell_all(|| Signal::Poke);
                    due.raise();
                })
            },
            asked: Arc::clone(&services.asked),
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
        tasks.spawn_vital("starts".to_owned(), starter::run(services(), trees(), starter, requests));
        let (own, of, due) = (services(), trees(), Arc::clone(&self.due));
        tasks.spawn_service("claims", move || claims::run(Arc::clone(&own), Arc::clone(&of), Arc::clone(&due), poll));
        let of = trees();
        tasks.spawn_service("strays", move || Arc::clone(&of).find_strays(STRAYS_EVERY));
        let (store, due, outbox, of) = (self.services.store.clone(), self.due.clone(), self.outbox_signal(), trees());
        tasks.spawn_service("hints", move || {
            hints::receive(Arc::clone(&store), Arc::clone(&due), Arc::clone(&outbox), Arc::clone(&of))
        });
        let store = Arc::clone(&self.services.store);
        tasks.spawn_service("hinter", move || Arc::clone(&hinter).send(Arc::clone(&store)));
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

    /// How long to wait for a hint before the store is read again.
    pub(crate) const fn poll(&self) -> Duration {
        self.poll
    }

    pub(crate) fn trees(&self) -> &Trees {
        &self.trees
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
        options: StartOptions,
    ) -> Result<StartReply, StartError> {
        let definition = self.services.registry.newest(function).ok_or_else(|| self.unknown(function))?;
        if definition.trigger != Trigger::Call {
            return Err(StartError::NotStartable { name: function.to_owned() });
        }
        let input = definition
            .read_input(input)
            .map_err(|message| StartError::InvalidInput { function: function.to_owned(), message })?;
        self.start_definition(definition, input, options).await
    }

    pub(crate) async fn start_definition(
        &self,
        definition: &Definition,
        input: bytes::Bytes,
        options: StartOptions,
    ) -> Result<StartReply, StartError> {
        let limit = self.services.limits.payload_bytes;
        if input.len() > limit {
            return Err(StartError::TooLarge { bytes: input.len(), limit });
        }
        if self.services.life.is_draining() {
            return Err(StartError::of_life(&self.services.life));
        }
        let StartOptions { id, cause, deadline } = options;
        let deadline = deadline.or(definition.deadline.map(Deadline::After));
        let deadline = deadline_of_start(deadline, self.services.clock.now())?;
        match id {
            Some(id) => self.services.starts.keyed(definition, input, Keyed::by_caller(id, cause, deadline)).await,
            None => self.trees.start(definition, input, cause, deadline).await,
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
    /// partitions, or the store went back in it.
    pub async fn intake(&self, batch: Intake) -> StoreResult<Vec<Started>> {
        self.services.starts.intake(batch).await
    }

    // ---- reads ----------------------------------------------------------------------------------------------------

    /// The tree that has this caller's id. While the store does not answer, this waits, as starts do.
    ///
    /// # Errors
    /// The store's error.
    pub async fn find(&self, id: &CallerId) -> StoreResult<Option<TreeId>> {
        self.reads().outlast(|| self.services.store.start_key_find(&KeyScope::Caller, id.as_str())).await
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
            let waiter = self.services.waiters.wait_for(tree);
            if !self.trees.will_settle(&tree) {
                match self.reads().outlast(|| self.services.store.outcome_read(tree)).await? {
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
        let read = self.services.store.tree_read(tree).await;
        self.reads().heard(&read);
        Ok(read?.map(TreeView::of))
    }

    /// Rows of trees, newest first; one that cannot be read is named.
    ///
    /// # Errors
    /// The store's error.
    pub async fn list(&self, filter: &TreeFilter) -> StoreResult<Vec<ListedTree>> {
        let list = self.services.store.tree_list(filter).await;
        self.reads().heard(&list);
        list
    }

    /// The store as callers find it.
    pub(crate) fn reads(&self) -> Use<'_> {
        self.services.outage.of(User::Reads)
    }

    /// The condition of this engine.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            store_errors: self.services.outage.errors(),
            lost_commits: self.services.setbacks.commits(),
            lease_is_good: self.services.lease.is_good(),
            is_draining: self.services.life.is_draining(),
            is_stopped: self.services.life.has_ended(),
            stopped: self.services.life.reason(),
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

    /// Makes the worker ask for the store's time, every driver read it, and the worker claim trees that are due. For tests
    /// that move time; returns once the time is known.
    pub async fn poke(&self) {
        tokio::select! {
            biased;

            () = self.services.asked.renewal() => {}
            () = self.services.life.ends() => {}
        }
        self.due.raise();
        self.trees.tell_all(|| Signal::Poke);
    }

    /// Shuts down within [`DRAIN_WITHIN`], as [`Self::drain_within`] says.
    ///
    /// # Errors
    /// As [`Self::drain_within`].
    pub async fn drain(&self) -> StoreResult<()> {
        self.drain_within(DRAIN_WITHIN).await
    }

    /// Shuts down: starts nothing more, lets steps in flight end, releases every tree, and leaves. What has not ended
    /// within this time is left to the next worker, which runs again what is not recorded.
    ///
    /// # Errors
    /// The store's error; the trees are then taken over when this worker's lease ends.
    pub async fn drain_within(&self, within: Duration) -> StoreResult<()> {
        let Services { life, store, worker, .. } = self.services.as_ref();
        if life.has_ended() {
            return Ok(());
        }
        life.drain();
        self.due.raise();
        tokio::select! {
            biased;

            () = self.all_done() => {}
            () = self.say_what_is_waited_for() => {}
            () = tokio::time::sleep(within) => {
                let trees = self.trees.count();
                tracing::warn!(trees, "trees were not released in time; the next worker goes on with them");
            }
        }
        life.leave();
        let left = tokio::time::timeout(LEAVE_WITHIN, store.worker_leave(*worker)).await;
        let left = left.unwrap_or_else(|_| {
            Err(StoreError::new(StoreErrorKind::Connection, "the store does not answer; its lease has to end"))
        });
        // With the hint, other workers claim the released trees now, and not at their next poll.
        let _ = tokio::time::timeout(LEAVE_WITHIN, store.hint(&[Hint::Ready])).await;
        life.end();
        // A body that blocks its thread is left behind.
        let _ = tokio::time::timeout(LEAVE_WITHIN, self.tasks.join()).await;
        left
    }

    /// Waits until nothing is driven or started here.
    async fn all_done(&self) {
        loop {
            self.services.starts.all_answered().await;
            self.trees.all_left().await;
            // A start that was answered meanwhile may have brought a tree.
            self.services.starts.all_answered().await;
            if self.trees.count() == 0 {
                return;
            }
        }
    }

    async fn say_what_is_waited_for(&self) {
        loop {
            tokio::time::sleep(SAY_EVERY).await;
            let trees = self.trees.count();
            tracing::info!(trees, example = ?self.trees.any(), "draining; these trees have steps in flight");
        }
    }

    /// Stops at once, as if the process had died: nothing more is committed, no other worker is told, the lease runs
    /// out.
    pub fn kill(&self) {
        self.services.life.end_because(Stopped::Killed);
    }

    /// Waits until no tree is driven here. For tests.
    #[doc(hidden)]
    pub async fn idle(&self) {
        self.trees.all_left().await;
    }

    /// Waits until the engine has ended. Says why, if it was not drained.
    pub async fn stopped(&self) -> Option<Stopped> {
        self.services.life.ends().await;
        self.services.life.reason()
    }
}
