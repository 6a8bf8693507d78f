//! Intake: events, positions and dedupe in one commit, by the member that has the partition.

use std::sync::Arc;

use futures::future::join_all;
use sapwood_core::broker::TopicPartition;
use sapwood_core::store::{
    AssignedPartition, Intake, KeyScope, OffsetAdvance, Start, Started, Store, StoreErrorKind, TreeFilter,
};

use super::fixture::{Worker, row, start_in};
use crate::store::TestStore;

fn partition(partition: i32) -> TopicPartition {
    TopicPartition { topic: "orders.events".to_owned(), partition, topic_id: Some("id-1".to_owned()) }
}

fn event(group: &str, id: &str) -> Start {
    start_in(KeyScope::Group(group.to_owned()), &format!("/sapwood/orders {id}"))
}

/// How a partition stands: the epoch of its last assignment, and where to go on.
type Standing = (i64, Option<i64>);

/// A batch that was read under this assignment, after this offset.
fn batch(group: &str, (epoch, after): Standing, next_offset: i64, starts: Vec<Start>) -> Intake {
    let offsets = vec![OffsetAdvance { partition: partition(0), epoch, after, next_offset }];
    Intake { group: group.to_owned(), offsets, starts }
}

async fn assigned(store: &Arc<dyn Store>, group: &str, of: i32) -> Standing {
    let assigned = store.partition_assign(group, &[partition(of)]).await.expect("assigned");
    assert_eq!(assigned[0].partition, partition(of));
    (assigned[0].epoch, assigned[0].next_offset)
}

async fn trees_in_all(store: &Arc<dyn Store>) -> usize {
    let filter = TreeFilter { limit: 100_000, ..TreeFilter::default() };
    store.tree_list(&filter).await.expect("the trees are listed").len()
}

/// H2: events and position are accepted in one commit; the next assignment goes on there.
pub async fn an_accepted_batch_moves_the_position_and_starts_its_trees(test: &TestStore) {
    let store = test.store();
    let worker = Worker::join(&store).await;
    let at = assigned(&store, "loyalty", 0).await;
    assert_eq!(at.1, None, "a partition never read");
    let starts = vec![event("loyalty", "e-1"), event("loyalty", "e-2")];
    let mut starter = store.starter(Some((worker.id, 1)));
    let started = starter.intake(&batch("loyalty", at, 12, starts.clone())).await.expect("accepted");
    assert_eq!(started, [Started::Created, Started::Created]);
    assert_eq!(row(&store, starts[0].tree.id).await.owner, Some(worker.id));
    assert_eq!(
        store.start_key_find(&starts[1].key.scope, &starts[1].key.key).await.expect("found"),
        Some(starts[1].tree.id)
    );

    let (later, next) = assigned(&store, "loyalty", 0).await;
    assert_eq!(next, Some(12));
    assert!(later > at.0);
}

/// H4: an event that comes again, under another offset, partition or member, is handled once.
pub async fn an_event_that_comes_again_starts_nothing(test: &TestStore) {
    let store = test.store();
    let at = assigned(&store, "loyalty", 0).await;
    let first = event("loyalty", "e-1");
    let mut starter = store.starter(None);
    starter.intake(&batch("loyalty", at, 1, vec![first.clone()])).await.expect("accepted");

    let (other_epoch, _) = assigned(&store, "loyalty", 1).await;
    let elsewhere = Intake {
        offsets: vec![OffsetAdvance { partition: partition(1), epoch: other_epoch, after: None, next_offset: 800 }],
        ..batch("loyalty", (0, None), 0, vec![event("loyalty", "e-1"), event("loyalty", "e-2")])
    };
    let started = test.another().await.starter(None).intake(&elsewhere).await.expect("accepted");
    assert!(matches!(&started[0], Started::Existing { tree, same_digest: true, .. } if *tree == first.tree.id));
    assert_eq!(started[1], Started::Created);
    assert_eq!(trees_in_all(&store).await, 2);
    assert_eq!(assigned(&store, "loyalty", 1).await.1, Some(800), "the position moves past it");
}

/// H4: of one event twice in a batch the first wins.
pub async fn of_one_event_twice_in_a_batch_the_first_wins(test: &TestStore) {
    let store = test.store();
    let at = assigned(&store, "loyalty", 0).await;
    let starts = vec![event("loyalty", "e-1"), event("loyalty", "e-1"), event("loyalty", "e-2")];
    let first = starts[0].tree.id;
    let started = store.starter(None).intake(&batch("loyalty", at, 3, starts)).await.expect("accepted");
    assert_eq!((&started[0], &started[2]), (&Started::Created, &Started::Created));
    assert!(matches!(&started[1], Started::Existing { tree, .. } if *tree == first));
}

