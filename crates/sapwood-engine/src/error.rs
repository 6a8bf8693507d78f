//! Errors of the engine, with codes that clients may rely on.

use sapwood_core::TreeId;
use sapwood_core::id::CallerIdError;
use sapwood_core::store::StoreError;

use crate::life::{Life, Stopped};
use crate::registry::RegistryError;

/// Why an engine did not launch.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The context's functions contradict each other.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store did not accept the worker.
    #[error("the store did not accept this worker")]
    Store(#[from] StoreError),
    /// The context's functions have transactions with another database than its store is on.
    #[error(
        "the functions of context `{context}` have transactions on {needed}, and its store is on {found}: give it a store on {needed}"
    )]
    WrongDatabase {
        /// The context.
        context: &'static str,
        /// The kind of store that it declares.
        needed: &'static str,
        /// The kind of store that it was given.
        found: &'static str,
    },
    /// The thread of the heartbeat did not start.
    #[error("the heartbeat's thread did not start")]
    Heartbeat(#[source] std::io::Error),
}

/// Why a tree was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The context has no such function.
    #[error("this context has no function `{name}`{}", nearest.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    UnknownFunction {
        /// The name asked for.
        name: String,
        /// The most similar name that exists.
        nearest: Option<String>,
    },
    /// The function is a consumer; only its event starts it.
    #[error("`{name}` is a consumer: only its event starts it")]
    NotStartable {
        /// The consumer.
        name: String,
    },
    /// The function cannot read the input.
    #[error("the input does not fit `{function}`: {message}")]
    InvalidInput {
        /// The function.
        function: String,
        /// What the decoder says.
        message: String,
    },
    /// The id belongs to a tree with another function or input.
    #[error("the id belongs to tree {tree}, {message}")]
    Conflict {
        /// The tree that has the id.
        tree: TreeId,
        /// What differs.
        message: String,
    },
    /// The input is larger than a recorded value may be.
    #[error("the input has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Its deadline has passed, or is further away than what is recorded. Nothing was started.
    #[error("{message}")]
    InvalidDeadline {
        /// What is wrong with it.
        message: String,
    },
    /// The id is empty, too long, or has characters that do not print.
    #[error(transparent)]
    InvalidId(#[from] CallerIdError),
    /// The worker is shutting down.
    #[error("this worker is shutting down and starts nothing more")]
    Draining,
    /// The worker has ended by itself.
    #[error("this worker has stopped: {0}")]
    Stopped(Stopped),
    /// The store refuses the data of the start for good.
    #[error("the store refuses the start: {message}")]
    Refused {
        /// What the store says.
        message: String,
    },
    /// The store failed.
    #[error("the store did not accept the start")]
    Store(#[source] StoreError),
}

impl StartError {
    /// Why a worker starts nothing, whose life has come so far.
    pub(crate) fn of_life(life: &Life) -> Self {
        life.reason().map_or(Self::Draining, Self::Stopped)
    }

    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::UnknownFunction { .. } => "unknown_function",
            Self::NotStartable { .. } => "not_startable",
            Self::InvalidInput { .. } => "invalid_input",
            Self::Conflict { .. } => "id_conflict",
            Self::TooLarge { .. } => "payload_too_large",
            Self::InvalidId(_) => "invalid_id",
            Self::InvalidDeadline { .. } => "invalid_deadline",
            Self::Draining => "draining",
            Self::Stopped(_) => "worker_stopped",
            Self::Refused { .. } => "start_refused",
            Self::Store(_) => "store_unavailable",
        }
    }
}

/// Why an outcome could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No tree has this id.
    #[error("there is no tree {0}")]
    Unknown(TreeId),
    /// The store failed.
    #[error("the store could not be read")]
    Store(#[from] StoreError),
}
