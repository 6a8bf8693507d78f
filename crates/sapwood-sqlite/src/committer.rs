//! Commits of turns, and what became of a commit whose outcome is unknown (W1, W2).
//!
//! A batch is checked and applied under the write lock, each turn whole or not at all. The update of a tree's row is
//! its check: it names owner, revision, control and inbox, and touches no row if one of them is not as known. Only
//! turns whose tree was touched write anything else, so a refused turn leaves nothing behind and the others go on.
//! Nothing else writes meanwhile, so no turn is ever [`Verdict::Busy`].

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::store::{Committer, Next, Ownership, Recovered, StoreResult, Turn, Verdict};
use sapwood_core::{FunctionVersion, TreeId, WorkerId};

use crate::args::Args;
use crate::bulk::Bulk;
use crate::creating::{self, NewTreeRow, TREE_INSERT};
use crate::db::Db;
use crate::error::{fenced, permanent};
use crate::fields::Fields;
use crate::membership::require_fence;
use crate::outbox;
use crate::work::Work;
use crate::writer::Writer;

static TREE_KEEP: Bulk = Bulk::each(include_str!("../queries/tree_keep.sql"));
static TREE_RELEASE: Bulk = Bulk::each(include_str!("../queries/tree_release.sql"));
static INVOCATION_CHANGE: Bulk = Bulk::each(include_str!("../queries/invocation_change.sql"));
static JOURNAL_INSERT: Bulk = Bulk::rows(include_str!("../queries/journal_insert.sql"));
static TIMER_CLEAR: Bulk = Bulk::each(include_str!("../queries/timer_clear.sql"));
static TIMER_SET: Bulk = Bulk::rows(include_str!("../queries/timer_set.sql"));

/// Commits turns under one fence.
pub(crate) struct SqliteCommitter {
    writer: Writer,
    worker: WorkerId,
    fence: u16,
    /// As read by the first commit or set by the last recovery; every later commit names it.
    incarnation: Option<i64>,
}

impl SqliteCommitter {
    pub(crate) fn new(writer: Writer, worker: WorkerId, fence: u16) -> Self {
        Self { writer, worker, fence, incarnation: None }
    }
}

#[async_trait]
impl Committer for SqliteCommitter {
    async fn commit(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>> {
        let Self { worker, fence, incarnation, .. } = *self;
        let commit = Commit { worker, fence, incarnation, turns: turns.to_vec() };
        let (incarnation, verdicts) = self.writer.run(commit).await?;
        self.incarnation = Some(incarnation);
        Ok(verdicts)
    }

    async fn recover(&mut self, turns: &[Turn]) -> StoreResult<Vec<Recovered>> {
        let recover = Recover::of(self.worker, self.fence, turns);
        let (incarnation, recovered) = self.writer.run(recover).await?;
        self.incarnation = Some(incarnation);
        Ok(recovered)
    }
}

/// Commits turns, within a transaction that its caller ends.
pub(crate) struct Commit {
    pub(crate) worker: WorkerId,
    pub(crate) fence: u16,
    pub(crate) incarnation: Option<i64>,
    pub(crate) turns: Vec<Turn>,
}

#[async_trait]
impl Work for Commit {
    type Answer = (i64, Vec<Verdict>);

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let incarnation = require_fence(db, self.worker, self.fence, self.incarnation).await?;
        let accepted = self.trees(db).await?;
        let turns: Vec<&Turn> =
            self.turns.iter().zip(&accepted).filter(|(_, accepted)| **accepted).map(|(turn, _)| turn).collect();
        invocations(db, &turns).await?;
        entries(db, &turns).await?;
        timers(db, &turns).await?;
        outbox::emit(db, &turns.iter().flat_map(|turn| &turn.events).collect::<Vec<_>>()).await?;
        let verdict = |accepted| if accepted { Verdict::Committed } else { Verdict::Refused };
        Ok((incarnation, accepted.into_iter().map(verdict).collect()))
    }
}

