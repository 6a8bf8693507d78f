//! A broker that many tests share, with topics and groups apart: contexts have fixed names, and so have their topics.

use std::sync::Arc;

use async_trait::async_trait;
use sapwood_core::broker::TopicPartition;
use sapwood_core::broker::{Broker, BrokerError, Delivery, Record, Subscription};
use uuid::Uuid;

/// Names of one test.
#[derive(Clone)]
pub(super) struct Names(String);

impl Names {
    pub(super) fn fresh() -> Self {
        Self(format!("test-{}.", Uuid::now_v7().simple()))
    }

    fn there(&self, here: &str) -> String {
        format!("{}{here}", self.0)
    }

    fn all_there(&self, here: &[String]) -> Vec<String> {
        here.iter().map(|name| self.there(name)).collect()
    }

    fn here(&self, there: &str) -> String {
        there.strip_prefix(&self.0).expect("a name of this test").to_owned()
    }

    fn partition_there(&self, here: &TopicPartition) -> TopicPartition {
        TopicPartition { topic: self.there(&here.topic), ..here.clone() }
    }

    fn partitions_here(&self, there: Vec<TopicPartition>) -> Vec<TopicPartition> {
        there.into_iter().map(|of| TopicPartition { topic: self.here(&of.topic), ..of }).collect()
    }
}

/// Another broker, under other names.
pub(super) struct Apart {
    pub(super) broker: Arc<dyn Broker>,
    pub(super) names: Names,
}

struct ApartSubscription {
    subscription: Box<dyn Subscription>,
    names: Names,
}

#[async_trait]
impl Broker for Apart {
    fn describe(&self) -> String {
        self.broker.describe()
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.broker.ping().await
    }

    async fn topics_ensure(&self, topics: &[String]) -> Result<(), BrokerError> {
        self.broker.topics_ensure(&self.names.all_there(topics)).await
    }

    async fn publish(&self, mut records: Vec<Record>) -> Vec<Result<(), BrokerError>> {
        records.iter_mut().for_each(|record| record.topic = self.names.there(&record.topic));
        self.broker.publish(records).await
    }

    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn Subscription>, BrokerError> {
        let topics = self.names.all_there(topics);
        let subscription = self.broker.subscribe(&self.names.there(group), &topics).await?;
        Ok(Box::new(ApartSubscription { subscription, names: self.names.clone() }))
    }
}

#[async_trait]
impl Subscription for ApartSubscription {
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        Ok(match self.subscription.next().await? {
            Delivery::Assigned(partitions) => Delivery::Assigned(self.names.partitions_here(partitions)),
            Delivery::Revoked(partitions) => Delivery::Revoked(self.names.partitions_here(partitions)),
            Delivery::Batch(mut records) => {
                records.iter_mut().for_each(|record| record.topic = self.names.here(&record.topic));
                Delivery::Batch(records)
            }
            Delivery::Stopped { partition, reason } => {
                Delivery::Stopped { partition: self.names.partitions_here(vec![partition]).remove(0), reason }
            }
        })
    }

    async fn begin(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), BrokerError> {
        let there = partitions.iter().map(|(of, offset)| (self.names.partition_there(of), *offset));
        self.subscription.begin(&there.collect::<Vec<_>>()).await
    }

    async fn advise(&mut self, positions: &[(TopicPartition, i64)]) -> Result<(), BrokerError> {
        let there = positions.iter().map(|(of, offset)| (self.names.partition_there(of), *offset));
        self.subscription.advise(&there.collect::<Vec<_>>()).await
    }
}
