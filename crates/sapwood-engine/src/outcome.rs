//! Outcomes as they are recorded, and as callers and clients read them.

use bytes::Bytes;
use sapwood_core::failure::CallFailureKind;
use sapwood_core::tree::Phase;
use sapwood_core::{CallError, CallFailure, Failure};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::registry::BodyError;

/// A rejection as it is recorded: an invocation's outcome, and the last error of a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rejection {
    /// What kind of rejection it is.
    pub kind: RejectionKind,
    /// The error in words.
    pub message: String,
    /// The error itself, where the author's own type ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<RawValue>>,
}

/// What kind of rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionKind {
    /// A terminal error of the author's own type.
    Failed,
    /// A transient error that outlived its attempts, or that a retry would only have repeated.
    Exhausted,
    /// A bound of the tree was met.
    Limit,
    /// The recorded input is none that the function can read.
    Input,
}

impl RejectionKind {
    /// The kind's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Exhausted => "exhausted",
            Self::Limit => "limit",
            Self::Input => "input",
        }
    }
}

impl Rejection {
    /// A rejection without an error of the author's own.
    #[must_use]
    pub fn of(kind: RejectionKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), error: None }
    }

    pub(crate) fn of_body(error: &BodyError) -> Self {
        let kind = if error.transient { RejectionKind::Exhausted } else { RejectionKind::Failed };
        let raw = String::from_utf8(error.error.to_vec()).ok().and_then(|text| RawValue::from_string(text).ok());
        Self { kind, message: error.message.clone(), error: raw }
    }

    /// The recorded form.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        crate::registry::encode(self)
    }

    /// Reads the recorded form.
    ///
    /// # Errors
    /// What the decoder says.
    pub fn read(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// What awaiting a call gives that did not resolve. `child` says which; its kind is decided here.
pub(crate) fn call_error<E: Failure>(
    child: CallFailure,
    phase: Phase,
    rejection: Result<Rejection, serde_json::Error>,
) -> CallError<E> {
    let ended = |kind| CallError::Ended(CallFailure { kind, ..child.clone() });
    match phase {
        Phase::TimedOut => return ended(CallFailureKind::TimedOut),
        Phase::Cancelled => return ended(CallFailureKind::Cancelled),
        Phase::Pending | Phase::ReturnedOk | Phase::ReturnedErr | Phase::Resolved | Phase::Rejected => {}
    }
    let unreadable = |message: String| ended(CallFailureKind::Unreadable { message });
    let rejection = match rejection {
        Ok(rejection) => rejection,
        Err(error) => return unreadable(error.to_string()),
    };
    match (rejection.kind, rejection.error) {
        (RejectionKind::Limit, _) => ended(CallFailureKind::Limit { message: rejection.message }),
        (RejectionKind::Input, _) | (_, None) => unreadable(rejection.message),
        (RejectionKind::Failed | RejectionKind::Exhausted, Some(error)) => match serde_json::from_str(error.get()) {
            Ok(error) => {
                let CallFailure { function, path, attempts, .. } = child;
                CallError::Failed { function, path, attempts, error }
            }
            Err(error) => unreadable(error.to_string()),
        },
    }
}
