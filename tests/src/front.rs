//! What stands in front of every store of a test: it tells of changes, and carries out the faults that are planned.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use sapwood_core::broker::TopicPartition;
use sapwood_core::control::ControlRequest;
use sapwood_core::store::{
    AssignedPartition, Beat, Claims, Committer, EventLog, Governing, GroupOffsets, Hint, Intake, Joined, KeyScope,
    LaneAdvance, LaneLease, Lease, ListedTree, LogRecord, LoggedRecord, Membership, OrderedRows, Outbox, OutboxRow,
    OwnedTree, Promises, Reading, Recovered, Renewal, Ruling, Settling, Start, Started, Starter, StepTransaction,
    Store, StoreError, StoreErrorKind, StoreInfo, StoreResult, Suspects, Transactions, TreeFilter, TreeOutcome, Trees,
    Turn, Unprepared, Verdict,
};
use sapwood_core::tree::{InvocationImage, PromiseRow, SettledPromise, Settlement, TreeImage, TreeRecord, TreeRow};
use sapwood_core::{FunctionVersion, Path, ProcessId, TreeId, WorkerId};

use crate::changes::Changes;
use crate::faults::{Fault, StoreFaults};

/// The store of one process, telling of its changes.
#[must_use]
pub fn telling(store: Arc<dyn Store>, changes: &Changes) -> Arc<dyn Store> {
    Arc::new(Front { store, changes: changes.clone(), faults: None })
}

/// The store of one process, and what plans its faults. Others on the same store have none.
#[must_use]
pub fn with_faults(store: Arc<dyn Store>) -> (Arc<dyn Store>, Arc<StoreFaults>) {
    let faults = Arc::new(StoreFaults::none());
    // The store behind tells already.
    let front = Front { store, changes: Changes::default(), faults: Some(Arc::clone(&faults)) };
    (Arc::new(front), faults)
}

struct Front {
    store: Arc<dyn Store>,
    changes: Changes,
    faults: Option<Arc<StoreFaults>>,
}

struct FrontCommitter {
    committer: Box<dyn Committer>,
    changes: Changes,
    faults: Option<Arc<StoreFaults>>,
}

struct FrontLease {
    lease: Box<dyn Lease>,
    faults: Option<Arc<StoreFaults>>,
}

struct FrontStarter {
    starter: Box<dyn Starter>,
    changes: Changes,
    faults: Option<Arc<StoreFaults>>,
}

struct FrontTransactions {
    transactions: Box<dyn Transactions>,
    changes: Changes,
    faults: Option<Arc<StoreFaults>>,
}

struct FrontTransaction {
    transaction: Box<dyn StepTransaction>,
    changes: Changes,
    faults: Option<Arc<StoreFaults>>,
}

#[async_trait]
impl Transactions for FrontTransactions {
    async fn begin(&self) -> StoreResult<Box<dyn StepTransaction>> {
        let transaction = self.transactions.begin().await?;
        Ok(Box::new(FrontTransaction { transaction, changes: self.changes.clone(), faults: self.faults.clone() }))
    }
}

#[async_trait]
impl StepTransaction for FrontTransaction {
    fn connection(&self) -> &(dyn Any + Send) {
        self.transaction.connection()
    }

    fn connection_mut(&mut self) -> &mut (dyn Any + Send) {
        self.transaction.connection_mut()
    }

    async fn prepare(&mut self) -> Result<(), Unprepared> {
        self.transaction.prepare().await
    }

    async fn commit(&mut self, turn: &Turn) -> StoreResult<Verdict> {
        let _tell = self.changes.tell_at_the_end();
        let Some(faults) = self.faults.clone() else { return self.transaction.commit(turn).await };
        let turns = std::slice::from_ref(turn);
        let after = faults.before(turns).await?;
        let verdict = self.transaction.commit(turn).await?;
        faults.after(after, turns, vec![verdict]).map(|_| verdict)
    }

    async fn recover(&mut self, turn: &Turn) -> StoreResult<Recovered> {
        let _tell = self.changes.tell_at_the_end();
        self.transaction.recover(turn).await
    }

    async fn roll_back(self: Box<Self>) -> StoreResult<()> {
        self.transaction.roll_back().await
    }
}

impl Front {
    async fn pass(&self) {
        if let Some(faults) = &self.faults {
            faults.pass().await;
        }
    }
}

fn lost() -> StoreError {
    StoreError::new(StoreErrorKind::Connection, "the connection was lost, as planned")
}

impl FrontCommitter {
    async fn commit_with(&mut self, turns: &[Turn], faults: &StoreFaults) -> StoreResult<Vec<Verdict>> {
        let after = faults.before(turns).await?;
        let verdicts = self.committer.commit(turns).await?;
        faults.after(after, turns, verdicts)
    }
}

