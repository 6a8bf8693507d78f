//! Commits: what accepts or refuses a turn, and that it is applied whole or not at all.
//!
//! The cases named `…_and_99_others_commit` differ from an accepted batch in one predicate of one turn only. If
//! that predicate is deleted from the statement, that case turns red, and no other check can make up for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use sapwood_core::clock::Clock as _;
use sapwood_core::journal::EntryKind;
use sapwood_core::store::{InvocationChange, NewTree, Next, Ownership, Store, StoreErrorKind, Turn, Verdict};
use sapwood_core::tree::{Closing, Invocation, InvocationState, PromiseState, Timer, TimerKind, TreeState};
use sapwood_core::{FunctionVersion, Path, TreeId};

use super::fixture::{
    FUNCTION, Worker, child, creation, entry, event, everything, full, full_again, in_future, micros, new_tree,
    release, root_of, row, settled, timer, turn, waiting,
};
use crate::store::{LEASE, TestStore, outbox};

/// The place of the odd one out, in the middle of its batch.
const ODD: usize = 57;

/// What the odd turn does with its tree; stores may well decide the two by different statements.
const WAYS: [Way; 2] = [Way::Keep, Way::GiveUp];

#[derive(Clone, Copy, Debug)]
enum Way {
    Keep,
    GiveUp,
}

/// The timer that each turn of the batch clears.
const DONE: u32 = 77;

/// New trees of a worker, at revision 1, with a timer each.
async fn trees_with_a_timer(worker: &mut Worker, count: usize) -> Vec<TreeId> {
    let creating = || Turn { timers_set: vec![timer(Path::root(), DONE)], ..creation(&new_tree()) };
    let creations: Vec<Turn> = (0..count).map(|_| creating()).collect();
    worker.commit_all(&creations).await;
    creations.iter().map(|turn| turn.tree).collect()
}

/// Commits a batch of 100 turns of which `distort` spoils one: that one is refused and leaves nothing behind, and the
/// other 99 are committed whole.
async fn one_is_refused(test: &TestStore, distort: impl Fn(&mut Turn)) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    for way in WAYS {
        let trees = trees_with_a_timer(&mut worker, 100).await;
        one_of_these_is_refused(&store, &mut worker, &trees, way, &distort).await;
    }
}

async fn one_of_these_is_refused(
    store: &Arc<dyn Store>,
    worker: &mut Worker,
    trees: &[TreeId],
    way: Way,
    distort: impl Fn(&mut Turn),
) {
    let clearing = |tree: &TreeId| Turn { timers_cleared: vec![(Path::root(), DONE)], ..full(*tree, 1) };
    let mut batch: Vec<Turn> = trees.iter().map(clearing).collect();
    if matches!(way, Way::GiveUp) {
        batch[ODD].next.ownership = Ownership::Release { ready_at: None, needs: None };
    }
    distort(&mut batch[ODD]);
    let odd = batch[ODD].tree;
    let before = everything(store, odd).await;

    let verdicts = worker.committer.commit(&batch).await.expect("the batch is decided");

    for (place, verdict) in verdicts.iter().enumerate() {
        let expected = if place == ODD { Verdict::Refused } else { Verdict::Committed };
        assert_eq!(*verdict, expected, "turn {place}, {way:?}");
    }
    assert_eq!(everything(store, odd).await, before, "a refused turn leaves nothing in any table ({way:?})");
    for (place, tree) in trees.iter().enumerate().filter(|(place, _)| *place != ODD) {
        let record = store.tree_read(*tree).await.expect("read").expect("there");
        let counts = (record.row.revision, record.invocations.len(), record.entries.len(), record.timers.len());
        assert_eq!(counts, (2, 3, 1, 2), "turn {place} is applied whole");
    }
    let emitted = outbox(store.as_ref()).await.into_iter().filter(|row| trees.contains(&row.event.tree)).count();
    assert_eq!(emitted, 99, "one event of each accepted turn");
}

