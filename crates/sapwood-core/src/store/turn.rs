//! A turn: everything one tree recorded since its last commit, and what becomes of the tree.

use jiff::Timestamp;

use super::{NewTree, OutboxEvent};
use crate::journal::Entry;
use crate::tree::{Invocation, InvocationState, Timer, TreeState};
use crate::{Path, Position, TreeId};

/// One tree's part of a batch; committed whole or refused whole.
///
/// Rows are merged in memory to one a key: an invocation born and settled in one turn is in `invocations` only, with
/// its final state; a timer set and cleared in one turn is in neither list.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// The tree.
    pub tree: TreeId,
    /// The revision it is at; the commit moves it on by one. 0 for a tree born in this turn.
    pub revision: u64,
    /// The control counter as known.
    pub control: u32,
    /// The inbox counter as known; named by turns that give the tree up, so that no wake-up is lost (S3).
    pub inbox: Option<u32>,
    /// The tree's own row, where it is born in this turn. Its root invocation is then in `invocations`.
    pub birth: Option<Birth>,
    /// New invocations.
    pub invocations: Vec<Invocation>,
    /// Invocations that are there already and changed.
    pub changes: Vec<InvocationChange>,
    /// New journal entries.
    pub entries: Vec<(Path, Entry)>,
    /// New timers; one that is there under its path and position is replaced.
    pub timers_set: Vec<Timer>,
    /// Timers that are done.
    pub timers_cleared: Vec<(Path, Position)>,
    /// Events for the outbox, in the order they were emitted.
    pub events: Vec<OutboxEvent>,
    /// What becomes of the tree's row.
    pub next: Next,
}

/// A tree born in a turn, owned by the committing worker: a start that nobody contests.
#[derive(Debug, Clone, PartialEq)]
pub struct Birth {
    /// The new tree.
    pub tree: NewTree,
}

/// The new state of an invocation.
#[derive(Debug, Clone, PartialEq)]
pub struct InvocationChange {
    /// Which.
    pub path: Path,
    /// Its whole state from now on. A phase that is settled stamps `settled_at` by the database's clock.
    pub state: InvocationState,
}

/// What becomes of the tree's row.
#[derive(Debug, Clone, PartialEq)]
pub struct Next {
    /// Where the tree stands from now on. A settled state stamps `settled_at` by the database's clock.
    pub state: TreeState,
    /// The last completion number given.
    pub number: u32,
    /// Who owns it from now on.
    pub ownership: Ownership,
}

/// Who owns a tree after a turn.
#[derive(Debug, Clone, PartialEq)]
pub enum Ownership {
    /// The committing worker, as before.
    Keep,
    /// Nobody: nothing in it runs.
    Release {
        /// When something in it is due.
        ready_at: Option<Timestamp>,
        /// The `name@version` that this worker lacks.
        needs: Option<String>,
    },
}

/// What became of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All of it is durable.
    Committed,
    /// None of it is: owner, revision, control or inbox were not as known.
    Refused,
    /// None of it is, yet nothing speaks against it: somebody holds the tree's row. Send it again.
    Busy,
}

/// What became of a turn whose outcome was unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// It was committed.
    Committed,
    /// It was not; send it again.
    Lost,
    /// The tree is not this worker's any more, or moved on: treat it as refused.
    Refused,
}
