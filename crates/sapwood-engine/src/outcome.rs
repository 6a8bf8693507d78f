//! Outcomes, as those read them who awaited them: of a child its caller, of an external promise its function.

use sapwood_core::failure::{CallFailureKind, PromiseErrorKind};
use sapwood_core::tree::PromiseState;
use sapwood_core::{CallError, CallFailure, Failure, PromiseError, PromiseId};
use serde::de::DeserializeOwned;

use crate::payload::{PayloadError, PromiseOutcome, Rejection, RejectionKind, decode};

/// The error that the caller of a child which did not resolve receives. `child` names the child; the kind is decided
/// here.
pub(crate) fn call_error<E: Failure>(
    child: CallFailure,
    promise: PromiseState,
    rejection: Result<Rejection, PayloadError>,
) -> CallError<E> {
    let ended = |kind| CallError::Ended(CallFailure { kind, ..child.clone() });
    match promise {
        PromiseState::TimingOut | PromiseState::TimedOut => return ended(CallFailureKind::TimedOut),
        PromiseState::Cancelled => return ended(CallFailureKind::Cancelled),
        PromiseState::Pending
        | PromiseState::ReturnedOk
        | PromiseState::ReturnedErr
        | PromiseState::Cancelling
        | PromiseState::Resolved
        | PromiseState::Rejected => {}
    }
    let unreadable = |message: String| ended(CallFailureKind::Unreadable { message });
    let rejection = match rejection {
        Ok(rejection) => rejection,
        Err(error) => return unreadable(error.to_string()),
    };
    match (rejection.kind, rejection.error) {
        (RejectionKind::Limit, _) => ended(CallFailureKind::Limit { message: rejection.message }),
        (RejectionKind::StepTimedOut, _) => ended(CallFailureKind::StepTimedOut { message: rejection.message }),
        (RejectionKind::Input | RejectionKind::Cancelled | RejectionKind::Killed, _) | (_, None) => {
            unreadable(rejection.message)
        }
        (kind @ (RejectionKind::Failed | RejectionKind::Exhausted), Some(error)) => {
            let error = match serde_json::from_str(error.get()) {
                Ok(error) => error,
                Err(error) => return unreadable(error.to_string()),
            };
            let CallFailure { function, path, attempts, .. } = child;
            match kind {
                RejectionKind::Exhausted => CallError::Exhausted { function, path, attempts, error },
                _ => CallError::Failed { function, path, attempts, error },
            }
        }
    }
}

/// What an external promise settled with.
///
/// # Errors
/// [`PayloadError`] if its value is not that of a `T`.
pub(crate) fn promise_outcome<T: DeserializeOwned>(
    id: &PromiseId,
    outcome: PromiseOutcome,
) -> Result<Result<T, PromiseError>, PayloadError> {
    Ok(match outcome {
        PromiseOutcome::Resolved(value) => Ok(decode(value.get().as_bytes())?),
        PromiseOutcome::Rejected { message } => Err(promise_error(id, PromiseErrorKind::Rejected { message })),
        PromiseOutcome::TimedOut => Err(promise_error(id, PromiseErrorKind::TimedOut)),
    })
}

/// The error of an external promise that ended without a value.
pub(crate) fn promise_error(id: &PromiseId, kind: PromiseErrorKind) -> PromiseError {
    PromiseError { name: id.name.clone(), path: id.path.to_string(), kind }
}
