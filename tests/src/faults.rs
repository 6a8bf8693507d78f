//! A store whose commits a test counts, reads, holds, loses, or lets the process die of; and whose claims it loses and
//! loads it refuses.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use parking_lot::Mutex;
use sapwood_core::broker::TopicPartition;
use sapwood_core::store::{
    AssignedPartition, Claims, Committer, EventLog, GroupOffsets, Hint, KeyScope, LaneAdvance, LaneLease, Lease,
    LogRecord, LoggedRecord, Membership, Outbox, OutboxRow, Reading, Recovered, Starter, Store, StoreError,
    StoreErrorKind, StoreInfo, StoreResult, TreeFilter, TreeOutcome, Trees, Turn, Verdict,
};
use sapwood_core::tree::{InvocationImage, TreeImage, TreeRecord, TreeRow};
use sapwood_core::{FunctionVersion, Path, TreeId, WorkerId};
use sapwood_engine::Engine;
use tokio::sync::{Semaphore, watch};

use crate::wait::within;

/// What happens at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is lost before the commit: nothing is applied, and nobody knows.
    LostBefore,
    /// The connection is lost after the commit: all is applied, and nobody knows (C5).
    LostAfter,
    /// The process dies before the commit.
    DiesBefore,
    /// The process dies after the commit, before it hears of it.
    DiesAfter,
    /// The commit waits for [`Faults::release`].
    Held,
}

/// Which faults happen when, and what was seen.
pub struct Faults {
    commits: AtomicUsize,
    /// Faults by the number of the commit, counted from 1.
    planned: Mutex<HashMap<usize, Fault>>,
    /// What holds from some commit on.
    holds_from: Mutex<Option<usize>>,
    released: Semaphore,
    held: watch::Sender<usize>,
    dies: Mutex<Option<Engine>>,
    turns: Mutex<Vec<Turn>>,
    lost: Mutex<Vec<Turn>>,
    loads: Mutex<Vec<Path>>,
    /// Whether the answer of the next claim that takes a tree is lost.
    loses_claim: AtomicBool,
    claims: Mutex<Vec<TreeId>>,
    /// Invocations whose next load is refused for good.
    unreadable: Mutex<HashSet<Path>>,
}

impl Faults {
    /// A store with faults before it, and what plans them.
    #[must_use]
    pub fn before(store: Arc<dyn Store>) -> (Arc<dyn Store>, Arc<Self>) {
        let faults = Arc::new(Self {
            commits: AtomicUsize::new(0),
            planned: Mutex::default(),
            holds_from: Mutex::default(),
            released: Semaphore::new(0),
            held: watch::Sender::new(0),
            dies: Mutex::default(),
            turns: Mutex::default(),
            lost: Mutex::default(),
            loads: Mutex::default(),
            loses_claim: AtomicBool::new(false),
            claims: Mutex::default(),
            unreadable: Mutex::default(),
        });
        (Arc::new(Faulty { store, faults: Arc::clone(&faults) }), faults)
    }

    /// Plans a fault at a commit, counted from 1 since the store began.
    pub fn plan(&self, commit: usize, fault: Fault) {
        self.planned.lock().insert(commit, fault);
    }

    /// Plans a fault at the next commit.
    pub fn plan_next(&self, fault: Fault) {
        self.plan(self.commits() + 1, fault);
    }

    /// Holds every commit from the next one on, until each is released.
    pub fn hold_all(&self) {
        *self.holds_from.lock() = Some(self.commits() + 1);
    }

    /// Holds no more, and lets those go on that are held.
    pub fn hold_none(&self) {
        *self.holds_from.lock() = None;
        self.released.add_permits(Semaphore::MAX_PERMITS >> 4);
    }

    /// Which engine dies of [`Fault::DiesBefore`] and [`Fault::DiesAfter`].
    pub fn kills(&self, engine: &Engine) {
        *self.dies.lock() = Some(engine.clone());
    }

