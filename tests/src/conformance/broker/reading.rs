//! Where reading begins, what comes through, what is never delivered.

use std::sync::Arc;
use std::task::Poll;

use futures::poll;
use sapwood_core::broker::{Broker, BrokerErrorKind, Delivery};

use super::reader::{Reader, assert_ordered_by_key, numbers, sorted_numbers};
use super::{Features, fresh_group, fresh_topic, numbered, numbered_over_keys, publish_all};

/// H1: a consumer added later gets the events that are kept.
pub async fn a_group_that_never_read_begins_at_the_oldest_record(broker: Arc<dyn Broker>, _: Features) {
    let topic = fresh_topic(&broker).await;
    publish_all(&broker, numbered_over_keys(&topic, 0..20)).await;
    let read = Reader::join(&broker, &fresh_group(), &[&topic]).await.read(20).await;
    assert_eq!(sorted_numbers(&read), (0..20).collect::<Vec<_>>());
}

/// H1: a waiting consumer gets what is published meanwhile.
pub async fn a_record_published_later_arrives(broker: Arc<dyn Broker>, features: Features) {
    let topic = fresh_topic(&broker).await;
    let mut reader = Reader::join(&broker, &fresh_group(), &[&topic]).await;
    reader.assigned(features.partitions).await;
    let assigned = reader.assigned.clone();
    reader.begin(&assigned).await.expect("reading begins");
    for n in 0..5 {
        publish_all(&broker, vec![numbered(&topic, "key", n)]).await;
        assert_eq!(numbers(&reader.read(1).await), [n]);
    }
}

/// H2: the store says where to go on, whatever the broker believes.
pub async fn reading_goes_on_at_the_offset_named(broker: Arc<dyn Broker>, features: Features) {
    let topic = fresh_topic(&broker).await;
    let group = fresh_group();
    publish_all(&broker, (0..20).map(|n| numbered(&topic, "key", n)).collect()).await;
    let mut reader = Reader::join(&broker, &group, &[&topic]).await;
    let read = reader.read(20).await;
    reader.advise().await;
    drop(reader);

    let mut again = Reader::join(&broker, &group, &[&topic]).await;
    again.positions.insert((topic.clone(), read[12].partition), read[12].offset);
    again.assigned(features.partitions).await;
    let assigned = again.assigned.clone();
    again.begin(&assigned).await.expect("reading begins");
    assert_eq!(numbers(&again.read(8).await), (12..20).collect::<Vec<_>>());
}

/// H2: between assignment and `begin` the store is being asked; a record delivered then would have no place.
pub async fn nothing_of_a_partition_is_delivered_before_it_is_begun(broker: Arc<dyn Broker>, features: Features) {
    let (begun, waiting) = (fresh_topic(&broker).await, fresh_topic(&broker).await);
    publish_all(&broker, numbered_over_keys(&waiting, 0..50)).await;
    publish_all(&broker, numbered_over_keys(&begun, 50..100)).await;
    let mut reader = Reader::join(&broker, &fresh_group(), &[&begun, &waiting]).await;
    reader.assigned(2 * features.partitions).await;

    let (first, second): (Vec<_>, Vec<_>) = reader.assigned.clone().into_iter().partition(|of| of.topic == begun);
    reader.begin(&first).await.expect("reading begins");
    let read = reader.read(50).await;
    assert!(read.iter().all(|record| record.topic == begun), "only what was begun is delivered");

    reader.begin(&second).await.expect("reading begins");
    assert_eq!(sorted_numbers(&reader.read(50).await), (0..50).collect::<Vec<_>>());
}

/// H8: a position that the broker does not have stops the consumer visibly instead of skipping.
pub async fn an_offset_that_is_not_there_is_reported(broker: Arc<dyn Broker>, features: Features) {
    let topic = fresh_topic(&broker).await;
    publish_all(&broker, vec![numbered(&topic, "key", 0)]).await;
    let mut reader = Reader::join(&broker, &fresh_group(), &[&topic]).await;
    reader.assigned(features.partitions).await;
    let assigned = reader.assigned.clone();
    for of in &assigned {
        reader.positions.insert((of.topic.clone(), of.partition), 1_000_000);
    }
    let error = match reader.begin(&assigned).await {
        Err(error) => error,
        Ok(()) => loop {
            match reader.next().await {
                Err(error) => break error,
                Ok(delivery) => assert!(!matches!(delivery, Delivery::Batch(_)), "nothing is skipped: {delivery:?}"),
            }
        },
    };
    assert_eq!(error.kind(), BrokerErrorKind::Fatal);
    assert!(error.to_string().contains(&topic), "the error names the topic: {error}");
}

/// H8: a reader that is slower than the publisher is waited for; it keeps its partitions and misses nothing.
pub async fn a_slow_reader_misses_nothing(broker: Arc<dyn Broker>, features: Features) {
    let topic = fresh_topic(&broker).await;
    let mut reader = Reader::join(&broker, &fresh_group(), &[&topic]).await;
    reader.assigned(features.partitions).await;
    let assigned = reader.assigned.clone();
    reader.begin(&assigned).await.expect("reading begins");
    // More than any reader keeps in memory, and it does not read meanwhile.
    for round in 0..100 {
        publish_all(&broker, numbered_over_keys(&topic, round * 200..round * 200 + 200)).await;
    }
    let read = reader.read(20_000).await;
    assert_ordered_by_key(&read);
    assert_eq!(sorted_numbers(&read), (0..20_000).collect::<Vec<_>>());
    assert_eq!(reader.assigned, assigned, "it never left the group");
}

/// H2: what the broker is told of positions is advice; reading goes on as it was.
pub async fn advice_changes_nothing_for_the_reader(broker: Arc<dyn Broker>, features: Features) {
    let topic = fresh_topic(&broker).await;
    publish_all(&broker, (0..10).map(|n| numbered(&topic, "key", n)).collect()).await;
    let mut reader = Reader::join(&broker, &fresh_group(), &[&topic]).await;
    reader.advise().await;
    reader.read(10).await;
    let behind: Vec<_> = reader.assigned.iter().map(|of| (of.clone(), 1)).collect();
    assert_eq!(behind.len(), features.partitions);
    reader.subscription().advise(&behind).await.expect("advice is taken");
    publish_all(&broker, vec![numbered(&topic, "key", 10)]).await;
    assert_eq!(numbers(&reader.read(1).await), [10]);
}

/// H2: giving up waiting for a delivery loses none.
pub async fn waiting_for_the_next_delivery_can_be_given_up(broker: Arc<dyn Broker>, _: Features) {
    let topic = fresh_topic(&broker).await;
    publish_all(&broker, (0..200).map(|n| numbered(&topic, "key", n)).collect()).await;
    let mut reader = Reader::join(&broker, &fresh_group(), &[&topic]).await;
    let mut read = Vec::new();
    while read.len() < 200 {
        // Polled once and dropped, then waited for: a delivery that the first took with it would be missing.
        let polled = poll!(std::pin::pin!(reader.next()));
        let delivery = match polled {
            Poll::Ready(delivery) => delivery,
            Poll::Pending => reader.next().await,
        };
        match delivery.expect("a delivery") {
            Delivery::Assigned(partitions) => reader.begin(&partitions).await.expect("reading begins"),
            Delivery::Revoked(_) | Delivery::Stopped { .. } => {}
            Delivery::Batch(records) => read.extend(records),
        }
    }
    assert_eq!(numbers(&read), (0..200).collect::<Vec<_>>());
}
