//! How an engine runs.

use std::sync::Arc;
use std::time::Duration;

use sapwood_core::limits::Limits;

use crate::environment::{Environment, SystemEnvironment};

/// The settings with which an engine is launched.
#[derive(Clone)]
pub struct EngineOptions {
    /// The worker's name, for operators: a host name, a pod's name.
    pub name: String,
    /// Functions that may be active at once; one that waits has no slot (S5).
    pub concurrency: usize,
    /// What happens to bodies that wait.
    pub cache: CachePolicy,
    /// How long this worker is believed alive after its last renewal: a takeover follows within seconds (C2).
    pub lease: Duration,
    /// The time between two renewals: several fit into a lease, so that one lost renewal does not end it.
    pub heartbeat: Duration,
    /// Limits of a tree.
    pub limits: Limits,
    /// How long an attempt of a step may take, unless the step says otherwise; `None`: as long as it takes.
    pub step_timeout: Option<Duration>,
    /// Connections that commit turns; a tree always uses the same one.
    pub committers: u16,
    /// Transactions of authors that may be open at once, each on a connection of its own; of use only if the context declares a
    /// database.
    pub transactions: u16,
    /// How long the worker waits for a hint before it claims without one: hints may be lost.
    pub poll: Duration,
    /// Where time, chance, identities and tasks come from.
    pub environment: Arc<dyn Environment>,
}

/// What happens to bodies that wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CachePolicy {
    /// The bodies of trees that wait stay in memory while these bytes suffice; the least recently used leave first.
    ///
    /// Counted are the futures of the bodies, every result that they were given, and what the engine keeps for each; what a
    /// body has built on the heap besides is not known.
    Bytes(usize),
    /// Every body leaves memory when it waits. A test mode: it finds what a body keeps outside of its record (R10). Bodies
    /// are also polled more often than is needed, to find one that goes by the count of its polls.
    Evict,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            name: "worker".to_owned(),
            // Active functions mostly wait for the outside, so this bounds memory rather than work.
            concurrency: 10_000,
            // A body that waits takes some six kilobytes, so this is room for 16,000. A worker of a million that wait stays
            // below 150 megabytes.
            cache: CachePolicy::Bytes(96 * 1024 * 1024),
            // Six renewals fit into a lease, so a slow one does not end it.
            lease: Duration::from_secs(3),
            heartbeat: Duration::from_millis(500),
            limits: Limits::default(),
            step_timeout: None,
            // While the database makes one commit durable, it executes the other.
            committers: 2,
            transactions: 4,
            // Hints are seldom lost, so the backstop may be slow.
            poll: Duration::from_secs(10),
            environment: Arc::new(SystemEnvironment::default()),
        }
    }
}