    /// Lets one held commit go on.
    pub fn release(&self) {
        self.released.add_permits(1);
    }

    /// Waits until so many commits have been held in all.
    ///
    /// # Panics
    /// Where they never are.
    pub async fn held(&self, many: usize) {
        let mut held = self.held.subscribe();
        let waiting = held.wait_for(|held| *held >= many);
        within("a held commit", waiting).await.expect("the faults are kept");
    }

    /// Commits begun so far.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// The turns that were committed, in order.
    #[must_use]
    pub fn turns(&self) -> Vec<Turn> {
        self.turns.lock().clone()
    }

    /// The turns that a dying process took with it.
    #[must_use]
    pub fn lost(&self) -> Vec<Turn> {
        self.lost.lock().clone()
    }

    /// The invocations that were loaded for an activation, in order.
    #[must_use]
    pub fn loads(&self) -> Vec<Path> {
        self.loads.lock().clone()
    }

    /// Loses the answer of the next claim that takes a tree; the claim is made all the same.
    pub fn lose_claim(&self) {
        self.loses_claim.store(true, Ordering::SeqCst);
    }

    /// Whether an answer is still to be lost.
    #[must_use]
    pub fn has_claim_to_lose(&self) -> bool {
        self.loses_claim.load(Ordering::SeqCst)
    }

    /// The trees that were claimed, one by one, in order.
    #[must_use]
    pub fn claims(&self) -> Vec<TreeId> {
        self.claims.lock().clone()
    }

    /// Refuses for good the next load of the invocation at a path, as `/0/1`.
    ///
    /// # Panics
    /// Where it is no path.
    pub fn refuse_load(&self, path: &str) {
        self.unreadable.lock().insert(path.parse().expect("a path"));
    }

    fn next(&self) -> Option<Fault> {
        let commit = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        let holds = self.holds_from.lock().is_some_and(|from| commit >= from);
        self.planned.lock().remove(&commit).or(holds.then_some(Fault::Held))
    }

    fn die(&self) {
        let dies = self.dies.lock().clone();
        dies.expect("an engine that dies is named").kill();
    }
}

struct Faulty {
    store: Arc<dyn Store>,
    faults: Arc<Faults>,
}

struct FaultyCommitter {
    committer: Box<dyn Committer>,
    faults: Arc<Faults>,
}

fn lost() -> StoreError {
    StoreError::new(StoreErrorKind::Connection, "the connection was lost, as planned")
}

impl FaultyCommitter {
    async fn apply(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>> {
        let verdicts = self.committer.commit(turns).await?;
        let committed = turns.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Committed);
        self.faults.turns.lock().extend(committed.map(|(turn, _)| turn.clone()));
        Ok(verdicts)
    }
}

#[async_trait]
impl Committer for FaultyCommitter {
    async fn commit(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>> {
        match self.faults.next() {
            None => self.apply(turns).await,
            Some(Fault::LostBefore) => Err(lost()),
            Some(Fault::LostAfter) => {
                self.apply(turns).await?;
                Err(lost())
            }
            Some(Fault::DiesBefore) => {
                self.faults.lost.lock().extend_from_slice(turns);
                self.faults.die();
                Err(lost())
            }
            Some(Fault::DiesAfter) => {
                self.apply(turns).await?;
                self.faults.die();
                Err(lost())
            }
            Some(Fault::Held) => {
                self.faults.held.send_modify(|held| *held += 1);
                let faults = Arc::clone(&self.faults);
                faults.released.acquire().await.expect("the faults are kept").forget();
                self.apply(turns).await
            }
        }
    }

    async fn recover(&mut self, turns: &[Turn]) -> StoreResult<Vec<Recovered>> {
        self.committer.recover(turns).await
    }
}

#[async_trait]
impl Store for Faulty {
    fn info(&self) -> StoreInfo {
        self.store.info()
    }

    async fn ping(&self) -> StoreResult<()> {
        self.store.ping().await
    }

    fn hints(&self) -> BoxStream<'static, Hint> {
        self.store.hints()
    }

