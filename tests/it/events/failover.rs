//! A failover of PostgreSQL, under living engines and relays, to a standby that had not heard of the last commits.

use sapwood_tests::cluster::Server;
use sapwood_tests::faults::Proxy;
use sapwood_tests::postgres::TestSchema;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::{TestStore, outbox};
use sapwood_tests::wait::{until, until_asked, within};

use super::world::*;

/// How often health is asked.
const LOOK: std::time::Duration = std::time::Duration::from_millis(5);

/// C2, C5, E4, R9: what the standby had heard of goes on where it stood there, by the workers that live; what it had not
/// is lost and told; nothing is parked, neither by the server that is gone nor by the one that only reads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_failover_to_a_standby_that_lagged_loses_what_it_had_not_heard_of_and_says_so() {
    let mut primary = Server::primary().await;
    let standby = primary.standby().await;
    let proxy = Proxy::before(&primary.address()).await;
    let url = format!("postgres://sapwood@{}/postgres", proxy.address());
    let test = TestStore::in_schema(TestSchema::at(url)).await;
    let (outside, booked) = (Probe::new(), Probe::new());
    let shipping_test = TestStore::postgres().await;
    let broker = log_broker(&[("orders", &test), ("shipping", &shipping_test)]);
    let orders = Running::looking(OrdersDependencies { outside: outside.clone() }, test.store(), &broker).await;
    let shipping = ShippingDependencies { outside: booked.clone() };
    let shipping = Running::looking(shipping, shipping_test.store(), &broker).await;

    // Heard of: one order that is placed, and one in its second step.
    let kept = orders.place("kept", 3).await;
    outside.hold("note caught 1");
    let caught = orders.engine.start(place("caught".to_owned(), 3)).await.expect("the tree starts");
    outside.reached("begun note caught 1", 1).await;
    shipping.has_taken("shipping", 5).await;
    let heard = "select pg_wal_lsn_diff(replay_lsn, pg_current_wal_lsn()) >= 0 from pg_stat_replication";
    primary.until(heard).await;
    standby.execute(&["alter system set primary_conninfo = ''", "select pg_reload_conf()"]).await;
    standby.until("not exists (select from pg_stat_wal_receiver)").await;

    // Not heard of: an order, its events, and that the other one has come further.
    let lost = orders.place("kept", 2).await;
    outside.hold_none();
    let result = within("a result", caught.result()).await;
    assert_eq!(result.expect("placed"), 3);
    shipping.has_taken("shipping", 8).await;

    primary.kill();
    proxy.lead_to(&standby.address());
    let started = tokio::spawn({
        let engine = orders.engine.clone();
        async move { engine.start(place("meanwhile".to_owned(), 1).id("meanwhile")).await }
    });
    let cannot_write = async || match orders.engine.health().store_error() {
        Some(error) if error.contains("read-only") => Ok(()),
        other => Err(other),
    };
    until_asked("a store that only reads", LOOK, cannot_write).await;
    standby.execute(&["select pg_promote()"]).await;

    let started = within("a start", started).await.expect("no panic").expect("it starts");
    assert_eq!(within("a result", started.result()).await.expect("placed"), 1);
    let again = within("a result", orders.engine.attach::<place>(caught.id()).result()).await;
    assert_eq!(again.expect("placed again"), 3);
    let trees: Vec<_> = orders.trees().await.into_iter().map(|tree| (tree.id, tree.state)).collect();
    let resolved = sapwood_core::tree::TreeState::Resolved;
    assert!(trees.iter().all(|(_, state)| *state == resolved), "{trees:?}");
    assert!(!trees.iter().any(|(tree, _)| *tree == lost) && trees.iter().any(|(tree, _)| *tree == kept), "{trees:?}");

    orders.place("kept", 2).await;
    let all = outbox(test.store().as_ref()).await;
    let is_published = async || {
        let published = published(&test).await;
        all.iter().all(|row| published.contains(&row.event.id.to_string()))
    };
    test.changes().until("every event that the store has is published", is_published).await;
    until(orders.choreography.relay(), "a setback that is told", |relay| !relay.setbacks.is_empty()).await;
    let is_well = async || orders.engine.health().store_error().map_or(Ok(()), Err);
    until_asked("a store that is well again", LOOK, is_well).await;
    assert_ne!(orders.engine.health().lost_commits, 0, "the loss is told");
    orders.drain().await;
    shipping.drain().await;
    test.store().close().await;
    shipping_test.store().close().await;
}
