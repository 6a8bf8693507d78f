//! The cases.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use sapwood_core::broker::Record;
use sapwood_core::store::lane_of;
use sapwood_core::{EventId, Path};
use sapwood_events::{Choreography, LaunchError};
use sapwood_tests::faults::BrokerFaults;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::{TestStore, outbox};
use sapwood_tests::wait::{until, within};

use super::world::*;

/// E1, H1: adding a consumer changes nothing at the producer, and it gets each event.
pub(super) async fn a_consumer_added_later_gets_what_is_kept_and_the_producer_notices_nothing(test: &TestStore) {
    let (shipping_test, outside) = (another_context(test).await, Probe::new());
    let broker = log_broker(&[("orders", test), ("shipping", &shipping_test)]);
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let tree = orders.place("a", 3).await;
    let before = test.store().tree_read(tree).await.expect("the store answers");

    let shipping =
        Running::told(ShippingDependencies { outside: outside.clone() }, shipping_test.store(), &broker).await;
    outside.reached_any("done book a", 3).await;
    orders.place("b", 1).await;
    outside.reached_any("done book b", 1).await;

    assert_eq!(test.store().tree_read(tree).await.expect("the store answers"), before);
    shipping.drain().await;
    orders.drain().await;
}

/// E2: a retry never emits a second logical event.
pub(super) async fn a_retried_function_emits_one_event(test: &TestStore) {
    let broker = log_broker(&[("orders", test)]);
    let outside = Probe::new();
    let orders = Running::told(OrdersDependencies { outside: outside.clone() }, test.store(), &broker).await;
    let tree = orders.engine.start(place_stumbling("a".to_owned())).await.expect("it starts");
    tree.result().await.expect("the fourth attempt does it");
    assert_eq!(outside.count("stumbles a"), 4);
    orders.place("b", 1).await;
    until(orders.choreography.relay(), "published", |relay| relay.published >= 2).await;
    let mut keys: Vec<_> = logged(test).await.into_iter().map(|logged| logged.record.key).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["a", "b"]);
    orders.drain().await;
}

/// E2, E3: a replay emits no second event, and what a crash made leave twice is recognized.
pub(super) async fn an_event_replayed_after_a_crash_is_the_same_event(test: &TestStore) {
    let broker = log_broker(&[("orders", test)]);
    let outside = Probe::new();
    outside.hold("note a 2");
    let orders = Running::told(OrdersDependencies { outside: outside.clone() }, test.store(), &broker).await;
    let tree = orders.engine.start(place("a".to_owned(), 4)).await.expect("it starts").id();
    outside.reached("begun note a 2", 1).await;
    orders.crash();

    let orders = Running::looking(OrdersDependencies { outside: outside.clone() }, test.store(), &broker).await;
    outside.reached("begun note a 2", 2).await;
    outside.hold_none();
    let result = within("its end", orders.engine.attach::<place>(tree).result()).await;
    assert_eq!(result.expect("it is placed"), 4);

    let expected = [0, 2, 4, 6].map(|at| EventId::of(tree, &Path::root(), at).to_string());
    assert_eq!(delivered(&broker, 4).await, expected);
    assert_in_commit_order(test).await;
    orders.drain().await;
}

/// E3, E7: an event is a CloudEvent with a deterministic id, tree, causation, correlation; a consumer's tree goes on
/// with the correlation and names the event as its cause.
pub(super) async fn an_event_carries_its_place_its_tree_and_what_led_to_it(test: &TestStore) {
    let shop = Shop::open(test).await;
    let tree = shop.orders.place("a", 1).await;
    shop.outside.reached_any("done book a", 1).await;

    let event = envelope(logged(test).await.remove(0));
    assert_eq!(event.id, EventId::of(tree, &Path::root(), 0));
    assert_eq!((event.source.as_str(), event.cloud_type.as_str()), ("/sapwood/orders", "orders.order-placed.v1"));
    assert_eq!(event.tree, Some(tree.to_string()));
    assert_eq!(event.correlation, Some(tree.to_string()), "nothing led to it");
    assert_eq!(event.causation, Some(format!("{tree}:/")));
    assert_eq!((event.key.as_str(), event.time.is_some()), ("a", true));
    for row in shop.shipping.trees().await {
        assert_eq!(row.cause.correlation, tree.to_string());
        assert_eq!(row.cause.causation, Some(event.id.to_string()));
    }
    shop.drain().await;
}

