//! Governing trees: requests to cancel, kill, resume or retry an invocation and all below it (K3, K6, K7, R9, F8).

use std::future::{Future, IntoFuture};
use std::pin::Pin;

use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::store::{Hint, NoEffect, Ruling, StoreError};
use sapwood_core::{Path, TreeId};

use crate::engine::Engine;
use crate::function::Function;
use crate::hints::HeedsTrees;
use crate::tree_handle::TreeHandle;

/// The most characters that a request's actor has.
pub const MAX_ACTOR: usize = 200;

/// The most characters that a request's reason has.
pub const MAX_REASON: usize = 2_000;

/// Who asks, if a program does that names nobody.
const PROGRAM: &str = "a program of the context";

/// What a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It is recorded, and the tree's owner carries it out. After a cancellation or a kill no commit starts forward work in
    /// what it reaches.
    Accepted,
    /// It changes nothing, for this reason; nothing is recorded.
    None(NoEffect),
}

/// Why a request was not made.
#[derive(Debug, thiserror::Error)]
pub enum GovernError {
    /// No tree has this id.
    #[error("there is no tree {0}")]
    UnknownTree(TreeId),
    /// The tree has no such invocation.
    #[error("tree {tree} has no invocation {path}")]
    UnknownNode {
        /// The tree.
        tree: TreeId,
        /// The invocation.
        path: Path,
    },
    /// Its actor or its reason is missing, is too long, or has the character U+0000.
    #[error("the {what} of a request {wrong}")]
    Invalid {
        /// `actor` or `reason`.
        what: &'static str,
        /// What is wrong with it.
        wrong: String,
    },
    /// The store failed.
    #[error("the store did not take the request")]
    Store(#[from] StoreError),
}

impl Engine {
    /// Asks for what a request says. While the store does not answer, this waits, as starts do. Asking again is safe: what
    /// was asked for already has no further effect.
    ///
    /// # Errors
    /// [`GovernError`] if there is nothing that the request could reach, or if its texts cannot be recorded.
    pub async fn govern(&self, tree: TreeId, request: &ControlRequest) -> Result<Effect, GovernError> {
        text("actor", &request.actor, MAX_ACTOR)?;
        text("reason", &request.reason, MAX_REASON)?;
        match self.reads().outlast(|| self.store().tree_govern(tree, request)).await? {
            None => Err(GovernError::UnknownTree(tree)),
            Some(Ruling::UnknownNode) => Err(GovernError::UnknownNode { tree, path: request.path.clone() }),
            Some(Ruling::NoEffect(why)) => Ok(Effect::None(why)),
            Some(Ruling::Accepted { control }) => {
                self.trees().governed(tree, control);
                // Without the hint another worker reads the request with its next commit of the tree, or its next poll.
                if let Err(error) = self.store().hint(&[Hint::Governed(tree, control)]).await {
                    tracing::debug!("a hint was not sent: {error}");
                }
                Ok(Effect::Accepted)
            }
        }
    }
}

fn text(what: &'static str, text: &str, most: usize) -> Result<(), GovernError> {
    let wrong = match text.chars().count() {
        _ if text.trim().is_empty() => "is empty".to_owned(),
        found if found > most => format!("has {found} characters, the limit is {most}"),
        _ if text.contains('\0') => "has the character U+0000".to_owned(),
        _ => return Ok(()),
    };
    Err(GovernError::Invalid { what, wrong })
}

impl<F: Function> TreeHandle<F> {
    /// Cancels the whole tree: bodies are never resumed, steps in flight end and are recorded, and the tree closes from its
    /// leaves up.
    pub fn cancel(&self, reason: impl Into<String>) -> Governs {
        self.at(Path::root()).cancel(reason)
    }

    /// Stops the whole tree as it is: nothing is undone, and no step is waited for.
    pub fn kill(&self, reason: impl Into<String>) -> Governs {
        self.at(Path::root()).kill(reason)
    }

    /// Lets everything of the tree that is parked run again, from its record, as after a deploy that mended it. A tree that was
    /// set aside is claimed again.
    pub fn resume(&self, reason: impl Into<String>) -> Governs {
        self.at(Path::root()).resume(reason)
    }

    /// Gives everything of the tree that is parked a fresh budget of attempts, and undoes again what failed to be undone.
    pub fn retry(&self, reason: impl Into<String>) -> Governs {
        self.at(Path::root()).retry(reason)
    }

    /// One invocation of the tree, with all below it.
    #[must_use]
    pub fn at(&self, path: Path) -> NodeHandle {
        NodeHandle { engine: self.engine().clone(), tree: self.id(), path }
    }
}

/// One invocation of a tree, with all below it.
pub struct NodeHandle {
    engine: Engine,
    tree: TreeId,
    path: Path,
}

impl NodeHandle {
    /// Cancels it: its caller gets an error that says so, and may go on (K8).
    pub fn cancel(&self, reason: impl Into<String>) -> Governs {
        self.asks(ControlVerb::Cancel, reason.into())
    }

    /// Stops it as it is: nothing is undone, and no step is waited for.
    pub fn kill(&self, reason: impl Into<String>) -> Governs {
        self.asks(ControlVerb::Kill, reason.into())
    }

    /// Lets what is parked of it run again, from its record, with the attempts that it had left (R9).
    pub fn resume(&self, reason: impl Into<String>) -> Governs {
        self.asks(ControlVerb::Resume, reason.into())
    }

    /// Gives what is parked of it a fresh budget of attempts: it runs again, without the failures that ended it (F8). What
    /// failed to be undone, of it or by it, is undone again, also if the tree is settled (K2): no outcome changes.
    pub fn retry(&self, reason: impl Into<String>) -> Governs {
        self.asks(ControlVerb::Retry, reason.into())
    }

    fn asks(&self, verb: ControlVerb, reason: String) -> Governs {
        let request = ControlRequest { path: self.path.clone(), verb, actor: PROGRAM.to_owned(), reason };
        Governs { engine: self.engine.clone(), tree: self.tree, request }
    }
}

/// A request that is made when it is awaited.
#[must_use = "a request is made when it is awaited"]
pub struct Governs {
    engine: Engine,
    tree: TreeId,
    request: ControlRequest,
}

impl Governs {
    /// Names who asks; without it, a program does.
    pub fn by(mut self, actor: impl Into<String>) -> Self {
        self.request.actor = actor.into();
        self
    }
}

impl IntoFuture for Governs {
    type Output = Result<Effect, GovernError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.engine.govern(self.tree, &self.request).await })
    }
}
