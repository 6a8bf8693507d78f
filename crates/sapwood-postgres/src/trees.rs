//! The role of workers: committers, starters, claims and loads.

use std::ops::Range;

use async_trait::async_trait;
use sapwood_core::store::{Claims, Committer, OwnedTree, Starter, StoreResult, Suspects, Transactions, Trees};
use sapwood_core::tree::{InvocationImage, TreeImage};
use sapwood_core::{FunctionVersion, Path, TreeId, WorkerId};

use crate::committer::PostgresCommitter;
use crate::starter::PostgresStarter;
use crate::store::PostgresStore;
use crate::transactions::PostgresTransactions;
use crate::{claims, loading};

#[async_trait]
impl Trees for PostgresStore {
    fn committer(&self, worker: WorkerId, fence: u16) -> Box<dyn Committer> {
        Box::new(PostgresCommitter::new(self.connector.clone(), worker, fence))
    }

    fn starter(&self, owner: Option<(WorkerId, u16)>) -> Box<dyn Starter> {
        Box::new(PostgresStarter::new(self.connector.clone(), owner))
    }

    fn transactions(&self, worker: WorkerId, fences: Range<u16>) -> Option<Box<dyn Transactions>> {
        Some(Box::new(PostgresTransactions::new(&self.connector, worker, fences)))
    }

    async fn tree_claim(
        &self,
        worker: WorkerId,
        limit: usize,
        versions: &[FunctionVersion],
        suspects: Suspects,
    ) -> StoreResult<Claims> {
        claims::claim(&self.workers, worker, limit, versions, suspects).await
    }

    async fn tree_owned(&self, worker: WorkerId, after: Option<TreeId>, limit: usize) -> StoreResult<Vec<OwnedTree>> {
        claims::owned(&self.workers, worker, after, limit).await
    }

    async fn tree_revisions(&self, trees: &[TreeId]) -> StoreResult<Vec<(TreeId, u64)>> {
        claims::revisions(&self.workers, trees).await
    }

    async fn tree_set_aside(&self, worker: WorkerId, tree: TreeId, reason: &str) -> StoreResult<bool> {
        claims::set_aside(&self.workers, worker, tree, reason).await
    }

    async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>> {
        loading::tree(&self.workers, tree).await
    }

    async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>> {
        loading::invocation(&self.workers, tree, path).await
    }
}