impl Commit {
    /// Moves the trees on; tells for each turn whether its tree was as known.
    async fn trees(&self, db: &mut Db<'_>) -> StoreResult<Vec<bool>> {
        let mut accepted = vec![false; self.turns.len()];
        let now = db.now;
        let created = self.in_time(now, |turn| turn.created.is_some());
        let touched = db.each(&TREE_INSERT, &created, |index, args| match self.new_row(*index) {
            Some(row) => row.fill(now, args),
            None => args,
        });
        mark(&mut accepted, &created, &touched.await?);
        let kept = self.in_time(now, |turn| turn.created.is_none() && turn.next.ownership == Ownership::Keep);
        let touched = db.each(&TREE_KEEP, &kept, |index, args| {
            let turn = &self.turns[*index];
            self.fill_known(turn, fill_next(&turn.next, now, args))
        });
        mark(&mut accepted, &kept, &touched.await?);
        let released = self.in_time(now, |turn| turn.created.is_none() && turn.next.ownership != Ownership::Keep);
        let touched = db.each(&TREE_RELEASE, &released, |index, args| {
            let turn = &self.turns[*index];
            let (ready_at, needs) = release_of(&turn.next);
            let args = fill_next(&turn.next, now, args).opt_time(ready_at).opt_text(needs.map(ToString::to_string));
            self.fill_known(turn, args)
        });
        mark(&mut accepted, &released, &touched.await?);
        Ok(accepted)
    }

    /// The turns of one kind that are in time by the deadlines that they name; the others are refused.
    fn in_time(&self, now: Timestamp, which: impl Fn(&Turn) -> bool) -> Vec<usize> {
        let is_one = |turn: &Turn| which(turn) && turn.is_in_time(now);
        (0..self.turns.len()).filter(|index| is_one(&self.turns[*index])).collect()
    }

    /// The row of the tree that a turn creates.
    fn new_row(&self, index: usize) -> Option<NewTreeRow<'_>> {
        let Turn { created, next, .. } = &self.turns[index];
        let (ready_at, needs) = release_of(next);
        let owner = (next.ownership == Ownership::Keep).then_some(self.worker);
        let tree = created.as_ref()?;
        let Next { state, closing, .. } = *next;
        Some(NewTreeRow { tree, state, closing, owner, revision: 1, number: next.number, ready_at, needs })
    }

    /// What the tree's row must say.
    fn fill_known(&self, turn: &Turn, args: Args) -> Args {
        args.tree(turn.tree).worker(self.worker).int(turn.revision.cast_signed()).int(turn.control).opt_int(turn.inbox)
    }
}

fn fill_next(next: &Next, now: Timestamp, args: Args) -> Args {
    args.int(next.state.code())
        .int(next.closing.code())
        .int(next.number)
        .opt_time(next.state.is_settled().then_some(now))
}

/// When a released tree is due, and what it needs.
fn release_of(next: &Next) -> (Option<Timestamp>, Option<&FunctionVersion>) {
    match &next.ownership {
        Ownership::Keep => (None, None),
        Ownership::Release { ready_at, needs } => (*ready_at, needs.as_ref()),
    }
}

fn mark(accepted: &mut [bool], indexes: &[usize], touched: &[bool]) {
    for (index, touched) in indexes.iter().zip(touched) {
        accepted[*index] = *touched;
    }
}

async fn invocations(db: &mut Db<'_>, turns: &[&Turn]) -> StoreResult<()> {
    let created: Vec<_> = turns.iter().flat_map(|turn| turn.invocations.iter().map(|new| (turn.tree, new))).collect();
    creating::invocations(db, &created).await?;
    let changes: Vec<_> = turns.iter().flat_map(|turn| turn.changes.iter().map(|change| (turn.tree, change))).collect();
    let now = db.now;
    let touched = db.each(&INVOCATION_CHANGE, &changes, |(tree, change), args| {
        creating::fill_state(&change.state, args)
            .opt_time(creating::settled_at(change.state.promise, now))
            .tree(*tree)
            .path(&change.path)
    });
    match touched.await?.iter().position(|touched| !touched) {
        Some(index) => {
            let (tree, change) = &changes[index];
            Err(permanent(format!("a turn changes invocation {} of tree {tree}, which is not there", change.path)))
        }
        None => Ok(()),
    }
}

