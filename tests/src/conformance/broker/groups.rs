//! Groups beside each other, members of one group.

use std::sync::Arc;

use futures::future::join;
use sapwood_core::broker::{Broker, Delivery};

use super::reader::{Reader, assert_ordered_by_key, sorted_numbers};
use super::{Features, fresh_group, fresh_topic, numbered_over_keys, publish_all};

/// H1: each group gets every event, whatever the others do.
pub async fn each_group_gets_everything(broker: Arc<dyn Broker>, _: Features) {
    let topic = fresh_topic(&broker).await;
    publish_all(&broker, numbered_over_keys(&topic, 0..100)).await;
    let mut first = Reader::join(&broker, &fresh_group(), &[&topic]).await;
    let mut second = Reader::join(&broker, &fresh_group(), &[&topic]).await;
    let (first, second) = join(first.read(100), second.read(100)).await;
    for read in [first, second] {
        assert_ordered_by_key(&read);
        assert_eq!(sorted_numbers(&read), (0..100).collect::<Vec<_>>());
    }
}

/// H2, C2: another member goes on with the partitions of one that has left, at the offsets that the store names.
pub async fn the_next_member_takes_over_when_one_leaves(broker: Arc<dyn Broker>, features: Features) {
    let topic = fresh_topic(&broker).await;
    let group = fresh_group();
    publish_all(&broker, numbered_over_keys(&topic, 0..100)).await;
    let mut first = Reader::join(&broker, &group, &[&topic]).await;
    first.read(100).await;

    let mut second = Reader::join(&broker, &group, &[&topic]).await;
    second.positions = std::mem::take(&mut first.positions);
    drop(first);
    second.assigned(features.partitions).await;
    let assigned = second.assigned.clone();
    second.begin(&assigned).await.expect("reading begins");

    publish_all(&broker, numbered_over_keys(&topic, 100..150)).await;
    assert_eq!(sorted_numbers(&second.read(50).await), (100..150).collect::<Vec<_>>());
}

/// H1: members of one group share its partitions, and each event is read by one of them.
pub async fn members_share_the_partitions(broker: Arc<dyn Broker>, features: Features) {
    if features.partitions < 2 {
        return;
    }
    let topic = fresh_topic(&broker).await;
    let group = fresh_group();
    let mut first = Reader::join(&broker, &group, &[&topic]).await;
    first.assigned(features.partitions).await;
    let mut second = Reader::join(&broker, &group, &[&topic]).await;
    second.assigned(1).await;
    while first.assigned.len() + second.assigned.len() > features.partitions {
        let delivery = first.next().await.expect("a delivery");
        assert!(matches!(delivery, Delivery::Revoked(_)), "the first hands some over: {delivery:?}");
    }
    second.assigned(features.partitions - first.assigned.len()).await;
    for reader in [&mut first, &mut second] {
        let assigned = reader.assigned.clone();
        reader.begin(&assigned).await.expect("reading begins");
    }

    publish_all(&broker, numbered_over_keys(&topic, 0..200)).await;
    let mut read = Vec::new();
    while read.len() < 200 {
        let delivery = tokio::select! {
            delivery = first.next() => delivery,
            delivery = second.next() => delivery,
        };
        match delivery.expect("a delivery") {
            Delivery::Batch(records) => read.extend(records),
            other => panic!("the members stay what they are: {other:?}"),
        }
    }
    assert_ordered_by_key(&read);
    assert_eq!(sorted_numbers(&read), (0..200).collect::<Vec<_>>());
}
