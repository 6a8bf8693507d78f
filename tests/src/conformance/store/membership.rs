//! Membership: leases judged by the database's clock, and burials that last.

use std::collections::HashSet;
use std::time::Duration;

use sapwood_core::WorkerId;
use sapwood_core::store::{StoreErrorKind, Verdict};

use super::fixture::{Worker, full};
use crate::store::{LEASE, PAST_LEASE, TestStore};

/// C1: a worker's identity is never given again.
pub async fn every_life_has_an_identity_of_its_own(test: &TestStore) {
    let stores = [test.store(), test.another().await];
    let mut seen = HashSet::<WorkerId>::new();
    for round in 0..10 {
        let store = &stores[round % 2];
        let id = store.worker_join("same name", 1, LEASE).await.expect("it joins");
        assert!(seen.insert(id), "{id} was there before");
        if round % 3 == 0 {
            store.worker_leave(id).await.expect("it leaves");
        }
    }
}

/// C2: a renewal names those whose lease is over, and not those who are fine, gone or buried.
pub async fn a_renewal_names_those_whose_lease_is_over(test: &TestStore) {
    let store = test.store();
    let (silent, gone, worker) = (Worker::join(&store).await, Worker::join(&store).await, Worker::join(&store).await);
    let mut lease = store.lease(worker.id);
    assert_eq!(lease.renew(LEASE).await.expect("renewed"), []);
    store.worker_leave(gone.id).await.expect("it leaves");

    test.advance(PAST_LEASE).await;
    let late = Worker::join(&store).await;
    assert_eq!(lease.renew(LEASE).await.expect("its own lease is over, but no worker has buried it"), [silent.id]);
    worker.bury(silent.id).await;
    assert_eq!(lease.renew(LEASE).await.expect("renewed"), []);
    assert_eq!(store.lease(late.id).renew(LEASE).await.expect("renewed"), []);
}

/// C2: a renewal moves the end of the lease, from now by the database's clock.
pub async fn a_renewed_lease_is_not_over(test: &TestStore) {
    let store = test.store();
    let (worker, other) = (Worker::join(&store).await, Worker::join(&store).await);
    let mut lease = store.lease(worker.id);
    for _ in 0..4 {
        test.advance(LEASE / 2).await;
        lease.renew(LEASE).await.expect("renewed");
    }
    assert_eq!(store.worker_bury(other.id, &[worker.id]).await.expect("answered"), []);
    assert_eq!(lease.renew(Duration::from_secs(1)).await.expect("renewed"), [other.id]);
    test.advance(Duration::from_secs(5)).await;
    assert_eq!(store.worker_bury(other.id, &[worker.id]).await.expect("answered"), [worker.id], "a shorter lease");
}

/// C2: a burial names only those whose lease is over, and only once.
pub async fn only_the_expired_are_buried_and_once(test: &TestStore) {
    let store = test.store();
    let expired = [Worker::join(&store).await, Worker::join(&store).await];
    test.advance(PAST_LEASE).await;
    let (living, worker) = (Worker::join(&store).await, Worker::join(&store).await);
    let named = [expired[0].id, living.id, expired[1].id, WorkerId(i64::MAX)];
    let mut buried = store.worker_bury(worker.id, &named).await.expect("answered");
    buried.sort();
    assert_eq!(buried, [expired[0].id, expired[1].id]);
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
    test.advance(PAST_LEASE).await;
    let mut living = Worker::join(&store).await;
    let other_tree = living.tree().await;
    living.bury(dead.id).await;
    assert_eq!(store.worker_bury(dead.id, &[living.id]).await.unwrap_or_default(), []);

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
        test.advance(PAST_LEASE).await;
        let survivors = [Worker::join(&stores[0]).await, Worker::join(&stores[1]).await];
        let expired = [dead.id];
        let (one, two) = tokio::join!(
            stores[0].worker_bury(survivors[0].id, &expired),
            stores[1].worker_bury(survivors[1].id, &expired)
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
