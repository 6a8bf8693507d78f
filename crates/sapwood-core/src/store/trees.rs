//! Claims, and what a worker loads of a tree.

use std::ops::Range;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Committer, Starter, StoreResult, Transactions};
use crate::tree::{InvocationImage, TreeImage, TreeRow};
use crate::{FunctionVersion, Path, TreeId, WorkerId};

/// Trees, as a worker takes and loads them.
#[async_trait]
pub trait Trees {
    /// A committer on a connection of its own, bound to the fence `fence` of `worker`.
    fn committer(&self, worker: WorkerId, fence: u16) -> Box<dyn Committer>;

    /// A value that starts trees and takes in events, on a connection of its own. With a worker and one of its fences,
    /// the trees are inserted with that worker as owner; without, they have no owner and are ready at once.
    fn starter(&self, owner: Option<(WorkerId, u16)>) -> Box<dyn Starter>;

    /// Transactions of `worker` for the authors of its functions, one at a time on each of these fences; `None` if no author
    /// can write where this store is.
    fn transactions(&self, worker: WorkerId, fences: Range<u16>) -> Option<Box<dyn Transactions>>;

    /// Claims at most `limit` trees for `worker`: those without an owner that are due, and those whose owner is not
    /// alive; only if `needs` is null or among `versions`. Each claim moves the revision on by one, clears
    /// `ready_at`, `needs` and `aside` and sets the state to running, unless the tree is settled and only undoes something
    /// again. Skips trees whose row is locked, and closed ones ([`TreeRow::is_closed`]).
    ///
    /// A tree that is taken over again without a commit of its own since it was taken over last is a suspect, and is only
    /// claimed as far as `suspects` allows, besides `limit`.
    ///
    /// A tree whose row cannot be read is claimed all the same, and named apart: the claimer sets it aside, so that no
    /// later claim meets it.
    async fn tree_claim(
        &self,
        worker: WorkerId,
        limit: usize,
        versions: &[FunctionVersion],
        suspects: Suspects,
    ) -> StoreResult<Claims>;

    /// The open trees that `worker` owns, by id: at most `limit` of those after `after`.
    async fn tree_owned(&self, worker: WorkerId, after: Option<TreeId>, limit: usize) -> StoreResult<Vec<OwnedTree>>;

    /// The revisions of those of these trees that are there, in any order.
    async fn tree_revisions(&self, trees: &[TreeId]) -> StoreResult<Vec<(TreeId, u64)>>;

    /// Sets a tree aside that `worker` owns and that cannot be driven, for `reason`: it is parked then, unless it is settled,
    /// has no owner and is not claimed until an operator resumes it. Its invocations, journal and timers stay as they are.
    /// Returns whether the worker owned it.
    async fn tree_set_aside(&self, worker: WorkerId, tree: TreeId, reason: &str) -> StoreResult<bool>;

    /// What is needed to go on with a claimed tree.
    async fn tree_load(&self, tree: TreeId) -> StoreResult<Option<TreeImage>>;

    /// All that one activation reads, in one round trip if the database allows it.
    async fn invocation_load(&self, tree: TreeId, path: &Path) -> StoreResult<Option<InvocationImage>>;
}

/// An open tree that a worker owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedTree {
    /// The tree.
    pub id: TreeId,
    /// Its revision.
    pub revision: u64,
    /// The last request that was made for it.
    pub control: u32,
    /// Its inbox counter.
    pub inbox: u32,
}

/// What a claim took, and when the next claim may find something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Claims {
    /// The rows of the trees claimed, as they are now.
    pub trees: Vec<Claimed>,
    /// Trees claimed whose rows cannot be read.
    pub unreadable: Vec<UnreadableTree>,
    /// The earliest `ready_at` of the trees without an owner that are left.
    pub next_ready_at: Option<Timestamp>,
}

/// A tree of whose row this build can read no more than the id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableTree {
    /// The tree.
    pub id: TreeId,
    /// What is wrong with its row, in words.
    pub reason: String,
}

/// A claimed tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// Its row, as it is now.
    pub row: TreeRow,
    /// How often in a row it was taken from a worker that is not alive, without a commit of its own in between, this claim
    /// included; 0 if it had no owner. What ran there must run again.
    pub takeovers: u32,
}

/// How many suspects a claim may take over: trees that may be what their workers died of (C4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspects {
    /// At most so many that are taken over for the second time in a row.
    pub second: usize,
    /// At most so many for the third time or more, and only if the claim takes none for the second.
    pub further: usize,
}

impl Suspects {
    /// None.
    pub const NONE: Self = Self { second: 0, further: 0 };
    /// However many there are.
    pub const ALL: Self = Self { second: 1_000_000, further: 1_000_000 };
}
