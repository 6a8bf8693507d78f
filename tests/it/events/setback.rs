//! A store that goes back under living relays and readers, as after a failover to a replica that lagged or a restore:
//! what is in memory never outranks it.

use sapwood_core::store::lane_of;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::{TestStore, outbox};
use sapwood_tests::wait::until;

use super::world::*;

/// Waits until the store has the cursor of the lane at its last row; returns that row.
async fn is_written_back(test: &TestStore, lane: u16) -> i64 {
    let rows = outbox(test.store().as_ref()).await;
    let last = rows.iter().filter(|row| row.event.lane == lane).map(|row| row.seq).max().expect("a row");
    let written = format!("lane where lane = {lane} and published = {last}");
    test.changes().until("the cursor is written back", async || test.count(&written).await == 1).await;
    last
}

/// Takes the outbox back to a row, with the numbers that were given after it.
async fn go_back(test: &TestStore, lane: u16, to: i64) {
    let numbers = if test.schema().is_some() {
        format!("select setval('outbox_seq', {to})")
    } else {
        format!("update lane set last_seq = {to} where lane = {lane}")
    };
    test.execute(&format!(
        "begin;
         delete from outbox where lane = {lane} and seq > {to};
         update lane set published = {to} where lane = {lane};
         {numbers};
         commit"
    ))
    .await;
}

/// E4: an event whose row has the number of one that the store lost is published all the same, and the loss is told.
pub(crate) async fn events_after_a_setback_are_published_by_a_living_relay(test: &TestStore) {
    let broker = log_broker(&[("orders", test)]);
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let lane = lane_of(TOPIC, "a", test.store().info().lanes);
    orders.place("a", 2).await;
    until(orders.choreography.relay(), "published", |relay| relay.published >= 2).await;
    let kept = is_written_back(test, lane).await;
    orders.place("a", 3).await;
    until(orders.choreography.relay(), "published", |relay| relay.published >= 5).await;
    is_written_back(test, lane).await;
    assert_eq!(orders.choreography.health().check(), Ok(()));

    go_back(test, lane, kept).await;
    orders.place("a", 3).await;
    let all = outbox(test.store().as_ref()).await;
    let is_published = async || {
        let published = published(test).await;
        all.iter().all(|row| published.contains(&row.event.id.to_string()))
    };
    test.changes().until("every event that the store has is published", is_published).await;
    let setbacks = orders.choreography.health().relay.setbacks;
    assert_eq!(setbacks.iter().map(|setback| (setback.lane, setback.stored)).collect::<Vec<_>>(), [(lane, kept)]);
    assert!(setbacks[0].published > kept, "{setbacks:?}");
    let message = orders.choreography.health().check().expect_err("it is told");
    assert!(message.contains("the store went back"), "{message}");
    orders.drain().await;
}

/// E4: a setback is noticed without a new event too, in the slow period.
pub(crate) async fn a_setback_is_noticed_by_a_relay_that_is_idle(test: &TestStore) {
    let broker = log_broker(&[("orders", test)]);
    let orders = Running::looking(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let lane = lane_of(TOPIC, "a", test.store().info().lanes);
    orders.place("a", 1).await;
    until(orders.choreography.relay(), "published", |relay| relay.published >= 1).await;
    let kept = is_written_back(test, lane).await;
    orders.place("a", 2).await;
    until(orders.choreography.relay(), "published", |relay| relay.published >= 3).await;
    is_written_back(test, lane).await;
    go_back(test, lane, kept).await;
    until(orders.choreography.relay(), "a setback", |relay| !relay.setbacks.is_empty()).await;
    orders.drain().await;
}

/// H2: a reader of a log that went back reads the events whose offsets had been given before.
pub(crate) async fn events_after_a_setback_of_the_log_are_taken_in(test: &TestStore) {
    let shop = Shop::open(test).await;
    shop.orders.place("a", 3).await;
    shop.shipping.has_taken("shipping", 3).await;
    let back = "delete from log_record where log_offset >= 1";
    let back = if test.schema().is_some() {
        back.to_owned()
    } else {
        format!("begin; {back}; update log_topic set next_offset = 1; commit")
    };
    test.execute(&back).await;
    shop.orders.place("b", 2).await;
    // By the offsets alone there would be nothing new for a reader that stands at 3.
    shop.shipping.has_taken("shipping", 5).await;
    shop.outside.reached_any("done book b", 2).await;
    shop.drain().await;
}

/// Takes the group of a consumer's store back to an offset, and forgets that anything was taken in.
async fn group_goes_back(test: &TestStore, to: i64) {
    test.execute(&format!(
        "begin;
         delete from start_key where scope = 'group:shipping';
         update group_offset set next_offset = {to} where consumer_group = 'shipping';
         commit"
    ))
    .await;
}

/// H2: what a group has not taken in by the word of its store comes again, although its intake remembers that it did: no
/// later event makes the store pass over it.
pub(crate) async fn a_living_intake_goes_on_where_its_store_went_back_to(test: &TestStore) {
    let shop = Shop::open(test).await;
    shop.orders.place("a", 3).await;
    shop.shipping.has_taken("shipping", 3).await;
    shop.outside.reached_any("done book a", 3).await;
    group_goes_back(&shop.shipping_test, 1).await;
    shop.orders.place("b", 1).await;
    shop.shipping.has_taken("shipping", 6).await;
    shop.outside.reached_any("done book", 6).await;
    let counts = ["a 0", "a 1", "a 2", "b 0"].map(|of| shop.outside.count(&format!("done book {of}")));
    assert_eq!(counts, [1, 2, 2, 1], "the store's offset is where it goes on");
    shop.drain().await;
}

/// H2: a setback is noticed without a new event too, in the slow period.
pub(crate) async fn a_setback_is_noticed_by_an_intake_that_is_idle(test: &TestStore) {
    let (shipping_test, outside) = (another_context(test).await, Probe::new());
    let broker = log_broker(&[("orders", test), ("shipping", &shipping_test)]);
    let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
    let app = ShippingDependencies { outside: outside.clone() };
    let shipping = Running::looking(app, shipping_test.store(), &broker).await;
    orders.place("a", 2).await;
    shipping.has_taken("shipping", 2).await;
    outside.reached_any("done book a", 2).await;
    group_goes_back(&shipping_test, 0).await;
    shipping.has_taken("shipping", 4).await;
    outside.reached_any("done book a", 4).await;
    shipping.drain().await;
    orders.drain().await;
}
