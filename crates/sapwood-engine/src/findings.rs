//! Findings: what the author of a function should know, found while it ran. Each is recorded in the invocation, and logged
//! once for its function (N3, A2, S2).

use std::collections::HashSet;

use parking_lot::Mutex;
use sapwood_core::{Path, TreeId};

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FindingCode {
    /// A call whose handle was dropped without having been awaited: its result is never used.
    UnusedCall,
    /// Something foreign woke the body while a step of it was in flight.
    ForeignAwait,
    /// The tree comes near one of its limits.
    NearLimit,
}

impl FindingCode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::UnusedCall, Self::ForeignAwait, Self::NearLimit];

    /// The stable name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnusedCall => "unused_call",
            Self::ForeignAwait => "foreign_await",
            Self::NearLimit => "near_limit",
        }
    }

    /// The finding of this name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.name() == name)
    }
}

/// What was logged in this process: once for each function, whatever number of trees it is in.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Where the function is written, what was found, and about what.
    logged: Mutex<HashSet<(&'static str, FindingCode, String)>>,
}

impl Findings {
    /// Logs what was found in a function, which is written at `function`, if it is the first time.
    pub(crate) fn log(
        &self,
        tree: TreeId,
        path: &Path,
        function: &'static str,
        code: FindingCode,
        about: &str,
        message: &str,
    ) {
        if self.logged.lock().insert((function, code, about.to_owned())) {
            tracing::warn!(%tree, %path, function, code = code.name(), "{message}");
        }
    }
}