    async fn hint(&self, hints: &[Hint]) -> StoreResult<()> {
        self.store.hint(hints).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

#[async_trait]
impl Membership for Faulty {
    async fn worker_join(&self, name: &str, fences: u16, lease: Duration) -> StoreResult<WorkerId> {
        self.store.worker_join(name, fences, lease).await
    }

    fn lease(&self, worker: WorkerId) -> Box<dyn Lease> {
        self.store.lease(worker)
    }

    async fn worker_bury(&self, by: WorkerId, expired: &[WorkerId]) -> StoreResult<Vec<WorkerId>> {
        self.store.worker_bury(by, expired).await
    }

    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()> {
        self.store.worker_leave(worker).await
    }
}

#[async_trait]
impl Trees for Faulty {
    fn committer(&self, worker: WorkerId, fence: u16) -> Box<dyn Committer> {
        let committer = self.store.committer(worker, fence);
        Box::new(FaultyCommitter { committer, faults: Arc::clone(&self.faults) })
    }

    fn starter(&self, owner: Option<(WorkerId, u16)>) -> Box<dyn Starter> {
        self.store.starter(owner)
    }

    async fn tree_claim(&self, worker: WorkerId, limit: usize, versions: &[FunctionVersion]) -> StoreResult<Claims> {
        let claims = self.store.tree_claim(worker, limit, versions).await?;
        self.faults.claims.lock().extend(claims.trees.iter().map(|claimed| claimed.row.id));
        if !claims.trees.is_empty() && self.faults.loses_claim.swap(false, Ordering::SeqCst) {
            return Err(lost());
        }
        Ok(claims)
    }

    async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>> {
        self.store.tree_load(tree).await
    }

    async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>> {
        self.faults.loads.lock().push(path.clone());
        if self.faults.unreadable.lock().remove(path) {
            return Err(StoreError::new(StoreErrorKind::Permanent, "the row is damaged, as planned"));
        }
        self.store.invocation_load(tree, path).await
    }
}

#[async_trait]
impl Reading for Faulty {
    async fn tree_row(&self, tree: TreeId) -> StoreResult<Option<TreeRow>> {
        self.store.tree_row(tree).await
    }

    async fn tree_read(&self, tree: TreeId) -> StoreResult<Option<TreeRecord>> {
        self.store.tree_read(tree).await
    }

    async fn tree_list(&self, filter: &TreeFilter) -> StoreResult<Vec<TreeRow>> {
        self.store.tree_list(filter).await
    }

    async fn start_key_find(&self, scope: &KeyScope, key: &str) -> StoreResult<Option<TreeId>> {
        self.store.start_key_find(scope, key).await
    }

    async fn outcome_read(&self, tree: TreeId) -> StoreResult<Option<TreeOutcome>> {
        self.store.outcome_read(tree).await
    }
}

#[async_trait]
impl Outbox for Faulty {
    async fn lane_claim(&self, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>> {
        self.store.lane_claim(worker, limit).await
    }

    async fn outbox_read(&self, lane: u16, after: i64, limit: usize) -> StoreResult<Vec<OutboxRow>> {
        self.store.outbox_read(lane, after, limit).await
    }

    async fn lane_advance(&self, worker: WorkerId, advances: &[LaneAdvance]) -> StoreResult<Vec<u16>> {
        self.store.lane_advance(worker, advances).await
    }

    async fn lane_release(&self, worker: WorkerId) -> StoreResult<()> {
        self.store.lane_release(worker).await
    }
}

#[async_trait]
impl GroupOffsets for Faulty {
    async fn partition_assign(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> StoreResult<Vec<AssignedPartition>> {
        self.store.partition_assign(group, partitions).await
    }
}

#[async_trait]
impl EventLog for Faulty {
    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()> {
        self.store.log_append(records).await
    }

    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<Vec<LoggedRecord>> {
        self.store.log_read(topic, offset, limit).await
    }
}
