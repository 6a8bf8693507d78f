//! What is true of a whole tree for as long as it is in memory; shared by its driver and its bodies.

use std::sync::Arc;

use sapwood_core::limits::Limits;
use sapwood_core::{Path, TreeId};

use crate::environment::Environment;

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
    pub(crate) environment: Arc<dyn Environment>,
}

impl Facts {
    /// An invocation of this tree, as the causation of what it emits and starts.
    pub(crate) fn causation(&self, path: &Path) -> String {
        format!("{}:{path}", self.tree)
    }
}
