//! Acknowledgements, order, refusals.

use std::sync::Arc;

use bytes::Bytes;
use sapwood_core::broker::{Broker, BrokerErrorKind, Record};

use super::reader::{Reader, assert_ordered_by_key, numbers, sorted_numbers};
use super::{Features, fresh_group, fresh_topic, numbered, numbered_over_keys, publish_all};

/// E7: key, headers and content come back byte for byte, also if they are empty, repeated or not English.
pub async fn every_record_comes_back_as_it_was_published(broker: Arc<dyn Broker>, _: Features) {
    let topic = fresh_topic(&broker).await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers = [
        vec![],
        vec![header("ce_id", "1"), header("ce_type", "orders.order-completed.v1")],
        vec![header("b", "2"), header("a", "1"), header("b", "3"), header("empty", "")],
        vec![header("grüße", "Österreich ✓")],
    ];
    let contents =
        [Bytes::from_static(b"{}"), Bytes::new(), Bytes::from_static(&[0, 255, 10]), vec![7; 200_000].into()];
    let record = |(headers, content): (&Vec<_>, &Bytes)| Record {
        topic: topic.clone(),
        key: "ключ 1".to_owned(),
        headers: headers.clone(),
        content: content.clone(),
    };
    let published: Vec<_> = headers.iter().zip(&contents).map(record).collect();
    publish_all(&broker, published.clone()).await;

    let read = Reader::join(&broker, &fresh_group(), &[&topic]).await.read(published.len()).await;
    for (read, published) in read.iter().zip(&published) {
        assert_eq!(read.topic, published.topic);
        assert_eq!(read.key.as_deref(), Some(published.key.as_bytes()));
        assert_eq!(read.headers, published.headers);
        assert_eq!(read.content, published.content);
    }
}

/// E4: within a key the order is that of publishing, within a publish and from one to the next.
pub async fn records_of_a_key_stay_in_order(broker: Arc<dyn Broker>, _: Features) {
    let topic = fresh_topic(&broker).await;
    for round in 0..10 {
        publish_all(&broker, numbered_over_keys(&topic, round * 100..round * 100 + 100)).await;
    }
    let read = Reader::join(&broker, &fresh_group(), &[&topic]).await.read(1_000).await;
    assert_ordered_by_key(&read);
    assert_eq!(sorted_numbers(&read), (0..1_000).collect::<Vec<_>>());
}

/// E4: a relay with nothing to publish does not wait.
pub async fn an_empty_publish_is_answered(broker: Arc<dyn Broker>, _: Features) {
    assert!(broker.publish(vec![]).await.is_empty());
}

/// E4: a record that is refused for good holds up no other.
pub async fn a_record_too_large_is_refused_and_the_others_go_through(broker: Arc<dyn Broker>, features: Features) {
    let Some(refused_bytes) = features.refused_bytes else { return };
    let topic = fresh_topic(&broker).await;
    let mut records: Vec<_> = (0..5).map(|n| numbered(&topic, "key", n)).collect();
    records[2].content = vec![b'x'; refused_bytes].into();

    let answers = broker.publish(records).await;

    for (n, answer) in answers.iter().enumerate() {
        match (n, answer) {
            (2, Err(error)) => assert_eq!(error.kind(), BrokerErrorKind::Refused, "{error:?}"),
            (2, Ok(())) => panic!("a record of {refused_bytes} bytes is refused"),
            (_, answer) => assert!(answer.is_ok(), "{n}: {answer:?}"),
        }
    }
    publish_all(&broker, vec![numbered(&topic, "key", 5)]).await;
    let read = Reader::join(&broker, &fresh_group(), &[&topic]).await.read(5).await;
    assert_eq!(numbers(&read), [0, 1, 3, 4, 5]);
}

/// E1: every context makes sure of the topics it uses, also the second time.
pub async fn topics_that_exist_are_left_as_they_are(broker: Arc<dyn Broker>, _: Features) {
    let topic = fresh_topic(&broker).await;
    publish_all(&broker, vec![numbered(&topic, "key", 0)]).await;
    let other = format!("{topic}.other");
    broker.topics_ensure(&[topic.clone(), other.clone()]).await.expect("the new one is made");
    broker.topics_ensure(&[]).await.expect("nothing to do");
    publish_all(&broker, vec![numbered(&topic, "key", 1), numbered(&other, "key", 2)]).await;
    let read = Reader::join(&broker, &fresh_group(), &[&topic, &other]).await.read(3).await;
    assert_eq!(sorted_numbers(&read), [0, 1, 2]);
}

/// G2: whether the broker answers can be asked, and who it is.
pub async fn a_broker_that_is_there_answers(broker: Arc<dyn Broker>, _: Features) {
    broker.ping().await.expect("the broker answers");
    assert!(!broker.describe().is_empty());
}