/// C1: a tree that another live worker owns.
pub async fn a_turn_of_a_tree_owned_by_another_is_refused_and_99_others_commit(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let mut other = Worker::join(&store).await;
    for way in WAYS {
        let mut trees = trees_with_a_timer(&mut worker, 100).await;
        trees[ODD] = trees_with_a_timer(&mut other, 1).await[0];
        one_of_these_is_refused(&store, &mut worker, &trees, way, |_| {}).await;
        assert_eq!(other.commit_one(full(trees[ODD], 1)).await, Verdict::Committed, "its owner goes on");
    }
}

/// C1: a tree without an owner, at the revision it has.
pub async fn a_turn_of_a_tree_without_owner_is_refused_and_99_others_commit(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    for way in WAYS {
        let trees = trees_with_a_timer(&mut worker, 100).await;
        worker.commit_all(&[release(trees[ODD], 1, None, None)]).await;
        one_of_these_is_refused(&store, &mut worker, &trees, way, |odd| odd.revision = 2).await;
    }
}

/// C1, C5: a turn that was sent before.
pub async fn a_turn_of_an_older_revision_is_refused_and_99_others_commit(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    for way in WAYS {
        let trees = trees_with_a_timer(&mut worker, 100).await;
        worker.commit_all(&[turn(trees[ODD], 1)]).await;
        one_of_these_is_refused(&store, &mut worker, &trees, way, |_| {}).await;
    }
}

/// C5: a turn whose predecessor was lost.
pub async fn a_turn_of_a_later_revision_is_refused_and_99_others_commit(test: &TestStore) {
    one_is_refused(test, |odd| odd.revision = 2).await;
}

/// K3: a turn that does not know of a cancellation.
pub async fn a_turn_of_another_control_counter_is_refused_and_99_others_commit(test: &TestStore) {
    one_is_refused(test, |odd| odd.control = 1).await;
}

/// S3: a turn that gives its tree up without knowing of a settlement.
pub async fn a_turn_that_names_another_inbox_counter_is_refused_and_99_others_commit(test: &TestStore) {
    one_is_refused(test, |odd| odd.inbox = Some(1)).await;
}

/// C1: a tree that does not exist.
pub async fn a_turn_of_a_tree_that_is_not_there_is_refused_and_99_others_commit(test: &TestStore) {
    one_is_refused(test, |odd| odd.tree = TreeId::fresh()).await;
}

/// P5: a turn that creates a tree which is there already.
pub async fn a_turn_that_creates_a_tree_that_exists_is_refused_and_99_others_commit(test: &TestStore) {
    one_is_refused(test, |odd| {
        let tree = NewTree { id: odd.tree, ..new_tree() };
        odd.revision = 0;
        odd.created = Some(tree);
    })
    .await;
}

/// K3: counters that were moved from outside, after the batch was put together.
pub async fn a_tree_whose_control_counter_moved_refuses_who_does_not_know(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    test.execute("update tree set control = control + 1").await;
    assert_eq!(worker.commit_one(full(tree, 1)).await, Verdict::Refused);
    assert_eq!(worker.commit_one(Turn { control: 1, ..full(tree, 1) }).await, Verdict::Committed);
    assert_eq!(row(&store, tree).await.control, 1, "a commit leaves the counter as it is");
}

/// S3: the inbox counter refuses who names it, and only those.
pub async fn a_tree_whose_inbox_moved_refuses_to_be_given_up_and_goes_on_otherwise(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    test.execute("update tree set inbox = inbox + 1").await;
    assert_eq!(worker.commit_one(release(tree, 1, None, None)).await, Verdict::Refused);
    assert_eq!(worker.commit_one(turn(tree, 1)).await, Verdict::Committed);
    let knowing = Turn { inbox: Some(1), ..release(tree, 2, None, None) };
    assert_eq!(worker.commit_one(knowing).await, Verdict::Committed);
    assert_eq!(row(&store, tree).await.inbox, 1, "a commit leaves the counter as it is");
}

