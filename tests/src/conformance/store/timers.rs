//! Timers: set, moved and cleared with the turn that says so.

use std::time::Duration;

use sapwood_core::Path;
use sapwood_core::store::{Suspects, Turn, Verdict};
use sapwood_core::tree::{Timer, TimerKind};

use super::fixture::{Worker, in_future, release, row, timer, turn};
use crate::store::TestStore;

/// S6: timers of one operation each; clearing one leaves the others.
pub async fn a_cleared_timer_leaves_the_others(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(2).await;
    let set = |tree, revision| Turn {
        timers_set: vec![
            timer(Path::root(), 0),
            timer(Path::root(), 1),
            timer(Path::root().child(0), 0),
            Timer { kind: TimerKind::FunctionRetry, ..timer(Path::root(), u32::MAX) },
        ],
        ..turn(tree, revision)
    };
    worker.commit_all(&[set(trees[0], 1), set(trees[1], 1)]).await;
    let cleared = vec![(Path::root(), 0), (Path::root(), u32::MAX)];
    worker.commit_all(&[Turn { timers_cleared: cleared, ..turn(trees[0], 2) }]).await;

    let left = |record: sapwood_core::tree::TreeImage| {
        let mut left: Vec<_> = record.timers.iter().map(|timer| (timer.path.to_string(), timer.position)).collect();
        left.sort();
        left
    };
    let image = store.tree_load(trees[0]).await.expect("read").expect("there");
    assert_eq!(left(image), [("/".to_owned(), 1), ("/0".to_owned(), 0)]);
    let image = store.tree_load(trees[1]).await.expect("read").expect("there");
    assert_eq!(image.timers.len(), 4, "the other tree's are its own");
}

/// F2: the timer of an operation that waits once more takes the place of the one that was.
pub async fn a_timer_set_again_takes_the_place_of_the_former(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let first = Timer { kind: TimerKind::StepRetry, ..timer(Path::root(), 4) };
    let later = Timer { due_at: in_future(Duration::from_secs(9_000)), ..first.clone() };
    worker.commit_all(&[Turn { timers_set: vec![first], ..turn(tree, 1) }]).await;
    worker.commit_all(&[Turn { timers_set: vec![later.clone()], ..turn(tree, 2) }]).await;
    assert_eq!(store.tree_load(tree).await.expect("read").expect("there").timers, [later]);
}

/// F2: a timer that is done and set anew in one turn, for a step that is retried once more, stands.
pub async fn a_timer_cleared_and_set_in_one_turn_stands(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    let first = Timer { kind: TimerKind::StepRetry, ..timer(Path::root(), 4) };
    let again = Timer { due_at: in_future(Duration::from_secs(9_000)), ..first.clone() };
    worker.commit_all(&[Turn { timers_set: vec![first], ..turn(tree, 1) }]).await;
    let both = Turn { timers_cleared: vec![(Path::root(), 4)], timers_set: vec![again.clone()], ..turn(tree, 2) };
    worker.commit_all(&[both]).await;
    assert_eq!(store.tree_load(tree).await.expect("read").expect("there").timers, [again]);
}

/// S6: clearing what is not there is no error: a replay may do it twice.
pub async fn clearing_a_timer_that_is_gone_is_nothing(test: &TestStore) {
    let mut worker = Worker::join(&test.store()).await;
    let tree = worker.tree().await;
    let gone = Turn { timers_cleared: vec![(Path::root(), 0)], ..turn(tree, 1) };
    assert_eq!(worker.commit_one(gone).await, Verdict::Committed);
}

/// S6: a sleep survives the worker that began it: another claims the tree when it is over, with the timer in it.
pub async fn a_sleep_is_found_by_another_worker_when_it_is_over(test: &TestStore) {
    let store = test.store();
    let mut sleeper = Worker::join(&store).await;
    let tree = sleeper.tree().await;
    let sleep = timer(Path::root(), 0);
    let asleep = Turn { timers_set: vec![sleep.clone()], ..release(tree, 1, Some(sleep.due_at), None) };
    sleeper.commit_all(&[asleep]).await;
    store.worker_leave(sleeper.id).await.expect("it leaves");

    let worker = Worker::join(&store).await;
    let claims = store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim");
    assert_eq!((claims.trees.len(), claims.next_ready_at), (0, Some(sleep.due_at)));
    test.advance(Duration::from_secs(3_700)).await;
    let claims = store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim");
    assert_eq!(claims.trees.len(), 1);
    assert_eq!(store.tree_load(tree).await.expect("read").expect("there").timers, [sleep]);
    assert_eq!(row(&store, tree).await.owner, Some(worker.id));
}
