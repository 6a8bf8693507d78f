//! The store's own log as a broker: what every broker promises, on either store.

use std::sync::Arc;

use sapwood_core::broker::{Broker, BrokerErrorKind};
use sapwood_events::LogBroker;
use sapwood_tests::conformance::broker::Features;
use sapwood_tests::store::TestStore;

/// A log has one partition, and takes content of any size.
const FEATURES: Features = Features { partitions: 1, refused_bytes: None };

mod postgres {
    use super::*;

    async fn fixture() -> (Arc<dyn Broker>, Features, TestStore) {
        over(TestStore::postgres().await)
    }

    sapwood_tests::on_a_broker!(postgres fixture);
}

mod sqlite {
    use super::*;

    async fn fixture() -> (Arc<dyn Broker>, Features, TestStore) {
        over(TestStore::sqlite().await)
    }

    sapwood_tests::on_a_broker!(nothing fixture);
}

/// The log of a store, which has to stay as long as the broker is used.
fn over(test: TestStore) -> (Arc<dyn Broker>, Features, TestStore) {
    (Arc::new(LogBroker::of_one(test.store())), FEATURES, test)
}

/// A topic of a context that is not in this process would be a log that is never filled.
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
