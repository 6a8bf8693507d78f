//! Orders, and what can go wrong with them.

use sapwood::prelude::*;

/// An order, as it comes in. It contains what the fake gateways do with it, so that every run is the same.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// The order's own number; also the id of its tree.
    pub id: String,
    /// The customer.
    pub customer: String,
    /// What it is paid with.
    pub card: Card,
    /// What is ordered, at least one line.
    pub lines: Vec<Line>,
}

impl Order {
    /// What the order costs, in cents.
    #[must_use]
    pub fn total_cents(&self) -> u64 {
        self.lines.iter().map(|line| line.price_cents * u64::from(line.quantity)).sum()
    }
}

/// A card.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Card {
    /// Its number.
    pub number: String,
    /// Why the gateway declines it, if it does.
    #[serde(default)]
    pub decline: Option<String>,
    /// How many attempts of a charge find the gateway unavailable.
    #[serde(default)]
    pub fail_first: u32,
}

/// A line of an order.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// The item.
    pub sku: String,
    /// How many.
    pub quantity: u32,
    /// The price of one, in cents.
    pub price_cents: u64,
    /// Whether the warehouse is out of it.
    #[serde(default)]
    pub unavailable: bool,
    /// How many attempts of a reservation find the warehouse unavailable.
    #[serde(default)]
    pub fail_first: u32,
}

/// A completed order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Confirmation {
    /// The order.
    pub order_id: String,
    /// The gateway's receipt.
    pub payment: String,
    /// The warehouse's reservations, in the order of the lines.
    pub reservations: Vec<String>,
}

/// Why a card was not charged.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum PaymentError {
    /// Permanently.
    #[error("card declined: {reason}")]
    Declined {
        /// The gateway's reason.
        reason: String,
    },
    /// For a moment.
    #[error("payment gateway unavailable")]
    #[retry]
    Unavailable,
}

/// Why an item was not reserved.
#[derive(Debug, Clone, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum StockError {
    /// Permanently.
    #[error("{sku} is out of stock")]
    OutOfStock {
        /// The item.
        sku: String,
    },
    /// For a moment.
    #[error("warehouse unavailable")]
    #[retry]
    Unavailable,
}

/// Why an order was not completed.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum OrderError {
    /// The payment failed.
    #[error(transparent)]
    Payment(#[from] PaymentError),
    /// The warehouse could not reserve.
    #[error(transparent)]
    Stock(#[from] StockError),
    /// A part of the order ended without an error of its own.
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}
