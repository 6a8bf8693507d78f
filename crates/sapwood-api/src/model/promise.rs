//! External promises: what they are, and what settling them came to.

use jiff::Timestamp;
use sapwood_core::{PromiseId, TreeId};
use sapwood_engine::{PromiseView, Settle};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::raw;
use super::state::NodeState;

/// An external promise of a tree.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({
    "id": "01980000-0000-7000-8000-000000000001~.3~approval", "tree": "01980000-0000-7000-8000-000000000001",
    "path": "/3", "name": "approval", "state": "resolved",
    "schema": {"type": "object", "properties": {"by": {"type": "string"}}, "required": ["by"]},
    "made_at": "2026-11-28T12:00:00Z", "deadline": "2026-12-05T12:00:00Z", "settled_at": "2026-11-28T12:30:00Z", "value": {"by": "anna"}
})))]
pub(crate) struct Promise {
    /// Its id: letters, digits and `-._~` alone, so that a link can have it as it is.
    #[schema(value_type = String, example = "01980000-0000-7000-8000-000000000001~.3~approval")]
    id: PromiseId,
    /// The tree.
    #[schema(value_type = uuid::Uuid)]
    tree: TreeId,
    /// The node that made it.
    #[schema(example = "/3")]
    path: String,
    /// The name that the function gave it.
    #[schema(example = "approval")]
    name: String,
    /// Its state: `pending`, or its outcome, which never changes: `resolved`, `rejected`, `timed_out`, or `cancelled`, if
    /// nobody awaits it any longer.
    state: NodeState,
    /// The JSON Schema of its value.
    #[schema(value_type = serde_json::Value)]
    schema: Box<RawValue>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    made_at: Timestamp,
    /// When it times out, if it has a deadline of its own; null if not.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    deadline: Option<Timestamp>,
    /// When it was settled; null if it was not.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    settled_at: Option<Timestamp>,
    /// Its value, if it was resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>, nullable = false)]
    value: Option<Box<RawValue>>,
    /// Why it was rejected, if it was, in the words of who did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<String>,
}

/// The external promises of a tree.
#[derive(Serialize, ToSchema)]
pub(crate) struct PromiseList {
    /// The promises, those of parents before those of children.
    pub(crate) promises: Vec<Promise>,
}

/// What a settle came to.
#[derive(Serialize, ToSchema)]
#[schema(examples(json!({"id": "01980000-0000-7000-8000-000000000001~.3~approval", "effect": "stored"})))]
pub(crate) struct Settled {
    /// The promise.
    #[schema(value_type = String, example = "01980000-0000-7000-8000-000000000001~.3~approval")]
    pub(crate) id: PromiseId,
    /// `stored`: it is the promise's outcome. `already`: the promise was settled before, in the same way.
    #[schema(example = "stored")]
    pub(crate) effect: &'static str,
}

/// The recorded outcome of a promise.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Resolved(Box<RawValue>),
    Rejected { message: String },
    TimedOut,
}

impl From<PromiseView> for Promise {
    fn from(view: PromiseView) -> Self {
        let (value, message) = match view.outcome.as_deref().map(serde_json::from_slice) {
            Some(Ok(Outcome::Resolved(value))) => (Some(value), None),
            Some(Ok(Outcome::Rejected { message })) => (None, Some(message)),
            Some(Ok(Outcome::TimedOut)) => (None, None),
            // Another build wrote it; the state is known all the same.
            Some(Err(_)) | None => (None, None),
        };
        Self {
            tree: view.id.tree,
            path: view.id.path.to_string(),
            name: view.id.name.clone(),
            id: view.id,
            state: view.state.into(),
            schema: raw(&view.schema),
            made_at: view.made_at,
            deadline: view.deadline,
            settled_at: view.settled_at,
            value,
            message,
        }
    }
}

/// What a settle came to, in one word.
pub(crate) const fn effect(settle: Settle) -> &'static str {
    match settle {
        Settle::Stored => "stored",
        Settle::Already => "already",
    }
}