async fn entries(db: &mut Db<'_>, turns: &[&Turn]) -> StoreResult<()> {
    let entries: Vec<_> =
        turns.iter().flat_map(|turn| turn.entries.iter().map(|(path, entry)| (turn.tree, path, entry))).collect();
    let now = db.now;
    db.insert(&JOURNAL_INSERT, &entries, |(tree, path, entry), args| {
        args.tree(*tree)
            .path(path)
            .int(entry.seq)
            .int(entry.kind.code())
            .int(entry.position)
            .opt_int(entry.number)
            .int(entry.attempt)
            .text(entry.name.as_str())
            .blob(&entry.payload)
            .time(now)
    })
    .await
}

/// First the timers that are done, then the new ones: a step that is retried again has the same position.
async fn timers(db: &mut Db<'_>, turns: &[&Turn]) -> StoreResult<()> {
    let cleared: Vec<_> =
        turns.iter().flat_map(|turn| turn.timers_cleared.iter().map(|timer| (turn.tree, timer))).collect();
    db.each(&TIMER_CLEAR, &cleared, |(tree, (path, position)), args| args.tree(*tree).path(path).int(*position))
        .await?;
    let set: Vec<_> = turns.iter().flat_map(|turn| turn.timers_set.iter().map(|timer| (turn.tree, timer))).collect();
    db.insert(&TIMER_SET, &set, |(tree, timer), args| {
        args.tree(*tree).path(&timer.path).int(timer.position).int(timer.kind.code()).time(timer.due_at)
    })
    .await
}

/// What a turn knew of its tree.
struct Known {
    tree: TreeId,
    revision: i64,
    /// Whether the turn creates the tree.
    created: bool,
}

impl Known {
    fn of(turn: &Turn) -> Self {
        Self { tree: turn.tree, revision: turn.revision.cast_signed(), created: turn.created.is_some() }
    }
}

/// Finds out what became of turns, within a transaction that its caller ends.
pub(crate) struct Recover {
    worker: WorkerId,
    fence: u16,
    turns: Vec<Known>,
}

impl Recover {
    pub(crate) fn of(worker: WorkerId, fence: u16, turns: &[Turn]) -> Self {
        Self { worker, fence, turns: turns.iter().map(Known::of).collect() }
    }
}

#[async_trait]
impl Work for Recover {
    type Answer = (i64, Vec<Recovered>);

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let args = Args::of(2).worker(self.worker).int(self.fence);
        let row = db.one(include_str!("../queries/fence_renew.sql"), args).await?.ok_or_else(|| fenced(self.worker))?;
        let incarnation = Fields::of(&row).int()?;
        let mut recovered = Vec::with_capacity(self.turns.len());
        for turn in &self.turns {
            let row = db.one(include_str!("../queries/tree_revision.sql"), Args::of(1).tree(turn.tree)).await?;
            let found = row.map(|row| {
                let mut fields = Fields::of(&row);
                StoreResult::Ok((fields.int()?, fields.opt_worker()?))
            });
            recovered.push(judge(turn, found.transpose()?, self.worker));
        }
        Ok((incarnation, recovered))
    }
}

/// While this worker was alive, no other could claim a tree that it owned, so one revision further can only be the
/// turn's own commit.
fn judge(turn: &Known, found: Option<(i64, Option<WorkerId>)>, worker: WorkerId) -> Recovered {
    match found {
        None if turn.created => Recovered::Lost,
        Some((revision, _)) if revision == turn.revision + 1 => Recovered::Committed,
        Some((revision, Some(owner))) if revision == turn.revision && owner == worker && !turn.created => {
            Recovered::Lost
        }
        _ => Recovered::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_revision_further_is_committed_and_the_same_revision_is_lost() {
        let (me, other) = (WorkerId(1), WorkerId(2));
        let turn = Known { tree: TreeId::fresh(), revision: 7, created: false };
        assert_eq!(judge(&turn, Some((8, None)), me), Recovered::Committed);
        assert_eq!(judge(&turn, Some((7, Some(me))), me), Recovered::Lost);
        assert_eq!(judge(&turn, Some((7, Some(other))), me), Recovered::Refused);
        assert_eq!(judge(&turn, Some((9, Some(other))), me), Recovered::Refused);
        assert_eq!(judge(&turn, None, me), Recovered::Refused);
        let created = Known { revision: 0, created: true, ..turn };
        assert_eq!(judge(&created, None, me), Recovered::Lost);
        assert_eq!(judge(&created, Some((1, Some(me))), me), Recovered::Committed);
    }
}