/// E4: a broker outage neither fails nor slows any tree; events leave after recovery, in order, and none is missing.
pub(super) async fn a_broker_that_is_away_holds_no_tree_up_and_gets_everything_afterwards(test: &TestStore) {
    let faults = BrokerFaults::before(log_broker(&[("orders", test)]));
    let broker = faults.clone() as _;
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    faults.down();
    join_all(["a", "b", "c"].map(|order| orders.place(order, 5))).await;
    until(orders.choreography.relay(), "it is told that the broker is away", |relay| relay.broker.is_err()).await;
    assert!(orders.choreography.health().check().is_err());
    assert_eq!(published(test).await, [""; 0]);

    faults.up();
    until(orders.choreography.relay(), "published", |relay| relay.published == 15).await;
    assert_eq!(orders.choreography.health().check(), Ok(()));
    assert_in_commit_order(test).await;
    assert_eq!(published(test).await.len(), 15);
    orders.drain().await;
}

/// E4: a context starts, and its trees run, while the broker is away.
pub(super) async fn a_broker_that_is_away_at_the_start_is_waited_for(test: &TestStore) {
    let (shipping_test, outside) = (another_context(test).await, Probe::new());
    let faults = BrokerFaults::before(log_broker(&[("orders", test), ("shipping", &shipping_test)]));
    let broker = faults.clone() as _;
    faults.down();
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let shipping =
        Running::told(ShippingDependencies { outside: outside.clone() }, shipping_test.store(), &broker).await;
    orders.place("a", 2).await;
    for running in [&orders, &shipping] {
        let message = running.choreography.health().check().expect_err("it is told");
        assert!(message.contains("it is down"), "{message}");
    }
    faults.up();
    outside.reached_any("done book a", 2).await;
    for running in [orders, shipping] {
        assert_eq!(running.choreography.health().check(), Ok(()));
        running.drain().await;
    }
}

/// E4: per key the order on the broker is the commit order, with any number of workers.
pub(super) async fn the_order_on_the_broker_is_the_commit_order_with_two_workers(test: &TestStore) {
    let broker = log_broker(&[("orders", test)]);
    let first = Running::looking(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let second = Running::looking(OrdersDependencies { outside: Probe::new() }, test.another().await, &broker).await;
    let places = (0..40).map(|n| if n % 2 == 0 { &first } else { &second }.place(["a", "b", "c"][n % 3], 3));
    join_all(places).await;

    delivered(&broker, 120).await;
    assert_in_commit_order(test).await;
    second.drain().await;
    first.drain().await;
}

/// E4, C2: nothing is lost with the process that should have published it.
pub(super) async fn another_worker_publishes_what_a_dead_one_left(test: &TestStore) {
    let log = log_broker(&[("orders", test)]);
    let faults = BrokerFaults::before(log.clone());
    let orders =
        Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &(faults.clone() as _)).await;
    faults.down();
    orders.place("a", 3).await;
    until(orders.choreography.relay(), "in flight", |relay| relay.in_flight > 0).await;
    orders.crash();

    let successor = Running::looking(OrdersDependencies { outside: Probe::new() }, test.another().await, &log).await;
    until(successor.choreography.relay(), "published", |relay| relay.published == 3).await;
    assert_in_commit_order(test).await;
    successor.drain().await;
}

