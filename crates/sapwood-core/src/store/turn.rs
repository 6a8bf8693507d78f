//! A turn: everything that one tree recorded since its last commit, what becomes of the tree, and the port that
//! commits.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{NewTree, OutboxEvent, StoreResult};
use crate::journal::Entry;
use crate::tree::{Closing, Invocation, InvocationState, Timer, TreeState};
use crate::{FunctionVersion, Path, Position, TreeId};

/// Commits turns on a connection of its own.
#[async_trait]
pub trait Committer: Send {
    /// Commits a batch, each turn all or nothing. Returns one verdict per turn, in order.
    ///
    /// A turn is accepted if and only if this worker's fence is alive, the tree's owner is this worker, and revision,
    /// control counter and (if the turn names it) inbox counter are as the turn expects; or, for a turn that creates
    /// its tree, if the tree is new. If the turn names times, the database's clock must be there already, or not yet (D3).
    /// A batch has at most one turn per tree.
    ///
    /// # Errors
    /// [`StoreErrorKind::Fenced`](super::StoreErrorKind::Fenced): the fence was refused, nothing was applied, nothing
    /// ever will be. [`Connection`](super::StoreErrorKind::Connection): the outcome is unknown; ask [`Self::recover`].
    /// [`Transient`](super::StoreErrorKind::Transient), [`Permanent`](super::StoreErrorKind::Permanent): nothing was
    /// applied. A batch with a change of an invocation that is not there is the latter, and its error names the tree.
    async fn commit(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>>;

    /// Finds out what became of a batch whose outcome is unknown. On a new connection it takes the fence row
    /// `for update`, which waits for the old statement; it gives the row a new incarnation, which every commit names;
    /// then it reads the revisions.
    ///
    /// # Errors
    /// [`StoreErrorKind::Connection`](super::StoreErrorKind::Connection) while the database cannot be reached: ask
    /// again later.
    async fn recover(&mut self, turns: &[Turn]) -> StoreResult<Vec<Recovered>>;
}

/// One tree's part of a batch; committed whole or refused whole.
///
/// Rows are merged in memory to one per key: an invocation created and settled in one turn is in `invocations` only,
/// with its final state; a timer set and cleared in one turn is in neither list.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The tree.
    pub tree: TreeId,
    /// The revision it is at; the commit moves it on by one. 0 for a tree that this turn creates.
    pub revision: u64,
    /// The control counter as this worker knows it.
    pub control: u32,
    /// The inbox counter as this worker knows it; named by turns that release the tree, so that no wake-up is lost
    /// (S3).
    pub inbox: Option<u32>,
    /// What it records happens at this time or later: the latest deadline that it finds passed.
    pub not_before: Option<Timestamp>,
    /// What it records happens before this time: the earliest deadline of what goes forward in it.
    pub only_before: Option<Timestamp>,
    /// The tree's own row, if this turn creates it, owned by the committing worker: a start that no other contests. Its
    /// root invocation is then in `invocations`.
    pub created: Option<NewTree>,
    /// New invocations.
    pub invocations: Vec<Invocation>,
    /// Invocations that exist already and changed.
    pub changes: Vec<InvocationChange>,
    /// New journal entries.
    pub entries: Vec<(Path, Entry)>,
    /// New timers; one that exists under its path and position is replaced.
    pub timers_set: Vec<Timer>,
    /// Timers that are done.
    pub timers_cleared: Vec<(Path, Position)>,
    /// Events for the outbox, in the order they were emitted.
    pub events: Vec<OutboxEvent>,
    /// What becomes of the tree's row.
    pub next: Next,
}

impl Turn {
    /// Whether what it records happens now, by the times that it names.
    #[must_use]
    pub fn is_in_time(&self, now: Timestamp) -> bool {
        self.not_before.is_none_or(|time| time <= now) && self.only_before.is_none_or(|time| now < time)
    }
}

/// The new state of an invocation.
#[derive(Debug, Clone, PartialEq)]
pub struct InvocationChange {
    /// The invocation.
    pub path: Path,
    /// Its whole state from now on. A promise that is settled stamps `settled_at` by the database's clock.
    pub state: InvocationState,
}

/// What becomes of the tree's row.
#[derive(Debug, Clone, PartialEq)]
pub struct Next {
    /// The tree's state from now on. A settled state stamps `settled_at` by the database's clock.
    pub state: TreeState,
    /// How far what its invocations undo has come from now on.
    pub closing: Closing,
    /// The last completion number given.
    pub number: u32,
    /// The owner from now on.
    pub ownership: Ownership,
}

/// The owner of a tree after a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Ownership {
    /// The committing worker, as before.
    Keep,
    /// No worker: nothing in it runs.
    Release {
        /// When something in it is due.
        ready_at: Option<Timestamp>,
        /// The version that this worker lacks.
        needs: Option<FunctionVersion>,
    },
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is durable.
    Committed,
    /// Nothing of it: owner, revision, control, inbox or time were not as the turn expects.
    Refused,
    /// Nothing of it yet: another statement has the tree's row locked. Send it again.
    Busy,
}

/// What became of a turn whose outcome was unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// It was committed.
    Committed,
    /// It was not; send it again.
    Lost,
    /// This worker no longer owns the tree, or another commit changed it: the turn is refused.
    Refused,
}
