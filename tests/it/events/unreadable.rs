//! Rows of the events' tables that this build cannot read: nothing is lost, the order of each key is kept, and what
//! stands still is named while everything else goes on.

use std::sync::Arc;
use std::time::Duration;

use sapwood::EngineOptions;
use sapwood::prelude::*;
use sapwood_core::broker::Broker;
use sapwood_core::store::lane_of;
use sapwood_core::{CallerId, EventId, Path};
use sapwood_engine::StartOptions;
use sapwood_events::{Choreography, ChoreographyOptions, LogBroker};
use sapwood_tests::damage;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::TestStore;
use sapwood_tests::wait::{until, within};

use super::world::*;

/// Columns of the keys: with another value there the row is another one, and not an unreadable one.
const PLACES: &[&str] = &["lane", "seq", "topic", "log_offset"];

/// Soon enough for a test in which nothing is told.
const SOON: Duration = Duration::from_millis(100);

/// The outbox of this test, with the log of its store as the broker, read often.
fn log_of(test: &TestStore) -> Arc<dyn Broker> {
    Arc::new(LogBroker::of_one(test.store()).with_period(SOON))
}

async fn orders_engine(test: &TestStore) -> Engine {
    let app = OrdersDependencies { outside: Probe::new() };
    Engine::launch(Arc::new(app), test.store(), EngineOptions::default()).await.expect("the engine starts")
}

async fn choreography(engine: &Engine, broker: &Arc<dyn Broker>) -> Choreography {
    let options = ChoreographyOptions { period: SOON, ..ChoreographyOptions::default() };
    Choreography::launch_with(engine, Arc::clone(broker), options).await.expect("it starts")
}

/// Emits one event; returns its identity.
async fn emit(engine: &Engine, order: &str) -> String {
    let tree = engine.start(place(order.to_owned(), 1)).await.expect("the tree starts");
    within("its end", tree.result()).await.expect("it is placed");
    EventId::of(tree.id(), &Path::root(), 0).to_string()
}

/// Gives a damaged row its values back; at once, or a reader would find it missing.
async fn restore(test: &TestStore, table: &str, row: &str) {
    let (delete, insert) =
        (format!("delete from {table} where {row}"), format!("insert into {table} select * from saved"));
    test.execute(&format!("begin; {delete}; {insert}; commit")).await;
}

async fn is_published(test: &TestStore, event: &str) {
    let is_there = async || published(test).await.iter().any(|id| id == event);
    test.changes().until("a published event", is_there).await;
}

/// E4: a row of the outbox that cannot be read stops its own lane in sight, whichever column it is. Nothing behind it
/// overtakes it, no other lane waits for it, and it leaves once it can be read.
pub(crate) async fn a_row_of_the_outbox_that_cannot_be_read_stops_its_own_lane_in_sight(test: &TestStore) {
    let (engine, broker) = (orders_engine(test).await, log_of(test));
    let lanes = test.store().info().lanes;
    let lane = lane_of(TOPIC, "a", lanes);
    let other = (0..).map(|n| format!("order-{n}")).find(|other| lane_of(TOPIC, other, lanes) != lane);
    let other = other.expect("there are several lanes");
    let mut unreadable = 0;
    for damage in damage::damages(test, "outbox").await {
        if PLACES.contains(&&*damage.column) {
            continue;
        }
        let before = test.store().outbox_read(lane, 0, 10_000).await.expect("the outbox").rows;
        let after = before.last().map_or(0, |row| row.seq);
        let event = emit(&engine, "a").await;
        let behind = emit(&engine, "a").await;
        let seq = test.store().outbox_read(lane, after, 1).await.expect("the outbox").rows[0].seq;
        let row = format!("lane = {lane} and seq = {seq}");
        test.execute(&format!("create table saved as select * from outbox where {row}")).await;
        damage::make(test, &damage, &row).await;
        let is_unreadable = test.store().outbox_read(lane, after, 1).await.expect("the outbox").unreadable.is_some();

        let running = choreography(&engine, &broker).await;
        if is_unreadable {
            unreadable += 1;
            until(running.relay(), &damage.to_string(), |relay| !relay.unreadable.is_empty()).await;
            is_published(test, &emit(&engine, &other).await).await;
            let message = running.health().check().expect_err("it is told");
            assert!(message.contains(&format!("row {seq} of lane {lane}")), "{damage}: {message}");
            assert!(message.contains(&damage.column), "{damage}: {message}");
            assert!(!published(test).await.contains(&behind), "{damage}: nothing overtakes it");
            restore(test, "outbox", &row).await;
            is_published(test, &event).await;
            until(running.relay(), "all is well again", |relay| relay.unreadable.is_empty()).await;
        }
        is_published(test, &behind).await;
        test.execute("drop table saved").await;
        running.drain().await;
    }
    assert!(unreadable >= 2, "{unreadable}");
    engine.drain().await.expect("it leaves");
}

