//! All that an author may write, with every lint that generated code could trip over.
#![forbid(unsafe_code)]
#![deny(clippy::pedantic)]

use std::collections::BTreeMap;
use std::time::Duration;

use sapwood::prelude::*;

/// The orders context.
#[derive(BoundedContext)]
#[context(name = "orders")]
pub struct Orders;

/// The key is a field of a field.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "order-completed", version = 2, key = order.0)]
pub struct OrderCompleted {
    order: OrderId,
}

/// The key is a closure's result.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "order-moved", key = |event| match event { Self::Here(id) | Self::There(id) => id.0 })]
pub enum OrderMoved {
    /// To here.
    Here(OrderId),
    /// To there.
    There(OrderId),
}

/// The key is a field without a name.
#[derive(Event, Clone, Serialize, Deserialize, JsonSchema)]
#[event(context = Orders, name = "order-number", key = 0)]
pub struct OrderId(u64);

/// Generic dependencies.
#[derive(Dependencies)]
#[dependencies(of = Orders)]
pub struct App<G: Send + Sync + 'static> {
    gateway: G,
}

/// A type of their own, so that the functions are not generic.
type OrdersDependencies = App<BTreeMap<String, u64>>;

/// Why an order fails.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum OrderError {
    /// Declined.
    #[error("declined: {reason}")]
    Declined {
        /// Why.
        reason: String,
    },
    /// Unavailable.
    #[error("unavailable")]
    #[retry]
    Unavailable,
    /// A child's error.
    #[error(transparent)]
    Stock(#[from] StockError),
    /// How else a child ends.
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

/// A failure may be a struct.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
#[error("sold out: {sku}")]
pub struct StockError {
    sku: String,
}

/// A failure may tell promises from calls.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum ApprovalError {
    /// It was not approved.
    #[error(transparent)]
    Promise(#[from] PromiseError),
    /// How else a child ends.
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

/// What is decided outside.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Approval {
    by: String,
}

/// An alias of `Result`.
pub type Outcome<T> = Result<T, OrderError>;

/// Takes an order.
///
/// # Errors
/// Where a child fails.
#[sapwood::function(
    version = 2,
    retry(attempts = 5, backoff = "100ms..30s"),
    on_exhausted = "reject",
    deadline = "7d",
    grace = "2h"
)]
pub async fn place_order(
    cx: &mut Cx<OrdersDependencies>,
    /// What is ordered.
    mut skus: Vec<String>,
    #[serde(default)] note: Option<String>,
) -> Outcome<u64> {
    skus.extend(note);
    let app = cx.dependencies();
    let mut picks = Vec::new();
    for sku in &skus {
        picks.push(cx.call(reserve(sku.clone(), 1).deadline(std::time::Duration::from_secs(60))));
    }
    let picked: u64 = futures::future::try_join_all(picks).await?.into_iter().sum();
    let known = cx.step("gateway", async || app.gateway.get("card").copied().ok_or(OrderError::Unavailable)).await?;
    tokio::select! {
        again = cx.call(place_order(Vec::new(), None)) => { again?; }
        () = cx.sleep(Duration::from_secs(1)) => {}
    }
    cx.emit(OrderCompleted { order: OrderId(picked) });
    cx.emit(OrderMoved::Here(OrderId(known)));
    Ok(picked)
}

/// Waits for what is decided outside, and lifts its error.
///
/// # Errors
/// Where it is rejected.
#[sapwood::function]
pub async fn is_approved(cx: &mut Cx<OrdersDependencies>, levels: u32) -> Outcome<Vec<String>> {
    let mut first = cx.promise::<Approval>("first");
    tokio::select! {
        approval = &mut first => return Ok(vec![approval?.by]),
        () = cx.sleep(Duration::from_secs(1)) => {}
    }
    let levels = (0..levels).map(|level| cx.promise::<Approval>(&format!("level-{level}")));
    let approved = futures::future::try_join_all(levels).await?;
    Ok(approved.into_iter().map(|approval| approval.by).collect())
}

/// Tells why it was not approved.
#[sapwood::function]
async fn is_told(cx: &mut Cx<OrdersDependencies>) -> Result<String, ApprovalError> {
    let approval = cx.promise::<Approval>("approval");
    let link = format!("https://desk.example/{}", approval.id());
    cx.step("mail", || async { Ok::<_, ApprovalError>(link.len()) }).await?;
    Ok(approval.await?.by)
}

/// Lifts it into any error.
#[sapwood::function]
async fn is_lifted(cx: &mut Cx<OrdersDependencies>) -> Result<String, sapwood::Error> {
    Ok(cx.promise_until::<String>("text", Duration::from_secs(60)).await?)
}

#[sapwood::function(name = "reserve_stock")]
#[allow(clippy::unnecessary_wraps)]
async fn reserve(_: &mut Cx<OrdersDependencies>, sku: String, quantity: u64) -> Result<u64, StockError> {
    if quantity == 0 { Err(StockError { sku }) } else { Ok(quantity) }
}

mod inner {
    use sapwood::prelude::*;

    /// Lifts any error.
    #[sapwood::function]
    pub(crate) async fn parse(cx: &mut Cx<super::OrdersDependencies>, r#type: String) -> Result<u64, sapwood::Error> {
        let number = r#type.parse()?;
        Ok(cx.call(super::reserve(r#type, number)).await?)
    }
}

/// Counts orders.
#[sapwood::consumer(group = "orders", retry(attempts = 8, backoff = "1s..5m"), on_exhausted = "pause")]
pub async fn count(cx: &mut ConsumerCx<OrdersDependencies>, event: Delivered<OrderCompleted>) -> Result<(), OrderError> {
    let Ok(number) = cx.call(inner::parse(event.order.0.to_string())).await else { return Ok(()) };
    cx.start(reserve(event.key.clone(), number).id("once")).await?;
    Ok(())
}

/// Takes its event apart.
#[sapwood::consumer(group = "orders", version = 3, name = "count_moves")]
async fn moves(
    _: &mut ConsumerCx<OrdersDependencies>,
    Delivered { id, content, .. }: Delivered<OrderMoved>,
) -> Result<(), OrderError> {
    match content {
        OrderMoved::Here(_) => Ok(()),
        OrderMoved::There(_) => Err(OrderError::Declined { reason: id.to_string() }),
    }
}

/// Declarations may come out of `macro_rules!`.
macro_rules! declared {
    ($name:ident, $error:ident, $event:ident, $key:ident, $app:ty, $value:ty) => {
        /// Counts in steps.
        #[sapwood::function]
        pub async fn $name(cx: &mut Cx<$app>, value: $value) -> Result<$value, $error> {
            cx.step("count", async || if value == 0 { Err($error) } else { Ok(value) }).await
        }

        /// Nothing to count.
        #[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
        #[error("nothing")]
        pub struct $error;

        /// Counted.
        #[derive(Event, Serialize, Deserialize, JsonSchema)]
        #[event(context = Orders, name = "counted", key = $key)]
        pub struct $event {
            $key: $value,
        }
    };
}

declared!(count_up, CountError, Counted, number, OrdersDependencies, u64);

fn main() {}