/// C5: after an unknown outcome the same batch is sent again, with the same tree ids, and gets the answer that was
/// lost.
pub async fn a_batch_sent_twice_is_taken_in_once(test: &TestStore) {
    let store = test.store();
    let at = assigned(&store, "loyalty", 0).await;
    let starts = vec![event("loyalty", "e-1"), event("loyalty", "e-1"), event("loyalty", "e-2")];
    let first = starts[0].tree.id;
    let once = batch("loyalty", at, 3, starts);
    for store in [test.store(), test.another().await] {
        let started = store.starter(None).intake(&once).await.expect("accepted");
        assert_eq!((&started[0], &started[2]), (&Started::Created, &Started::Created));
        assert!(matches!(&started[1], Started::Existing { tree, .. } if *tree == first));
    }
    assert_eq!(trees_in_all(&store).await, 2);
    assert_eq!(assigned(&store, "loyalty", 0).await.1, Some(3));
}

/// H1: each group gets the event, and has positions of its own.
pub async fn each_group_gets_the_event(test: &TestStore) {
    let store = test.store();
    let mut starter = store.starter(None);
    for group in ["loyalty", "shipping"] {
        let at = assigned(&store, group, 0).await;
        assert_eq!(at.1, None);
        let one = vec![event(group, "e-1")];
        assert_eq!(starter.intake(&batch(group, at, 1, one)).await.expect("accepted"), [Started::Created]);
    }
    assert_eq!(trees_in_all(&store).await, 2);
}

/// H2: a member whose partition went to another applies nothing: no event, no position.
pub async fn a_batch_of_an_older_epoch_is_refused_whole(test: &TestStore) {
    let store = test.store();
    let stale = assigned(&store, "loyalty", 0).await;
    let (other, _) = assigned(&store, "loyalty", 1).await;
    let current = assigned(&test.another().await, "loyalty", 0).await;
    assert!(current.0 > stale.0);
    let mut both = batch("loyalty", stale, 50, vec![event("loyalty", "e-1")]);
    both.offsets.insert(0, OffsetAdvance { partition: partition(1), epoch: other, after: None, next_offset: 60 });

    let mut starter = store.starter(None);
    let error = starter.intake(&both).await.expect_err("the epoch is not the last");
    assert_eq!(error.kind(), StoreErrorKind::Refused, "{error}");
    assert_eq!(trees_in_all(&store).await, 0);
    assert_eq!(store.start_key_find(&both.starts[0].key.scope, &both.starts[0].key.key).await.expect("read"), None);
    assert_eq!(assigned(&store, "loyalty", 1).await.1, None, "not even the position that is its own");

    let accepted = starter.intake(&batch("loyalty", current, 50, both.starts.clone())).await.expect("accepted");
    assert_eq!(accepted, [Started::Created], "the starter goes on after a refusal");
}

/// H2: what a member remembers never outranks the store: a batch that does not follow the stored offset is refused whole,
/// whether the store has less than that, more, or nothing at all.
pub async fn a_batch_that_does_not_follow_the_stored_offset_is_refused_whole(test: &TestStore) {
    let store = test.store();
    let (epoch, never) = assigned(&store, "loyalty", 0).await;
    let mut starter = store.starter(None);
    let ahead = batch("loyalty", (epoch, Some(5)), 6, vec![event("loyalty", "e-6")]);
    let refused = starter.intake(&ahead).await.expect_err("the store has no offset");
    assert_eq!(refused.kind(), StoreErrorKind::Refused, "{refused}");
    starter.intake(&batch("loyalty", (epoch, never), 3, Vec::new())).await.expect("accepted");
    for after in [None, Some(2), Some(5)] {
        let two = Intake {
            offsets: vec![OffsetAdvance { partition: partition(0), epoch, after, next_offset: 6 }],
            ..ahead.clone()
        };
        let refused = starter.intake(&two).await.expect_err("the store has 3");
        assert_eq!(refused.kind(), StoreErrorKind::Refused, "{refused}");
    }
    assert_eq!(trees_in_all(&store).await, 0);
    let stored = store.partition_read("loyalty", &[partition(0)]).await.expect("read");
    assert_eq!(stored[0].next_offset, Some(3));
    starter.intake(&batch("loyalty", (epoch, Some(3)), 6, ahead.starts)).await.expect("accepted");
}

