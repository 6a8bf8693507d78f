//! Two contexts that the cases set against each other.
#![allow(dead_code, unused_imports)]

pub use sapwood::prelude::*;

#[derive(BoundedContext)]
#[context(name = "orders")]
pub struct Orders;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "order-completed", key = order_id)]
pub struct OrderCompleted {
    pub order_id: String,
}

#[derive(Dependencies)]
#[dependencies(of = Orders)]
pub struct OrdersDependencies;

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum PaymentError {
    #[error("card declined")]
    Declined,
    #[error("gateway unavailable")]
    #[retry]
    Unavailable,
}

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum OrderError {
    #[error(transparent)]
    Payment(#[from] PaymentError),
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

#[sapwood::function]
pub async fn charge(cx: &mut Cx<OrdersDependencies>, card: String, total: u64) -> Result<u64, PaymentError> {
    cx.step("gateway", async || if card.is_empty() { Err(PaymentError::Declined) } else { Ok(total) }).await
}

#[derive(BoundedContext)]
#[context(name = "shipping")]
pub struct Shipping;

#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Shipping, name = "courier-booked", key = order_id)]
pub struct CourierBooked {
    pub order_id: String,
}

#[derive(Dependencies)]
#[dependencies(of = Shipping)]
pub struct ShippingDependencies;

#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
#[error("no courier")]
#[retry]
pub struct CourierError;

#[sapwood::function]
pub async fn track_parcel(_: &mut Cx<ShippingDependencies>, label: String) -> Result<String, CourierError> {
    Ok(label)
}
