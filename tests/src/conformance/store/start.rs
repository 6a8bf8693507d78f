//! Starts: one tree per key, whatever process asks, and however often.

use std::sync::Arc;

use futures::future::join_all;
use sapwood_core::store::{
    KeyScope, NewTree, Start, StartKey, Started, Store, StoreErrorKind, Suspects, TreeFilter, Verdict,
};
use sapwood_core::tree::TreeState;
use sapwood_core::{Path, TreeId};

use super::fixture::{Worker, full, new_tree, root_of, row, start, start_in};
use crate::store::TestStore;

async fn trees_in_all(store: &Arc<dyn Store>) -> usize {
    let filter = TreeFilter { limit: 100_000, ..TreeFilter::default() };
    store.tree_list(&filter).await.expect("the trees are listed").len()
}

/// P1: a start brings a root that has not begun, at revision 0.
pub async fn a_started_tree_is_there_with_a_root_that_has_not_begun(test: &TestStore) {
    let store = test.store();
    let one = start("order-1");
    let started = store.starter(None).start(std::slice::from_ref(&one)).await.expect("it starts");
    assert_eq!(started, [Started::Created]);

    let record = store.tree_read(one.tree.id).await.expect("read").expect("there");
    assert_eq!((record.row.revision, record.row.control, record.row.inbox, record.row.number), (0, 0, 0, 0));
    assert_eq!((record.row.state, record.row.owner), (TreeState::Running, None));
    assert_eq!((&record.row.function, record.row.version, &record.row.cause), (&one.tree.function, 1, &one.tree.cause));
    assert_eq!(record.invocations.len(), 1);
    assert_eq!(record.invocations[0].invocation, root_of(&one.tree));
    assert_eq!((record.entries.len(), record.timers.len()), (0, 0));
}

/// P5: the second start gives the first one's tree, and starts nothing.
pub async fn a_held_key_gives_the_tree_that_holds_it(test: &TestStore) {
    let store = test.store();
    let mut starter = store.starter(None);
    let first = start("order-1");
    assert_eq!(starter.start(std::slice::from_ref(&first)).await.expect("it starts"), [Started::Created]);
    let again = start("order-1");
    let started = test.another().await.starter(None).start(std::slice::from_ref(&again)).await.expect("it answers");
    let existing = Started::Existing { tree: first.tree.id, function: first.tree.function.clone(), same_digest: true };
    assert_eq!(started, [existing]);
    assert_eq!(store.tree_row(again.tree.id).await.expect("read"), None);
    assert_eq!(store.start_key_find(&KeyScope::Caller, "order-1").await.expect("found"), Some(first.tree.id));
    assert_eq!(store.start_key_find(&KeyScope::Caller, "order-2").await.expect("not found"), None);
    assert_eq!(store.start_key_find(&KeyScope::Operation, "order-1").await.expect("not found"), None);
}

/// P5: another function or another input is reported, never silent.
pub async fn a_held_key_reports_another_digest_and_the_function_that_holds_it(test: &TestStore) {
    let store = test.store();
    let mut starter = store.starter(None);
    let first = start("order-1");
    starter.start(std::slice::from_ref(&first)).await.expect("it starts");
    let mut other = start("order-1");
    other.tree.function = "cancel_order".to_owned();
    other.key.digest = [8; 32];
    let started = starter.start(&[other]).await.expect("it answers");
    let existing = Started::Existing { tree: first.tree.id, function: "place_order".to_owned(), same_digest: false };
    assert_eq!(started, [existing]);
    assert_eq!(trees_in_all(&store).await, 1);
}