/// C1: the trees of a dead worker are still its own by name; the fence alone refuses it.
pub async fn a_batch_of_a_buried_worker_is_refused_whole_while_anothers_99_commit(test: &TestStore) {
    let store = test.store();
    let mut dead = Worker::join(&store).await;
    let its_trees = dead.trees(100).await;
    let before = everything(&store, its_trees[0]).await;
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(99).await;
    worker.bury(dead.id).await;

    let stale: Vec<Turn> = its_trees.iter().map(|tree| full(*tree, 1)).collect();
    let creations: Vec<Turn> = (0..10).map(|_| creation(&new_tree())).collect();
    let error = dead.committer.commit(&stale).await.expect_err("the fence refuses");
    assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");
    let error = dead.committer.commit(&creations).await.expect_err("the fence refuses creations as well");
    assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");

    let turns: Vec<Turn> = trees.iter().map(|tree| full(*tree, 1)).collect();
    worker.commit_all(&turns).await;
    assert_eq!(everything(&store, its_trees[0]).await, before);
    for tree in &its_trees {
        assert_eq!(row(&store, *tree).await.revision, 1);
    }
    for turn in &creations {
        assert_eq!(store.tree_row(turn.tree).await.expect("read"), None);
    }
    assert_eq!(outbox(store.as_ref()).await.len(), 99);
}

/// C1: a worker that left commits nothing afterwards.
pub async fn a_batch_of_a_worker_that_left_is_refused_whole(test: &TestStore) {
    let store = test.store();
    let mut gone = Worker::join(&store).await;
    let tree = gone.tree().await;
    store.worker_leave(gone.id).await.expect("it leaves");
    let error = gone.committer.commit(&[full(tree, 1)]).await.expect_err("the fence refuses");
    assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");
    assert_eq!(row(&store, tree).await.revision, 1);
}

/// C1: a worker whose lease is over commits until it is declared dead: no worker is declared dead because of an outage.
pub async fn a_worker_whose_lease_is_over_commits_until_it_is_buried(test: &TestStore) {
    let mut worker = Worker::join(&test.store()).await;
    let tree = worker.tree().await;
    test.advance(2 * LEASE).await;
    assert_eq!(worker.commit_one(full(tree, 1)).await, Verdict::Committed);
}

/// C3: the revision counts the commits of a tree.
pub async fn each_commit_moves_the_revision_on_by_one(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    for revision in 1..6 {
        assert_eq!(row(&store, tree).await.revision, revision);
        assert_eq!(worker.commit_one(turn(tree, revision)).await, Verdict::Committed);
    }
}

/// C3: a batch of nothing is nothing.
pub async fn an_empty_batch_has_no_verdicts(test: &TestStore) {
    let mut worker = Worker::join(&test.store()).await;
    assert_eq!(worker.committer.commit(&[]).await.expect("it commits"), []);
}

/// W2: verdicts come in the order of the turns, whatever mixture they are.
pub async fn verdicts_keep_the_order_of_a_mixed_batch(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let known = worker.trees(40).await;
    let mut batch = Vec::new();
    for (place, tree) in known.iter().enumerate() {
        batch.push(if place % 3 == 0 { Turn { control: 9, ..full(*tree, 1) } } else { full(*tree, 1) });
        batch.push(creation(&new_tree()));
    }
    // The batch need not be in the order in which the statement takes its locks.
    batch.reverse();
    let verdicts = worker.committer.commit(&batch).await.expect("the batch is decided");
    for (turn, verdict) in batch.iter().zip(verdicts) {
        assert_eq!(verdict, if turn.control == 9 { Verdict::Refused } else { Verdict::Committed });
    }
}

/// W2: data that the database refuses spoils its batch, which leaves nothing; without the culprit the others commit.
pub async fn a_permanent_error_applies_nothing_and_the_others_commit_without_the_culprit(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(10).await;
    worker.commit_all(&[full(trees[3], 1)]).await;
    let mut batch: Vec<Turn> = trees.iter().map(|tree| full(*tree, 1)).collect();
    // The same entry again: a journal is append only.
    batch[3] = Turn { entries: full(trees[3], 1).entries, ..turn(trees[3], 2) };

    let error = worker.committer.commit(&batch).await.expect_err("a second entry of one place");
    assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
    for (place, tree) in trees.iter().enumerate() {
        assert_eq!(row(&store, *tree).await.revision, if place == 3 { 2 } else { 1 });
    }
    batch.remove(3);
    worker.commit_all(&batch).await;
}

