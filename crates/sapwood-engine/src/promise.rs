//! External promises, for those outside of their function: settling them, once, and awaiting them, by id or by name (P2, P3,
//! P6).
//!
//! Whatever process of the context settles a promise, it judges the value by the schema that is recorded with the promise.

use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use sapwood_core::failure::PromiseErrorKind;
use sapwood_core::store::{Hint, Settling, StoreError};
use sapwood_core::tree::{PromiseRow, PromiseState, SettledPromise, Settlement};
use sapwood_core::{Path, PromiseError, PromiseId, TreeId};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::engine::Engine;
use crate::error::ReadError;
use crate::function::{Function, Recordable};
use crate::hints::HeedsTrees;
use crate::outcome::{promise_error, promise_outcome};
use crate::payload::{PayloadError, PromiseOutcome, encode, record};
use crate::schema;
use crate::tree_handle::TreeHandle;
use crate::view::PromiseView;

/// The most characters of the message with which a promise is rejected.
const MAX_MESSAGE: usize = 2_000;

/// Which promise: by its id, or by its name alone, if its tree has only one of that name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromiseName {
    /// The tree.
    pub tree: TreeId,
    /// The invocation that made it; `None` for whichever did.
    pub path: Option<Path>,
    /// The name that the function gave it.
    pub name: String,
}

impl From<PromiseId> for PromiseName {
    fn from(id: PromiseId) -> Self {
        Self { tree: id.tree, path: Some(id.path), name: id.name }
    }
}

/// What a settle came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// It is stored, and is the promise's outcome.
    Stored,
    /// The promise was settled before, in the same way.
    Already,
}

/// Why a promise was not found.
#[derive(Debug, thiserror::Error)]
pub enum PromiseReadError {
    /// No tree has this id.
    #[error("there is no tree {0}")]
    UnknownTree(TreeId),
    /// The tree has no such promise, or none that is durable yet.
    #[error("tree {} has no promise `{}`{}", .0.tree, .0.name, .0.path.as_ref().map(|path| format!(" of {path}")).unwrap_or_default())]
    Unknown(PromiseName),
    /// Several invocations of the tree have made a promise of this name.
    #[error("tree {tree} has {} promises `{name}`: say which by its id", paths.len())]
    Ambiguous {
        /// The tree.
        tree: TreeId,
        /// The name.
        name: String,
        /// The invocations.
        paths: Vec<Path>,
    },
    /// The store failed.
    #[error("the store could not be read")]
    Store(#[from] StoreError),
}

/// Why a promise was not settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// It was not found.
    #[error(transparent)]
    Read(#[from] PromiseReadError),
    /// It was settled before, in another way: that outcome stands, and this one is not stored (P3).
    #[error("the promise `{}` was {} before; this outcome is not stored", .0.id.name, .0.state.name())]
    Settled(Box<PromiseView>),
    /// Nobody awaits it any longer: its function has ended, is cancelled, or has dropped the handle. Nothing is stored.
    #[error("nobody awaits the promise `{}` any longer; the outcome is not stored", .0.name)]
    Closed(PromiseId),
    /// The value is not what the promise takes.
    #[error("the value does not fit the promise: {message}")]
    InvalidValue {
        /// What does not fit, in words, with its place.
        message: String,
        /// The JSON Schema of the value.
        schema: Bytes,
    },
    /// The value is larger than a recorded value may be.
    #[error("the value has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The message of a rejection is empty, is too long, or has the character U+0000.
    #[error("the message {0}")]
    InvalidMessage(String),
}

impl PromiseReadError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownTree(_) => "unknown_tree",
            Self::Unknown(_) => "unknown_promise",
            Self::Ambiguous { .. } => "ambiguous_promise",
            Self::Store(_) => "store_unavailable",
        }
    }
}

impl SettleError {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Read(error) => error.code(),
            Self::Settled(_) => "promise_settled",
            Self::Closed(_) => "promise_closed",
            Self::InvalidValue { .. } => "invalid_promise_value",
            Self::TooLarge { .. } => "payload_too_large",
            Self::InvalidMessage(_) => "invalid_request",
        }
    }
}

