//! Faults that a test plans, one owner for each port: the store's and the broker's; and those of the network between.

mod broker;
mod proxy;
mod store;

pub use broker::BrokerFaults;
pub use proxy::Proxy;
pub use store::{Fault, StoreFaults};
