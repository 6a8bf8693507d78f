//! What other contexts know of orders: its name and its events.

use sapwood_core::{BoundedContext, Event};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The orders context.
#[derive(BoundedContext)]
#[context(name = "orders")]
pub struct Orders;

/// An order was paid and confirmed.
#[derive(Debug, Clone, Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "order-completed", version = 1, key = order_id)]
pub struct OrderCompleted {
    /// The order.
    pub order_id: String,
    /// The customer.
    pub customer: String,
    /// What was paid, in cents.
    pub total_cents: u64,
}
