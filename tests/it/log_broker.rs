//! The store's own log as a broker: what every broker promises, on either store.

use std::sync::Arc;

use async_trait::async_trait;
use sapwood_core::broker::{Broker, BrokerError, BrokerErrorKind, Record, Subscription};
use sapwood_events::LogBroker;
use sapwood_tests::conformance::broker::Features;
use sapwood_tests::store::TestStore;

/// A log has one partition, and takes content of any size.
const FEATURES: Features = Features { partitions: 1, refused_bytes: None };

mod postgres {
    use super::*;

    async fn fixture() -> (Arc<dyn Broker>, Features) {
        over(TestStore::postgres().await)
    }

    sapwood_tests::broker_conformance!(
        #[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
        fixture
    );
}

mod sqlite {
    use super::*;

    async fn fixture() -> (Arc<dyn Broker>, Features) {
        over(TestStore::sqlite().await)
    }

    sapwood_tests::broker_conformance!(fixture);
}

/// A topic of a context that is not in this process would be a log that nobody ever fills.
#[tokio::test]
async fn a_topic_of_a_context_elsewhere_is_refused_by_name() {
    let test = TestStore::sqlite().await;
    let broker = LogBroker::new([("shipping".to_owned(), test.store())]);
    let ours = ["shipping.events".to_owned()];
    broker.topics_ensure(&ours).await.expect("its context is here");
    let theirs = ["orders.events".to_owned()];
    for answer in [broker.topics_ensure(&theirs).await, broker.subscribe("shipping", &theirs).await.map(drop)] {
        let error = answer.expect_err("its context is not here");
        assert_eq!(error.kind(), BrokerErrorKind::Refused);
        assert!(error.to_string().contains("`orders`") && error.to_string().contains("kafka://"), "{error}");
    }
    test.store().close().await;
}

/// A broker that keeps its store's place as long as it is used.
struct Placed {
    broker: LogBroker,
    _place: TestStore,
}

fn over(place: TestStore) -> (Arc<dyn Broker>, Features) {
    let broker = LogBroker::of_one(place.store());
    (Arc::new(Placed { broker, _place: place }), FEATURES)
}

#[async_trait]
impl Broker for Placed {
    fn describe(&self) -> String {
        self.broker.describe()
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        self.broker.ping().await
    }

    async fn topics_ensure(&self, topics: &[String]) -> Result<(), BrokerError> {
        self.broker.topics_ensure(topics).await
    }

    async fn publish(&self, records: Vec<Record>) -> Vec<Result<(), BrokerError>> {
        self.broker.publish(records).await
    }

    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn Subscription>, BrokerError> {
        self.broker.subscribe(group, topics).await
    }
}
