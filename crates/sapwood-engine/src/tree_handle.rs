//! Typed starts, and a tree's handle: its identity, and its typed result.

use std::marker::PhantomData;

use sapwood_core::failure::CallFailureKind;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_core::{CallError, CallFailure, FunctionVersion, Path, TreeId};

use crate::engine::Engine;
use crate::error::{ReadError, StartError};
use crate::function::{Call, Function};
use crate::outcome::call_error;
use crate::payload::{PayloadError, Rejection, decode, record};
use crate::starting::StartOptions;

impl Engine {
    /// Starts a root. With an id, starting it again gives the same tree (P5); returns once the tree durably exists.
    ///
    /// # Errors
    /// [`StartError::Conflict`] if the id belongs to a tree with another function or input.
    pub async fn start<F: Function>(&self, call: Call<F>) -> Result<TreeHandle<F>, StartError> {
        let definition = self.registry().find(F::NAME, F::VERSION).ok_or_else(|| self.unknown(F::NAME))?;
        if call.undo.is_some() {
            let message = "a root has no caller whose failure could undo it".to_owned();
            return Err(StartError::InvalidInput { function: F::NAME.to_owned(), message });
        }
        let id = call.id.as_deref().map(str::parse).transpose()?;
        let options = StartOptions { id, deadline: call.deadline, ..StartOptions::default() };
        let input = record(&call.input)
            .map_err(|error| StartError::InvalidInput { function: F::NAME.to_owned(), message: error.to_string() })?;
        let reply = self.start_definition(definition, input, options).await?;
        Ok(self.attach(reply.tree))
    }

    /// A handle of a tree that exists, or will exist: starting and awaiting are separate (P6).
    #[must_use]
    pub fn attach<F: Function>(&self, tree: TreeId) -> TreeHandle<F> {
        TreeHandle { engine: self.clone(), tree, function: PhantomData }
    }
}

/// A tree, by its id: attach to it from anywhere.
pub struct TreeHandle<F> {
    engine: Engine,
    tree: TreeId,
    function: PhantomData<fn() -> F>,
}

impl<F: Function> TreeHandle<F> {
    /// The tree's identity.
    #[must_use]
    pub fn id(&self) -> TreeId {
        self.tree
    }

    pub(crate) const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Waits for the root's result. An outage of the store is waited for too.
    ///
    /// # Errors
    /// [`ResultError::Call`] with the root's own error, or with how else it ended.
    pub async fn result(&self) -> Result<F::Output, ResultError<F::Error>> {
        let outcome = self.engine.outcome_awaited(self.tree).await?;
        let value = outcome.outcome.unwrap_or_default();
        let state = match outcome.state {
            TreeState::Resolved => {
                return decode(&value).map_err(ResultError::Unreadable);
            }
            TreeState::TimingOut | TreeState::TimedOut => PromiseState::TimedOut,
            TreeState::Cancelled => PromiseState::Cancelled,
            _ => PromiseState::Rejected,
        };
        let root = CallFailure {
            function: FunctionVersion::new(outcome.function, outcome.version).to_string(),
            path: Path::root().to_string(),
            attempts: outcome.attempts,
            kind: CallFailureKind::Cancelled,
        };
        Err(ResultError::Call(call_error(root, state, Rejection::read(&value))))
    }
}

/// Why awaiting a tree gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ResultError<E: std::fmt::Debug + std::fmt::Display + 'static> {
    /// The root ended without a result.
    #[error("{0}")]
    Call(CallError<E>),
    /// The tree could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// This build cannot read the result.
    #[error("the result is not readable")]
    Unreadable(#[source] PayloadError),
}
