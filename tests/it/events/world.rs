//! The contexts of these tests: orders emits; shipping and loyalty consume, each on a store of its own.

use std::sync::Arc;
use std::time::Duration;

use sapwood::prelude::*;
use sapwood::{EngineOptions, Error};
use sapwood_core::TreeId;
use sapwood_core::broker::{Broker, Consumed, Delivery};
use sapwood_core::store::{ListedTree, LogRecord, LoggedRecord, Store, TreeFilter};
use sapwood_core::tree::{TreeRow, TreeState};
use sapwood_events::cloud::Envelope;
use sapwood_events::{Choreography, ChoreographyOptions, LogBroker};
use sapwood_tests::probe::Probe;
use sapwood_tests::store::TestStore;
use sapwood_tests::wait::{PATIENCE, until, within};

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
    pub(super) outside: Arc<Probe>,
}

#[derive(Dependencies)]
#[dependencies(of = Shipping)]
pub(super) struct ShippingDependencies {
    pub(super) outside: Arc<Probe>,
}

#[derive(Dependencies)]
#[dependencies(of = Loyalty)]
pub(super) struct LoyaltyDependencies {
    pub(super) outside: Arc<Probe>,
}

/// Emits `count` events of one order, a side effect after each.
#[sapwood::function]
pub(super) async fn place(cx: &mut Cx<OrdersDependencies>, order: String, count: u32) -> Result<u32, Error> {
    let app = cx.dependencies();
    for n in 0..count {
        cx.emit(OrderPlaced { order: order.clone(), n });
        cx.step("note", || does(&app.outside, format!("note {order} {n}"))).await?;
    }
    Ok(count)
}

/// How often [`place_stumbling`] fails before it does not.
const STUMBLES: usize = 3;

/// Emits an event, and stumbles in the same breath, over a number that another attempt may draw better.
#[sapwood::function(retry(attempts = 5, backoff = "1ms..2ms"))]
pub(super) async fn place_stumbling(cx: &mut Cx<OrdersDependencies>, order: String) -> Result<(), Error> {
    cx.emit(OrderPlaced { order: order.clone(), n: 0 });
    let _ = cx.random();
    let app = cx.dependencies();
    let stumbles = format!("stumbles {order}");
    app.outside.mark(&*stumbles);
    if app.outside.count(&stumbles) <= STUMBLES { Err(Error::transient("stumbled")) } else { Ok(()) }
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
    cx.step("pick", || does(&app.outside, format!("pick {} {}", event.order, event.n))).await?;
    cx.step("book", || does(&app.outside, format!("book {} {}", event.order, event.n))).await?;
    Ok(())
}

/// Another group of the same context, which never succeeds.
#[sapwood::consumer(group = "customs")]
pub(super) async fn declare(
    cx: &mut ConsumerCx<ShippingDependencies>,
    event: Delivered<OrderPlaced>,
) -> Result<(), Error> {
    let app = cx.dependencies();
    cx.step("declare", || does(&app.outside, format!("declare {} {}", event.order, event.n))).await?;
    Err(Error::terminal("the border is closed"))
}

/// Another context, whose group has the name of one of shipping's.
#[sapwood::consumer(group = "shipping")]
pub(super) async fn add_points(
    cx: &mut ConsumerCx<LoyaltyDependencies>,
    event: Delivered<OrderPlaced>,
) -> Result<(), Error> {
    let app = cx.dependencies();
    cx.step("add", || does(&app.outside, format!("add {} {}", event.order, event.n))).await?;
    Ok(())
}

/// A side effect.
async fn does(outside: &Probe, what: String) -> Result<(), Error> {
    outside.works(&what).await;
    Ok(())
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
        let options = ChoreographyOptions { period, ..ChoreographyOptions::default() };
        let choreography = Choreography::launch_with(&engine, Arc::clone(broker), options).await.expect("it starts");
        Self { engine, choreography }
    }

    /// Starts a tree of an order and waits for its result.
    pub(super) async fn place(&self, order: &str, count: u32) -> TreeId {
        let tree = self.engine.start(place(order.to_owned(), count)).await.expect("the tree starts");
        let result = within("its end", tree.result()).await;
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
        let listed = self.engine.list(&filter).await.expect("the store answers");
        listed.into_iter().filter_map(ListedTree::row).collect()
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

/// The contexts orders and shipping at work, each on a store of its own, with the stores' logs as the broker.
pub(super) struct Shop {
    pub(super) broker: Arc<dyn Broker>,
    /// What shipping does.
    pub(super) outside: Arc<Probe>,
    pub(super) orders: Running,
    pub(super) shipping: Running,
    pub(super) shipping_test: TestStore,
}

impl Shop {
    /// Starts both; orders on the store of the test.
    pub(super) async fn open(test: &TestStore) -> Self {
        let (shipping_test, outside) = (another_context(test).await, Probe::new());
        let broker = log_broker(&[("orders", test), ("shipping", &shipping_test)]);
        let orders = Running::told(OrdersDependencies { outside: Probe::new() }, test.store(), &broker).await;
        let shipping =
            Running::told(ShippingDependencies { outside: outside.clone() }, shipping_test.store(), &broker).await;
        Self { broker, outside, orders, shipping, shipping_test }
    }

    /// Ends both as a deploy does.
    pub(super) async fn drain(self) {
        self.shipping.drain().await;
        self.orders.drain().await;
    }
}

/// A store of the same kind.
pub(super) async fn another_context(test: &TestStore) -> TestStore {
    TestStore::on(test.database()).await
}

/// The logs of these contexts as a broker, whose readers hardly look without being told.
pub(super) fn log_broker(stores: &[(&str, &TestStore)]) -> Arc<dyn Broker> {
    let stores = stores.iter().map(|(context, test)| ((*context).to_owned(), test.store()));
    Arc::new(LogBroker::new(stores).with_period(Duration::from_secs(3_600)))
}

/// The log of the orders context.
pub(super) async fn logged(orders: &TestStore) -> Vec<LoggedRecord> {
    orders.store().log_read(TOPIC, 0, 10_000).await.expect("the store answers").rows
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
                Delivery::Revoked(_) | Delivery::Stopped { .. } => {}
                Delivery::Batch(records) => {
                    let events = records.iter().map(|record| Envelope::read(record).expect("a CloudEvent"));
                    events.for_each(|event| push_new(&mut ids, event.id.to_string()));
                }
            }
        }
        ids
    };
    within("all that is published", reading).await
}

fn push_new(ids: &mut Vec<String>, id: String) {
    if !ids.contains(&id) {
        ids.push(id);
    }
}
