//! What a tree's driver uses of its worker.

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::limits::Limits;
use sapwood_core::store::{Store, StoreResult, TreeOutcome};
use sapwood_core::tree::{Cause, InvocationImage, SettledPromise, TreeImage};
use sapwood_core::{Path, TreeId, WorkerId};
use tokio::sync::Semaphore;

use crate::clock::StoreClock;
use crate::committer::Committers;
use crate::definition::AnyDependencies;
use crate::environment::Environment;
use crate::facts::Facts;
use crate::findings::Findings;
use crate::hints::OutboxSignal;
use crate::lease::{Asked, LeaseWatch};
use crate::life::Life;
use crate::outage::{Outage, User};
use crate::quarantine::Quarantine;
use crate::registry::Registry;
use crate::setbacks::Setbacks;
use crate::starting::Starts;
use crate::transactor::Transactor;
use crate::waiters::Waiters;

/// The services of a worker for the drivers of its trees, the same for all of them.
pub(crate) struct Services {
    /// The context's name.
    pub(crate) context: &'static str,
    /// Given to every body.
    pub(crate) dependencies: AnyDependencies,
    pub(crate) registry: Arc<Registry>,
    pub(crate) store: Arc<dyn Store>,
    /// The owner of every tree that is driven here.
    pub(crate) worker: WorkerId,
    pub(crate) environment: Arc<dyn Environment>,
    /// The store's clock, by which things are due.
    pub(crate) clock: Arc<StoreClock>,
    /// Asks for a renewal of the lease at once, which tells the store's time.
    pub(crate) asked: Arc<Asked>,
    /// Whether to begin something new, and whether to go on at all.
    pub(crate) life: Arc<Life>,
    /// Trees that may be killing workers.
    pub(crate) quarantine: Quarantine,
    /// Commits that the store has lost.
    pub(crate) setbacks: Setbacks,
    /// The pauses of reads while the store does not answer.
    pub(crate) outage: Arc<Outage>,
    /// Whether a side effect may begin.
    pub(crate) lease: Arc<LeaseWatch>,
    /// One permit per function that may be active at once (S5).
    pub(crate) slots: Arc<Semaphore>,
    /// Where turns go.
    pub(crate) committers: Committers,
    /// Where the starts of consumers go.
    pub(crate) starts: Starts,
    /// Callers here that are told when a tree settles.
    pub(crate) waiters: Waiters,
    /// Raised after a commit with events.
    pub(crate) outbox: OutboxSignal,
    /// Begins and commits the transactions of authors, if their context has any.
    pub(crate) transactor: Option<Arc<Transactor>>,
    /// What was logged of functions.
    pub(crate) findings: Arc<Findings>,
    /// Lanes of the store's outbox.
    pub(crate) lanes: u16,
    pub(crate) limits: Limits,
    /// How long an attempt of a step may take that says nothing else.
    pub(crate) step_timeout: Option<Duration>,
    /// Whether a body leaves memory whenever it waits: a test mode.
    pub(crate) evicts: bool,
}

impl Services {
    /// What is true of a tree with this cause.
    pub(crate) fn facts(&self, tree: TreeId, cause: &Cause) -> Arc<Facts> {
        Arc::new(Facts {
            tree,
            context: self.context,
            correlation: cause.correlation.clone(),
            traceparent: cause.traceparent.clone(),
            lanes: self.lanes,
            limits: self.limits,
            step_timeout: self.step_timeout,
            environment: Arc::clone(&self.environment),
            clock: Arc::clone(&self.clock),
            transactor: self.transactor.clone(),
            findings: Arc::clone(&self.findings),
        })
    }

    /// Tells who waits for a tree, here and in other processes, that it has its outcome, which is durable.
    pub(crate) fn announce(&self, tree: TreeId, outcome: &TreeOutcome) {
        self.waiters.settled(tree, outcome);
        self.outbox.hinter.settled();
    }

    /// [`Trees::tree_load`](sapwood_core::store::Trees::tree_load), repeated until the store answers.
    pub(crate) async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>> {
        self.outage.of(User::Loads).outlast(|| self.store.tree_load(tree)).await
    }

    /// [`Trees::invocation_load`](sapwood_core::store::Trees::invocation_load), repeated until the store answers.
    pub(crate) async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>> {
        self.outage.of(User::Loads).outlast(|| self.store.invocation_load(tree, path)).await
    }

    /// [`Promises::promise_inbox`](sapwood_core::store::Promises::promise_inbox), repeated until the store answers.
    pub(crate) async fn promise_inbox(&self, tree: TreeId, after: u32) -> StoreResult<Vec<SettledPromise>> {
        self.outage.of(User::Loads).outlast(|| self.store.promise_inbox(tree, after)).await
    }
}
