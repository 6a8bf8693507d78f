//! Deadlines, judged by the store's clock in the commit that decides (D1 to D3).

use std::time::Duration;

use jiff::Timestamp;
use sapwood_core::Path;
use sapwood_core::store::{
    InvocationChange, ListedTree, NewTree, Next, Ownership, Suspects, TreeFilter, Turn, Verdict,
};
use sapwood_core::tree::{Closing, Invocation, InvocationState, PromiseState, TreeState};

use super::fixture::{Worker, child, creation, full, new_tree, release, row, timer, turn};
use crate::store::TestStore;

const HOUR: Duration = Duration::from_secs(3_600);

/// A worker, and a tree of it whose root has this deadline in so many hours.
async fn with_deadline(test: &TestStore, hours: u32) -> (Worker, NewTree) {
    let mut worker = Worker::join(&test.store()).await;
    let deadline = in_hours(test, hours);
    let new = NewTree { deadline: Some(deadline), ..new_tree() };
    let created = Turn { timers_set: vec![timer(Path::root(), 5)], only_before: Some(deadline), ..creation(&new) };
    assert_eq!(worker.commit_one(created).await, Verdict::Committed);
    (worker, new)
}

/// By the store's clock, in microseconds.
fn in_hours(test: &TestStore, hours: u32) -> Timestamp {
    let at = sapwood_core::clock::Clock::now(test.clock().as_ref()) + HOUR * hours;
    Timestamp::from_microsecond(at.as_microsecond()).expect("a time")
}

fn path(position: u32) -> Path {
    Path::root().child(position)
}

/// D3: by the clock of the store: what goes forward is committed before its deadline, and what times
/// out not before it.
pub async fn a_turn_is_refused_outside_of_the_times_that_it_names(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let (now, later) = (in_hours(test, 0), in_hours(test, 1));
    let times = [
        (None, Some(later), Verdict::Committed),
        (None, Some(now), Verdict::Refused),
        (None, Some(Timestamp::UNIX_EPOCH), Verdict::Refused),
        (Some(now), None, Verdict::Committed),
        (Some(later), None, Verdict::Refused),
        (Some(now), Some(later), Verdict::Committed),
        (Some(now), Some(now), Verdict::Refused),
    ];
    let trees = worker.trees(times.len()).await;
    let turns: Vec<Turn> = trees
        .iter()
        .zip(times)
        .map(|(tree, (not_before, only_before, _))| Turn { not_before, only_before, ..full(*tree, 1) })
        .collect();
    let verdicts = worker.committer.commit(&turns).await.expect("the batch commits");
    assert_eq!(verdicts, times.map(|(.., verdict)| verdict));
    for (tree, (.., verdict)) in trees.iter().zip(times) {
        let record = store.tree_read(*tree).await.expect("read").expect("there");
        assert_eq!(record.entries.is_empty(), verdict == Verdict::Refused, "all of it or nothing");
        assert_eq!(record.row.owner, Some(worker.id), "it keeps the tree");
    }
    for (only_before, verdict) in [(now, Verdict::Refused), (later, Verdict::Committed)] {
        let new = NewTree { deadline: Some(only_before), ..new_tree() };
        let created = Turn { only_before: Some(only_before), ..creation(&new) };
        assert_eq!(worker.commit_one(created).await, verdict);
        let found = store.tree_row(new.id).await.expect("read");
        assert_eq!(found.map(|row| row.deadline), (verdict == Verdict::Committed).then_some(Some(later)));
    }
}

/// D1: a deadline is read as it was written, by owners and by readers.
pub async fn a_deadline_survives(test: &TestStore) {
    let (mut worker, new) = with_deadline(test, 2).await;
    let deadline = in_hours(test, 1);
    let called = Invocation { deadline: Some(deadline), ..child(0) };
    worker.commit_all(&[Turn { invocations: vec![called, child(1)], ..turn(new.id, 1) }]).await;
    let store = test.store();
    let image = store.tree_load(new.id).await.expect("read").expect("there");
    let open: Vec<_> = image.open.iter().map(|open| open.deadline).collect();
    assert_eq!((image.row.deadline, open), (new.deadline, vec![new.deadline, Some(deadline), None]));
    let root = store.invocation_load(new.id, &Path::root()).await.expect("read").expect("there");
    assert_eq!(root.invocation.deadline, new.deadline);
    assert_eq!(root.children.iter().map(|child| child.deadline).collect::<Vec<_>>(), [Some(deadline), None]);
    let record = store.tree_read(new.id).await.expect("read").expect("there");
    let read: Vec<_> = record.invocations.iter().map(|row| row.invocation.deadline).collect();
    assert_eq!((record.row.deadline, read), (new.deadline, vec![new.deadline, Some(deadline), None]));
}

