//! What is true of a whole tree for as long as it is in memory; shared by its driver and its bodies.

use std::sync::Arc;

use std::time::Duration;

use sapwood_core::limits::Limits;
use sapwood_core::{Path, TreeId};

use crate::clock::StoreClock;
use crate::environment::Environment;
use crate::findings::Findings;
use crate::transactor::Transactor;

/// What is true of a whole tree.
pub(crate) struct Facts {
    pub(crate) tree: TreeId,
    /// The context's name, which the source of its events contains.
    pub(crate) context: &'static str,
    /// The same for everything that one start led to.
    pub(crate) correlation: String,
    /// The W3C trace context of the start, carried on by events.
    pub(crate) traceparent: Option<String>,
    /// Lanes of the store's outbox, fixed when its schema was created.
    pub(crate) lanes: u16,
    pub(crate) limits: Limits,
    /// How long an attempt of a step may take that says nothing else.
    pub(crate) step_timeout: Option<Duration>,
    pub(crate) environment: Arc<dyn Environment>,
    /// What is due is due by it.
    pub(crate) clock: Arc<StoreClock>,
    /// Begins the transactions of authors, if their context has any.
    pub(crate) transactor: Option<Arc<Transactor>>,
    /// What was logged of functions.
    pub(crate) findings: Arc<Findings>,
}

/// What is bounded in a tree (A2).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    Depth,
    Nodes,
    FanOut,
    Entries,
    PayloadBytes,
    EventBytes,
    PollBytes,
}

impl Bound {
    /// As errors and warnings name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Depth => "depth",
            Self::Nodes => "nodes",
            Self::FanOut => "fan-out",
            Self::Entries => "entries",
            Self::PayloadBytes => "payload bytes",
            Self::EventBytes => "event bytes",
            Self::PollBytes => "bytes of one poll",
        }
    }
}

/// From this part of a limit on, a tree is near it: in time to change what it does before it fails.
const NEAR_PERCENT: usize = 80;

/// Whether what was found comes near its limit.
pub(crate) fn is_near(found: usize, limit: usize) -> bool {
    found <= limit && found.saturating_mul(100) >= limit.saturating_mul(NEAR_PERCENT)
}

impl Facts {
    /// An invocation of this tree, as the causation of what it emits and starts.
    pub(crate) fn causation(&self, path: &Path) -> String {
        format!("{}:{path}", self.tree)
    }
}
