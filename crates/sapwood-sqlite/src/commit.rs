//! Turns: the central write. A batch is checked and applied under the write lock, each turn whole or not at all.
//!
//! The update of a tree's row is its check: it names owner, revision, control and inbox, and touches no row where one
//! of them is not as known. Only turns whose tree was touched write anything else, so a refused one leaves nothing
//! behind and the others go on. Nobody else writes meanwhile, so no turn is ever [`Verdict::Busy`].

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::store::{Committer, Next, Ownership, Recovered, StoreResult, Turn, Verdict};
use sapwood_core::{TreeId, WorkerId};

use crate::args::Args;
use crate::birth::{self, TREE_INSERT, TreeBirth};
use crate::bulk::Bulk;
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
static ENTRY_INSERT: Bulk = Bulk::rows(include_str!("../queries/entry_insert.sql"));
static TIMER_CLEAR: Bulk = Bulk::each(include_str!("../queries/timer_clear.sql"));
static TIMER_SET: Bulk = Bulk::rows(include_str!("../queries/timer_set.sql"));

/// Commits turns under one fence slot.
pub(crate) struct SqliteCommitter {
    writer: Writer,
    worker: WorkerId,
    slot: u16,
    /// As of the first commit or the last recovery; from then on every commit names it.
    incarnation: Option<i64>,
}

impl SqliteCommitter {
    pub(crate) fn new(writer: Writer, worker: WorkerId, slot: u16) -> Self {
        Self { writer, worker, slot, incarnation: None }
    }
}

#[async_trait]
impl Committer for SqliteCommitter {
    async fn commit(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>> {
        let Self { worker, slot, incarnation, .. } = *self;
        let commit = Commit { worker, slot, incarnation, turns: turns.to_vec() };
        let (incarnation, verdicts) = self.writer.run(commit).await?;
        self.incarnation = Some(incarnation);
        Ok(verdicts)
    }

    async fn recover(&mut self, turns: &[Turn]) -> StoreResult<Vec<Recovered>> {
        let recover = Recover { worker: self.worker, slot: self.slot, turns: turns.iter().map(Known::of).collect() };
        let (incarnation, recovered) = self.writer.run(recover).await?;
        self.incarnation = Some(incarnation);
        Ok(recovered)
    }
}

struct Commit {
    worker: WorkerId,
    slot: u16,
    incarnation: Option<i64>,
    turns: Vec<Turn>,
}

#[async_trait]
impl Work for Commit {
    type Answer = (i64, Vec<Verdict>);

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let incarnation = require_fence(db, self.worker, self.slot, self.incarnation).await?;
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
    /// Moves the trees on; says of each turn whether its tree was as known.
    async fn trees(&self, db: &mut Db<'_>) -> StoreResult<Vec<bool>> {
        let mut accepted = vec![false; self.turns.len()];
        let now = db.now;
        let born = self.places(|turn| turn.birth.is_some());
        let touched = db.each(&TREE_INSERT, &born, |place, args| match self.birth(*place) {
            Some(birth) => birth.fill(now, args),
            None => args,
        });
        mark(&mut accepted, &born, &touched.await?);
        let kept = self.places(|turn| turn.birth.is_none() && turn.next.ownership == Ownership::Keep);
        let touched = db.each(&TREE_KEEP, &kept, |place, args| {
            let turn = &self.turns[*place];
            self.fill_known(turn, fill_next(&turn.next, now, args))
        });
        mark(&mut accepted, &kept, &touched.await?);
        let released = self.places(|turn| turn.birth.is_none() && turn.next.ownership != Ownership::Keep);
        let touched = db.each(&TREE_RELEASE, &released, |place, args| {
            let turn = &self.turns[*place];
            let (ready_at, needs) = waits(&turn.next);
            self.fill_known(turn, fill_next(&turn.next, now, args).opt_time(ready_at).opt_text(needs))
        });
        mark(&mut accepted, &released, &touched.await?);
        Ok(accepted)
    }

    fn places(&self, which: impl Fn(&Turn) -> bool) -> Vec<usize> {
        (0..self.turns.len()).filter(|place| which(&self.turns[*place])).collect()
    }

    fn birth(&self, place: usize) -> Option<TreeBirth<'_>> {
        let Turn { birth, next, .. } = &self.turns[place];
        let (ready_at, needs) = waits(next);
        let owner = (next.ownership == Ownership::Keep).then_some(self.worker);
        let tree = &birth.as_ref()?.tree;
        Some(TreeBirth { tree, state: next.state, owner, revision: 1, number: next.number, ready_at, needs })
    }

    /// What the tree's row must say.
    fn fill_known(&self, turn: &Turn, args: Args) -> Args {
        args.tree(turn.tree).worker(self.worker).int(turn.revision.cast_signed()).int(turn.control).opt_int(turn.inbox)
    }
}

