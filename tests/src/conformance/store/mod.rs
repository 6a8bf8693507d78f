//! The store port's promises, a role a module. Each case takes a store of its own; `it/store.rs` says which run where.

pub mod claim;
pub mod commit;
pub mod deadlines;
pub mod fixture;
pub mod governing;
pub mod hints;
pub mod intake;
pub mod lanes;
pub mod log;
pub mod membership;
pub mod promises;
pub mod reading;
pub mod recover;
pub mod start;
pub mod timers;