/// H2: how partitions stand is read without taking them from anybody.
pub async fn how_partitions_stand_is_read_without_taking_them(test: &TestStore) {
    let store = test.store();
    let both = [partition(1), partition(0)];
    assert_eq!(store.partition_read("loyalty", &both).await.expect("read"), []);
    let at = assigned(&store, "loyalty", 0).await;
    store.starter(None).intake(&batch("loyalty", at, 4, Vec::new())).await.expect("accepted");
    for _ in 0..2 {
        let read = store.partition_read("loyalty", &both).await.expect("read");
        let stands = AssignedPartition { partition: partition(0), epoch: at.0, next_offset: Some(4) };
        assert_eq!(read, [stands]);
    }
    assert_eq!(store.partition_read("shipping", &both).await.expect("read"), [], "of another group");
}

/// H2: a partition that was never assigned has no reader.
pub async fn a_batch_of_a_partition_never_assigned_is_refused(test: &TestStore) {
    let store = test.store();
    let error = store.starter(None).intake(&batch("loyalty", (1, None), 5, vec![event("loyalty", "e-1")])).await;
    assert_eq!(error.expect_err("never assigned").kind(), StoreErrorKind::Refused);
    assert_eq!(trees_in_all(&store).await, 0);
}

/// H8: a topic that was made anew is another partition; nothing is skipped by the position of the old one.
pub async fn a_topic_made_anew_is_not_where_the_old_one_was(test: &TestStore) {
    let store = test.store();
    let at = assigned(&store, "loyalty", 0).await;
    store.starter(None).intake(&batch("loyalty", at, 99, Vec::new())).await.expect("accepted");
    let anew = TopicPartition { topic_id: Some("id-2".to_owned()), ..partition(0) };
    let assigned = store.partition_assign("loyalty", std::slice::from_ref(&anew)).await.expect("assigned");
    assert_eq!((&assigned[0].partition, assigned[0].next_offset), (&anew, None));
}

/// H2: a broker without ids of topics is told by the name alone.
pub async fn a_topic_without_an_id_keeps_its_position(test: &TestStore) {
    let store = test.store();
    let plain = TopicPartition { topic_id: None, ..partition(0) };
    let assigned = store.partition_assign("loyalty", std::slice::from_ref(&plain)).await.expect("assigned");
    let epoch = assigned[0].epoch;
    let offsets = vec![OffsetAdvance { partition: plain.clone(), epoch, after: None, next_offset: 7 }];
    let moved = Intake { group: "loyalty".to_owned(), offsets, starts: Vec::new() };
    assert_eq!(store.starter(None).intake(&moved).await.expect("accepted"), []);
    let assigned = store.partition_assign("loyalty", &[plain]).await.expect("assigned");
    assert_eq!(assigned[0].next_offset, Some(7));
}

/// H2: two members that hold the partition one after the other, at once: exactly the events of accepted batches are
/// there.
pub async fn members_that_race_for_a_partition_accept_each_event_once(test: &TestStore) {
    let stores = [test.store(), test.another().await];
    let members = stores.iter().enumerate().map(|(who, store)| async move {
        let mut starter = store.starter(None);
        let mut created = 0;
        for round in 0..20 {
            let at = assigned(store, "loyalty", 0).await;
            let starts: Vec<Start> = (0..5).map(|n| event("loyalty", &format!("{round}-{n}"))).collect();
            match starter.intake(&batch("loyalty", at, round, starts)).await {
                Ok(started) => created += started.iter().filter(|one| **one == Started::Created).count(),
                Err(error) => assert_eq!(error.kind(), StoreErrorKind::Refused, "member {who}: {error}"),
            }
        }
        created
    });
    let created: usize = join_all(members).await.into_iter().sum();
    assert_eq!(trees_in_all(&test.store()).await, created);
}

/// C1: a buried worker takes nothing in, by a connection of before or by a new one.
pub async fn a_buried_worker_takes_nothing_in(test: &TestStore) {
    let store = test.store();
    let dead = Worker::join(&store).await;
    let at = assigned(&store, "loyalty", 0).await;
    let mut starter = store.starter(Some((dead.id, 1)));
    starter.intake(&batch("loyalty", at, 5, vec![event("loyalty", "e-1")])).await.expect("accepted while alive");
    Worker::join(&store).await.bury(dead.id).await;
    for mut starter in [starter, store.starter(Some((dead.id, 0)))] {
        let error = starter.intake(&batch("loyalty", (at.0, Some(5)), 6, vec![event("loyalty", "e-2")])).await;
        assert_eq!(error.expect_err("the fence refuses").kind(), StoreErrorKind::Fenced);
    }
    assert_eq!(trees_in_all(&store).await, 1);
    assert_eq!(assigned(&store, "loyalty", 0).await.1, Some(5));
}