/// E4: a deploy hands the lanes over.
pub(super) async fn a_drained_worker_hands_its_lanes_over(test: &TestStore) {
    let broker = log_broker(&[("orders", test)]);
    let lanes = usize::from(test.store().info().lanes);
    let first = Running::looking(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    until(first.choreography.relay(), "all lanes", |relay| relay.lanes.len() == lanes).await;
    let second = Running::looking(OrdersDependencies { outside: Probe::new() }, test.another().await, &broker).await;
    first.place("a", 2).await;
    first.drain().await;
    until(second.choreography.relay(), "all lanes", |relay| relay.lanes.len() == lanes).await;
    second.place("a", 2).await;
    delivered(&broker, 4).await;
    assert_in_commit_order(test).await;
    second.drain().await;
}

/// E4: an event that the broker refuses for good is told of, kept, and blocks no other lane.
pub(super) async fn a_refused_event_stops_its_own_lane_in_sight(test: &TestStore) {
    let lanes = test.store().info().lanes;
    let other = (0..).map(|n| format!("order-{n}"));
    let other = other.into_iter().find(|key| lane_of(TOPIC, key, lanes) != lane_of(TOPIC, "a", lanes));
    let other = other.expect("there are several lanes");
    let faults = BrokerFaults::before(log_broker(&[("orders", test)]));
    faults.refuse("a");
    let orders =
        Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &(faults.clone() as _)).await;
    let tree = orders.place("a", 2).await;
    until(orders.choreography.relay(), "refused", |relay| !relay.refused.is_empty()).await;
    orders.place(&other, 2).await;
    until(orders.choreography.relay(), "the other is published", |relay| relay.published >= 2).await;

    let refused = orders.choreography.health().relay.refused;
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].id, EventId::of(tree, &Path::root(), 0).to_string());
    let message = orders.choreography.health().check().expect_err("it is told");
    assert!(message.contains(&refused[0].id) && message.contains("not that key"), "{message}");

    faults.refuse_nothing();
    until(orders.choreography.relay(), "it is published after all", |relay| relay.published >= 4).await;
    assert_eq!(orders.choreography.health().check(), Ok(()));
    assert_in_commit_order(test).await;
    orders.drain().await;
}

/// E5: after publication nothing a consumer does can change the tree.
pub(super) async fn nothing_that_consumers_do_changes_the_tree(test: &TestStore) {
    let (shipping_test, outside) = (another_context(test).await, Probe::new());
    let broker = log_broker(&[("orders", test), ("shipping", &shipping_test)]);
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let tree = orders.place("a", 1).await;
    let before = test.store().tree_read(tree).await.expect("the store answers");
    let shipping =
        Running::told(ShippingDependencies { outside: outside.clone() }, shipping_test.store(), &broker).await;
    outside.reached_any("done declare a", 1).await;
    outside.reached_any("done book a", 1).await;
    assert_eq!(shipping.rejected().await.len(), 1, "one of the consumers fails");
    assert_eq!(test.store().tree_read(tree).await.expect("the store answers"), before);
    shipping.drain().await;
    orders.drain().await;
}

/// E6: the failure of a tree can emit events too.
pub(super) async fn a_tree_that_fails_can_emit_too(test: &TestStore) {
    let broker = log_broker(&[("orders", test)]);
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let tree = orders.engine.start(place_in_vain("a".to_owned())).await.expect("it starts");
    tree.result().await.expect_err("it fails");
    until(orders.choreography.relay(), "published", |relay| relay.published >= 1).await;
    assert_eq!(published(test).await, [EventId::of(tree.id(), &Path::root(), 0).to_string()]);
    orders.drain().await;
}

/// H1: a consumer is a context and a group: each gets each event, also if another fails, and if two contexts
/// call their groups the same.
pub(super) async fn each_group_of_each_context_gets_each_event(test: &TestStore) {
    let (shipping_test, loyalty_test) = (another_context(test).await, another_context(test).await);
    let broker = log_broker(&[("orders", test), ("shipping", &shipping_test), ("loyalty", &loyalty_test)]);
    let (courier, points) = (Probe::new(), Probe::new());
    let shipping =
        Running::told(ShippingDependencies { outside: courier.clone() }, shipping_test.store(), &broker).await;
    let loyalty = Running::told(LoyaltyDependencies { outside: points.clone() }, loyalty_test.store(), &broker).await;
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    join_all([orders.place("a", 3), orders.place("b", 3)]).await;
    courier.reached_any("done book", 6).await;
    courier.reached_any("done declare", 6).await;
    points.reached_any("done add", 6).await;
    for (order, n) in [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2)] {
        assert_eq!(courier.count(&format!("done book {order} {n}")), 1);
        assert_eq!(points.count(&format!("done add {order} {n}")), 1);
    }
    for running in [shipping, loyalty, orders] {
        running.drain().await;
    }
}