/// H2, H8: a record of the log that cannot be read stops its partition in sight, and is taken in once it can be.
pub(crate) async fn a_record_of_the_log_that_cannot_be_read_stops_its_partition_in_sight(test: &TestStore) {
    let (orders, broker) = (orders_engine(test).await, log_of(test));
    let relaying = choreography(&orders, &broker).await;
    let shipping_test = another_context(test).await;
    let app = ShippingDependencies { outside: Probe::new() };
    let shipping = Engine::launch(Arc::new(app), shipping_test.store(), EngineOptions::default()).await;
    let shipping = shipping.expect("the engine starts");
    let mut unreadable = 0;
    for (n, damage) in damage::damages(test, "log_record").await.into_iter().enumerate() {
        if PLACES.contains(&&*damage.column) {
            continue;
        }
        is_published(test, &emit(&orders, &format!("order-{n}")).await).await;
        let offset = logged(test).await.last().expect("a record").offset;
        let row = format!("topic = '{TOPIC}' and log_offset = {offset}");
        test.execute(&format!("create table saved as select * from log_record where {row}")).await;
        damage::make(test, &damage, &row).await;
        let read = test.store().log_read(TOPIC, offset, 1).await.expect("the log");
        if read.unreadable.is_some() {
            unreadable += 1;
            let taking = choreography(&shipping, &broker).await;
            let intake = || taking.intake("shipping").expect("a group");
            until(intake(), &damage.to_string(), |intake| !intake.stopped.is_empty()).await;
            let message = taking.health().check().expect_err("it is told");
            assert!(message.contains(&format!("offset {offset}")), "{damage}: {message}");
            assert!(message.contains(&damage.column), "{damage}: {message}");
            restore(test, "log_record", &row).await;
            until(intake(), "it goes on", |intake| intake.stopped.is_empty() && intake.taken >= 1).await;
            taking.drain().await;
        } else {
            restore(test, "log_record", &row).await;
        }
        test.execute("drop table saved").await;
    }
    assert!(unreadable >= 2, "{unreadable}");
    relaying.drain().await;
    orders.drain().await.expect("it leaves");
    shipping.drain().await.expect("it leaves");
}

/// Rows that stand for others of their kind, in the tables that hold no trees.
async fn victims(test: &TestStore, table: &str, n: usize) -> Option<String> {
    let store = test.store();
    match table {
        "worker" | "fence" => {
            let worker =
                store.worker_join("a victim", 1, Duration::from_secs(3_600), None).await.expect("a worker").worker;
            store.worker_leave(worker).await.expect("it leaves");
            let id = if table == "worker" { "id" } else { "worker" };
            Some(format!("{id} = {}", worker.0))
        }
        "lane" => (n < 14).then(|| format!("lane = {n}")),
        "start_key" => {
            let scope = format!("group:victim-{n}");
            let now = if test.schema().is_some() { "now()" } else { "1" };
            let nobody = test.literal(sapwood_core::TreeId::fresh());
            let digest = if test.schema().is_some() { "'\\x00'" } else { "x'00'" };
            let values = format!("'{scope}', 'k', {nobody}, {digest}, {now}");
            let insert = format!("insert into start_key (scope, key, tree_id, digest, created_at) values ({values})");
            test.execute(&insert).await;
            Some(format!("scope = '{scope}'"))
        }
        "group_offset" => {
            let group = format!("victim-{n}");
            let columns = "consumer_group, topic, partition, topic_id, epoch";
            let insert = format!("insert into group_offset ({columns}) values ('{group}', '{TOPIC}', 0, '', 1)");
            test.execute(&insert).await;
            Some(format!("consumer_group = '{group}'"))
        }
        "log_topic" => {
            let topic = format!("victim-{n}.events");
            test.execute(&format!("insert into log_topic (topic) values ('{topic}')")).await;
            Some(format!("topic = '{topic}'"))
        }
        _ => None,
    }
}

/// E4, C1: damaged rows of workers, fences, keys, offsets and lanes hold up nobody else's.
pub(crate) async fn damaged_rows_beside_the_trees_hold_nobody_else_up(test: &TestStore) {
    let (lanes, broker) = (test.store().info().lanes, log_of(test));
    let mut made = 0;
    for table in damage::tables(test).await {
        for (n, damage) in damage::damages(test, &table).await.into_iter().enumerate() {
            if let Some(row) = victims(test, &table, n).await {
                made += usize::from(damage::make(test, &damage, &row).await);
            }
        }
    }
    assert!(made > 30, "{made}");
    let engine = orders_engine(test).await;
    let running = choreography(&engine, &broker).await;
    let (shipping_test, outside) = (another_context(test).await, Probe::new());
    let shipping =
        Running::looking(ShippingDependencies { outside: outside.clone() }, shipping_test.store(), &broker).await;
    let healthy = (0..).map(|n| format!("order-{n}")).find(|key| lane_of(TOPIC, key, lanes) >= 14).expect("a lane");
    is_published(test, &emit(&engine, &healthy).await).await;
    outside.reached_any(&format!("done book {healthy}"), 1).await;
    let id: CallerId = "another".parse().expect("an id");
    let input = br#"{"order":"keyed","count":0}"#;
    let started =
        within("a start", engine.start_json("place", input, StartOptions { id: Some(id), ..StartOptions::default() }))
            .await
            .expect("it starts");
    within("its end", engine.outcome(started.tree, sapwood_tests::wait::PATIENCE)).await.expect("it settles");
    shipping.drain().await;
    running.drain().await;
    engine.drain().await.expect("it leaves");
}
