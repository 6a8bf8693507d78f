//! The broker port, put together from the modules of this crate.

use std::sync::Arc;

use async_trait::async_trait;
use sapwood_core::broker::{Broker, BrokerError, Record, Subscription};

use crate::KafkaOptions;
use crate::admin::Admin;
use crate::producer::Producer;
use crate::subscription::KafkaSubscription;
use crate::topic_id::TopicFound;

/// Apache Kafka, as a broker.
pub struct KafkaBroker {
    /// For the consumers, of which each subscription has its own.
    options: KafkaOptions,
    admin: Arc<Admin>,
    producer: Producer,
}

impl KafkaBroker {
    /// A client of the brokers that `options` name. It connects on its own, and again after every outage;
    /// [`Broker::ping`] reports whether a broker answers.
    ///
    /// # Errors
    /// librdkafka refuses a setting.
    pub fn connect(options: KafkaOptions) -> Result<Self, BrokerError> {
        Ok(Self { admin: Arc::new(Admin::new(&options)?), producer: Producer::new(&options)?, options })
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    fn describe(&self) -> String {
        format!("Kafka at {}", self.options.bootstrap)
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.admin.ask(Admin::ping_blocking).await
    }

    async fn topics_ensure(&self, topics: &[String]) -> Result<(), BrokerError> {
        if topics.is_empty() {
            return Ok(());
        }
        // Asks first: creating needs a permission, which a deployment whose topics were created beforehand lacks.
        let asked = topics.to_vec();
        let found = self.admin.ask(move |admin| admin.topics_find_blocking(&asked)).await?;
        let exists = |topic: &String| matches!(found.get(topic), Some(TopicFound::Exists(_)));
        let absent: Vec<String> = topics.iter().filter(|topic| !exists(topic)).cloned().collect();
        if absent.is_empty() {
            return Ok(());
        }
        self.admin.topics_create(&absent).await
    }

    async fn publish(&self, records: Vec<Record>) -> Vec<Result<(), BrokerError>> {
        self.producer.publish(records).await
    }

    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn Subscription>, BrokerError> {
        Ok(Box::new(KafkaSubscription::join(&self.options, Arc::clone(&self.admin), group, topics)?))
    }
}
