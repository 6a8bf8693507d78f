//! A tree's handle: its identity, and its typed result.

use std::marker::PhantomData;

use sapwood_core::failure::CallFailureKind;
use sapwood_core::tree::{Phase, TreeState};
use sapwood_core::{CallError, CallFailure, Path, TreeId};

use super::Engine;
use crate::Function;
use crate::error::ReadError;
use crate::outcome::{Rejection, call_error};
use crate::replay::versioned;

/// A tree, by its id: attach to it from anywhere.
pub struct TreeHandle<F> {
    pub(super) engine: Engine,
    pub(super) tree: TreeId,
    pub(super) function: PhantomData<fn() -> F>,
}

impl<F: Function> TreeHandle<F> {
    /// The tree's identity.
    #[must_use]
    pub fn id(&self) -> TreeId {
        self.tree
    }

    /// Waits for the root's result.
    ///
    /// # Errors
    /// [`ResultError::Call`] with the root's own error, or how else it ended.
    pub async fn result(&self) -> Result<F::Output, ResultError<F::Error>> {
        let outcome = self.engine.inner.outcome(self.tree).await?;
        let value = outcome.value.unwrap_or_default();
        let phase = match outcome.state {
            TreeState::Resolved => {
                return serde_json::from_slice(&value).map_err(ResultError::Unreadable);
            }
            TreeState::TimedOut => Phase::TimedOut,
            TreeState::Cancelled => Phase::Cancelled,
            _ => Phase::Rejected,
        };
        let root = CallFailure {
            function: versioned(&outcome.function, outcome.version),
            path: Path::root().to_string(),
            attempts: outcome.attempts,
            kind: CallFailureKind::Cancelled,
        };
        Err(ResultError::Call(call_error(root, phase, Rejection::read(&value))))
    }
}

/// Why a tree gave no result to who waited for it.
#[derive(Debug, thiserror::Error)]
pub enum ResultError<E: std::fmt::Debug + std::fmt::Display + 'static> {
    /// The root gave none.
    #[error("{0}")]
    Call(CallError<E>),
    /// The tree could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The result is none that this build can read.
    #[error("the result is not readable")]
    Unreadable(#[source] serde_json::Error),
}
