//! What other contexts know of shipping: its name and its events.

use sapwood_core::{BoundedContext, Event};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shipping context.
#[derive(BoundedContext)]
#[context(name = "shipping")]
pub struct Shipping;

/// A parcel was handed over.
#[derive(Debug, Clone, Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Shipping, name = "parcel-delivered", version = 1, key = label)]
pub struct ParcelDelivered {
    /// The parcel's label.
    pub label: String,
}