/// P5: from two processes at once, with the keys in opposite order, there is one tree a key.
pub async fn two_starters_of_the_same_keys_at_once_give_one_tree_a_key(test: &TestStore) {
    const ROUNDS: usize = 8;
    const KEYS: usize = 32;
    let stores = [test.store(), test.another().await];
    let mut starters: Vec<_> = stores.iter().map(|store| store.starter(None)).collect();
    for round in 0..ROUNDS {
        let both = starters.iter_mut().enumerate().map(|(who, starter)| async move {
            let mut starts: Vec<Start> = (0..KEYS).map(|key| start(&format!("{round}-{key}"))).collect();
            if who == 1 {
                starts.reverse();
            }
            let started = starter.start(&starts).await.expect("it starts");
            let mut by_key: Vec<(String, TreeId, Started)> = starts
                .into_iter()
                .zip(started)
                .map(|(start, started)| (start.key.key, start.tree.id, started))
                .collect();
            by_key.sort_by(|a, b| a.0.cmp(&b.0));
            by_key
        });
        let [one, two]: [_; 2] = join_all(both).await.try_into().expect("two starters");
        for ((key, first, first_is), (_, second, second_is)) in one.into_iter().zip(two) {
            let (winner, loser_is) = match (&first_is, &second_is) {
                (Started::Created, Started::Existing { .. }) => (first, second_is),
                (Started::Existing { .. }, Started::Created) => (second, first_is),
                both => panic!("{key}: one is created, not {both:?}"),
            };
            assert!(matches!(loser_is, Started::Existing { tree, same_digest: true, .. } if tree == winner));
        }
    }
    assert_eq!(trees_in_all(&test.store()).await, ROUNDS * KEYS);
}

/// P5: two of one batch are as two after each other.
pub async fn of_one_key_twice_in_a_batch_the_first_wins(test: &TestStore) {
    let store = test.store();
    let starts = [start("a"), start("b"), start("a"), start("c")];
    let started = store.starter(None).start(&starts).await.expect("it starts");
    let existing =
        Started::Existing { tree: starts[0].tree.id, function: starts[0].tree.function.clone(), same_digest: true };
    assert_eq!(started, [Started::Created, Started::Created, existing, Started::Created]);
    assert_eq!(trees_in_all(&store).await, 3);
}

/// P5: a batch of held and free keys starts the free ones.
pub async fn a_batch_of_held_and_free_keys_starts_the_free_ones(test: &TestStore) {
    let store = test.store();
    let mut starter = store.starter(None);
    let held: Vec<Start> = (0..5).map(|n| start(&format!("held-{n}"))).collect();
    starter.start(&held).await.expect("they start");
    let mixed: Vec<Start> = (0..5).flat_map(|n| [start(&format!("free-{n}")), start(&format!("held-{n}"))]).collect();
    let started = starter.start(&mixed).await.expect("they start");
    for (place, pair) in started.chunks(2).enumerate() {
        assert_eq!(pair[0], Started::Created);
        assert!(matches!(&pair[1], Started::Existing { tree, .. } if *tree == held[place].tree.id));
    }
}

/// P5, H4: a key means something within its scope only.
pub async fn scopes_of_keys_are_apart(test: &TestStore) {
    let store = test.store();
    let scopes =
        [KeyScope::Caller, KeyScope::Operation, KeyScope::Group("a".to_owned()), KeyScope::Group("b".to_owned())];
    let starts: Vec<Start> = scopes.iter().map(|scope| start_in(scope.clone(), "same")).collect();
    let started = store.starter(None).start(&starts).await.expect("they start");
    assert_eq!(started, vec![Started::Created; 4]);
    for (scope, start) in scopes.iter().zip(&starts) {
        assert_eq!(store.start_key_find(scope, "same").await.expect("found"), Some(start.tree.id));
    }
}

/// P5: a key is text of any kind.
pub async fn awkward_keys_are_kept_apart(test: &TestStore) {
    let store = test.store();
    let keys = ["", " ", "A", "a", "ä", "a\u{308}", "'", "\"", "\\", "{a,b}", "NULL", &"long".repeat(500)];
    let starts: Vec<Start> = keys.iter().map(|key| start(key)).collect();
    let started = store.starter(None).start(&starts).await.expect("they start");
    assert_eq!(started, vec![Started::Created; keys.len()]);
    for (key, start) in keys.iter().zip(&starts) {
        assert_eq!(store.start_key_find(&KeyScope::Caller, key).await.expect("found"), Some(start.tree.id), "{key:?}");
    }
}