/// D1: so does that of a start that others may contest.
pub async fn a_start_has_its_deadline(test: &TestStore) {
    let store = test.store();
    let deadline = Some(in_hours(test, 3));
    let mut start = super::fixture::start("with a deadline");
    start.tree.deadline = deadline;
    let mut starter = store.starter(None);
    starter.start(std::slice::from_ref(&start)).await.expect("it starts");
    let image = store.tree_load(start.tree.id).await.expect("read").expect("there");
    assert_eq!((image.row.deadline, image.open[0].deadline), (deadline, deadline));
}

/// D3: whoever reads after the deadline, and whatever, the promise is settled then, once, and its owner finds it settled.
pub async fn no_reader_sees_a_promise_pending_after_its_deadline(test: &TestStore) {
    let store = test.store();
    for read in 0..4 {
        let (mut worker, new) = with_deadline(test, 1).await;
        let tree = new.id;
        let state = async || match read {
            0 => store.outcome_read(tree).await.expect("read").expect("there").state,
            1 => store.tree_row(tree).await.expect("read").expect("there").state,
            2 => store.tree_read(tree).await.expect("read").expect("there").row.state,
            _ => {
                let filter = TreeFilter { limit: 1, ..TreeFilter::default() };
                let listed = store.tree_list(&filter).await.expect("a list").pop().and_then(ListedTree::row);
                listed.expect("the newest").state
            }
        };
        assert_eq!(state().await, TreeState::Running);
        assert_eq!(row(&store, tree).await.control, 0, "nothing was settled");
        test.advance(HOUR).await;
        assert_eq!(state().await, TreeState::TimingOut);
        let before = store.tree_read(tree).await.expect("read").expect("there");
        assert_eq!((before.row.control, before.row.owner), (1, Some(worker.id)));
        assert!(before.row.settled_at >= new.deadline && before.invocations[0].settled_at >= new.deadline);
        assert_eq!(before.invocations[0].invocation.state.promise, PromiseState::TimingOut);
        assert_eq!((before.invocations[0].invocation.state.number, before.timers.len()), (None, 0));
        assert_eq!(worker.commit_one(full(tree, 1)).await, Verdict::Refused, "its owner has not read it");
        test.advance(HOUR).await;
        assert_eq!(state().await, TreeState::TimingOut);
        assert_eq!(store.tree_read(tree).await.expect("read").expect("there"), before, "once");
        let outcome = store.outcome_read(tree).await.expect("read").expect("there");
        assert_eq!((outcome.state, outcome.outcome), (TreeState::TimingOut, None));
        let only = |state| TreeFilter { state: Some(state), limit: 1, ..TreeFilter::default() };
        let listed = store.tree_list(&only(TreeState::TimedOut)).await.expect("a list");
        assert_eq!(listed.first().map(ListedTree::id), Some(tree), "it is among those that timed out");
    }
}

