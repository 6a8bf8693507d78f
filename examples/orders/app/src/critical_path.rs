//! The critical path of an order, as one tree.

use futures::future::join_all;
use orders_contract::OrderCompleted;
use sapwood::prelude::*;

use crate::gateways::OrdersDependencies;
use crate::model::{Card, Confirmation, Line, Order, OrderError, PaymentError, StockError};

/// Takes an order from reservation to confirmation: reserves every line at the same time, charges the card, confirms.
/// If a line or the payment fails, what was reserved is released: each reservation says what undoes it.
#[sapwood::function]
pub async fn place_order(cx: &mut Cx<OrdersDependencies>, order: Order) -> Result<Confirmation, OrderError> {
    let mut picks = Vec::new();
    for line in &order.lines {
        picks.push(cx.call(reserve(line.clone()).undo(release)));
    }
    // All of them end before one that failed is looked at: a reservation that is given up half way would not be released.
    let reservations = join_all(picks).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let payment = cx.call(charge(order.card.clone(), order.total_cents())).await?;
    cx.call(confirm(order.id.clone())).await?;
    cx.emit(OrderCompleted {
        order_id: order.id.clone(),
        customer: order.customer.clone(),
        total_cents: order.total_cents(),
    });
    Ok(Confirmation { order_id: order.id, payment, reservations })
}

/// Reserves a line of an order in the warehouse.
#[sapwood::function]
pub async fn reserve(cx: &mut Cx<OrdersDependencies>, line: Line) -> Result<String, StockError> {
    let (dependencies, key) = (cx.dependencies(), cx.idempotency_key());
    cx.step("reserve", || dependencies.reserve(&key, &line)).retry(FLAKY).await
}

/// Releases a reservation: undoes [`reserve`].
#[sapwood::function]
pub async fn release(cx: &mut Cx<OrdersDependencies>, reservation: String) -> Result<(), StockError> {
    let (dependencies, key) = (cx.dependencies(), cx.idempotency_key());
    cx.step("release", || dependencies.release(&key, &reservation)).await
}

/// Charges a card.
#[sapwood::function(retry(attempts = 5, backoff = "100ms..30s"))]
pub async fn charge(cx: &mut Cx<OrdersDependencies>, card: Card, total_cents: u64) -> Result<String, PaymentError> {
    let (dependencies, key) = (cx.dependencies(), cx.idempotency_key());
    cx.step("charge", || dependencies.charge(&key, &card, total_cents)).retry(FLAKY).await
}

/// Confirms the order to the customer.
#[sapwood::function]
pub async fn confirm(cx: &mut Cx<OrdersDependencies>, order_id: String) -> Result<(), StockError> {
    let (dependencies, key) = (cx.dependencies(), cx.idempotency_key());
    cx.step("confirm", || dependencies.confirm(&key, &order_id)).await
}

/// For gateways that are unavailable for a moment: many attempts, a short time apart.
const FLAKY: RetryPolicy =
    RetryPolicy::new(10, std::time::Duration::from_millis(20), std::time::Duration::from_millis(200));
