//! A reader as the cases need it: it begins what it is assigned, keeps where it is, and collects.

use std::collections::HashMap;
use std::sync::Arc;

use sapwood_core::broker::TopicPartition;
use sapwood_core::broker::{Broker, BrokerError, Consumed, Delivery, Subscription};

use crate::wait::within;

/// A member of a group that reads.
pub struct Reader {
    subscription: Box<dyn Subscription>,
    /// The partitions it has, in the order they came.
    pub assigned: Vec<TopicPartition>,
    /// The next offset of each partition, by topic and index: what a store would keep.
    pub positions: HashMap<(String, i32), i64>,
}

impl Reader {
    /// Joins `group` on `topics`.
    pub async fn join(broker: &Arc<dyn Broker>, group: &str, topics: &[&str]) -> Self {
        let topics: Vec<_> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let subscription = broker.subscribe(group, &topics).await.expect("the group is joined");
        Self { subscription, assigned: Vec::new(), positions: HashMap::new() }
    }

    /// The next delivery; assignments are noted.
    pub async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let delivery = within("a delivery", self.subscription.next()).await?;
        match &delivery {
            Delivery::Assigned(partitions) => {
                for partition in partitions {
                    assert!(!self.has(&partition.topic, partition.partition), "{partition:?} is assigned once");
                    self.assigned.push(partition.clone());
                }
            }
            Delivery::Revoked(partitions) => {
                let revoked = |held: &TopicPartition| {
                    partitions.iter().any(|gone| (&gone.topic, gone.partition) == (&held.topic, held.partition))
                };
                self.assigned.retain(|held| !revoked(held));
            }
            Delivery::Batch(records) => {
                assert!(!records.is_empty(), "a batch holds something");
                for record in records {
                    assert!(self.has(&record.topic, record.partition), "{record:?} is of a partition held");
                    let at = self.positions.insert((record.topic.clone(), record.partition), record.offset + 1);
                    assert!(at.is_none_or(|next| next <= record.offset), "{record:?} comes once and in order");
                }
            }
            Delivery::Stopped { .. } => panic!("every record can be read: {delivery:?}"),
        }
        Ok(delivery)
    }

    /// Waits until `count` partitions are this member's.
    pub async fn assigned(&mut self, count: usize) {
        while self.assigned.len() < count {
            let delivery = self.next().await.expect("a delivery");
            assert!(!matches!(delivery, Delivery::Batch(_)), "nothing is delivered before it is begun: {delivery:?}");
        }
    }

    /// Begins what is assigned where this reader's positions are, or at the oldest record.
    pub async fn begin(&mut self, partitions: &[TopicPartition]) -> Result<(), BrokerError> {
        let at = |of: &TopicPartition| self.positions.get(&(of.topic.clone(), of.partition)).copied();
        let beginnings: Vec<_> = partitions.iter().map(|of| (of.clone(), at(of))).collect();
        within("reading", self.subscription.begin(&beginnings)).await
    }

    /// Reads `count` records, beginning what is assigned meanwhile.
    pub async fn read(&mut self, count: usize) -> Vec<Consumed> {
        let mut read = Vec::new();
        while read.len() < count {
            match self.next().await.expect("a delivery") {
                Delivery::Assigned(partitions) => self.begin(&partitions).await.expect("reading begins"),
                Delivery::Revoked(_) | Delivery::Stopped { .. } => {}
                Delivery::Batch(records) => read.extend(records),
            }
        }
        assert_eq!(read.len(), count, "not more than was published");
        read
    }

    /// Tells the broker the positions.
    pub async fn advise(&mut self) {
        let at = |of: &TopicPartition| self.positions.get(&(of.topic.clone(), of.partition)).copied();
        let positions: Vec<_> = self.assigned.iter().filter_map(|of| Some((of.clone(), at(of)?))).collect();
        self.subscription.advise(&positions).await.expect("advice is taken");
    }

    /// The subscription itself.
    pub fn subscription(&mut self) -> &mut dyn Subscription {
        &mut *self.subscription
    }

    fn has(&self, topic: &str, partition: i32) -> bool {
        self.assigned.iter().any(|held| held.topic == topic && held.partition == partition)
    }
}

/// The numbers in the contents of records.
#[must_use]
pub fn numbers(records: &[Consumed]) -> Vec<usize> {
    let number = |record: &Consumed| String::from_utf8_lossy(&record.content).parse().expect("a numbered record");
    records.iter().map(number).collect()
}

/// The numbers in ascending order.
#[must_use]
pub fn sorted_numbers(records: &[Consumed]) -> Vec<usize> {
    let mut numbers = numbers(records);
    numbers.sort_unstable();
    numbers
}

/// Shows that within each key the numbers ascend.
pub fn assert_ordered_by_key(records: &[Consumed]) {
    let mut last: HashMap<_, usize> = HashMap::new();
    for (record, number) in records.iter().zip(numbers(records)) {
        let before = last.insert(record.key.clone(), number);
        assert!(before.is_none_or(|before| before < number), "{before:?} before {number} of {:?}", record.key);
    }
}
