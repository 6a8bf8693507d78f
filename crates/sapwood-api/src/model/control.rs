//! What requests for trees came to, and those that were made.

use jiff::Timestamp;
use sapwood_core::TreeId;
use sapwood_core::control::{ControlRecord, ControlRequest};
use sapwood_core::store::NoEffect;
use sapwood_engine::Effect;
use serde::Serialize;
use utoipa::ToSchema;

use super::state::NodeState;

/// What a request for a tree came to.
#[derive(Serialize, ToSchema)]
#[schema(examples(
    json!({"tree": "01980000-0000-7000-8000-000000000001", "path": "/", "verb": "cancel", "effect": "accepted",
           "why": null, "detail": null, "state": null}),
    json!({"tree": "01980000-0000-7000-8000-000000000001", "path": "/", "verb": "cancel", "effect": "none",
           "why": "settled", "detail": "it is resolved: an outcome never changes, and nothing of it is left to do",
           "state": "resolved"})
))]
pub(crate) struct Controlled {
    /// The tree.
    #[schema(value_type = uuid::Uuid)]
    tree: TreeId,
    /// The invocation that was named; it is reached with all below it.
    #[schema(example = "/")]
    path: String,
    /// What was asked for: `cancel`, `kill`, `resume` or `retry`.
    #[schema(example = "cancel")]
    verb: &'static str,
    /// `accepted`: the request is recorded, and is carried out. `none`: it changes nothing, and nothing is recorded.
    #[schema(example = "accepted")]
    effect: &'static str,
    /// Why it changes nothing: `settled` (the invocation has its outcome, and nothing is left to do), `decided` (its
    /// outcome is decided and stands; it only closes), `requested` (the same, or more, was asked for before), `not_parked`
    /// (nothing of it is parked, and no compensation of it has failed). Null if it was accepted.
    #[schema(required = true)]
    why: Option<&'static str>,
    /// The same in words; null if it was accepted.
    #[schema(required = true)]
    detail: Option<String>,
    /// The state of the invocation, if that is why the request changes nothing; else null.
    #[schema(required = true)]
    state: Option<NodeState>,
}

/// A request that was made for a tree.
#[derive(Serialize, ToSchema)]
pub(crate) struct ControlEntry {
    /// What was asked for: `cancel`, `kill`, `resume` or `retry`.
    #[schema(example = "cancel")]
    verb: &'static str,
    /// The invocation that it named.
    #[schema(example = "/")]
    path: String,
    /// Who asked.
    #[schema(example = "anna@example.com")]
    actor: String,
    /// Why.
    #[schema(example = "the customer withdrew the order")]
    reason: String,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
}

impl Controlled {
    pub(crate) fn of(tree: TreeId, request: &ControlRequest, effect: Effect) -> Self {
        let (effect, why) = match effect {
            Effect::Accepted => ("accepted", None),
            Effect::None(why) => ("none", Some(why)),
        };
        let state = why.and_then(|why| match why {
            NoEffect::Settled(state) | NoEffect::Decided(state) => Some(state.into()),
            NoEffect::Requested | NoEffect::NotParked => None,
        });
        let (code, detail) = (why.map(NoEffect::code), why.map(|why| why.to_string()));
        Self { tree, path: request.path.to_string(), verb: request.verb.name(), effect, why: code, detail, state }
    }
}

impl From<ControlRecord> for ControlEntry {
    fn from(record: ControlRecord) -> Self {
        let ControlRecord { request: ControlRequest { path, verb, actor, reason }, requested_at, .. } = record;
        Self { verb: verb.name(), path: path.to_string(), actor, reason, requested_at }
    }
}