/// C5: after an unknown outcome the same is sent again, with the same tree ids, and gets the answer that was lost.
pub async fn a_start_sent_twice_is_one_tree(test: &TestStore) {
    let store = test.store();
    let mut starter = store.starter(None);
    let starts = [start("a"), start("b")];
    starter.start(&starts).await.expect("they start");
    let again = [start("c"), starts[1].clone(), starts[0].clone()];
    for started in [starter.start(&again).await, test.another().await.starter(None).start(&starts).await] {
        let started = started.expect("they answer");
        assert!(started.iter().all(|one| *one == Started::Created), "as it would have answered the first time");
    }
    assert_eq!(trees_in_all(&store).await, 3);
}

/// A tree started elsewhere has no owner and is claimed at once.
pub async fn a_start_without_owner_is_ready_to_be_claimed(test: &TestStore) {
    let store = test.store();
    let worker = Worker::join(&store).await;
    let starts: Vec<Start> = (0..3).map(|n| start(&n.to_string())).collect();
    store.starter(None).start(&starts).await.expect("they start");
    let claims = store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("they are claimed");
    let mut claimed: Vec<TreeId> = claims.trees.iter().map(|claimed| claimed.row.id).collect();
    claimed.sort();
    assert_eq!(claimed, starts.iter().map(|start| start.tree.id).collect::<Vec<_>>());
    assert!(claims.trees.iter().all(|claimed| claimed.takeovers == 0 && claimed.row.revision == 1));
}

/// A tree started inside a worker is its own from the beginning, at revision 0.
pub async fn a_start_of_a_worker_is_owned_by_it(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let one = start("a");
    let started = store.starter(Some((worker.id, 1))).start(std::slice::from_ref(&one)).await.expect("it starts");
    assert_eq!(started, [Started::Created]);
    assert_eq!(row(&store, one.tree.id).await.owner, Some(worker.id));
    assert_eq!(store.tree_claim(worker.id, 10, &[], Suspects::ALL).await.expect("claimed").trees, []);
    assert_eq!(worker.commit_one(full(one.tree.id, 0)).await, Verdict::Committed);
}

/// C1: a dead worker starts nothing.
pub async fn a_buried_worker_starts_nothing(test: &TestStore) {
    let store = test.store();
    let dead = Worker::join(&store).await;
    let mut starter = store.starter(Some((dead.id, 1)));
    starter.start(&[start("alive")]).await.expect("it starts while alive");
    Worker::join(&store).await.bury(dead.id).await;

    let error = starter.start(&[start("dead")]).await.expect_err("the fence refuses");
    assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");
    let error = store.starter(Some((dead.id, 0))).start(&[start("dead")]).await.expect_err("the fence refuses");
    assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");
    assert_eq!(store.start_key_find(&KeyScope::Caller, "dead").await.expect("not found"), None);
    assert_eq!(trees_in_all(&store).await, 1);
}

/// R6: input and cause of a start are read as they were written.
pub async fn every_field_of_a_start_survives(test: &TestStore) {
    let store = test.store();
    let mut new = NewTree { version: 17, ..new_tree() };
    new.cause.correlation = "what began it".to_owned();
    new.cause.causation = Some("{an,event}".to_owned());
    new.cause.traceparent = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
    new.input = (0..=255).collect::<Vec<u8>>().into();
    let key = StartKey { scope: KeyScope::Operation, key: "k".to_owned(), digest: [255; 32] };
    store.starter(None).start(&[Start { tree: new.clone(), key }]).await.expect("it starts");
    let read = row(&store, new.id).await;
    assert_eq!((read.function, read.version, read.cause), (new.function.clone(), 17, new.cause.clone()));
    let image = store.invocation_load(new.id, &Path::root()).await.expect("read").expect("there");
    assert_eq!(image.invocation, root_of(&new));
}

/// W3: nothing to start is nothing.
pub async fn an_empty_batch_of_starts_is_nothing(test: &TestStore) {
    assert_eq!(test.store().starter(None).start(&[]).await.expect("it answers"), []);
}
