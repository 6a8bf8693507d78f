//! Calls that are never answered, as in a network that loses everything without a word: relays and intakes give them up,
//! and a drain does not wait for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Condvar, Mutex};
use sapwood::EngineOptions;
use sapwood::prelude::*;
use sapwood_core::broker::{Broker, BrokerError, Record, Subscription};
use sapwood_core::store::Store;
use sapwood_events::{Choreography, ChoreographyOptions};
use sapwood_tests::front::with_faults;
use sapwood_tests::probe::Probe;
use sapwood_tests::store::TestStore;
use sapwood_tests::wait::{PATIENCE, until, within};
use tokio::sync::Notify;

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

/// H2: the same for an intake, which waits for its store before it reads anything.
pub(crate) async fn an_intake_gives_up_what_is_never_answered_and_goes_on(test: &TestStore) {
    let orders_app = OrdersDependencies { outside: Probe::new() };
    let orders = running(orders_app, test.store(), &[("orders", test)], Duration::from_secs(3_600)).await;
    let shipping_test = another_context(test).await;
    let (store, faults) = with_faults(shipping_test.store());
    faults.hang();
    let both = [("orders", test), ("shipping", &shipping_test)];
    let app = ShippingDependencies { outside: Probe::new() };
    let shipping = running(app, store, &both, Duration::from_millis(100)).await;
    orders.place("a", 2).await;
    let intake = shipping.choreography.intake("shipping").expect("a group of the context");
    until(intake, "it is told", |intake| intake.store.is_err()).await;
    faults.hang_no_more();
    shipping.has_taken("shipping", 2).await;
    shipping.drain().await;
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

/// A broker whose client does not give its thread back while it publishes, until it is let go.
#[derive(Default)]
struct Busy {
    begun: Notify,
    is_let_go: Mutex<bool>,
    changed: Condvar,
    has_sent: AtomicBool,
}

impl Busy {
    /// Sends, once it is let go.
    fn send(&self) {
        let mut is_let_go = self.is_let_go.lock();
        while !*is_let_go {
            assert!(!self.changed.wait_for(&mut is_let_go, PATIENCE).timed_out(), "it is let go");
        }
        self.has_sent.store(true, Ordering::SeqCst);
    }

    fn let_go(&self) {
        *self.is_let_go.lock() = true;
        self.changed.notify_all();
    }
}

#[async_trait]
impl Broker for Busy {
    fn describe(&self) -> String {
        "busy".to_owned()
    }

    async fn ping(&self) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn topics_ensure(&self, _: &[String]) -> Result<(), BrokerError> {
        Ok(())
    }

    async fn publish(&self, _: Vec<Record>) -> Vec<Result<(), BrokerError>> {
        self.begun.notify_one();
        // The runtime gives the other tasks of this thread to another one.
        tokio::task::block_in_place(|| self.send());
        std::future::pending().await
    }

    async fn subscribe(&self, _: &str, _: &[String]) -> Result<Box<dyn Subscription>, BrokerError> {
        std::future::pending().await
    }
}

/// C1: a worker that was declared dead and its successor live in one process: what the first one still sent, it has sent
/// before the second begins.
pub(crate) async fn what_was_ended_does_nothing_beside_its_successor(test: &TestStore) {
    let broker = Arc::<Busy>::default();
    let app = OrdersDependencies { outside: Probe::new() };
    let orders = Running::told(app, test.store(), &(broker.clone() as Arc<dyn Broker>)).await;
    orders.place("a", 1).await;
    within("a publication", broker.begun.notified()).await;
    let mut end = std::pin::pin!(orders.choreography.end());
    let asked = futures::poll!(&mut end);
    let had_sent = broker.has_sent.load(Ordering::SeqCst);
    broker.let_go();
    if asked.is_pending() {
        within("its end", end).await;
    }
    assert_eq!((asked, had_sent), (Poll::Pending, false), "it ends when nothing of it runs");
    assert!(broker.has_sent.load(Ordering::SeqCst));
    orders.engine.kill();
}
