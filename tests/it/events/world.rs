//! The contexts of these tests: orders emits; shipping and loyalty consume, each on a store of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sapwood::prelude::*;
use sapwood::{EngineOptions, Error};
use sapwood_core::TreeId;
use sapwood_core::broker::{Broker, Consumed, Delivery};
use sapwood_core::store::{LogRecord, LoggedRecord, Store, TreeFilter};
use sapwood_core::tree::{TreeRow, TreeState};
use sapwood_events::cloud::Envelope;
use sapwood_events::{Choreography, ChoreographyOptions, LogBroker};
use sapwood_tests::store::TestStore;
use tokio::sync::watch;
use tokio::time::timeout;

/// How long anything may take; a test that waits this long has failed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// The topic of the orders context.
pub(super) const TOPIC: &str = "orders.events";

/// The orders context.
#[derive(BoundedContext)]
#[context(name = "orders")]
pub(super) struct Orders;

/// The shipping context.
#[derive(BoundedContext)]
#[context(name = "shipping")]
pub(super) struct Shipping;

/// The loyalty context.
#[derive(BoundedContext)]
#[context(name = "loyalty")]
pub(super) struct Loyalty;

/// An order was placed.
#[derive(Debug, Clone, Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "order-placed", version = 1, key = order)]
pub(super) struct OrderPlaced {
    pub(super) order: String,
    pub(super) n: u32,
}

#[derive(Dependencies)]
#[dependencies(of = Orders)]
pub(super) struct OrdersDependencies {
    pub(super) outside: Outside,
}

#[derive(Dependencies)]
#[dependencies(of = Shipping)]
pub(super) struct ShippingDependencies {
    pub(super) outside: Outside,
}

#[derive(Dependencies)]
#[dependencies(of = Loyalty)]
pub(super) struct LoyaltyDependencies {
    pub(super) outside: Outside,
}

/// Emits `count` events of one order, a side effect after each.
#[sapwood::function]
pub(super) async fn place(cx: &mut Cx<OrdersDependencies>, order: String, count: u32) -> Result<u32, Error> {
    let app = cx.dependencies();
    for n in 0..count {
        cx.emit(OrderPlaced { order: order.clone(), n });
        cx.step("note", || app.outside.does(format!("note {order} {n}"))).await?;
    }
    Ok(count)
}

/// Emits an event, and stumbles in the same breath as often as the outside says.
#[sapwood::function(retry(attempts = 5, backoff = "1ms..2ms"))]
pub(super) async fn place_stumbling(cx: &mut Cx<OrdersDependencies>, order: String) -> Result<(), Error> {
    cx.emit(OrderPlaced { order: order.clone(), n: 0 });
    let app = cx.dependencies();
    app.outside.stumbles(&order)
}

/// Emits an event, and fails.
#[sapwood::function]
pub(super) async fn place_in_vain(cx: &mut Cx<OrdersDependencies>, order: String) -> Result<(), Error> {
    cx.emit(OrderPlaced { order, n: 0 });
    Err(Error::terminal("no such article"))
}

/// Two side effects an event.
#[sapwood::consumer(group = "shipping")]
pub(super) async fn book_courier(
    cx: &mut ConsumerCx<ShippingDependencies>,
    event: Delivered<OrderPlaced>,
) -> Result<(), Error> {
    let app = cx.dependencies();
    cx.step("pick", || app.outside.does(format!("pick {} {}", event.order, event.n))).await?;
    cx.step("book", || app.outside.does(format!("book {} {}", event.order, event.n))).await?;
    Ok(())
}

/// Another group of the same context, which never succeeds.
#[sapwood::consumer(group = "customs")]
pub(super) async fn declare(
    cx: &mut ConsumerCx<ShippingDependencies>,
    event: Delivered<OrderPlaced>,
) -> Result<(), Error> {
    let app = cx.dependencies();
    cx.step("declare", || app.outside.does(format!("declare {} {}", event.order, event.n))).await?;
    Err(Error::terminal("the border is closed"))
}

/// Another context, whose group has the name of one of shipping's.
#[sapwood::consumer(group = "shipping")]
pub(super) async fn add_points(
    cx: &mut ConsumerCx<LoyaltyDependencies>,
    event: Delivered<OrderPlaced>,
) -> Result<(), Error> {
    let app = cx.dependencies();
    cx.step("add", || app.outside.does(format!("add {} {}", event.order, event.n))).await?;
    Ok(())
}

