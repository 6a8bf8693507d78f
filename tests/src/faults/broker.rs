//! Faults of a broker: it goes away, and refuses what it is told to.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use sapwood_core::broker::{Broker, BrokerError, BrokerErrorKind, Record, Subscription};
use tokio::sync::watch;

/// Another broker, behind faults.
pub struct BrokerFaults {
    broker: Arc<dyn Broker>,
    is_up: watch::Sender<bool>,
    refused: Mutex<BTreeSet<String>>,
}

impl BrokerFaults {
    /// What stands before `broker` and makes the faults that are planned.
    #[must_use]
    pub fn before(broker: Arc<dyn Broker>) -> Arc<Self> {
        Arc::new(Self { broker, is_up: watch::Sender::new(true), refused: Mutex::default() })
    }

    /// Nothing is published until it is up again; a publish waits, as it does on Kafka.
    pub fn down(&self) {
        self.is_up.send_replace(false);
    }

    /// It is back.
    pub fn up(&self) {
        self.is_up.send_replace(true);
    }

    fn answers(&self) -> Result<(), BrokerError> {
        let down = || BrokerError::new(BrokerErrorKind::Passing, "it is down");
        self.is_up.borrow().then_some(()).ok_or_else(down)
    }

    /// Records of this key are refused for good.
    pub fn refuse(&self, key: &str) {
        self.refused.lock().insert(key.to_owned());
    }

    /// Nothing is refused any longer.
    pub fn refuse_nothing(&self) {
        self.refused.lock().clear();
    }
}

#[async_trait]
impl Broker for BrokerFaults {
    fn describe(&self) -> String {
        self.broker.describe()
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.answers()?;
        self.broker.ping().await
    }

    async fn topics_ensure(&self, topics: &[String]) -> Result<(), BrokerError> {
        self.answers()?;
        self.broker.topics_ensure(topics).await
    }

    async fn publish(&self, records: Vec<Record>) -> Vec<Result<(), BrokerError>> {
        let mut is_up = self.is_up.subscribe();
        is_up.wait_for(|up| *up).await.expect("the broker is kept");
        let refused = self.refused.lock().clone();
        let (taken, refused): (Vec<_>, Vec<_>) =
            records.into_iter().enumerate().partition(|(_, record)| !refused.contains(&record.key));
        let (mut places, taken): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        let mut results = self.broker.publish(taken).await;
        for (place, _) in refused {
            places.push(place);
            results.push(Err(BrokerError::new(BrokerErrorKind::Refused, "not that key")));
        }
        let mut results: Vec<_> = places.into_iter().zip(results).collect();
        results.sort_by_key(|(place, _)| *place);
        results.into_iter().map(|(_, result)| result).collect()
    }

    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn Subscription>, BrokerError> {
        self.broker.subscribe(group, topics).await
    }
}