/// W2, C3: a turn knows its tree, so a change of an invocation that is not there is an error that names the tree. It
/// spoils its batch like other data that the database refuses, whether all turns are accepted or one is refused.
pub async fn a_change_of_an_invocation_that_is_not_there_is_refused_by_name(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(3).await;
    let change = |tree, path: Path| {
        let change = InvocationChange { path, state: InvocationState { attempt: 2, ..InvocationState::fresh() } };
        Turn { changes: vec![change], ..turn(tree, 1) }
    };
    let (root, nowhere) = (Path::root(), Path::root().child(7));
    for other in [turn(trees[2], 1), turn(trees[2], 5)] {
        let batch = [change(trees[0], root.clone()), change(trees[1], nowhere.clone()), other];
        let error = worker.committer.commit(&batch).await.expect_err("there is no such invocation");
        assert_eq!(error.kind(), StoreErrorKind::Permanent, "{error}");
        let names = |text: &str| error.to_string().contains(text);
        assert!(names(&trees[1].to_string()) && names("which is not there"), "{error}");
        for tree in &trees {
            assert_eq!(row(&store, *tree).await.revision, 1, "nothing is applied");
        }
        let record = store.tree_read(trees[0]).await.expect("read").expect("there");
        assert_eq!(record.invocations[0].invocation.state.attempt, 1, "nothing is applied");
    }
    // What a refused turn would change is not looked for.
    let refused = Turn { revision: 5, ..change(trees[1], nowhere) };
    let verdicts = worker.committer.commit(&[change(trees[0], root), refused]).await.expect("it is decided");
    assert_eq!(verdicts, [Verdict::Committed, Verdict::Refused]);
}

/// C3: a turn's lists reach their tables, and a second turn changes what the first wrote.
pub async fn two_full_turns_leave_exactly_what_they_say(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    worker.commit_all(&[full(tree, 1)]).await;
    let settling = full_again(tree, 2);
    worker.commit_all(std::slice::from_ref(&settling)).await;

    let record = store.tree_read(tree).await.expect("read").expect("there");
    assert_eq!((record.row.state, record.row.owner, record.row.number), (TreeState::Resolved, None, 4));
    let paths: Vec<String> = record.invocations.iter().map(|row| row.invocation.path.to_string()).collect();
    assert_eq!(paths, ["/", "/0", "/1", "/2"]);
    assert_eq!(record.invocations[0].invocation.state, settling.changes[0].state);
    assert_eq!(record.invocations[1].invocation.state, settling.changes[1].state);
    assert_eq!(record.invocations[2].invocation, child(1), "what no turn names stays as it is");
    let numbers: Vec<_> = record.entries.iter().map(|(_, _, entry)| (entry.seq, entry.number)).collect();
    assert_eq!(numbers, [(0, Some(1)), (1, Some(4))]);
    let mut timers: Vec<_> = record.timers.iter().map(|timer| (timer.path.to_string(), timer.position)).collect();
    timers.sort();
    assert_eq!(timers, [("/0".to_owned(), 0), ("/2".to_owned(), 1)]);
    let events: Vec<_> = everything(&store, tree).await.events.into_iter().map(|row| row.event.id).collect();
    let emitted: Vec<_> = [7, 8, 9].map(|position| event(tree, position).id).into();
    assert_eq!(events, emitted, "in the order they were emitted");
}

/// S1: what becomes of a tree's row when it is given up.
pub async fn a_released_tree_has_no_owner_and_says_when_and_what_it_needs(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let due = in_future(Duration::from_secs(50));
    worker.commit_all(&[release(tree, 1, Some(due), Some("place_order@9"))]).await;
    let row = row(&store, tree).await;
    assert_eq!((row.owner, row.state), (None, TreeState::Suspended));
    assert_eq!((row.ready_at, row.needs), (Some(due), Some(FunctionVersion::new("place_order", 9))));
    assert_eq!(row.settled_at, None);
}

