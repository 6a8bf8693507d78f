//! What every broker must do, whatever it is: the cases run on Kafka and on the store's own log.
//!
//! A case is a function over `dyn Broker`. It makes topics and groups of its own, so cases share a broker and run at
//! the same time. [`broker_conformance!`](crate::broker_conformance) makes a test of each, so that no broker forgets
//! one.
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

/// Where brokers may differ.
#[derive(Debug, Clone, Copy)]
pub struct Features {
    /// Partitions of a topic that the broker creates.
    pub partitions: usize,
    /// A size of content that the broker refuses, if it refuses any.
    pub refused_bytes: Option<usize>,
}

/// A topic that nobody else has.
pub async fn fresh_topic(broker: &Arc<dyn Broker>) -> String {
    let topic = format!("conformance-{}.events", Uuid::now_v7().simple());
    broker.topics_ensure(std::slice::from_ref(&topic)).await.expect("the topic is made");
    topic
}

/// A group that nobody else has.
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

/// Makes a test of every case: `broker_conformance!(fixture)`, where `fixture()` is an async function that gives an
/// `Arc<dyn Broker>` and its `Features`. Attributes before the function's name go to every test.
#[macro_export]
macro_rules! broker_conformance {
    ($(#[$attribute:meta])* $fixture:path) => {
        $crate::broker_conformance!(@cases [$(#[$attribute])*] $fixture;
            publishing::every_record_comes_back_as_it_was_published,
            publishing::records_of_a_key_stay_in_order,
            publishing::an_empty_publish_is_answered,
            publishing::a_record_too_large_is_refused_and_the_others_go_through,
            publishing::topics_that_exist_are_left_as_they_are,
            publishing::a_broker_that_is_there_answers,
            reading::a_group_that_never_read_begins_at_the_oldest_record,
            reading::a_record_published_later_arrives,
            reading::reading_goes_on_at_the_offset_named,
            reading::nothing_of_a_partition_is_delivered_before_it_is_begun,
            reading::an_offset_that_is_not_there_is_reported,
            reading::a_slow_reader_misses_nothing,
            reading::advice_changes_nothing_for_the_reader,
            reading::waiting_for_the_next_delivery_can_be_given_up,
            groups::each_group_gets_everything,
            groups::the_next_member_takes_over_when_one_leaves,
            groups::members_share_the_partitions,
        );
    };
    (@cases $attributes:tt $fixture:path; $($room:ident::$case:ident),* $(,)?) => {
        $($crate::broker_conformance!(@case $attributes $fixture; $room $case);)*
    };
    (@case [$(#[$attribute:meta])*] $fixture:path; $room:ident $case:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        $(#[$attribute])*
        async fn $case() {
            let (broker, features) = $fixture().await;
            $crate::conformance::broker::$room::$case(broker, features).await;
        }
    };
}
