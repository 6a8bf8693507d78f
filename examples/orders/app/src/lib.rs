//! The orders context: its functions, and the gateways they need.
//!
//! ```text
//! place_order ─┬─ reserve (one per line, at the same time)
//!              ├─ charge
//!              ├─ confirm
//!              └─ release (undoes each reserve, if the order cannot be completed)
//! ```

mod critical_path;
mod gateways;
mod model;

pub use critical_path::{charge, confirm, place_order, release, reserve};
pub use gateways::{Effects, OrdersDependencies};
pub use model::{Card, Confirmation, Line, Order, OrderError, PaymentError, StockError};
