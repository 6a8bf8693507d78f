//! Typed errors of functions and steps: transient or terminal by their type, not by how they were wrapped (F3).

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::limits::LimitError;

/// An error that a function or a step returns. It is recorded, so it survives serialization.
///
/// ```text
/// #[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
/// pub enum PaymentError {
///     #[error("card declined: {reason}")] Declined { reason: String },   // terminal
///     #[error("payment gateway unavailable")] #[retry] Unavailable,       // transient
/// }
/// ```
pub trait Failure:
    fmt::Display + fmt::Debug + Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static
{
    /// Whether another attempt may help. After a terminal error, no other attempt is made.
    fn is_transient(&self) -> bool;

    /// The error as which this type takes what ended without an error of its own: a step whose last attempt timed out.
    /// `None` if the type has none; then the function ends with it. `#[derive(Failure)]` gives the variant that is marked
    /// `#[failure(call)]`.
    fn of_call(failure: CallFailure) -> Option<Self>
    where
        Self: Sized,
    {
        drop(failure);
        None
    }
}

/// Why a call gave no result, besides the callee's own error: it says which child, after how many attempts, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{function} at {path} {kind} (attempt {attempts})")]
pub struct CallFailure {
    /// The callee, as `name@version`.
    pub function: String,
    /// The callee's path within its tree.
    pub path: String,
    /// Attempts the callee made.
    pub attempts: u32,
    /// How it ended.
    pub kind: CallFailureKind,
}

/// How a call ended without a result and without an error of the callee's own type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CallFailureKind {
    /// Its deadline passed.
    TimedOut,
    /// It was cancelled on its own.
    Cancelled,
    /// It met a bound of its tree.
    Limit {
        /// What was met, in words.
        message: String,
    },
    /// The caller's id of a start belongs to a root with another function or input.
    Conflict {
        /// What is in conflict, in words.
        message: String,
    },
    /// What was awaited is an external promise, and it was rejected.
    Rejected {
        /// Why, in the words of who did.
        message: String,
    },
    /// A step of it timed out at its last attempt, and its error type cannot say so.
    StepTimedOut {
        /// Which step, and after how long, in words.
        message: String,
    },
    /// This build cannot read its recorded error.
    Unreadable {
        /// What the decoder says.
        message: String,
    },
}

impl fmt::Display for CallFailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("timed out"),
            Self::Cancelled => f.write_str("was cancelled"),
            Self::Limit { message } => write!(f, "met a limit: {message}"),
            Self::Rejected { message } => write!(f, "was rejected: {message}"),
            Self::StepTimedOut { message } => f.write_str(message),
            Self::Conflict { message } => write!(f, "was not started: {message}"),
            Self::Unreadable { message } => write!(f, "failed with an error this build cannot read: {message}"),
        }
    }
}

/// What awaiting a call may give instead of the callee's result. It says which callee, and how it ended (F4).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError<E> {
    /// The callee returned a terminal error, which settled it.
    #[error("{function} at {path} failed (attempt {attempts})")]
    Failed {
        /// The callee, as `name@version`.
        function: String,
        /// The callee's path within its tree.
        path: String,
        /// Attempts the callee made.
        attempts: u32,
        /// The callee's error.
        #[source]
        error: E,
    },
    /// The callee returned a transient error, and no further attempt was left, or none could have ended otherwise.
    #[error("{function} at {path} was exhausted (attempt {attempts})")]
    Exhausted {
        /// The callee, as `name@version`.
        function: String,
        /// The callee's path within its tree.
        path: String,
        /// Attempts the callee made.
        attempts: u32,
        /// The callee's last error.
        #[source]
        error: E,
    },
    /// The callee ended without an error of its own: it timed out, was cancelled, or met a bound.
    #[error(transparent)]
    Ended(CallFailure),
}

impl<E> CallError<E> {
    /// The callee, as `name@version`.
    #[must_use]
    pub fn function(&self) -> &str {
        match self {
            Self::Failed { function, .. } | Self::Exhausted { function, .. } => function,
            Self::Ended(failure) => &failure.function,
        }
    }

    /// The callee's path within its tree.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Failed { path, .. } | Self::Exhausted { path, .. } => path,
            Self::Ended(failure) => &failure.path,
        }
    }

    /// Attempts the callee made.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        match self {
            Self::Failed { attempts, .. } | Self::Exhausted { attempts, .. } => *attempts,
            Self::Ended(failure) => failure.attempts,
        }
    }

    /// The callee's own error, if it ended with one.
    #[must_use]
    pub const fn error(&self) -> Option<&E> {
        match self {
            Self::Failed { error, .. } | Self::Exhausted { error, .. } => Some(error),
            Self::Ended(_) => None,
        }
    }
}

