//! The same over Kafka, with PostgreSQL below: several processes of a context, partitions that change hands.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use sapwood_core::broker::Broker;
use sapwood_kafka::{KafkaBroker, KafkaOptions};
use sapwood_tests::kafka::kafka_url;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::{TestStore, outbox};

use super::apart::{Apart, Names};
use super::world::*;

/// A client of its own, as each process has it.
fn client(names: &Names) -> Arc<dyn Broker> {
    let options = KafkaOptions::from_url(&kafka_url()).expect("kafka://host:port");
    let broker = Arc::new(KafkaBroker::connect(options).expect("the options are good"));
    Arc::new(Apart { broker, names: names.clone() })
}

/// H1, H2, H4: each event begins one tree in each group, while members join, crash and leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL and Kafka: ./test provides them")]
async fn each_event_begins_one_tree_a_group_while_members_come_and_go() {
    let (names, outside) = (Names::fresh(), Probe::new());
    let (test, shipping_test) = (TestStore::postgres().await, TestStore::postgres().await);
    let app = || ShippingDependencies { outside: outside.clone() };
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &client(&names)).await;
    let place = async |round: usize| {
        let keys = (0..10).map(|n| format!("{round}-{n}"));
        join_all(keys.map(async |key| orders.place(&key, 2).await)).await;
    };

    let first = Running::told(app(), shipping_test.store(), &client(&names)).await;
    place(0).await;
    outside.reached_any("done book 0-", 20).await;
    let second = Running::told(app(), shipping_test.another().await, &client(&names)).await;
    place(1).await;
    first.crash();
    place(2).await;
    let third = Running::told(app(), shipping_test.another().await, &client(&names)).await;
    place(3).await;
    outside.reached_any("done book 3-", 20).await;
    second.drain().await;
    place(4).await;
    for round in 0..5 {
        outside.reached_any(&format!("done book {round}-"), 20).await;
        outside.reached_any(&format!("done declare {round}-"), 20).await;
    }

    let mut trees = BTreeMap::new();
    for row in third.trees().await {
        *trees.entry(row.function).or_insert(0) += 1;
    }
    assert_eq!(trees, BTreeMap::from([("book_courier".to_owned(), 100), ("declare".to_owned(), 100)]));
    third.drain().await;
    orders.drain().await;
}

/// E4: per key the order on the broker is the commit order, also if the publishing worker changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL and Kafka: ./test provides them")]
async fn the_order_of_a_key_survives_a_change_of_publishers() {
    let (names, test) = (Names::fresh(), TestStore::postgres().await);
    let app = || OrdersDependencies { outside: Probe::new() };
    let first = Running::looking(app(), test.store(), &client(&names)).await;
    let second = Running::looking(app(), test.another().await, &client(&names)).await;
    join_all((0..20).map(|n| if n % 2 == 0 { &first } else { &second }.place(["a", "b", "c"][n % 3], 5))).await;
    first.crash();
    join_all((0..20).map(|n| second.place(["a", "b", "c"][n % 3], 5))).await;

    let delivered = delivered(&client(&names), 200).await;
    let mut committed = BTreeMap::<String, Vec<String>>::new();
    for row in outbox(test.store().as_ref()).await {
        committed.entry(row.event.key).or_default().push(row.event.id.to_string());
    }
    for (key, ids) in committed {
        let out: Vec<_> = delivered.iter().filter(|id| ids.contains(id)).cloned().collect();
        assert_eq!(out, ids, "{key}");
    }
    second.drain().await;
}
