//! The role of workers: committers, starters, claims and loads.

use std::ops::Range;

use async_trait::async_trait;
use sapwood_core::store::{Claims, Committer, OwnedTree, Starter, StoreResult, Suspects, Transactions, Trees};
use sapwood_core::tree::{InvocationImage, TreeImage};
use sapwood_core::{FunctionVersion, Path, TreeId, WorkerId};

use crate::claims::{Claim, ListOwned, ReadRevisions, SetAside};
use crate::committer::SqliteCommitter;
use crate::loading::{LoadInvocation, LoadTree};
use crate::starter::SqliteStarter;
use crate::store::SqliteStore;
use crate::transactions::SqliteTransactions;

#[async_trait]
impl Trees for SqliteStore {
    fn committer(&self, worker: WorkerId, fence: u16) -> Box<dyn Committer> {
        Box::new(SqliteCommitter::new(self.writer().clone(), worker, fence))
    }

    fn starter(&self, owner: Option<(WorkerId, u16)>) -> Box<dyn Starter> {
        Box::new(SqliteStarter::new(self.writer().clone(), owner))
    }

    fn transactions(&self, worker: WorkerId, fences: Range<u16>) -> Option<Box<dyn Transactions>> {
        Some(Box::new(SqliteTransactions::new(self.writer().clone(), worker, fences.start)))
    }

    async fn tree_claim(
        &self,
        worker: WorkerId,
        limit: usize,
        versions: &[FunctionVersion],
        suspects: Suspects,
    ) -> StoreResult<Claims> {
        self.writer().run(Claim::new(worker, limit, versions, suspects)).await
    }

    async fn tree_owned(&self, worker: WorkerId, after: Option<TreeId>, limit: usize) -> StoreResult<Vec<OwnedTree>> {
        self.read(ListOwned { worker, after, limit }).await
    }

    async fn tree_revisions(&self, trees: &[TreeId]) -> StoreResult<Vec<(TreeId, u64)>> {
        self.read(ReadRevisions(trees.to_vec())).await
    }

    async fn tree_set_aside(&self, worker: WorkerId, tree: TreeId, reason: &str) -> StoreResult<bool> {
        self.writer().run(SetAside { worker, tree, reason: reason.to_owned() }).await
    }

    async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>> {
        self.read(LoadTree(tree)).await
    }

    async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>> {
        self.read(LoadInvocation(tree, path.clone())).await
    }
}
