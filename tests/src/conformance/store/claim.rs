//! Claims: what is ready goes to exactly one worker, and only to one that can go on with it.

use std::collections::HashSet;
use std::time::Duration;

use sapwood_core::store::{Next, Ownership, Start, Suspects, Turn, Verdict};
use sapwood_core::tree::{Closing, TreeState};
use sapwood_core::{FunctionVersion, TreeId, WorkerId};

use super::fixture::{Worker, full, in_future, micros, release, row, start, turn};
use crate::store::TestStore;

async fn ready_trees(test: &TestStore, count: usize) -> Vec<TreeId> {
    let starts: Vec<Start> = (0..count).map(|n| start(&format!("ready-{n}"))).collect();
    test.store().starter(None).start(&starts).await.expect("they start");
    starts.into_iter().map(|start| start.tree.id).collect()
}

/// C1: two workers that claim at once share what is ready, and nothing is claimed twice.
pub async fn two_claimers_share_what_is_ready_without_overlap(test: &TestStore) {
    let trees = ready_trees(test, 200).await;
    let stores = [test.store(), test.another().await];
    let mut workers = Vec::new();
    for store in &stores {
        workers.push((Worker::join(store).await, store));
    }
    let claimers = workers.iter().map(|(worker, store)| async move {
        let mut mine = Vec::new();
        let mut misses = 0;
        // A claim skips what another holds locked, so one empty answer is not yet the end.
        while misses < 3 {
            let claims = store.tree_claim(worker.id, 7, &[], Suspects::ALL).await.expect("a claim");
            assert!(claims.trees.len() <= 7);
            misses = if claims.trees.is_empty() { misses + 1 } else { 0 };
            mine.extend(claims.trees.into_iter().map(|claimed| claimed.row));
            assert!(mine.len() <= 200, "some were claimed twice");
        }
        assert!(mine.iter().all(|row| row.owner == Some(worker.id)));
        mine
    });
    let claimed: Vec<_> = futures::future::join_all(claimers).await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 200);
    let distinct: HashSet<TreeId> = claimed.iter().map(|row| row.id).collect();
    assert_eq!(distinct, trees.into_iter().collect());
}

/// C1: the row of a claim is the tree's row from then on, and its owner may commit at once.
pub async fn a_claim_moves_the_revision_and_makes_the_tree_run(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let tree = worker.tree().await;
    worker.commit_all(&[release(tree, 1, Some(in_future(Duration::ZERO)), Some("f@1"))]).await;
    test.advance(Duration::from_secs(1)).await;

    let claims =
        store.tree_claim(worker.id, 10, &[FunctionVersion::new("f", 1)], Suspects::ALL).await.expect("a claim");

    assert_eq!(claims.trees.len(), 1);
    let claimed = &claims.trees[0];
    assert!(claimed.takeovers == 0);
    assert_eq!((claimed.row.revision, claimed.row.state), (3, TreeState::Running));
    assert_eq!((claimed.row.owner, claimed.row.ready_at, &claimed.row.needs), (Some(worker.id), None, &None));
    assert_eq!(row(&store, tree).await, claimed.row);
    assert_eq!(worker.commit_one(full(tree, 2)).await, Verdict::Refused, "the revision of before the claim");
    assert_eq!(worker.commit_one(full(tree, 3)).await, Verdict::Committed);
}