/// Why an external promise gave no value: it says which promise, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("promise {name} of {path} {kind}")]
pub struct PromiseError {
    /// The promise's name.
    pub name: String,
    /// The path of the invocation that made it.
    pub path: String,
    /// How it ended.
    pub kind: PromiseErrorKind,
}

/// How an external promise ended without a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PromiseErrorKind {
    /// Who was to settle it has rejected it.
    #[error("was rejected: {message}")]
    Rejected {
        /// Why, in the words of who did.
        message: String,
    },
    /// Its deadline passed.
    #[error("timed out")]
    TimedOut,
    /// Nobody awaits it any longer: its function has ended, or has dropped the handle. Only who looks from outside sees it.
    #[error("was cancelled")]
    Cancelled,
}

impl Failure for PromiseError {
    /// A promise that has settled never settles again.
    fn is_transient(&self) -> bool {
        false
    }
}

impl From<PromiseError> for CallFailure {
    fn from(error: PromiseError) -> Self {
        let PromiseError { name, path, kind } = error;
        let kind = match kind {
            PromiseErrorKind::Rejected { message } => CallFailureKind::Rejected { message },
            PromiseErrorKind::TimedOut => CallFailureKind::TimedOut,
            PromiseErrorKind::Cancelled => CallFailureKind::Cancelled,
        };
        Self { function: format!("promise {name}"), path, attempts: 1, kind }
    }
}

/// An error for authors who do not want an enum of their own. Any error converts into it by `?` and is transient,
/// unless its own type is a [`Failure`] that says otherwise.
///
/// Like a boxed error, it does not implement `std::error::Error` itself: only then can every error convert into it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Error {
    message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<String>,
    transient: bool,
}

impl Error {
    /// An error after which no other attempt is made.
    #[must_use]
    pub fn terminal(message: impl Into<String>) -> Self {
        Self { message: message.into(), sources: Vec::new(), transient: false }
    }

    /// An error that is worth another attempt.
    #[must_use]
    pub fn transient(message: impl Into<String>) -> Self {
        Self { message: message.into(), sources: Vec::new(), transient: true }
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        let mut sources = Vec::new();
        let mut source = error.source();
        while let Some(next) = source {
            sources.push(next.to_string());
            source = next.source();
        }
        let transient = FailureType::classify(&error).unwrap_or(true);
        Self { message: error.to_string(), sources, transient }
    }
}

impl Failure for Error {
    fn is_transient(&self) -> bool {
        self.transient
    }

    fn of_call(failure: CallFailure) -> Option<Self> {
        Some(failure.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.sources.iter().try_for_each(|source| write!(f, ": {source}"))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A failure's entry in the link-time register by which [`Error`] keeps the class of a typed error it wraps.
///
/// `#[derive(Failure)]` writes it. A wrapped `CallError` is terminal, because a settled child's error is never retried
/// (F5).
#[doc(hidden)]
pub struct FailureType {
    id: fn() -> TypeId,
    transient: IsTransient,
}

type IsTransient = fn(&dyn Any) -> bool;

impl FailureType {
    #[doc(hidden)]
    pub const fn of<F: Failure>() -> Self {
        Self { id: TypeId::of::<F>, transient: |any| any.downcast_ref::<F>().is_none_or(Failure::is_transient) }
    }

    #[doc(hidden)]
    pub const fn of_call<F: Failure>() -> Self {
        Self { id: TypeId::of::<CallError<F>>, transient: |_| false }
    }

    fn classify<E: Any>(error: &E) -> Option<bool> {
        static REGISTER: OnceLock<HashMap<TypeId, IsTransient>> = OnceLock::new();
        let register =
            REGISTER.get_or_init(|| inventory::iter::<Self>().map(|entry| ((entry.id)(), entry.transient)).collect());
        register.get(&error.type_id()).map(|transient| transient(error))
    }
}

inventory::collect!(FailureType);
inventory::submit! { FailureType { id: TypeId::of::<CallFailure>, transient: |_| false } }
inventory::submit! { FailureType { id: TypeId::of::<PromiseError>, transient: |_| false } }
inventory::submit! { FailureType::of_call::<Error>() }

impl From<LimitError> for CallFailureKind {
    fn from(error: LimitError) -> Self {
        Self::Limit { message: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_error_is_transient_and_a_settled_child_s_error_is_not() {
        let io = std::io::Error::other("down");
        assert!(Error::from(io).is_transient());
        let call =
            CallFailure { function: "f@1".into(), path: "/0".into(), attempts: 1, kind: CallFailureKind::Cancelled };
        assert!(!Error::from(call).is_transient());
    }
}
