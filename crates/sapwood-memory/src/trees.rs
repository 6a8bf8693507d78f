//! The role of workers: committers, starters, claims and loads.

use std::ops::Range;

use async_trait::async_trait;
use sapwood_core::store::{Claims, Committer, OwnedTree, Starter, StoreResult, Suspects, Transactions, Trees};
use sapwood_core::tree::{InvocationImage, TreeImage};
use sapwood_core::{FunctionVersion, Path, TreeId, WorkerId};

use crate::claims::{self, Claim};
use crate::committer::MemoryCommitter;
use crate::loading::{invocation_image, tree_image};
use crate::starter::MemoryStarter;
use crate::store::MemoryStore;

#[async_trait]
impl Trees for MemoryStore {
    fn committer(&self, worker: WorkerId, fence: u16) -> Box<dyn Committer> {
        Box::new(MemoryCommitter::new(self.handle(), worker, fence))
    }

    fn starter(&self, owner: Option<(WorkerId, u16)>) -> Box<dyn Starter> {
        Box::new(MemoryStarter::new(self.handle(), owner))
    }

    fn transactions(&self, _worker: WorkerId, _fences: Range<u16>) -> Option<Box<dyn Transactions>> {
        None
    }

    async fn tree_claim(
        &self,
        worker: WorkerId,
        limit: usize,
        versions: &[FunctionVersion],
        suspects: Suspects,
    ) -> StoreResult<Claims> {
        let claim = Claim::new(worker, limit, versions, suspects);
        self.handle().act(|state, now| claim.run(state, now))
    }

    async fn tree_owned(&self, worker: WorkerId, after: Option<TreeId>, limit: usize) -> StoreResult<Vec<OwnedTree>> {
        self.handle().act(|state, _| Ok(claims::owned(&state.forest, worker, after, limit)))
    }

    async fn tree_revisions(&self, trees: &[TreeId]) -> StoreResult<Vec<(TreeId, u64)>> {
        self.handle().act(|state, _| Ok(claims::revisions(&state.forest, trees)))
    }

    async fn tree_set_aside(&self, worker: WorkerId, tree: TreeId, reason: &str) -> StoreResult<bool> {
        self.handle().act(|state, _| claims::set_aside(state, worker, tree, reason))
    }

    async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>> {
        self.handle().act(|state, _| Ok(state.forest.tree(tree).map(tree_image)))
    }

    async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>> {
        self.handle().act(|state, _| Ok(state.forest.tree(tree).and_then(|tree| invocation_image(tree, path))))
    }
}
