//! What the ports promise, as cases that every implementation passes.

pub mod broker;
pub mod store;
