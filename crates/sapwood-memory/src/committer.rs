//! Commits of turns, and what became of a commit whose outcome is unknown (W1, W2).
//!
//! A batch is judged first: which turns find their trees as they know them. Then what these would write is checked against
//! what is there, as the keys of a database would. Only then is anything written, and nothing of that can fail. Nothing
//! else writes meanwhile, so no turn is ever [`Verdict::Busy`].

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use sapwood_core::WorkerId;
use sapwood_core::store::{Committer, Next, Ownership, Recovered, StoreError, StoreResult, Turn, Verdict};
use sapwood_core::tree::TreeRow;

use crate::error::permanent;
use crate::fenced::Fenced;
use crate::handle::Handle;
use crate::outbox;
use crate::state::State;
use crate::time::stored;
use crate::tree::{Tree, settled_at};

/// Commits turns under one fence.
pub(crate) struct MemoryCommitter {
    handle: Arc<Handle>,
    fenced: Fenced,
}

impl MemoryCommitter {
    pub(crate) fn new(handle: &Arc<Handle>, worker: WorkerId, fence: u16) -> Self {
        Self { handle: Arc::clone(handle), fenced: Fenced::new(worker, fence) }
    }
}

#[async_trait]
impl Committer for MemoryCommitter {
    async fn commit(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>> {
        let Self { handle, fenced } = self;
        handle.act(|state, now| {
            fenced.pass(state)?;
            commit(state, fenced.worker(), turns, now)
        })
    }

    async fn recover(&mut self, turns: &[Turn]) -> StoreResult<Vec<Recovered>> {
        let Self { handle, fenced } = self;
        handle.act(|state, _| {
            fenced.take(state)?;
            let found = |turn: &Turn| state.forest.tree(turn.tree).map(|tree| (tree.row.revision, tree.row.owner));
            Ok(turns.iter().map(|turn| recovered(turn, found(turn), fenced.worker())).collect())
        })
    }
}

fn commit(state: &mut State, worker: WorkerId, turns: &[Turn], now: Timestamp) -> StoreResult<Vec<Verdict>> {
    let verdicts = judge(state, worker, turns, now);
    let accepted = || turns.iter().zip(&verdicts).filter(|(_, verdict)| **verdict == Verdict::Committed);
    accepted().try_for_each(|(turn, _)| check(turn, state))?;
    accepted().for_each(|(turn, _)| apply(state, worker, turn, now));
    Ok(verdicts)
}

/// Accepts or refuses each turn. Of two turns of one tree only the first can know it as it is then.
fn judge(state: &State, worker: WorkerId, turns: &[Turn], now: Timestamp) -> Vec<Verdict> {
    let mut moved = BTreeSet::new();
    let judge_one = |turn: &Turn| {
        let is_known = knows(turn, state.forest.tree(turn.tree).map(|tree| &tree.row), worker, now);
        if is_known && moved.insert(turn.tree) { Verdict::Committed } else { Verdict::Refused }
    };
    turns.iter().map(judge_one).collect()
}

/// Whether a tree is as a turn expects it.
fn knows(turn: &Turn, found: Option<&TreeRow>, worker: WorkerId, now: Timestamp) -> bool {
    match (&turn.created, found) {
        _ if !turn.is_in_time(now) => false,
        (Some(_), found) => found.is_none(),
        (None, None) => false,
        (None, Some(row)) => {
            row.owner == Some(worker)
                && row.revision == turn.revision
                && row.control == turn.control
                && turn.inbox.is_none_or(|inbox| inbox == row.inbox)
        }
    }
}

/// Refuses what a turn may not write: rows that are there, changes of rows that are not, and two rows of one key, because a
/// turn has one row for each.
fn check(turn: &Turn, state: &State) -> StoreResult<()> {
    let tree = state.forest.tree(turn.tree);
    let wrong =
        |what: String| -> Result<(), StoreError> { Err(permanent(format!("a turn of tree {} {what}", turn.tree))) };
    if let Some(other) = turn.created.as_ref().map(|new| new.id).filter(|id| *id != turn.tree) {
        return wrong(format!("creates tree {other}"));
    }
    let mut called = BTreeSet::new();
    for path in turn.invocations.iter().map(|invocation| &invocation.path) {
        if !called.insert(path) || tree.is_some_and(|tree| tree.invocation(path).is_some()) {
            return wrong(format!("creates invocation {path}, which is there"));
        }
    }
    let mut changed = BTreeSet::new();
    for path in turn.changes.iter().map(|change| &change.path) {
        if tree.and_then(|tree| tree.invocation(path)).is_none() {
            return wrong(format!("changes invocation {path}, which is not there"));
        }
        if !changed.insert(path) {
            return wrong(format!("changes invocation {path} twice"));
        }
    }
    let mut recorded = BTreeSet::new();
    for (path, seq) in turn.entries.iter().map(|(path, entry)| (path, entry.seq)) {
        if !recorded.insert((path, seq)) || tree.is_some_and(|tree| tree.has_entry(path, seq)) {
            return wrong(format!("records entry {seq} of invocation {path}, which is there"));
        }
    }
    let mut set = BTreeSet::new();
    if let Some(timer) = turn.timers_set.iter().find(|timer| !set.insert((&timer.path, timer.position))) {
        return wrong(format!("sets the timer of operation {} of invocation {} twice", timer.position, timer.path));
    }
    match turn.events.iter().find(|event| usize::from(event.lane) >= state.lanes.len()) {
        Some(event) => wrong(format!("has event {} for lane {}, which is not there", event.id, event.lane)),
        None => Ok(()),
    }
}

fn apply(state: &mut State, worker: WorkerId, turn: &Turn, now: Timestamp) {
    if let Some(new) = &turn.created {
        state.forest.insert(Tree::new(new, Some(worker), now));
    }
    state.forest.change(turn.tree, |tree| write(tree, turn, now));
    outbox::emit(&mut state.lanes, &turn.events);
}

fn write(tree: &mut Tree, turn: &Turn, now: Timestamp) {
    move_on(&mut tree.row, &turn.next, now);
    turn.invocations.iter().for_each(|invocation| tree.call(invocation, now));
    turn.changes.iter().for_each(|change| tree.change(&change.path, &change.state, now));
    turn.entries.iter().for_each(|(path, entry)| tree.record(path, entry, now));
    // First those that are done: a step that is retried again has the same position.
    turn.timers_cleared.iter().for_each(|(path, position)| tree.clear_timer(path, *position));
    turn.timers_set.iter().for_each(|timer| tree.set_timer(timer));
}

fn move_on(row: &mut TreeRow, next: &Next, now: Timestamp) {
    row.revision += 1;
    // The turn named the last request, so it carries out all there are.
    row.applied = row.control;
    row.state = next.state;
    row.closing = next.closing;
    row.number = next.number;
    row.settled_at = settled_at(next.state.is_settled(), row.settled_at, row.created_at, now);
    if let Ownership::Release { ready_at, needs } = &next.ownership {
        row.owner = None;
        row.ready_at = ready_at.map(stored);
        row.needs.clone_from(needs);
    }
}

/// While this worker was alive, no other could claim a tree that it owned, so one revision further can only be the
/// turn's own commit.
fn recovered(turn: &Turn, found: Option<(u64, Option<WorkerId>)>, worker: WorkerId) -> Recovered {
    let is_created = turn.created.is_some();
    match found {
        None if is_created => Recovered::Lost,
        Some((revision, _)) if revision == turn.revision + 1 => Recovered::Committed,
        Some((revision, Some(owner))) if revision == turn.revision && owner == worker && !is_created => Recovered::Lost,
        _ => Recovered::Refused,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sapwood_core::journal::{Entry, EntryKind};
    use sapwood_core::store::{InvocationChange, NewTree};
    use sapwood_core::tree::{Cause, Invocation, InvocationState, Timer, TimerKind, TreeState};
    use sapwood_core::{Path, TreeId};

    use super::*;

    const ME: WorkerId = WorkerId(1);
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn turn(tree: TreeId, revision: u64) -> Turn {
        Turn {
            tree,
            revision,
            control: 0,
            inbox: None,
            not_before: None,
            only_before: None,
            created: None,
            invocations: Vec::new(),
            changes: Vec::new(),
            entries: Vec::new(),
            timers_set: Vec::new(),
            timers_cleared: Vec::new(),
            events: Vec::new(),
            next: Next {
                state: TreeState::Running,
                closing: sapwood_core::tree::Closing::None,
                number: 0,
                ownership: Ownership::Keep,
            },
        }
    }

    fn creation(id: TreeId) -> Turn {
        let (function, input, cause) = ("f".to_owned(), Bytes::new(), Cause::default());
        let created = Some(NewTree { id, function, version: 1, input, cause, deadline: None });
        Turn { created, invocations: vec![invocation(Path::root())], ..turn(id, 0) }
    }

    fn invocation(path: Path) -> Invocation {
        let (function, input, state) = ("f".to_owned(), Bytes::new(), InvocationState::fresh());
        Invocation { path, function, version: 1, input, state, undo: None, deadline: None }
    }

    /// A state with one tree of [`ME`], at revision 1.
    fn one_tree() -> (State, TreeId) {
        let (mut state, tree) = (State::empty(), TreeId::fresh());
        let verdicts = commit(&mut state, ME, &[creation(tree)], NOW).expect("it commits");
        assert_eq!(verdicts, [Verdict::Committed]);
        (state, tree)
    }

    /// W2: who knows the tree otherwise than it is, is refused.
    #[test]
    fn a_turn_knows_its_tree_as_it_is() {
        let (mut state, tree) = one_tree();
        state.forest.change(tree, |tree| (tree.row.control, tree.row.inbox) = (2, 3));
        let row = state.forest.tree(tree).map(|tree| &tree.row);
        let known = Turn { control: 2, ..turn(tree, 1) };
        assert!(knows(&known, row, ME, NOW));
        assert!(knows(&Turn { inbox: Some(3), ..known.clone() }, row, ME, NOW));
        assert!(!knows(&known, row, WorkerId(2), NOW), "another owns it");
        assert!(!knows(&known, None, ME, NOW), "it is not there");
        for other in [
            Turn { inbox: Some(0), ..known.clone() },
            Turn { control: 1, ..known.clone() },
            Turn { revision: 0, ..known.clone() },
            Turn { revision: 2, ..known },
            creation(tree),
        ] {
            assert!(!knows(&other, row, ME, NOW), "{other:?}");
        }
        assert!(knows(&creation(tree), None, ME, NOW));
    }

    /// W2: one row too many or too few spoils the batch, and nothing of it is left.
    #[test]
    fn what_a_database_would_refuse_is_refused_by_the_name_of_its_tree() {
        let (mut state, tree) = one_tree();
        let root = Path::root;
        let entry = Entry {
            seq: 0,
            kind: EntryKind::Valued,
            position: 0,
            number: None,
            attempt: 0,
            name: String::new(),
            payload: Bytes::new(),
        };
        let timer = Timer { path: root(), position: 4, kind: TimerKind::Sleep, due_at: NOW };
        let change = |path| InvocationChange { path, state: InvocationState::fresh() };
        let other = TreeId::fresh();
        let wrong = [
            (Turn { invocations: vec![invocation(root())], ..turn(tree, 1) }, "creates invocation /, which is there"),
            (Turn { changes: vec![change(root().child(0))], ..turn(tree, 1) }, "invocation /0, which is not there"),
            (Turn { changes: vec![change(root()), change(root())], ..turn(tree, 1) }, "changes invocation / twice"),
            (Turn { entries: vec![(root(), entry.clone()), (root(), entry)], ..turn(tree, 1) }, "records entry 0"),
            (Turn { timers_set: vec![timer.clone(), timer], ..turn(tree, 1) }, "sets the timer of operation 4"),
            (Turn { tree: other, ..creation(tree) }, "creates tree"),
        ];
        for (culprit, what) in wrong {
            let first = creation(TreeId::fresh());
            let named = culprit.tree;
            let batch = [first.clone(), culprit];
            let error = commit(&mut state, ME, &batch, NOW).expect_err(what).to_string();
            assert!(error.contains(what) && error.contains(&named.to_string()), "{error}");
            assert!(state.forest.tree(first.tree).is_none(), "{what}");
            assert_eq!(state.forest.tree(tree).map(|tree| tree.row.revision), Some(1), "{what}");
        }
    }

    #[test]
    fn of_two_turns_of_one_tree_in_a_batch_the_second_is_refused() {
        let (mut state, tree) = one_tree();
        let twice = [turn(tree, 1), turn(tree, 1)];
        let verdicts = commit(&mut state, ME, &twice, NOW).expect("it is decided");
        assert_eq!(verdicts, [Verdict::Committed, Verdict::Refused]);
    }

    #[test]
    fn one_revision_further_is_committed_and_the_same_revision_is_lost() {
        let (tree, other) = (TreeId::fresh(), WorkerId(2));
        let known = turn(tree, 7);
        assert_eq!(recovered(&known, Some((8, None)), ME), Recovered::Committed);
        assert_eq!(recovered(&known, Some((7, Some(ME))), ME), Recovered::Lost);
        assert_eq!(recovered(&known, Some((7, Some(other))), ME), Recovered::Refused);
        assert_eq!(recovered(&known, Some((9, Some(other))), ME), Recovered::Refused);
        assert_eq!(recovered(&known, None, ME), Recovered::Refused);
        assert_eq!(recovered(&creation(tree), None, ME), Recovered::Lost);
        assert_eq!(recovered(&creation(tree), Some((1, Some(ME))), ME), Recovered::Committed);
    }
}