/// H2: an event is the consumer's once its own store has it durably, and not before.
pub(super) async fn an_event_not_accepted_by_a_store_comes_again_and_an_accepted_one_does_not(test: &TestStore) {
    let (shipping_test, outside) = (another_context(test).await, Probe::new());
    let broker = log_broker(&[("orders", test), ("shipping", &shipping_test)]);
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let app = || ShippingDependencies { outside: outside.clone() };

    let shipping = Running::told(app(), shipping_test.store(), &broker).await;
    shipping.engine.kill();
    orders.place("a", 1).await;
    let intake = shipping.choreography.intake("shipping").expect("a group");
    until(intake.clone(), "polled, and not accepted", |intake| !intake.running).await;
    assert_eq!((intake.borrow().taken, outside.count("begun pick a 0")), (0, 0));
    shipping.crash();

    let shipping = Running::told(app(), shipping_test.store(), &broker).await;
    shipping.has_taken("shipping", 1).await;
    outside.reached_any("done book a", 1).await;
    shipping.drain().await;

    let shipping = Running::told(app(), shipping_test.store(), &broker).await;
    orders.place("b", 1).await;
    shipping.has_taken("shipping", 1).await;
    outside.reached_any("done book b", 1).await;
    let health = shipping.choreography.intake("shipping").expect("a group").borrow().clone();
    assert_eq!((health.taken, health.duplicates), (1, 0), "the first did not come again");
    assert_eq!(outside.count("done book a 0"), 1);
    shipping.drain().await;
    orders.drain().await;
}

/// H3: inside a consumer every step is memoized per event.
pub(super) async fn on_redelivery_only_the_unfinished_step_runs(test: &TestStore) {
    let (shipping_test, outside) = (another_context(test).await, Probe::new());
    outside.hold("book");
    let broker = log_broker(&[("orders", test), ("shipping", &shipping_test)]);
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let shipping =
        Running::told(ShippingDependencies { outside: outside.clone() }, shipping_test.store(), &broker).await;
    orders.place("a", 1).await;
    outside.reached("begun book a 0", 1).await;
    shipping.crash();

    let shipping =
        Running::told(ShippingDependencies { outside: outside.clone() }, shipping_test.store(), &broker).await;
    outside.reached("begun book a 0", 2).await;
    outside.hold_none();
    outside.reached_any("done book a", 1).await;
    // The event itself, delivered again.
    republish(&broker, test, |_| {}).await;
    shipping.has_met_again("shipping", 1).await;
    assert_eq!((outside.count("begun pick a 0"), outside.count("begun book a 0")), (1, 2));
    shipping.drain().await;
    orders.drain().await;
}

