//! Starts and outcomes: what a caller gets.

use bytes::Bytes;
use sapwood_core::TreeId;
use sapwood_core::store::TreeOutcome;
use sapwood_core::tree::TreeState as State;
use sapwood_engine::Rejection as RecordedRejection;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::raw;
use super::state::{Closing, TreeState, Urls};

/// A tree that was started, now or by an earlier request with the same id.
#[derive(Serialize, ToSchema)]
pub(crate) struct Started {
    /// The tree.
    #[schema(value_type = uuid::Uuid)]
    pub(crate) tree: TreeId,
    /// Whether this request created it.
    pub(crate) created: bool,
    /// Paths for the next requests.
    pub(crate) urls: Urls,
}

/// A tree that has no outcome yet.
#[derive(Serialize, ToSchema)]
pub(crate) struct Pending {
    /// The tree.
    #[schema(value_type = uuid::Uuid)]
    pub(crate) tree: TreeId,
    /// `running`, `suspended` or `parked`. What it waits on is shown in the tree.
    pub(crate) state: TreeState,
    /// Paths for the next requests.
    pub(crate) urls: Urls,
}

/// The outcome of a tree. It never changes, but for `closing`, if an operator has a compensation retried that failed.
#[derive(Serialize, ToSchema)]
#[schema(examples(
    json!({"tree": "01980000-0000-7000-8000-000000000001", "function": "place_order", "version": 1, "attempts": 1,
           "state": "resolved", "closing": "none", "value": {"order_id": "order-42"}}),
    json!({"tree": "01980000-0000-7000-8000-000000000001", "function": "place_order", "version": 1, "attempts": 1,
           "state": "rejected", "closing": "compensated", "error": {"kind": "failed", "message": "card declined: expired",
           "error": {"Payment": {"Declined": {"reason": "expired"}}}, "attempts": 1}})
))]
pub(crate) struct Outcome {
    /// The tree.
    #[schema(value_type = uuid::Uuid)]
    tree: TreeId,
    /// The root's function.
    #[schema(example = "place_order")]
    function: String,
    /// The root's version.
    #[schema(example = 1)]
    version: u32,
    /// Attempts that the root made.
    #[schema(example = 1)]
    attempts: u32,
    /// How it ended: `resolved`, `rejected`, `cancelled` or `timed_out`.
    state: TreeState,
    /// How far its invocations have come in undoing what they did: `none`, `compensated` or `compensation_failed`;
    /// `compensating` while a compensation that failed is retried.
    closing: Closing,
    /// The function's result, if it resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>, nullable = false)]
    value: Option<Box<RawValue>>,
    /// Why there is no result, if it did not resolve.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<Rejection>,
}

/// Why a function has no result.
#[derive(Serialize, ToSchema)]
pub(crate) struct Rejection {
    /// `failed`: the function returned a terminal error. `exhausted`: it returned a transient error in its last
    /// attempt, or one that another attempt would only have repeated. `limit`: the tree reached a limit. `input`: the
    /// function cannot read the recorded input. `cancelled`, `killed`, `timed_out`: it was cancelled, stopped
    /// without compensation, or it timed out.
    #[schema(example = "failed")]
    kind: String,
    /// The error in words.
    #[schema(example = "card declined: expired")]
    message: String,
    /// The function's own error, in the shape of its error schema; null if it ended without one.
    #[schema(value_type = serde_json::Value, required = true)]
    error: Option<Box<RawValue>>,
    /// Attempts that it made.
    #[schema(example = 1)]
    attempts: u32,
}

impl Outcome {
    /// The recorded outcome of a settled tree.
    pub(crate) fn of(tree: TreeId, recorded: TreeOutcome) -> Self {
        let resolved = matches!(recorded.state, State::Resolved);
        let bytes = recorded.outcome.unwrap_or_default();
        Self {
            tree,
            value: resolved.then(|| raw(&bytes)),
            error: (!resolved).then(|| Rejection::of(&bytes, recorded.state.name(), recorded.attempts)),
            function: recorded.function,
            version: recorded.version,
            attempts: recorded.attempts,
            state: recorded.state.into(),
            closing: recorded.closing.into(),
        }
    }
}

impl Rejection {
    /// A recorded rejection, with the number of attempts. `kind` is used if there is no readable record.
    pub(crate) fn of(bytes: &Bytes, kind: &str, attempts: u32) -> Self {
        match RecordedRejection::read(bytes) {
            Ok(RecordedRejection { kind, message, error }) => {
                Self { kind: kind.name().to_owned(), message, error, attempts }
            }
            Err(_) if bytes.is_empty() => {
                Self { kind: kind.to_owned(), message: kind.replace('_', " "), error: None, attempts }
            }
            Err(_) => Self {
                kind: kind.to_owned(),
                message: "this build cannot read the recorded error".to_owned(),
                error: Some(raw(bytes)),
                attempts,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(rejection: &Rejection) -> serde_json::Value {
        serde_json::to_value(rejection).expect("serializes")
    }

    #[test]
    fn a_rejection_is_read_whole_or_shown_as_it_stands() {
        let recorded = Bytes::from_static(br#"{"kind":"failed","message":"declined","error":{"x":1}}"#);
        let shown = serde_json::json!({"kind": "failed", "message": "declined", "error": {"x": 1}, "attempts": 3});
        assert_eq!(json(&Rejection::of(&recorded, "rejected", 3)), shown);

        let foreign = Rejection::of(&Bytes::from_static(b"17"), "rejected", 3);
        assert_eq!(json(&foreign)["error"], 17);
        assert_eq!(json(&Rejection::of(&Bytes::new(), "timed_out", 1))["message"], "timed out");
    }
}
