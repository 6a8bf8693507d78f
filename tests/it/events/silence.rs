//! Calls that are never answered, as in a network that loses everything without a word: relays and intakes give them up,
//! and a drain does not wait for them.

use std::sync::Arc;
use std::time::Duration;

use sapwood::EngineOptions;
use sapwood::prelude::*;
use sapwood_core::store::Store;
use sapwood_events::{Choreography, ChoreographyOptions};
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::TestStore;
use sapwood_tests::wait::{until, within};

use super::world::*;

/// A context whose relay and intakes wait so long for an answer.
async fn running<A: sapwood::Dependencies>(
    app: A,
    store: Arc<dyn Store>,
    test: &[(&str, &TestStore)],
    answer_within: Duration,
) -> Running {
    let engine = Engine::launch(Arc::new(app), store, EngineOptions::default()).await.expect("the engine starts");
    let options = ChoreographyOptions { period: Duration::from_millis(100), answer_within };
    let choreography = Choreography::launch_with(&engine, log_broker(test), options).await.expect("it starts");
    Running { engine, choreography }
}

/// E4: a relay whose calls are never answered says so, and goes on by itself when others are.
pub(crate) async fn a_relay_gives_up_what_is_never_answered_and_goes_on(test: &TestStore) {
    let (store, faults) = with_faults(test.store());
    let app = OrdersDependencies { outside: Probe::new() };
    let orders = running(app, store, &[("orders", test)], Duration::from_millis(100)).await;
    orders.place("a", 1).await;
    until(orders.choreography.relay(), "published", |relay| relay.published >= 1).await;
    faults.hang();
    orders.place("a", 2).await;
    until(orders.choreography.relay(), "it is told", |relay| relay.store.is_err()).await;
    faults.hang_no_more();
    until(orders.choreography.relay(), "published", |relay| relay.published >= 3 && relay.store.is_ok()).await;
    orders.drain().await;
}

/// E4: a process that is told to end does so, although its store answers nothing.
pub(crate) async fn a_drain_does_not_wait_for_what_is_never_answered(test: &TestStore) {
    let (store, faults) = with_faults(test.store());
    let app = OrdersDependencies { outside: Probe::new() };
    let orders = running(app, store, &[("orders", test)], Duration::from_secs(3_600)).await;
    let shipping_test = another_context(test).await;
    let (shipping_store, shipping_faults) = with_faults(shipping_test.store());
    shipping_faults.hang();
    let app = ShippingDependencies { outside: Probe::new() };
    let both = [("orders", test), ("shipping", &shipping_test)];
    let shipping = running(app, shipping_store, &both, Duration::from_secs(3_600)).await;
    orders.place("a", 1).await;
    until(orders.choreography.relay(), "published", |relay| relay.published >= 1).await;
    faults.hang();
    orders.place("a", 1).await;
    let drained = async { tokio::join!(orders.choreography.drain(), shipping.choreography.drain()) };
    within("the end of both", drained).await;
    orders.engine.kill();
    shipping.engine.kill();
}
