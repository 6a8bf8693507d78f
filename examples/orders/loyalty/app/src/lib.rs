//! The loyalty context: points for completed orders.

use std::time::Duration;

use loyalty_contract::Loyalty;
use orders_contract::OrderCompleted;
use sapwood::prelude::*;

/// What the functions of loyalty need: a ledger of points that takes `latency` for each call.
#[derive(Dependencies)]
#[dependencies(of = Loyalty)]
pub struct LoyaltyDependencies {
    /// How long the ledger takes.
    pub latency: Duration,
}

impl LoyaltyDependencies {
    /// Credits one point for every whole euro.
    async fn credit(&self, _customer: &str, cents: u64) -> Result<u64, sapwood::Error> {
        tokio::time::sleep(self.latency).await;
        Ok(cents / 100)
    }
}

/// Credits points for a completed order.
#[sapwood::consumer(group = "loyalty")]
pub async fn add_points(
    cx: &mut ConsumerCx<LoyaltyDependencies>,
    event: Delivered<OrderCompleted>,
) -> Result<(), sapwood::Error> {
    let dependencies = cx.dependencies();
    cx.step("credit", || dependencies.credit(&event.customer, event.total_cents)).await?;
    Ok(())
}