/// P2: settling is stamped by the database's clock, once, and only what settles is.
pub async fn what_settles_is_stamped_by_the_clock_of_the_database(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let created = row(&store, tree).await.created_at;
    worker.commit_all(&[full(tree, 1)]).await;
    let open = store.tree_read(tree).await.expect("read").expect("there");
    assert_eq!(open.row.settled_at, None);
    assert!(open.invocations.iter().all(|row| row.settled_at.is_none()));

    test.advance(Duration::from_secs(1_000)).await;
    worker.commit_all(&[full_again(tree, 2)]).await;

    let settled = store.tree_read(tree).await.expect("read").expect("there");
    assert_eq!(settled.row.created_at, created);
    let stamp = settled.row.settled_at.expect("the tree is stamped");
    assert!(stamp >= created + SignedDuration::from_secs(1_000), "{stamp} is not by the clock that was moved");
    assert!(stamp <= test.clock().now());
    let stamps: Vec<bool> = settled.invocations.iter().map(|row| row.settled_at.is_some()).collect();
    assert_eq!(stamps, [true, true, false, false]);

    test.advance(Duration::from_secs(1_000)).await;
    assert_eq!(store.tree_read(tree).await.expect("read").expect("there"), settled, "no clock changes it");
}

/// C3: a tree created and settled in one commit, with a child that was too.
pub async fn a_tree_may_be_created_and_settled_in_one_turn(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let new = new_tree();
    let root = Invocation { state: settled(None), ..root_of(&new) };
    let called = Invocation { state: settled(Some(1)), ..child(0) };
    let whole = Turn {
        invocations: vec![root.clone(), called.clone()],
        entries: vec![(Path::root(), entry(0, EntryKind::StepResolved, Some(2)))],
        events: vec![event(new.id, 1)],
        next: Next {
            state: TreeState::Resolved,
            closing: Closing::None,
            number: 2,
            ownership: Ownership::Release { ready_at: None, needs: None },
        },
        ..creation(&new)
    };
    worker.commit_all(&[whole]).await;

    let record = store.tree_read(new.id).await.expect("read").expect("there");
    assert_eq!((record.row.state, record.row.owner, record.row.revision), (TreeState::Resolved, None, 1));
    assert!(record.row.settled_at.is_some());
    let invocations: Vec<_> = record.invocations.iter().map(|row| row.invocation.clone()).collect();
    assert_eq!(invocations, [root, called]);
    assert!(record.invocations.iter().all(|row| row.settled_at.is_some_and(|settled| settled >= row.created_at)));
    assert_eq!(everything(&store, new.id).await.events.len(), 1);
}