/// C1: an owner that gave a tree up cannot commit it once another has claimed it.
pub async fn a_claimed_tree_refuses_its_former_owner(test: &TestStore) {
    let store = test.store();
    let mut former = Worker::join(&store).await;
    let worker = Worker::join(&store).await;
    let tree = former.tree().await;
    former.commit_all(&[release(tree, 1, Some(in_future(Duration::ZERO)), None)]).await;
    test.advance(Duration::from_secs(1)).await;
    assert_eq!(store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim").trees.len(), 1);
    for revision in 1..=4 {
        assert_eq!(former.commit_one(turn(tree, revision)).await, Verdict::Refused);
    }
}

/// V1: a tree that needs a version waits for a worker that has it.
pub async fn a_tree_that_needs_a_version_is_claimed_by_who_has_it(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(3).await;
    let due = Some(in_future(Duration::ZERO));
    worker
        .commit_all(&[
            release(trees[0], 1, due, Some("ship@2")),
            release(trees[1], 1, due, Some("ship@3")),
            release(trees[2], 1, due, None),
        ])
        .await;
    test.advance(Duration::from_secs(1)).await;
    let claimed = |versions: &'static [&'static str]| {
        let (store, id) = (store.clone(), worker.id);
        let versions: Vec<_> = versions.iter().map(|version| version.parse().expect("a version")).collect();
        async move {
            let claims = store.tree_claim(id, 10, &versions, Suspects::ALL).await.expect("a claim");
            claims.trees.into_iter().map(|claimed| claimed.row.id).collect::<Vec<_>>()
        }
    };
    assert_eq!(claimed(&["ship@1", "place_order@1"]).await, [trees[2]]);
    assert_eq!(claimed(&[]).await, []);
    assert_eq!(row(&store, trees[0]).await.needs, Some(FunctionVersion::new("ship", 2)), "it waits visibly");
    assert_eq!(claimed(&["ship@1", "ship@2"]).await, [trees[0]]);
    assert_eq!(claimed(&["ship@3"]).await, [trees[1]]);
}

/// S6: a tree is ready when its time has come by the database's clock, and a claim says when to come again.
pub async fn a_tree_is_claimed_when_its_time_has_come(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(3).await;
    let (soon, late) = (in_future(Duration::from_secs(100)), in_future(Duration::from_secs(500)));
    worker
        .commit_all(&[
            release(trees[0], 1, Some(late), None),
            release(trees[1], 1, Some(soon), None),
            release(trees[2], 1, None, None),
        ])
        .await;

    let claims = store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim");
    assert_eq!((claims.trees.len(), claims.next_ready_at), (0, Some(soon)));

    test.advance(Duration::from_secs(200)).await;
    let claims = store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim");
    assert_eq!(claims.trees.iter().map(|claimed| claimed.row.id).collect::<Vec<_>>(), [trees[1]]);
    assert_eq!(claims.next_ready_at.map(micros), Some(late));

    test.advance(Duration::from_secs(400)).await;
    let claims = store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim");
    assert_eq!(claims.trees.iter().map(|claimed| claimed.row.id).collect::<Vec<_>>(), [trees[0]]);
    assert_eq!(claims.next_ready_at, None, "a tree without a time is never ready");
}

/// C2: trees of who left or was buried are taken over at once, and are told apart from those that waited.
pub async fn trees_of_the_dead_are_taken_over_and_those_of_the_living_are_not(test: &TestStore) {
    let store = test.store();
    let mut gone = Worker::join(&store).await;
    let mut living = Worker::join(&store).await;
    let survivor = Worker::join(&store).await;
    let left = gone.trees(3).await;
    living.trees(3).await;
    gone.commit_all(&[full(left[0], 1)]).await;
    let waiting = ready_trees(test, 1).await[0];
    let before = store.tree_claim(survivor.id, 0, &[], Suspects::ALL).await.expect("a claim of nothing");
    assert_eq!(before.trees, []);

    store.worker_leave(gone.id).await.expect("it leaves");
    let claims = store.tree_claim(survivor.id, 10, &[], Suspects::ALL).await.expect("a claim");

    let taken: HashSet<TreeId> = claims.trees.iter().filter(|c| c.takeovers > 0).map(|c| c.row.id).collect();
    assert_eq!(taken, left.iter().copied().collect());
    let found: Vec<TreeId> = claims.trees.iter().filter(|c| c.takeovers == 0).map(|c| c.row.id).collect();
    assert_eq!(found, [waiting]);
    assert!(claims.trees.iter().all(|claimed| claimed.row.owner == Some(survivor.id)));
    assert_eq!(row(&store, left[0]).await.revision, 3, "a takeover is a claim like any other");
    assert_eq!(store.tree_claim(survivor.id, 10, &[], Suspects::ALL).await.expect("a claim").trees, []);
}

