//! Membership: renewals that are counted, and burials that last.

use std::collections::HashSet;
use std::time::Duration;

use sapwood_core::store::{Beat, StoreErrorKind, Verdict};
use sapwood_core::{ProcessId, WorkerId};
use uuid::Uuid;

use super::fixture::{Worker, full};
use crate::store::{LEASE, TestStore};

/// C1: a worker's identity is never given again.
pub async fn every_life_has_an_identity_of_its_own(test: &TestStore) {
    let stores = [test.store(), test.another().await];
    let mut seen = HashSet::<WorkerId>::new();
    for round in 0..10 {
        let store = &stores[round % 2];
        let id = store.worker_join("same name", 1, LEASE, None).await.expect("it joins").worker;
        assert!(seen.insert(id), "{id} was there before");
        if round % 3 == 0 {
            store.worker_leave(id).await.expect("it leaves");
        }
    }
}

/// C2: a renewal tells how often each of the others has renewed, and leaves out who is gone or buried.
pub async fn a_renewal_tells_of_the_others_that_are_there(test: &TestStore) {
    let store = test.store();
    let (silent, gone, worker) = (Worker::join(&store).await, Worker::join(&store).await, Worker::join(&store).await);
    let beat = |worker: WorkerId, renewals| Beat { worker, renewals, lease: LEASE, process: None };
    assert_eq!(worker.watches().await, [beat(silent.id, 0), beat(gone.id, 0)]);
    store.worker_leave(gone.id).await.expect("it leaves");
    for renewals in 1..4 {
        store.lease(silent.id).renew(LEASE).await.expect("renewed");
        assert_eq!(worker.watches().await, [beat(silent.id, renewals)]);
    }
    let longer = Duration::from_secs(7);
    store.lease(silent.id).renew(longer).await.expect("renewed");
    assert_eq!(worker.watches().await, [Beat { lease: longer, ..beat(silent.id, 4) }]);
    worker.bury(silent.id).await;
    assert_eq!(worker.watches().await, []);
}

/// C2: a renewal tells which process each of the others is of, as it said when it joined, for as long as it is there.
pub async fn a_renewal_tells_of_which_process_the_others_are(test: &TestStore) {
    let (store, other) = (test.store(), test.another().await);
    let processes = [Some(ProcessId(Uuid::from_u128(1))), None, Some(ProcessId(Uuid::from_u128(u128::MAX)))];
    for process in processes {
        let worker = store.worker_join("of a process", 1, LEASE, process).await.expect("it joins").worker;
        store.lease(worker).renew(LEASE).await.expect("renewed");
    }
    let beats = Worker::join(&other).await.watches().await;
    assert_eq!(beats.iter().map(|beat| beat.process).collect::<Vec<_>>(), processes);
}

/// C2: whatever the database's clock does, it kills nobody and keeps nobody alive; and each renewal tells it.
pub async fn a_clock_that_is_set_ends_no_lease(test: &TestStore) {
    let store = test.store();
    let (other, worker) = (Worker::join(&store).await, Worker::join(&store).await);
    let before = store.lease(worker.id).renew(LEASE).await.expect("renewed").now;
    test.advance(1_000 * LEASE).await;
    let after = store.lease(worker.id).renew(LEASE).await.expect("renewed").now;
    assert!(after.duration_since(before) >= (1_000 * LEASE).try_into().expect("a length"));
    store.lease(other.id).renew(LEASE).await.expect("its lease is what its watchers saw of it");
}

/// C2: a renewal that comes between the watch and the burial counts.
pub async fn who_renewed_since_it_was_seen_is_not_buried(test: &TestStore) {
    let store = test.store();
    let (living, silent) = (Worker::join(&store).await, Worker::join(&store).await);
    let worker = Worker::join(&store).await;
    let seen = worker.watches().await;
    store.lease(living.id).renew(LEASE).await.expect("renewed");
    assert_eq!(store.worker_bury(worker.id, &seen).await.expect("answered"), [silent.id]);
    store.lease(living.id).renew(LEASE).await.expect("it lives");
}

/// C2: a burial names only those that are there, and only once.
pub async fn only_who_is_there_is_buried_and_once(test: &TestStore) {
    let store = test.store();
    let (first, second) = (Worker::join(&store).await, Worker::join(&store).await);
    let worker = Worker::join(&store).await;
    let mut named = worker.watches().await;
    named.push(Beat { worker: WorkerId(i64::MAX), renewals: 0, lease: LEASE, process: None });
    named.push(Beat { worker: worker.id, renewals: 1, lease: LEASE, process: None });
    let mut buried = store.worker_bury(worker.id, &named).await.expect("answered");
    buried.sort();
    assert_eq!(buried, [first.id, second.id], "and nobody itself");
    assert_eq!(store.worker_bury(worker.id, &named).await.expect("answered"), []);
    assert_eq!(store.worker_bury(worker.id, &[]).await.expect("answered"), []);
}

/// C1: who was buried stays so, and learns it at its next renewal.
pub async fn a_buried_worker_is_fenced_for_ever_and_a_living_one_never(test: &TestStore) {
    let store = test.store();
    let mut dead = Worker::join(&store).await;
    let tree = dead.tree().await;
    let mut its_lease = store.lease(dead.id);
    its_lease.renew(LEASE).await.expect("renewed while alive");
    let mut living = Worker::join(&store).await;
    let other_tree = living.tree().await;
    living.bury(dead.id).await;
    let beat = Beat { worker: living.id, renewals: 1, lease: LEASE, process: None };
    assert_eq!(store.worker_bury(dead.id, &[beat]).await.unwrap_or_default(), []);

    for _ in 0..3 {
        let error = its_lease.renew(LEASE).await.expect_err("the dead renew nothing");
        assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");
        let error = dead.committer.commit(&[full(tree, 1)]).await.expect_err("the dead commit nothing");
        assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");
    }
    let error = store.lease(dead.id).renew(LEASE).await.expect_err("nor by another handle");
    assert_eq!(error.kind(), StoreErrorKind::Fenced, "{error}");
    store.lease(living.id).renew(LEASE).await.expect("the living renew");
    assert_eq!(living.commit_one(full(other_tree, 1)).await, Verdict::Committed);
}

/// C2: of two survivors that bury the same worker at once, one does it.
pub async fn two_who_bury_the_same_worker_bury_it_once(test: &TestStore) {
    let stores = [test.store(), test.another().await];
    for _ in 0..5 {
        let dead = Worker::join(&stores[0]).await;
        let survivors = [Worker::join(&stores[0]).await, Worker::join(&stores[1]).await];
        let silent = [Beat { worker: dead.id, renewals: 0, lease: LEASE, process: None }];
        let (one, two) = tokio::join!(
            stores[0].worker_bury(survivors[0].id, &silent),
            stores[1].worker_bury(survivors[1].id, &silent)
        );
        assert_eq!(one.expect("answered").len() + two.expect("answered").len(), 1);
    }
}

/// C1: who left by its own will is fenced as well.
pub async fn who_left_renews_nothing(test: &TestStore) {
    let store = test.store();
    let worker = Worker::join(&store).await;
    let mut lease = store.lease(worker.id);
    lease.renew(LEASE).await.expect("renewed");
    store.worker_leave(worker.id).await.expect("it leaves");
    assert_eq!(lease.renew(LEASE).await.expect_err("it left").kind(), StoreErrorKind::Fenced);
}
