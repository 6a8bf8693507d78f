//! A contract crate names `sapwood_core` alone.
#![forbid(unsafe_code)]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The orders context.
#[derive(sapwood_core::BoundedContext)]
#[context(name = "orders")]
pub struct Orders;

/// An order was completed.
#[derive(sapwood_core::Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "order-completed", version = 1, key = order_id)]
pub struct OrderCompleted {
    /// Which.
    pub order_id: u64,
}

/// Why an order is refused.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, sapwood_core::Failure)]
pub enum Refused {
    /// There is no such order.
    #[error("unknown")]
    Unknown,
    /// Nobody knows for now.
    #[error("later")]
    #[retry]
    Later,
}

fn main() {}