impl StoreFaults {
    /// What happens before a commit; gives what is to happen after it.
    async fn before(&self, turns: &[Turn]) -> StoreResult<Option<Fault>> {
        let fault = self.next();
        match fault {
            Some(Fault::LostBefore) => return Err(lost()),
            Some(Fault::DiesBefore) => {
                self.lose(turns);
                self.die();
                return Err(lost());
            }
            Some(Fault::Held) => self.hold().await,
            Some(Fault::Refused) => {
                return Err(StoreError::new(StoreErrorKind::Permanent, "the data is refused, as planned"));
            }
            None | Some(Fault::LostAfter | Fault::DiesAfter) => {}
        }
        Ok(fault)
    }

    fn after(&self, fault: Option<Fault>, turns: &[Turn], verdicts: Vec<Verdict>) -> StoreResult<Vec<Verdict>> {
        self.committed(turns, &verdicts);
        match fault {
            Some(Fault::LostAfter) => Err(lost()),
            Some(Fault::DiesAfter) => {
                self.die();
                Err(lost())
            }
            _ => Ok(verdicts),
        }
    }
}

#[async_trait]
impl Committer for FrontCommitter {
    async fn commit(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>> {
        let _tell = self.changes.tell_at_the_end();
        match self.faults.clone() {
            Some(faults) => self.commit_with(turns, &faults).await,
            None => self.committer.commit(turns).await,
        }
    }

    async fn recover(&mut self, turns: &[Turn]) -> StoreResult<Vec<Recovered>> {
        let _tell = self.changes.tell_at_the_end();
        self.committer.recover(turns).await
    }
}

#[async_trait]
impl Starter for FrontStarter {
    async fn start(&mut self, starts: &[Start]) -> StoreResult<Vec<Started>> {
        let _tell = self.changes.tell_at_the_end();
        self.starter.start(starts).await
    }

    async fn intake(&mut self, batch: &Intake) -> StoreResult<Vec<Started>> {
        let _tell = self.changes.tell_at_the_end();
        if let Some(faults) = self.faults.clone() {
            faults.pass().await;
        }
        self.starter.intake(batch).await
    }
}

#[async_trait]
impl Lease for FrontLease {
    async fn renew(&mut self, lease: Duration) -> StoreResult<Renewal> {
        if let Some(faults) = &self.faults {
            faults.renews().await;
        }
        self.lease.renew(lease).await
    }
}

#[async_trait]
impl Store for Front {
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
        if self.faults.as_ref().is_some_and(|faults| faults.loses_hint()) {
            return Ok(());
        }
        self.store.hint(hints).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

#[async_trait]
impl Membership for Front {
    async fn worker_join(
        &self,
        name: &str,
        fences: u16,
        lease: Duration,
        process: Option<ProcessId>,
    ) -> StoreResult<Joined> {
        let _tell = self.changes.tell_at_the_end();
        self.store.worker_join(name, fences, lease, process).await
    }

    fn lease(&self, worker: WorkerId) -> Box<dyn Lease> {
        Box::new(FrontLease { lease: self.store.lease(worker), faults: self.faults.clone() })
    }

    async fn worker_bury(&self, by: WorkerId, silent: &[Beat]) -> StoreResult<Vec<WorkerId>> {
        let _tell = self.changes.tell_at_the_end();
        if let Some(faults) = &self.faults {
            faults.buries().await;
        }
        self.store.worker_bury(by, silent).await
    }

    async fn worker_leave(&self, worker: WorkerId) -> StoreResult<()> {
        let _tell = self.changes.tell_at_the_end();
        self.store.worker_leave(worker).await
    }
}

#[async_trait]
impl Trees for Front {
    fn committer(&self, worker: WorkerId, fence: u16) -> Box<dyn Committer> {
        let committer = self.store.committer(worker, fence);
        Box::new(FrontCommitter { committer, changes: self.changes.clone(), faults: self.faults.clone() })
    }

    fn starter(&self, owner: Option<(WorkerId, u16)>) -> Box<dyn Starter> {
        let starter = self.store.starter(owner);
        Box::new(FrontStarter { starter, changes: self.changes.clone(), faults: self.faults.clone() })
    }

    fn transactions(&self, worker: WorkerId, fences: Range<u16>) -> Option<Box<dyn Transactions>> {
        let transactions = self.store.transactions(worker, fences)?;
        Some(Box::new(FrontTransactions { transactions, changes: self.changes.clone(), faults: self.faults.clone() }))
    }

    async fn tree_claim(
        &self,
        worker: WorkerId,
        limit: usize,
        versions: &[FunctionVersion],
        suspects: Suspects,
    ) -> StoreResult<Claims> {
        let _tell = self.changes.tell_at_the_end();
        let claim = self.store.tree_claim(worker, limit, versions, suspects);
        let claims = self.changes.claiming(claim).await?;
        let trees = claims.trees.iter().map(|claimed| claimed.row.id);
        if self.faults.as_ref().is_some_and(|faults| faults.claimed(trees)) {
            return Err(lost());
        }
        Ok(claims)
    }

