//! The states of trees and of their nodes, and the paths to them, which lists, outcomes and whole trees share.

use sapwood_core::TreeId;
use serde::Serialize;
use utoipa::ToSchema;

/// The state of a tree: `running` (something in it runs, or waits to be claimed), `suspended` (everything in it waits,
/// and it holds nothing), `parked` (it needs an operator or a deploy), or the outcome of its root. Only `timed_out` may be
/// the state of a tree that is not closed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TreeState {
    Running,
    Suspended,
    Parked,
    Resolved,
    Rejected,
    Cancelled,
    TimedOut,
}

/// The state of an invocation's promise: `pending`; `returned` or `cancelling` (its outcome is decided, and settles once
/// nothing is left to close); or its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NodeState {
    Pending,
    Returned,
    Cancelling,
    Resolved,
    Rejected,
    Cancelled,
    TimedOut,
}

/// How far an invocation that did not resolve has come in undoing what it did: `none`, `compensating`, `compensated` or
/// `compensation_failed` (one failed; the others were tried all the same).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = NodeClosing)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Closing {
    None,
    Compensating,
    Compensated,
    CompensationFailed,
}

/// Paths of a tree on this process.
#[derive(Serialize, ToSchema)]
#[schema(as = TreeUrls)]
pub(crate) struct Urls {
    /// The whole tree.
    #[schema(format = "uri-reference", example = "/v1/orders/trees/01980000-0000-7000-8000-000000000001")]
    tree: String,
    /// Its outcome; `?wait=30s` waits for it.
    #[schema(format = "uri-reference", example = "/v1/orders/trees/01980000-0000-7000-8000-000000000001/result")]
    result: String,
}

/// The path of a tree.
pub(crate) fn tree_url(context: &str, tree: TreeId) -> String {
    format!("/v1/{context}/trees/{tree}")
}

impl Urls {
    pub(crate) fn of(context: &str, tree: TreeId) -> Self {
        let tree = tree_url(context, tree);
        Self { result: format!("{tree}/result"), tree }
    }
}

impl From<sapwood_core::tree::TreeState> for TreeState {
    fn from(state: sapwood_core::tree::TreeState) -> Self {
        use sapwood_core::tree::TreeState as Core;
        match state {
            Core::Running => Self::Running,
            Core::Suspended => Self::Suspended,
            Core::Parked => Self::Parked,
            Core::Resolved => Self::Resolved,
            Core::Rejected => Self::Rejected,
            Core::Cancelled => Self::Cancelled,
            Core::TimingOut | Core::TimedOut => Self::TimedOut,
        }
    }
}

impl From<sapwood_core::tree::PromiseState> for NodeState {
    fn from(promise: sapwood_core::tree::PromiseState) -> Self {
        use sapwood_core::tree::PromiseState;
        match promise {
            PromiseState::Pending => Self::Pending,
            PromiseState::ReturnedOk | PromiseState::ReturnedErr => Self::Returned,
            PromiseState::Cancelling => Self::Cancelling,
            PromiseState::Resolved => Self::Resolved,
            PromiseState::Rejected => Self::Rejected,
            PromiseState::Cancelled => Self::Cancelled,
            PromiseState::TimingOut | PromiseState::TimedOut => Self::TimedOut,
        }
    }
}

impl From<sapwood_core::tree::Closing> for Closing {
    fn from(closing: sapwood_core::tree::Closing) -> Self {
        use sapwood_core::tree::Closing as Core;
        match closing {
            Core::None | Core::Undoable => Self::None,
            Core::Compensating => Self::Compensating,
            Core::Compensated => Self::Compensated,
            Core::CompensationFailed => Self::CompensationFailed,
        }
    }
}