/// The world outside: what side effects were begun and done, and what they wait for.
#[derive(Clone, Default)]
pub(super) struct Outside {
    state: Arc<watch::Sender<State>>,
    stumbles: Arc<Mutex<BTreeMap<String, u32>>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    begun: Vec<String>,
    done: Vec<String>,
    closed: Option<String>,
}

impl Outside {
    /// A side effect. It waits while the outside is closed for it.
    async fn does(&self, what: String) -> Result<(), Error> {
        self.state.send_modify(|state| state.begun.push(what.clone()));
        let open = |state: &State| state.closed.as_ref().is_none_or(|closed| !what.starts_with(closed));
        self.state.subscribe().wait_for(open).await?;
        self.state.send_modify(|state| state.done.push(what));
        Ok(())
    }

    /// Side effects whose name begins so wait from now on.
    pub(super) fn close(&self, what: &str) {
        self.state.send_modify(|state| state.closed = Some(what.to_owned()));
    }

    /// Nothing waits any more.
    pub(super) fn open(&self) {
        self.state.send_modify(|state| state.closed = None);
    }

    /// The first attempts of this order fail.
    pub(super) fn lets_stumble(&self, order: &str, times: u32) {
        self.stumbles.lock().insert(order.to_owned(), times);
    }

    fn stumbles(&self, order: &str) -> Result<(), Error> {
        match self.stumbles.lock().get_mut(order) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(Error::transient("stumbled"))
            }
            _ => Ok(()),
        }
    }

    /// How often this was begun.
    pub(super) fn begun(&self, what: &str) -> usize {
        self.state.borrow().begun.iter().filter(|begun| *begun == what).count()
    }

    /// How often this was done.
    pub(super) fn done(&self, what: &str) -> usize {
        self.state.borrow().done.iter().filter(|done| *done == what).count()
    }

    /// Waits until this was begun so often.
    pub(super) async fn has_begun(&self, what: &str, times: usize) {
        let begun = |state: &State| state.begun.iter().filter(|begun| *begun == what).count() >= times;
        until(self.state.subscribe(), what, begun).await;
    }

    /// Waits until so much was done whose name begins so.
    pub(super) async fn has_done(&self, what: &str, times: usize) {
        let done = |state: &State| state.done.iter().filter(|done| done.starts_with(what)).count() >= times;
        until(self.state.subscribe(), what, done).await;
    }
}

/// Waits until a watched value is as it should be.
pub(super) async fn until<T: std::fmt::Debug>(
    mut watched: watch::Receiver<T>,
    what: &str,
    is_so: impl FnMut(&T) -> bool,
) {
    let waited = timeout(PATIENCE, watched.wait_for(is_so)).await.map(|value| value.map(drop));
    match waited {
        Ok(Ok(())) => {}
        Ok(Err(_)) => panic!("{what}: nobody tells any more: {:?}", watched.borrow()),
        Err(_) => panic!("{what}: not in time: {:?}", watched.borrow()),
    }
}

/// A context at work.
pub(super) struct Running {
    pub(super) engine: Engine,
    pub(super) choreography: Choreography,
}

impl Running {
    /// Starts a context whose relay and intakes hardly look without being told: what they do in time, they were told.
    pub(super) async fn told<A: sapwood::Dependencies>(
        app: A,
        store: Arc<dyn Store>,
        broker: &Arc<dyn Broker>,
    ) -> Self {
        Self::start(app, store, broker, Duration::from_secs(3_600)).await
    }

    /// Starts a context whose relay looks often without being told.
    pub(super) async fn looking<A: sapwood::Dependencies>(
        app: A,
        store: Arc<dyn Store>,
        broker: &Arc<dyn Broker>,
    ) -> Self {
        Self::start(app, store, broker, Duration::from_millis(200)).await
    }

    async fn start<A: sapwood::Dependencies>(
        app: A,
        store: Arc<dyn Store>,
        broker: &Arc<dyn Broker>,
        period: Duration,
    ) -> Self {
        // Short, so that a takeover does not take long; long enough for a machine that is busy with other tests.
        let options = EngineOptions {
            lease: Duration::from_secs(2),
            heartbeat: Duration::from_millis(300),
            ..Default::default()
        };
        let engine = Engine::launch(Arc::new(app), store, options).await.expect("the engine starts");
        let options = ChoreographyOptions { period };
        let choreography = Choreography::launch_with(&engine, Arc::clone(broker), options).await.expect("it starts");
        Self { engine, choreography }
    }