/// Why awaiting a promise from outside gave no value.
#[derive(Debug, thiserror::Error)]
pub enum OutcomeError {
    /// It ended without one.
    #[error(transparent)]
    Ended(PromiseError),
    /// It was not found.
    #[error(transparent)]
    Read(#[from] PromiseReadError),
    /// This build cannot read its value as the type that was asked for.
    #[error("the value is not readable")]
    Unreadable(#[source] PayloadError),
}

impl Engine {
    /// An external promise by its id, from whatever process of the context: to settle it, or to wait for it.
    #[must_use]
    pub fn promise<T>(&self, id: PromiseId) -> ExternalPromise<T> {
        ExternalPromise { engine: self.clone(), name: id.into(), value: PhantomData }
    }

    /// The external promises of a tree.
    ///
    /// # Errors
    /// [`ReadError::Unknown`] if no tree has this id.
    pub async fn promises(&self, tree: TreeId) -> Result<Vec<PromiseView>, ReadError> {
        let found = self.reads().outlast(|| self.store().promise_find(tree, None, None)).await?;
        let found = found.ok_or(ReadError::Unknown(tree))?;
        Ok(found.into_iter().map(|row| PromiseView::of(tree, row)).collect())
    }

    /// A promise as it stands, waiting at most `wait` for it to settle.
    ///
    /// # Errors
    /// [`PromiseReadError`] if it is not there.
    pub async fn promise_view(&self, name: &PromiseName, wait: Duration) -> Result<PromiseView, PromiseReadError> {
        match tokio::time::timeout(wait, self.promise_awaited(name)).await {
            Ok(found) => found,
            Err(_) => self.promise_found(name).await.map(|row| PromiseView::of(name.tree, row)),
        }
    }

    /// A promise, once it is pending no longer.
    async fn promise_awaited(&self, name: &PromiseName) -> Result<PromiseView, PromiseReadError> {
        loop {
            // Register the waiter first, then read: a settle in between finds it.
            let waiter = self.trees().promises().wait_for(name.tree);
            let row = self.promise_found(name).await?;
            if row.state() != PromiseState::Pending {
                return Ok(PromiseView::of(name.tree, row));
            }
            // The pause bounds what a lost hint costs.
            let _ = tokio::time::timeout(self.poll(), waiter.told()).await;
        }
    }

    async fn promise_found(&self, name: &PromiseName) -> Result<PromiseRow, PromiseReadError> {
        let PromiseName { tree, path, name: text } = name;
        if text.contains('\0') {
            // No promise has such a name, and not every database can be asked for it.
            return Err(PromiseReadError::Unknown(name.clone()));
        }
        let find = || self.store().promise_find(*tree, path.as_ref(), Some(text));
        let found = self.reads().outlast(find).await?.ok_or(PromiseReadError::UnknownTree(*tree))?;
        match <[PromiseRow; 1]>::try_from(found) {
            Ok([row]) => Ok(row),
            Err(found) if found.is_empty() => Err(PromiseReadError::Unknown(name.clone())),
            Err(found) => {
                let paths = found.into_iter().map(|row| row.path).collect();
                Err(PromiseReadError::Ambiguous { tree: *tree, name: text.clone(), paths })
            }
        }
    }

    /// Resolves a promise with a value, as JSON; returns the promise's id, too. Settling again in the same way is safe.
    ///
    /// # Errors
    /// [`SettleError`], each with a stable code.
    pub async fn promise_resolve(&self, name: &PromiseName, value: &[u8]) -> Result<(PromiseId, Settle), SettleError> {
        let limit = self.limits().payload_bytes;
        if value.len() > limit {
            return Err(SettleError::TooLarge { bytes: value.len(), limit });
        }
        let view = PromiseView::of(name.tree, self.promise_found(name).await?);
        let fits = schema::fitting(&String::from_utf8_lossy(&view.schema), value);
        let fits = fits.and_then(|value| RawValue::from_string(value).map_err(|error| error.to_string()));
        match fits {
            Ok(value) => self.settle(view.id, PromiseState::Resolved, &PromiseOutcome::Resolved(value)).await,
            Err(message) => Err(SettleError::InvalidValue { message, schema: view.schema }),
        }
    }

    /// Rejects a promise; returns the promise's id, too. Settling again in the same way is safe.
    ///
    /// # Errors
    /// [`SettleError`], each with a stable code.
    pub async fn promise_reject(
        &self,
        name: &PromiseName,
        message: impl Into<String>,
    ) -> Result<(PromiseId, Settle), SettleError> {
        let message = message.into();
        let wrong = match message.chars().count() {
            _ if message.trim().is_empty() => Some("is empty".to_owned()),
            found if found > MAX_MESSAGE => Some(format!("has {found} characters, the limit is {MAX_MESSAGE}")),
            _ if message.contains('\0') => Some("has the character U+0000".to_owned()),
            _ => None,
        };
        if let Some(wrong) = wrong {
            return Err(SettleError::InvalidMessage(wrong));
        }
        let row = self.promise_found(name).await?;
        let id = PromiseId { tree: name.tree, path: row.path, name: row.name };
        self.settle(id, PromiseState::Rejected, &PromiseOutcome::Rejected { message }).await
    }

    async fn settle(
        &self,
        id: PromiseId,
        state: PromiseState,
        outcome: &PromiseOutcome,
    ) -> Result<(PromiseId, Settle), SettleError> {
        let settlement = Settlement { state, outcome: encode(outcome) };
        let settle = || self.store().promise_settle(id.tree, &id.path, &id.name, &settlement);
        let settling = self.reads().outlast(settle).await.map_err(PromiseReadError::from)?;
        match settling.ok_or(PromiseReadError::UnknownTree(id.tree))? {
            Settling::Stored { inbox } => {
                self.trees().settled(id.tree, inbox);
                // Without the hint another worker hears of it with its next claim, or when it looks for strays.
                if let Err(error) = self.store().hint(&[Hint::Inbox(id.tree, inbox)]).await {
                    tracing::debug!("a hint was not sent: {error}");
                }
                Ok((id, Settle::Stored))
            }
            // The forms are canonical: equal outcomes are equal bytes. The answer of an earlier try may have been lost.
            Settling::Settled(winner) if (winner.state, &winner.outcome) == (state, &settlement.outcome) => {
                Ok((id, Settle::Already))
            }
            Settling::Settled(winner) => Err(SettleError::Settled(Box::new(self.winner(id, *winner).await?))),
            Settling::Closed => Err(SettleError::Closed(id)),
            Settling::Unknown => Err(PromiseReadError::Unknown(id.into()).into()),
        }
    }

    /// What a promise was settled with before.
    async fn winner(&self, id: PromiseId, winner: SettledPromise) -> Result<PromiseView, PromiseReadError> {
        let tree = id.tree;
        let row = self.promise_found(&id.into()).await?;
        Ok(PromiseView::of(tree, PromiseRow { settled: Some(winner), ..row }))
    }
}

impl<F: Function> TreeHandle<F> {
    /// An external promise of the tree by its name, if the tree has only one of it: to settle it, or to wait for it.
    pub fn promise<T>(&self, name: impl Into<String>) -> ExternalPromise<T> {
        let name = PromiseName { tree: self.id(), path: None, name: name.into() };
        ExternalPromise { engine: self.engine().clone(), name, value: PhantomData }
    }
}

/// An external promise, for those outside of its function: whoever comes first settles it.
pub struct ExternalPromise<T> {
    engine: Engine,
    name: PromiseName,
    value: PhantomData<fn() -> T>,
}

impl<T: Recordable> ExternalPromise<T> {
    /// Resolves it with a value. While the store does not answer, this waits. Settling again in the same way is safe.
    ///
    /// # Errors
    /// [`SettleError`], each with a stable code.
    pub async fn resolve(&self, value: T) -> Result<Settle, SettleError> {
        match record(&value) {
            Ok(value) => self.engine.promise_resolve(&self.name, &value).await.map(|(_, settle)| settle),
            Err(error) => {
                let row = self.engine.promise_found(&self.name).await?;
                let schema = PromiseView::of(self.name.tree, row).schema;
                Err(SettleError::InvalidValue { message: error.to_string(), schema })
            }
        }
    }

    /// Rejects it, with a message for its function. While the store does not answer, this waits.
    ///
    /// # Errors
    /// [`SettleError`], each with a stable code.
    pub async fn reject(&self, message: impl Into<String>) -> Result<Settle, SettleError> {
        self.engine.promise_reject(&self.name, message).await.map(|(_, settle)| settle)
    }
}

impl<T: DeserializeOwned> ExternalPromise<T> {
    /// Waits for its value, whoever settles it. An outage of the store is waited for too.
    ///
    /// # Errors
    /// [`OutcomeError::Ended`] if it was rejected, or nobody awaits it any longer.
    pub async fn outcome(&self) -> Result<T, OutcomeError> {
        let PromiseView { id, state, outcome, .. } = self.engine.promise_awaited(&self.name).await?;
        let Some(outcome) = outcome else {
            let kind = match state {
                PromiseState::TimedOut => PromiseErrorKind::TimedOut,
                _ => PromiseErrorKind::Cancelled,
            };
            return Err(OutcomeError::Ended(promise_error(&id, kind)));
        };
        let outcome = PromiseOutcome::read(&outcome).and_then(|outcome| promise_outcome(&id, outcome));
        outcome.map_err(OutcomeError::Unreadable)?.map_err(OutcomeError::Ended)
    }
}
