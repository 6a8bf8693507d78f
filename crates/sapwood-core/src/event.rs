//! Domain events: facts that other contexts may react to, owned by the context that emits them.

use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

use crate::BoundedContext;

/// A domain event, declared in the contract crate of the context that owns it.
///
/// ```text
/// #[derive(Event, Serialize, Deserialize, JsonSchema)]
/// #[event(context = Orders, name = "order-completed", version = 1, key = order_id)]
/// pub struct OrderCompleted { pub order_id: OrderId, pub total: Cents }
/// ```
pub trait Event: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The context that owns the event; no other context emits it (SEMANTICS A3).
    type Context: BoundedContext;
    /// The event's name within its context, such as `order-completed`.
    const NAME: &'static str;
    /// The version of the event's shape; a consumer subscribes to one.
    const VERSION: u32;

    /// The key by which the order is kept: events of one key leave, and arrive, in the order of their commits.
    fn key(&self) -> String;

    /// The CloudEvents type, `orders.order-completed.v1`.
    #[must_use]
    fn cloud_type() -> String {
        format!("{}.{}.v{}", Self::Context::NAME, Self::NAME, Self::VERSION)
    }

    /// The topic, `orders.events`: one per context, so that the order of a key spans event types.
    #[must_use]
    fn topic() -> String {
        topic_of(Self::Context::NAME)
    }
}

/// The topic of a context's events.
#[must_use]
pub fn topic_of(context: &str) -> String {
    format!("{context}.events")
}

/// The CloudEvents source of a context's events.
#[must_use]
pub fn source_of(context: &str) -> String {
    format!("/sapwood/{context}")
}

/// An event that a context may emit: one that it owns.
///
/// `#[derive(Event)]` writes the only impl.
#[diagnostic::on_unimplemented(
    message = "event `{Self}` is owned by another bounded context than `{C}`",
    label = "`{C}` does not own this event",
    note = "only the owner emits an event; subscribe to it with #[sapwood::consumer], or emit an event of your own"
)]
pub trait EmittableFrom<C: BoundedContext>: Event {}