fn fill_next(next: &Next, now: Timestamp, args: Args) -> Args {
    args.int(next.state.code()).int(next.number).opt_time(next.state.is_settled().then_some(now))
}

fn waits(next: &Next) -> (Option<Timestamp>, Option<&str>) {
    match &next.ownership {
        Ownership::Keep => (None, None),
        Ownership::Release { ready_at, needs } => (*ready_at, needs.as_deref()),
    }
}

fn mark(accepted: &mut [bool], places: &[usize], touched: &[bool]) {
    for (place, touched) in places.iter().zip(touched) {
        accepted[*place] = *touched;
    }
}

async fn invocations(db: &mut Db<'_>, turns: &[&Turn]) -> StoreResult<()> {
    let born: Vec<_> = turns.iter().flat_map(|turn| turn.invocations.iter().map(|new| (turn.tree, new))).collect();
    birth::invocations(db, &born).await?;
    let changes: Vec<_> = turns.iter().flat_map(|turn| turn.changes.iter().map(|change| (turn.tree, change))).collect();
    let now = db.now;
    let touched = db.each(&INVOCATION_CHANGE, &changes, |(tree, change), args| {
        birth::fill_state(&change.state, args)
            .opt_time(birth::settled_at(change.state.phase, now))
            .tree(*tree)
            .path(&change.path)
    });
    match touched.await?.iter().position(|touched| !touched) {
        Some(place) => {
            let (tree, change) = &changes[place];
            Err(permanent(format!("a turn changes invocation {} of tree {tree}, which is not there", change.path)))
        }
        None => Ok(()),
    }
}

async fn entries(db: &mut Db<'_>, turns: &[&Turn]) -> StoreResult<()> {
    let entries: Vec<_> =
        turns.iter().flat_map(|turn| turn.entries.iter().map(|(path, entry)| (turn.tree, path, entry))).collect();
    let now = db.now;
    db.insert(&ENTRY_INSERT, &entries, |(tree, path, entry), args| {
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
    born: bool,
}

impl Known {
    fn of(turn: &Turn) -> Self {
        Self { tree: turn.tree, revision: turn.revision.cast_signed(), born: turn.birth.is_some() }
    }
}

struct Recover {
    worker: WorkerId,
    slot: u16,
    turns: Vec<Known>,
}

#[async_trait]
impl Work for Recover {
    type Answer = (i64, Vec<Recovered>);

    async fn run(&self, db: &mut Db<'_>) -> StoreResult<Self::Answer> {
        let args = Args::of(2).worker(self.worker).int(self.slot);
        let row = db.one(include_str!("../queries/fence_renew.sql"), args).await?.ok_or_else(|| fenced(self.worker))?;
        let incarnation = Fields::of(&row).int()?;
        let mut recovered = Vec::with_capacity(self.turns.len());
        for turn in &self.turns {
            let row = db.one(include_str!("../queries/tree_standing.sql"), Args::of(1).tree(turn.tree)).await?;
            let standing = row.map(|row| {
                let mut fields = Fields::of(&row);
                StoreResult::Ok((fields.int()?, fields.opt_worker()?))
            });
            recovered.push(judge(turn, standing.transpose()?, self.worker));
        }
        Ok((incarnation, recovered))
    }
}

/// While the fence was alive nobody else could claim a tree that this worker owned, so one revision further is ours.
fn judge(turn: &Known, standing: Option<(i64, Option<WorkerId>)>, worker: WorkerId) -> Recovered {
    match standing {
        None if turn.born => Recovered::Lost,
        Some((revision, _)) if revision == turn.revision + 1 => Recovered::Committed,
        Some((revision, Some(owner))) if revision == turn.revision && owner == worker && !turn.born => Recovered::Lost,
        _ => Recovered::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_revision_further_is_committed_and_the_same_revision_is_lost() {
        let (me, other) = (WorkerId(1), WorkerId(2));
        let turn = Known { tree: TreeId::fresh(), revision: 7, born: false };
        assert_eq!(judge(&turn, Some((8, None)), me), Recovered::Committed);
        assert_eq!(judge(&turn, Some((7, Some(me))), me), Recovered::Lost);
        assert_eq!(judge(&turn, Some((7, Some(other))), me), Recovered::Refused);
        assert_eq!(judge(&turn, Some((9, Some(other))), me), Recovered::Refused);
        assert_eq!(judge(&turn, None, me), Recovered::Refused);
        let birth = Known { revision: 0, born: true, ..turn };
        assert_eq!(judge(&birth, None, me), Recovered::Lost);
        assert_eq!(judge(&birth, Some((1, Some(me))), me), Recovered::Committed);
    }
}