    async fn tree_owned(&self, worker: WorkerId, after: Option<TreeId>, limit: usize) -> StoreResult<Vec<OwnedTree>> {
        self.store.tree_owned(worker, after, limit).await
    }

    async fn tree_revisions(&self, trees: &[TreeId]) -> StoreResult<Vec<(TreeId, u64)>> {
        self.store.tree_revisions(trees).await
    }

    async fn tree_set_aside(&self, worker: WorkerId, tree: TreeId, reason: &str) -> StoreResult<bool> {
        let _tell = self.changes.tell_at_the_end();
        self.store.tree_set_aside(worker, tree, reason).await
    }

    async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>> {
        let loaded = self.store.tree_load(tree).await;
        // No change, but a worker that loads a tree without end makes none.
        self.changes.look();
        loaded
    }

    async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>> {
        if self.faults.as_ref().is_some_and(|faults| faults.loaded(path)) {
            return Err(StoreError::new(StoreErrorKind::Permanent, "the row is damaged, as planned"));
        }
        self.store.invocation_load(tree, path).await
    }
}

#[async_trait]
impl Governing for Front {
    async fn tree_govern(&self, tree: TreeId, request: &ControlRequest) -> StoreResult<Option<Ruling>> {
        let _tell = self.changes.tell_at_the_end();
        self.store.tree_govern(tree, request).await
    }
}

#[async_trait]
impl Promises for Front {
    async fn promise_find(
        &self,
        tree: TreeId,
        path: Option<&Path>,
        name: Option<&str>,
    ) -> StoreResult<Option<Vec<PromiseRow>>> {
        self.store.promise_find(tree, path, name).await
    }

    async fn promise_settle(
        &self,
        tree: TreeId,
        path: &Path,
        name: &str,
        settlement: &Settlement,
    ) -> StoreResult<Option<Settling>> {
        let _tell = self.changes.tell_at_the_end();
        self.store.promise_settle(tree, path, name, settlement).await
    }

    async fn promise_inbox(&self, tree: TreeId, after: u32) -> StoreResult<Vec<SettledPromise>> {
        self.store.promise_inbox(tree, after).await
    }
}

#[async_trait]
impl Reading for Front {
    async fn tree_row(&self, tree: TreeId) -> StoreResult<Option<TreeRow>> {
        self.store.tree_row(tree).await
    }

    async fn tree_read(&self, tree: TreeId) -> StoreResult<Option<TreeRecord>> {
        self.store.tree_read(tree).await
    }

    async fn tree_list(&self, filter: &TreeFilter) -> StoreResult<Vec<ListedTree>> {
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
impl Outbox for Front {
    async fn lane_claim(&self, worker: WorkerId, limit: u16) -> StoreResult<Vec<LaneLease>> {
        let _tell = self.changes.tell_at_the_end();
        self.pass().await;
        self.store.lane_claim(worker, limit).await
    }

    async fn outbox_read(&self, lane: u16, after: i64, limit: usize) -> StoreResult<OrderedRows<OutboxRow>> {
        self.pass().await;
        self.store.outbox_read(lane, after, limit).await
    }

    async fn lane_advance(&self, worker: WorkerId, advances: &[LaneAdvance]) -> StoreResult<Vec<u16>> {
        let _tell = self.changes.tell_at_the_end();
        self.pass().await;
        self.store.lane_advance(worker, advances).await
    }

    async fn lane_release(&self, worker: WorkerId) -> StoreResult<()> {
        let _tell = self.changes.tell_at_the_end();
        self.pass().await;
        self.store.lane_release(worker).await
    }
}

#[async_trait]
impl GroupOffsets for Front {
    async fn partition_assign(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> StoreResult<Vec<AssignedPartition>> {
        let _tell = self.changes.tell_at_the_end();
        self.pass().await;
        self.store.partition_assign(group, partitions).await
    }

    async fn partition_read(&self, group: &str, partitions: &[TopicPartition]) -> StoreResult<Vec<AssignedPartition>> {
        self.pass().await;
        self.store.partition_read(group, partitions).await
    }
}

#[async_trait]
impl EventLog for Front {
    async fn log_append(&self, records: &[LogRecord]) -> StoreResult<()> {
        let _tell = self.changes.tell_at_the_end();
        self.pass().await;
        self.store.log_append(records).await
    }

    async fn log_read(&self, topic: &str, offset: i64, limit: usize) -> StoreResult<OrderedRows<LoggedRecord>> {
        self.pass().await;
        self.store.log_read(topic, offset, limit).await
    }
}