/// D2, R7: the earliest deadline first, each with the next number of the tree; a settled one keeps what it has.
pub async fn what_is_late_is_settled_in_the_order_of_its_deadlines(test: &TestStore) {
    let store = test.store();
    let (mut worker, new) = with_deadline(test, 4).await;
    let at = |position: u32, hours: u32| Invocation { deadline: Some(in_hours(test, hours)), ..child(position) };
    let parked = InvocationState { parked: Some("{}".into()), ..InvocationState::fresh() };
    let returned = InvocationState { promise: PromiseState::ReturnedErr, ..InvocationState::fresh() };
    let called = vec![
        at(0, 3),
        at(1, 2),
        Invocation { state: parked, ..at(2, 1) },
        Invocation { state: returned.clone(), ..at(3, 1) },
        at(4, 5),
    ];
    let next = Next { number: 7, ..turn(new.id, 1).next };
    worker.commit_all(&[Turn { invocations: called, next, ..turn(new.id, 1) }]).await;
    test.advance(HOUR * 3).await;
    let record = store.tree_read(new.id).await.expect("read").expect("there");
    let state = |position: u32| {
        let of = record.invocations.iter().find(|row| row.invocation.path == path(position)).expect("there");
        (of.invocation.state.promise, of.invocation.state.number, of.invocation.state.parked.is_some())
    };
    use PromiseState::{Pending, ReturnedErr, TimingOut};
    assert_eq!(state(2), (TimingOut, Some(8), false));
    assert_eq!(state(1), (TimingOut, Some(9), false));
    assert_eq!(state(0), (TimingOut, Some(10), false), "at its deadline it is late");
    assert_eq!(state(3), (ReturnedErr, None, false), "its outcome was decided before");
    assert_eq!(state(4), (Pending, None, false));
    assert_eq!((record.row.number, record.row.control, record.row.state), (10, 1, TreeState::Running));
    let image = store.tree_load(new.id).await.expect("read").expect("there");
    assert_eq!((image.open.len(), image.open[0].latest), (6, 10), "the parent finds that something completed");
    test.advance(HOUR).await;
    let record = store.tree_read(new.id).await.expect("read").expect("there");
    assert_eq!((record.row.number, record.row.control, record.row.state), (10, 2, TreeState::TimingOut));
}

/// D2, C1: a tree that has settled and is not closed is claimed, taken over and released like an open one, and keeps its
/// outcome until it is closed.
pub async fn a_tree_that_timed_out_is_driven_until_it_is_closed(test: &TestStore) {
    let store = test.store();
    let (mut first, new) = with_deadline(test, 1).await;
    let tree = new.id;
    first.commit_all(&[release(tree, 1, None, Some("lost@1"))]).await;
    let mut worker = Worker::join(&store).await;
    assert!(store.tree_claim(worker.id, 9, &[], Suspects::ALL).await.expect("a claim").trees.is_empty());
    test.advance(HOUR).await;
    let read = store.tree_row(tree).await.expect("read").expect("there");
    assert!(read.ready_at == read.settled_at && read.ready_at >= new.deadline, "it is due at once: {read:?}");
    let claims = store.tree_claim(worker.id, 9, &[], Suspects::ALL).await.expect("a claim");
    let [claimed] = &claims.trees[..] else { panic!("{claims:?}") };
    assert_eq!((claimed.row.state, claimed.row.needs.clone()), (TreeState::TimingOut, None));
    let next = |ownership| Next { state: TreeState::TimingOut, closing: Closing::Compensating, number: 0, ownership };
    let kept = Turn { control: 1, next: next(Ownership::Keep), ..turn(tree, 3) };
    assert_eq!(worker.commit_one(kept).await, Verdict::Committed);
    assert_eq!(row(&store, tree).await.settled_at, read.settled_at);
    let owned = store.tree_owned(worker.id, None, 9).await.expect("read");
    assert_eq!(owned.iter().map(|owned| owned.id).collect::<Vec<_>>(), [tree], "it is one of its open trees");
    let mut survivor = Worker::join(&store).await;
    crate::store::bury(store.as_ref(), worker.id, survivor.id).await;
    let claims = store.tree_claim(survivor.id, 9, &[], Suspects::ALL).await.expect("a claim");
    assert_eq!(claims.trees.iter().map(|claimed| claimed.row.state).collect::<Vec<_>>(), [TreeState::TimingOut]);
    let closed = InvocationState { promise: PromiseState::TimedOut, ..InvocationState::fresh() };
    let ownership = Ownership::Release { ready_at: None, needs: None };
    let closes = Turn {
        control: 1,
        changes: vec![InvocationChange { path: Path::root(), state: closed }],
        next: Next { state: TreeState::TimedOut, ..next(ownership) },
        ..turn(tree, 5)
    };
    assert_eq!(survivor.commit_one(closes).await, Verdict::Committed);
    let record = store.tree_read(tree).await.expect("read").expect("there");
    assert_eq!((record.row.state, record.row.settled_at), (TreeState::TimedOut, read.settled_at));
    assert_eq!(record.invocations[0].settled_at, read.settled_at, "closed later, settled then");
    assert!(store.tree_claim(survivor.id, 9, &[], Suspects::ALL).await.expect("a claim").trees.is_empty());
}