/// R6: what is read is what was written, field by field.
pub async fn every_field_of_every_record_survives(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let mut new = new_tree();
    new.function = "naïve \"quotes\" and {braces}, \\N".to_owned();
    new.version = 2_000_000_000;
    new.input = awkward_bytes();
    new.cause.causation = Some("/sapwood/orders:event, 1".to_owned());
    new.cause.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());

    let invocations = awkward_invocations(&new);
    let entries = awkward_entries();
    let timers = vec![
        Timer { kind: TimerKind::StepRetry, ..timer(Path::root(), 3) },
        Timer { kind: TimerKind::FunctionRetry, ..timer(Path::root().child(70_000), u32::MAX) },
        timer(Path::root(), 300),
    ];
    let mut emitted = event(new.id, 4_000_000_000);
    emitted.traceparent.clone_from(&new.cause.traceparent);
    emitted.content = awkward_bytes();
    let whole = Turn {
        invocations: invocations.clone(),
        entries: entries.clone(),
        timers_set: timers.clone(),
        events: vec![emitted.clone(), event(new.id, 5)],
        next: Next {
            state: TreeState::Running,
            closing: Closing::None,
            number: 2_000_000_000,
            ownership: Ownership::Keep,
        },
        ..creation(&new)
    };
    worker.commit_all(&[whole]).await;

    let read = everything(&store, new.id).await;
    let record = read.record.expect("there");
    assert_eq!(record.row.id, new.id);
    assert_eq!((&record.row.function, record.row.version), (&new.function, new.version));
    assert_eq!((record.row.state, record.row.owner), (TreeState::Running, Some(worker.id)));
    assert_eq!((record.row.revision, record.row.control, record.row.inbox), (1, 0, 0));
    assert_eq!((record.row.number, record.row.ready_at, record.row.needs), (2_000_000_000, None, None));
    assert_eq!((record.row.cause, record.row.settled_at), (new.cause, None));
    let age = test.clock().now().duration_since(record.row.created_at);
    assert!((0..120).contains(&age.as_secs()), "created {age:?} ago");

    let mut got: Vec<_> = record.invocations.into_iter().map(|row| row.invocation).collect();
    assert!(got.windows(2).all(|pair| pair[0].path.depth() <= pair[1].path.depth()), "parents before children");
    got.sort_by(|a, b| a.path.cmp(&b.path));
    assert_eq!(got, invocations);
    let mut got: Vec<_> = record.entries.into_iter().map(|(path, _, entry)| (path, entry)).collect();
    got.sort_by(|a, b| (&a.0, a.1.seq).cmp(&(&b.0, b.1.seq)));
    assert_eq!(got, entries);
    let mut got = record.timers;
    got.sort_by(|a, b| (&a.path, a.position).cmp(&(&b.path, b.position)));
    let mut wanted = timers;
    wanted.sort_by(|a, b| (&a.path, a.position).cmp(&(&b.path, b.position)));
    assert_eq!(got, wanted);
    let events: Vec<_> = read.events.into_iter().map(|row| row.event).collect();
    assert!(events.contains(&emitted), "{events:#?}\nlacks\n{emitted:#?}");
    assert_eq!(events.len(), 2);
}