    /// Starts a tree of an order and waits for its result.
    pub(super) async fn place(&self, order: &str, count: u32) -> TreeId {
        let tree = self.engine.start(place(order.to_owned(), count)).await.expect("the tree starts");
        let result = timeout(PATIENCE, tree.result()).await.expect("it ends in time");
        assert_eq!(result.expect("it is placed"), count);
        tree.id()
    }

    /// Waits until the group has taken in so many events.
    pub(super) async fn has_taken(&self, group: &str, events: u64) {
        let intake = self.choreography.intake(group).expect("a group of the context");
        until(intake, group, |intake| intake.taken >= events).await;
    }

    /// Waits until the group has met so many events again.
    pub(super) async fn has_met_again(&self, group: &str, events: u64) {
        let intake = self.choreography.intake(group).expect("a group of the context");
        until(intake, group, |intake| intake.duplicates >= events).await;
    }

    /// The trees, newest first.
    pub(super) async fn trees(&self) -> Vec<TreeRow> {
        let filter = TreeFilter { limit: 1_000, ..TreeFilter::default() };
        self.engine.list(&filter).await.expect("the store answers")
    }

    /// The trees that were given up, once all are settled.
    pub(super) async fn rejected(&self) -> Vec<TreeId> {
        let mut rejected = Vec::new();
        for row in self.trees().await {
            let outcome = self.engine.outcome(row.id, PATIENCE).await.expect("the store answers");
            if outcome.expect("it settles in time").state == TreeState::Rejected {
                rejected.push(row.id);
            }
        }
        rejected
    }

    /// Ends it as a deploy does.
    pub(super) async fn drain(self) {
        self.choreography.drain().await;
        self.engine.drain().await.expect("it leaves");
    }

    /// Ends it as a crash does.
    pub(super) fn crash(self) {
        self.choreography.kill();
        self.engine.kill();
    }
}

/// A store of the same kind.
pub(super) async fn another_context(test: &TestStore) -> TestStore {
    match test.file() {
        Some(_) => TestStore::sqlite().await,
        None => TestStore::postgres().await,
    }
}

/// The logs of these contexts as a broker, whose readers hardly look without being told.
pub(super) fn log_broker(stores: &[(&str, &TestStore)]) -> Arc<dyn Broker> {
    let stores = stores.iter().map(|(context, test)| ((*context).to_owned(), test.store()));
    Arc::new(LogBroker::new(stores).with_period(Duration::from_secs(3_600)))
}

/// The log of the orders context.
pub(super) async fn logged(orders: &TestStore) -> Vec<LoggedRecord> {
    orders.store().log_read(TOPIC, 0, 10_000).await.expect("the store answers")
}

/// A record of the log, read as an event.
pub(super) fn envelope(logged: LoggedRecord) -> Envelope {
    let LoggedRecord { offset, record: LogRecord { topic, key, headers, content }, .. } = logged;
    let consumed = Consumed { topic, partition: 0, offset, key: Some(key.into()), headers, content };
    Envelope::read(&consumed).expect("a CloudEvent")
}

/// The identities of the events in the log, in its order; an event that stands there again is left out.
pub(super) async fn published(orders: &TestStore) -> Vec<String> {
    let mut ids = Vec::new();
    for record in logged(orders).await {
        push_new(&mut ids, envelope(record).id.to_string());
    }
    ids
}

/// The identities of the first `count` events that the broker delivers, without those that come again. Waits for them.
pub(super) async fn delivered(broker: &Arc<dyn Broker>, count: usize) -> Vec<String> {
    let reading = async {
        let mut subscription = broker.subscribe("delivered", &[TOPIC.to_owned()]).await.expect("a member");
        let mut ids = Vec::new();
        while ids.len() < count {
            match subscription.next().await.expect("a delivery") {
                Delivery::Assigned(partitions) => {
                    let oldest: Vec<_> = partitions.into_iter().map(|partition| (partition, None)).collect();
                    subscription.begin(&oldest).await.expect("it begins");
                }
                Delivery::Revoked(_) => {}
                Delivery::Batch(records) => {
                    let events = records.iter().map(|record| Envelope::read(record).expect("a CloudEvent"));
                    events.for_each(|event| push_new(&mut ids, event.id.to_string()));
                }
            }
        }
        ids
    };
    timeout(PATIENCE, reading).await.expect("all are published in time")
}

fn push_new(ids: &mut Vec<String>, id: String) {
    if !ids.contains(&id) {
        ids.push(id);
    }
}