/// H4: the same event delivered twice, under another offset, is handled once, whatever it says the second time.
pub(super) async fn an_event_that_comes_again_is_handled_once(test: &TestStore) {
    let shop = Shop::open(test).await;
    shop.orders.place("a", 1).await;
    shop.outside.reached_any("done book a", 1).await;

    republish(&shop.broker, test, |_| {}).await;
    republish(&shop.broker, test, |record| record.headers.retain(|(name, _)| name != "ce_sequence")).await;
    republish(&shop.broker, test, |record| record.content = r#"{"order":"a","n":9}"#.into()).await;
    shop.shipping.has_met_again("shipping", 3).await;
    // Of another source it is another event.
    republish(&shop.broker, test, |record| header(record, "ce_source").push_str("/elsewhere")).await;
    shop.shipping.has_taken("shipping", 2).await;
    shop.outside.reached_any("done book a", 2).await;
    assert_eq!((shop.outside.count("begun pick a 0"), shop.outside.count("begun pick a 9")), (2, 0));
    shop.drain().await;
}

/// H1: a record that is no event, or has a type without a consumer, holds up no other.
pub(super) async fn records_that_are_no_events_are_passed_over(test: &TestStore) {
    let shop = Shop::open(test).await;
    shop.orders.place("a", 1).await;
    shop.outside.reached_any("done book a", 1).await;
    republish(&shop.broker, test, |record| record.headers.clear()).await;
    republish(&shop.broker, test, |record| *header(record, "ce_type") = "orders.other.v1".to_owned()).await;
    republish(&shop.broker, test, |record| record.headers.retain(|(name, _)| name != "ce_id")).await;
    shop.orders.place("b", 1).await;
    shop.outside.reached_any("done book b", 1).await;
    // The consumer may have run before the intake counted it.
    let intake = shop.shipping.choreography.intake("shipping").expect("a group");
    until(intake.clone(), "two events taken in", |health| health.taken == 2).await;
    let health = intake.borrow().clone();
    assert_eq!((health.duplicates, health.skipped), (0, 3));
    shop.drain().await;
}

/// H1, H7: an event that its consumer cannot read is kept where it can be looked at, and those behind it go on.
pub(super) async fn an_event_that_its_consumer_cannot_read_is_seen_in_its_tree(test: &TestStore) {
    let (loyalty_test, outside) = (another_context(test).await, Probe::new());
    let broker = log_broker(&[("orders", test), ("loyalty", &loyalty_test)]);
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let loyalty = Running::told(LoyaltyDependencies { outside: outside.clone() }, loyalty_test.store(), &broker).await;
    orders.place("a", 1).await;
    outside.reached_any("done add a", 1).await;
    republish(&broker, test, |record| {
        header(record, "ce_id").push_str("-bad");
        record.content = "<order/>".into();
    })
    .await;
    orders.place("b", 1).await;
    outside.reached_any("done add b", 1).await;
    let rejected = loyalty.rejected().await;
    assert_eq!(rejected.len(), 1);
    let tree = loyalty.engine.tree(rejected[0]).await.expect("the store answers").expect("it is there");
    let input = String::from_utf8_lossy(&tree.nodes[0].input).into_owned();
    assert!(input.contains("<order/>"), "{input}");
    loyalty.drain().await;
    orders.drain().await;
}

/// Subscribing without Kafka to a context that is not in this process is a start-up error that says so.
pub(super) async fn a_subscription_to_a_context_elsewhere_is_a_start_up_error(test: &TestStore) {
    let broker = log_broker(&[("shipping", test)]);
    let options = sapwood::EngineOptions::default();
    let app = std::sync::Arc::new(ShippingDependencies { outside: Probe::new() });
    let engine = sapwood::Engine::launch(app, test.store(), options).await.expect("the engine starts");
    let error = Choreography::launch(&engine, broker).await.err().expect("nothing would fill the topic");
    let LaunchError::Topics { context, source, .. } = error else { panic!("{error}") };
    assert_eq!(context, "shipping");
    assert!(source.to_string().contains("context `orders`"), "{source}");
    engine.drain().await.expect("it leaves");
}

/// Publishes the first event of the log once more, changed.
async fn republish(
    broker: &std::sync::Arc<dyn sapwood_core::broker::Broker>,
    orders: &TestStore,
    change: impl FnOnce(&mut Record),
) {
    let first = logged(orders).await.remove(0).record;
    let mut record = Record { topic: first.topic, key: first.key, headers: first.headers, content: first.content };
    change(&mut record);
    for answer in broker.publish(vec![record]).await {
        answer.expect("it is published");
    }
}

fn header<'a>(record: &'a mut Record, name: &str) -> &'a mut String {
    let found = record.headers.iter_mut().find(|(header, _)| header == name);
    &mut found.expect("the record has the header").1
}

/// Within each lane, and so for each key, the log has the events in the order of the outbox. An event that the log has
/// twice counts at its first place.
async fn assert_in_commit_order(orders: &TestStore) {
    let mut committed = BTreeMap::<u16, Vec<String>>::new();
    for row in outbox(orders.store().as_ref()).await {
        committed.entry(row.event.lane).or_default().push(row.event.id.to_string());
    }
    let published = published(orders).await;
    for ids in committed.values() {
        let of_lane: BTreeSet<_> = ids.iter().collect();
        let out: Vec<_> = published.iter().filter(|id| of_lane.contains(id)).collect();
        assert_eq!(out, ids.iter().collect::<Vec<_>>());
    }
    assert_eq!(published.len(), committed.values().map(Vec::len).sum::<usize>());
}