/// R6: a changed state is read as it was written, and the empty fields come back empty.
pub async fn every_field_of_a_change_survives(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let full_state = InvocationState {
        attempt: 3,
        promise: PromiseState::ReturnedErr,
        number: Some(2_000_000_000),
        seen: Some(0),
        outcome: Some(awkward_bytes()),
        parked: Some(Bytes::from_static(br#"{"recorded":"a","asked":"b"}"#)),
        ..InvocationState::fresh()
    };
    for (place, state) in [full_state, InvocationState::fresh(), waiting(7)].into_iter().enumerate() {
        let change = InvocationChange { path: Path::root(), state: state.clone() };
        worker.commit_all(&[Turn { changes: vec![change], ..turn(tree, 1 + place as u64) }]).await;
        let image = store.invocation_load(tree, &Path::root()).await.expect("read").expect("there");
        assert_eq!(image.invocation.state, state);
    }
    assert_eq!(row(&store, tree).await.function, FUNCTION);
}

/// R6: every state of a tree, of a promise and of its closing has a code that the store takes.
pub async fn every_state_can_be_stored(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    for state in TreeState::ALL.iter().copied() {
        let tree = worker.tree().await;
        let next = Next { state, closing: Closing::None, number: 0, ownership: Ownership::Keep };
        worker.commit_all(&[Turn { next, ..turn(tree, 1) }]).await;
        let row = row(&store, tree).await;
        assert_eq!((row.state, row.settled_at.is_some()), (state, state.is_settled()));
    }
    for promise in PromiseState::ALL.iter().copied() {
        let tree = worker.tree().await;
        let state = InvocationState { promise, ..InvocationState::fresh() };
        let change = InvocationChange { path: Path::root(), state: state.clone() };
        worker.commit_all(&[Turn { changes: vec![change], ..turn(tree, 1) }]).await;
        let record = store.tree_read(tree).await.expect("read").expect("there");
        assert_eq!(record.invocations[0].invocation.state, state);
        assert_eq!(record.invocations[0].settled_at.is_some(), promise.is_settled());
    }
    for closing in Closing::ALL.iter().copied() {
        let tree = worker.tree().await;
        let state = InvocationState { closing, ..InvocationState::fresh() };
        let change = InvocationChange { path: Path::root(), state: state.clone() };
        let next = Next { state: TreeState::Running, closing, number: 0, ownership: Ownership::Keep };
        worker.commit_all(&[Turn { changes: vec![change], next, ..turn(tree, 1) }]).await;
        let image = store.invocation_load(tree, &Path::root()).await.expect("read").expect("there");
        assert_eq!(image.invocation.state, state);
        assert_eq!(row(&store, tree).await.closing, closing);
        let released = release(tree, 2, None, None);
        worker.commit_all(&[Turn { next: Next { closing, ..released.next.clone() }, ..released }]).await;
        assert_eq!(row(&store, tree).await.closing, closing);
        let new = new_tree();
        let created = creation(&new);
        worker.commit_all(&[Turn { next: Next { closing, ..created.next.clone() }, ..created }]).await;
        assert_eq!(row(&store, new.id).await.closing, closing);
    }
}

/// C3, W2: a batch as large as committers send is one commit.
pub async fn a_batch_of_a_thousand_trees_commits(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(1_000).await;
    let turns: Vec<Turn> = trees.iter().map(|tree| full(*tree, 1)).collect();
    worker.commit_all(&turns).await;
    let turns: Vec<Turn> = trees.iter().map(|tree| full_again(*tree, 2)).collect();
    worker.commit_all(&turns).await;
    assert_eq!(outbox(store.as_ref()).await.len(), 3_000);
}

/// Payloads are bytes to a store: quotes, control characters and no text at all.
fn awkward_bytes() -> Bytes {
    Bytes::from((0..=255).chain(*b"{\"a\":\"\\u0000\"}").collect::<Vec<u8>>())
}

fn awkward_invocations(new: &NewTree) -> Vec<Invocation> {
    let far = Path::root().child(70_000);
    let parked = InvocationState {
        attempt: 2_000_000_000,
        number: Some(9),
        parked: Some(awkward_bytes()),
        ..InvocationState::fresh()
    };
    let closing = InvocationState {
        promise: PromiseState::ReturnedOk,
        seen: Some(2_000_000_000),
        outcome: Some(awkward_bytes()),
        ..waiting(0)
    };
    let mut invocations = vec![
        root_of(new),
        Invocation { state: parked, ..child(0) },
        Invocation { input: Bytes::new(), version: 0, undo: "re-store@2".parse().ok(), ..child(255) },
        Invocation { state: closing, path: far.clone(), ..child(0) },
        Invocation { function: String::new(), path: far.child(u32::MAX - 1), ..child(0) },
    ];
    assert!(invocations.iter().any(|invocation| invocation.undo.is_some()));
    invocations.sort_by(|a, b| a.path.cmp(&b.path));
    invocations
}

fn awkward_entries() -> Vec<(Path, sapwood_core::journal::Entry)> {
    let kinds = (0..100).filter_map(EntryKind::from_code);
    let mut entries: Vec<_> = kinds
        .zip(0..)
        .map(|(kind, seq)| {
            let mut one = entry(seq, kind, (seq % 2 == 0).then_some(seq + 1));
            one.position = if seq == 3 { u32::MAX } else { seq * 100_000 };
            one.attempt = seq * 1_000;
            one.name = format!("{{\"{seq}\", \\N, null, é");
            one.payload = if seq == 5 { Bytes::new() } else { awkward_bytes() };
            (Path::root(), one)
        })
        .collect();
    entries.push((Path::root().child(70_000).child(u32::MAX - 1), entry(0, EntryKind::Valued, Some(2_000_000_000))));
    entries
}

/// An event's time is kept as it is, whatever the clock says at the commit.
pub async fn an_event_keeps_the_time_of_its_emit(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let mut emitted = event(tree, 1);
    emitted.time = micros("2020-02-29T23:59:59.123456Z".parse::<Timestamp>().expect("a time"));
    worker.commit_all(&[Turn { events: vec![emitted.clone()], ..turn(tree, 1) }]).await;
    assert_eq!(everything(&store, tree).await.events[0].event, emitted);
}
