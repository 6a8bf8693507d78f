//! What every broker must do, whatever it is: the cases run on Kafka and on the store's own log.
//!
//! A case is a function over `dyn Broker`. It makes topics and groups of its own, so cases share a broker and run at
//! the same time. [`on_a_broker!`](crate::on_a_broker) makes a test of each, so that no broker forgets one.
//!
//! | room | what is there |
//! |---|---|
//! | [`publishing`] | acknowledgements, order, refusals |
//! | [`reading`] | where reading begins, what comes through, what is never delivered |
//! | [`groups`] | groups beside each other, members of one group |
//! | [`reader`] | a reader as the cases need it |

use std::sync::Arc;

use sapwood_core::broker::{Broker, Record};
use uuid::Uuid;

pub mod groups;
pub mod publishing;
pub mod reader;
pub mod reading;

/// How brokers may differ.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// Partitions of a topic that the broker creates.
    pub partitions: usize,
    /// A size of content that the broker refuses, if it refuses any.
    pub refused_bytes: Option<usize>,
}

/// A topic of one case.
pub async fn fresh_topic(broker: &Arc<dyn Broker>) -> String {
    let topic = format!("conformance-{}.events", Uuid::now_v7().simple());
    broker.topics_ensure(std::slice::from_ref(&topic)).await.expect("the topic is made");
    topic
}

/// A group of one case.
#[must_use]
pub fn fresh_group() -> String {
    format!("conformance-{}", Uuid::now_v7().simple())
}

/// A record whose content is `n`.
#[must_use]
pub fn numbered(topic: &str, key: &str, n: usize) -> Record {
    let headers = vec![("ce_id".to_owned(), format!("{key}/{n}"))];
    Record { topic: topic.to_owned(), key: key.to_owned(), headers, content: n.to_string().into() }
}

/// `count` numbered records over a few keys.
#[must_use]
pub fn numbered_over_keys(topic: &str, numbers: std::ops::Range<usize>) -> Vec<Record> {
    numbers.map(|n| numbered(topic, &format!("key-{}", n % 7), n)).collect()
}

/// Publishes records all of which must be acknowledged.
pub async fn publish_all(broker: &Arc<dyn Broker>, records: Vec<Record>) {
    let count = records.len();
    let answers = broker.publish(records).await;
    assert_eq!(answers.len(), count, "one answer a record");
    for answer in answers {
        answer.expect("the record is acknowledged");
    }
}

/// Runs a case on a broker of its own. The third part of the fixture is kept until the case has ended.
pub async fn run<Place>(
    fixture: impl AsyncFnOnce() -> (Arc<dyn Broker>, Features, Place),
    case: impl AsyncFnOnce(Arc<dyn Broker>, Features),
) {
    let (broker, features, _place) = fixture().await;
    case(broker, features).await;
}
