//! The shipping context: reacts to completed orders, and tracks each parcel in a tree of its own.

use std::time::Duration;

use orders_contract::OrderCompleted;
use sapwood::prelude::*;
use shipping_contract::{ParcelDelivered, Shipping};

/// What the functions of shipping need: a courier that takes `latency` for each call.
#[derive(Dependencies)]
#[dependencies(of = Shipping)]
pub struct ShippingDependencies {
    /// How long the courier takes.
    pub latency: Duration,
}

/// Why a courier does not come.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum CourierError {
    /// For a moment.
    #[error("no courier is free")]
    #[retry]
    Busy,
    /// The tracking could not be started.
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

impl ShippingDependencies {
    async fn book(&self, order_id: &str) -> Result<String, CourierError> {
        tokio::time::sleep(self.latency).await;
        Ok(format!("parcel-{order_id}"))
    }

    async fn look(&self, _label: &str) -> Result<(), CourierError> {
        tokio::time::sleep(self.latency).await;
        Ok(())
    }
}

/// Books a courier for a completed order.
#[sapwood::consumer(group = "shipping", retry(attempts = 8, backoff = "1s..5m"))]
pub async fn book_courier(
    cx: &mut ConsumerCx<ShippingDependencies>,
    event: Delivered<OrderCompleted>,
) -> Result<(), CourierError> {
    let dependencies = cx.dependencies();
    let label = cx.step("book", || dependencies.book(&event.order_id)).await?;
    cx.start(track_parcel(label)).await?;
    Ok(())
}

/// Follows a parcel until it is delivered.
#[sapwood::function]
pub async fn track_parcel(cx: &mut Cx<ShippingDependencies>, label: String) -> Result<(), CourierError> {
    let dependencies = cx.dependencies();
    cx.step("picked up", || dependencies.look(&label)).await?;
    cx.sleep(Duration::from_millis(50)).await;
    cx.step("delivered", || dependencies.look(&label)).await?;
    cx.emit(ParcelDelivered { label });
    Ok(())
}