/// C2: a worker is dead when it is buried, not when its lease is over.
pub async fn trees_of_an_expired_worker_are_not_claimed_before_it_is_buried(test: &TestStore) {
    let store = test.store();
    let mut silent = Worker::join(&store).await;
    let trees = silent.trees(2).await;
    let survivor = Worker::join(&store).await;
    assert_eq!(store.tree_claim(survivor.id, 10, &[], Suspects::ALL).await.expect("a claim").trees, []);

    survivor.bury(silent.id).await;
    let claims = store.tree_claim(survivor.id, 10, &[], Suspects::ALL).await.expect("a claim");
    let mut taken: Vec<TreeId> = claims.trees.iter().filter(|c| c.takeovers > 0).map(|c| c.row.id).collect();
    taken.sort();
    assert_eq!(taken, trees);
}

/// C2, S1: what a dead worker had settled or given up is nothing to take over.
pub async fn a_tree_that_was_given_up_is_not_taken_over(test: &TestStore) {
    let store = test.store();
    let mut gone = Worker::join(&store).await;
    let trees = gone.trees(2).await;
    let mut settle = release(trees[0], 1, None, None);
    settle.next.state = TreeState::Resolved;
    gone.commit_all(&[settle, release(trees[1], 1, None, None)]).await;
    store.worker_leave(gone.id).await.expect("it leaves");
    let survivor = Worker::join(&store).await;
    assert_eq!(store.tree_claim(survivor.id, 10, &[], Suspects::ALL).await.expect("a claim").trees, []);
    assert_eq!(row(&store, trees[1]).await.revision, 2, "nothing is rewritten");
}

/// P2: a settled tree is never claimed again, also if its dead owner had kept it.
pub async fn a_settled_tree_is_never_claimed(test: &TestStore) {
    let store = test.store();
    let mut gone = Worker::join(&store).await;
    let trees = gone.trees(4).await;
    let settled = [TreeState::Resolved, TreeState::Rejected, TreeState::Cancelled, TreeState::TimedOut];
    let turns: Vec<Turn> = trees
        .iter()
        .zip(settled)
        .map(|(tree, state)| Turn {
            next: Next { state, closing: Closing::None, number: 0, ownership: Ownership::Keep },
            ..turn(*tree, 1)
        })
        .collect();
    gone.commit_all(&turns).await;
    store.worker_leave(gone.id).await.expect("it leaves");
    let survivor = Worker::join(&store).await;
    assert_eq!(store.tree_claim(survivor.id, 10, &[], Suspects::ALL).await.expect("a claim").trees, []);
    assert_eq!(row(&store, trees[0]).await.state, TreeState::Resolved);
}

