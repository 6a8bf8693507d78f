//! Faults that a test plans, one owner for each port: the store's and the broker's.

mod broker;
mod store;

pub use broker::BrokerFaults;
pub use store::{Fault, StoreFaults};
