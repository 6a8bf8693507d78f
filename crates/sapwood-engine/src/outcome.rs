//! A child's outcome, as its caller reads it.

use sapwood_core::failure::CallFailureKind;
use sapwood_core::tree::PromiseState;
use sapwood_core::{CallError, CallFailure, Failure};

use crate::payload::{PayloadError, Rejection, RejectionKind};

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