/// C1: a claim takes no more than it was asked for, and comes back for the rest.
pub async fn a_claim_is_bounded(test: &TestStore) {
    let store = test.store();
    ready_trees(test, 25).await;
    let worker = Worker::join(&store).await;
    let mut sizes = Vec::new();
    for _ in 0..4 {
        sizes.push(store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim").trees.len());
    }
    assert_eq!(sizes, [10, 10, 5, 0]);
}

/// S1: a tree released again is claimed again, as often as it takes.
pub async fn a_tree_goes_from_hand_to_hand(test: &TestStore) {
    let store = test.store();
    let mut workers = [Worker::join(&store).await, Worker::join(&store).await];
    let tree = ready_trees(test, 1).await[0];
    for round in 0..6 {
        let worker = &mut workers[round % 2];
        let claims = store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("a claim");
        assert_eq!(claims.trees.len(), 1, "round {round}");
        let revision = claims.trees[0].row.revision;
        assert_eq!(revision, 2 * round as u64 + 1);
        let now = Some(micros(jiff::Timestamp::now()));
        let mut again: Turn = release(tree, revision, now, None);
        again.next.ownership = Ownership::Release { ready_at: now, needs: None };
        assert_eq!(worker.commit_one(again).await, Verdict::Committed);
    }
}

/// C4: a tree that is taken over again and has committed nothing in between is a suspect, claimed only as far as it is
/// allowed; its count is the takeovers in a row.
pub async fn a_tree_that_is_taken_over_again_and_again_is_a_suspect(test: &TestStore) {
    let store = test.store();
    let mut first = Worker::join(&store).await;
    let trees = first.trees(3).await;
    let next_of = async |dead: WorkerId, suspects: Suspects| {
        let worker = Worker::join(&store).await;
        worker.bury(dead).await;
        let claims = store.tree_claim(worker.id, 10, &[], suspects).await.expect("a claim");
        let mut taken: Vec<(TreeId, u32)> = claims.trees.iter().map(|c| (c.row.id, c.takeovers)).collect();
        taken.sort_unstable();
        (worker, taken)
    };
    let counted = |takeovers: [u32; 3]| trees.iter().copied().zip(takeovers).collect::<Vec<_>>();
    let (mut second, taken) = next_of(first.id, Suspects::NONE).await;
    assert_eq!(taken, counted([1, 1, 1]), "nobody is a suspect yet");
    // The first tree commits; the others do not.
    assert_eq!(second.commit_one(full(trees[0], 2)).await, Verdict::Committed);
    let (third, taken) = next_of(second.id, Suspects::NONE).await;
    assert_eq!(taken, [(trees[0], 1)]);
    let one = Suspects { second: 1, further: 1 };
    let claims = store.tree_claim(third.id, 10, &[], one).await.expect("a claim");
    assert_eq!(claims.trees.iter().map(|c| c.takeovers).collect::<Vec<_>>(), [2], "one of the two");
    let suspect = claims.trees[0].row.id;
    let claims = store.tree_claim(third.id, 10, &[], Suspects { second: 0, further: 1 }).await.expect("a claim");
    assert!(claims.trees.is_empty(), "the other one was not taken over twice");
    let (fourth, mut taken) = next_of(third.id, one).await;
    // The first tree was taken over by the third worker, and has committed nothing since: it is a suspect like the other.
    let claims = store.tree_claim(fourth.id, 10, &[], one).await.expect("a claim");
    taken.extend(claims.trees.iter().map(|c| (c.row.id, c.takeovers)));
    taken.sort_unstable();
    let others: Vec<_> = trees.iter().filter(|tree| **tree != suspect).map(|tree| (*tree, 2)).collect();
    assert_eq!(taken, others, "one by one, and before the one that was there more often");
    let claims = store.tree_claim(fourth.id, 10, &[], one).await.expect("a claim");
    assert_eq!(claims.trees.iter().map(|c| (c.row.id, c.takeovers)).collect::<Vec<_>>(), [(suspect, 3)]);
}

/// C2: those that are open, by id, each once.
pub async fn the_trees_of_a_worker_are_listed_page_by_page(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let mut trees = worker.trees(7).await;
    let other = Worker::join(&store).await.tree().await;
    worker.commit_all(&[release(trees.pop().expect("the last"), 1, None, None)]).await;
    trees.sort_unstable();
    let mut listed = Vec::new();
    loop {
        let after = listed.last().copied();
        let page = store.tree_owned(worker.id, after, 4).await.expect("a page");
        assert!(page.iter().all(|tree| (tree.revision, tree.control) == (1, 0)), "{page:?}");
        let is_last = page.len() < 4;
        listed.extend(page.into_iter().map(|tree| tree.id));
        if is_last {
            break;
        }
    }
    assert_eq!(listed, trees);
    assert!(!listed.contains(&other));
}

/// R9: whoever owns them, and however they ended.
pub async fn the_revisions_of_trees_are_read_without_those_that_are_not_there(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(3).await;
    worker.commit_all(&[turn(trees[1], 1)]).await;
    worker.commit_all(&[release(trees[2], 1, None, None)]).await;
    let missing = super::fixture::new_tree().id;
    let asked = [trees[2], missing, trees[0], trees[1]];
    let mut revisions = store.tree_revisions(&asked).await.expect("the store answers");
    revisions.sort_unstable();
    let mut expected = [(trees[0], 1), (trees[1], 2), (trees[2], 2)];
    expected.sort_unstable();
    assert_eq!(revisions, expected);
    assert_eq!(store.tree_revisions(&[]).await.expect("the store answers"), []);
}
