//! Trees, in lists and as a whole.

use jiff::Timestamp;
use sapwood_core::TreeId;
use sapwood_core::journal::Entry as JournalEntry;
use sapwood_core::store::{self as core, ListedTree};
use sapwood_core::tree::{PromiseState, TreeRow};
use sapwood_engine::{EmittedView, FindingView, NodeView, TreeView, WaitsOn};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::control::ControlEntry;
use super::outcome::Rejection;
use super::promise::Promise;
use super::raw;
use super::state::{Closing, NodeState, TreeState, Urls};

/// A page of trees, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct TreeList {
    /// The trees.
    pub(crate) trees: Vec<TreeSummary>,
    /// Trees that belong on this page and of whose rows this build can read no more than the id; empty as a rule.
    pub(crate) unreadable: Vec<UnreadableTree>,
    /// The cursor of the next page; null on the last page.
    #[schema(required = true)]
    pub(crate) next_cursor: Option<String>,
}

/// A tree whose row cannot be read.
#[derive(Serialize, ToSchema)]
pub(crate) struct UnreadableTree {
    /// Its id.
    #[schema(value_type = uuid::Uuid)]
    id: TreeId,
    /// Always `unreadable`.
    #[schema(example = "unreadable")]
    state: &'static str,
    /// What is wrong with its row, in words.
    reason: String,
    /// Paths for the next requests.
    urls: Urls,
}

/// A tree, without its nodes.
#[derive(Serialize, ToSchema)]
pub(crate) struct TreeSummary {
    /// Its id; ids ascend with the time of creation.
    #[schema(value_type = uuid::Uuid)]
    id: TreeId,
    /// The root's function.
    #[schema(example = "place_order")]
    function: String,
    /// The root's version.
    #[schema(example = 1)]
    version: u32,
    /// Its state.
    state: TreeState,
    /// How far its invocations have come in undoing what they did: `compensation_failed` if a compensation of one has
    /// failed, `compensating` while one compensates, `compensated` if one has.
    closing: Closing,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When its root settles at the latest; null if it has no deadline.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    deadline: Option<Timestamp>,
    /// Whether nothing of it is left to do. A tree that timed out has its outcome before it is closed.
    closed: bool,
    /// When its root settled; null before.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    settled_at: Option<Timestamp>,
    /// Why it is parked, if a worker that claimed it set it aside because it could not drive it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    aside: Option<String>,
    /// The same in every tree and event that followed from one start, across contexts.
    correlation: String,
    /// The event, or the invocation of a consumer, that started it; null if a caller did.
    #[schema(required = true)]
    causation: Option<String>,
    /// Paths for the next requests.
    urls: Urls,
}

/// A whole tree: its row, and every invocation in one flat list.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tree {
    #[serde(flatten)]
    summary: TreeSummary,
    /// Every invocation, parents before children; the first is the root. `path` and `parent` make it a tree.
    nodes: Vec<Node>,
    /// The requests that were made for it, in order.
    requests: Vec<ControlEntry>,
}

/// One invocation of a function.
#[derive(Serialize, ToSchema)]
pub(crate) struct Node {
    /// Its identity within the tree: the positions of the calls from the root down; `/` is the root.
    #[schema(example = "/3/0")]
    path: String,
    /// Its caller's path; null for the root.
    #[schema(example = "/3", required = true)]
    parent: Option<String>,
    /// Its function.
    #[schema(example = "charge")]
    function: String,
    /// Its version, fixed when it was created.
    #[schema(example = 1)]
    version: u32,
    /// The state of its promise.
    state: NodeState,
    /// How far it has come in undoing what it did.
    closing: Closing,
    /// The function that undoes it, as `name@version`, if its caller gave one; null otherwise.
    #[schema(example = "refund@1", required = true)]
    undo: Option<String>,
    /// If it undoes an operation of its caller: that operation's position; null otherwise.
    #[schema(required = true)]
    undoes: Option<u32>,
    /// When it settles at the latest, by its own deadline or by a caller's; null if there is none.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    deadline: Option<Timestamp>,
    /// The attempt that it is in, or ended in; counted from 1.
    #[schema(example = 1, minimum = 1)]
    attempt: u32,
    /// Its input: an object of the parameters.
    #[schema(value_type = Object)]
    input: Box<RawValue>,
    /// Its result, once its body has returned one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>, nullable = false)]
    value: Option<Box<RawValue>>,
    /// Why it has no result, once it ended without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<Rejection>,
    /// When it was called.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When its promise settled; null before.
    #[schema(value_type = Option<String>, format = DateTime, required = true)]
    settled_at: Option<Timestamp>,
    /// What it waits on; never empty before it is closed, and empty afterwards.
    waits_on: Vec<NodeWait>,
    /// The external promises that it made.
    promises: Vec<Promise>,
    /// The domain events it emitted.
    events: Vec<NodeEvent>,
    /// What its author should know, found while it ran.
    findings: Vec<NodeFinding>,
    /// Its journal; only with `?timeline=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    timeline: Option<Vec<TimelineEntry>>,
}

/// Something that an invocation waits on.
#[derive(Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum NodeWait {
    /// A call: another node of the tree.
    Call {
        /// The node.
        path: String,
        /// Its function.
        function: String,
        /// Its version.
        version: u32,
    },
    /// A sleep.
    Sleep {
        /// The operation's position in the function.
        position: u32,
        /// When it ends.
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
    },
    /// An external promise: a person or a program outside settles it.
    Promise {
        /// The operation's position in the function.
        position: u32,
        /// The promise's name.
        name: String,
        /// Its id.
        id: String,
        /// When it times out, if it has a deadline of its own; null if not.
        #[schema(value_type = Option<String>, format = DateTime, required = true)]
        until: Option<Timestamp>,
    },
    /// The next attempt of a step.
    StepRetry {
        /// The operation's position in the function.
        position: u32,
        /// The step's name.
        name: String,
        /// When the next attempt begins.
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
        /// Attempts made so far.
        attempt: u32,
        /// Why the last attempt failed.
        error: String,
    },
    /// The next attempt of the function.
    FunctionRetry {
        /// When the next attempt begins.
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
        /// Attempts made so far.
        attempt: u32,
        /// Why the last attempt failed.
        error: String,
    },
    /// Its own code: its body runs, or one of its steps is in flight.
    Running {
        /// The worker it runs on.
        worker: i64,
    },
    /// A worker that claims the tree.
    Claim {
        /// When it became ready.
        #[schema(value_type = Option<String>, format = DateTime, required = true)]
        since: Option<Timestamp>,
    },
    /// A worker whose build has a version that the last worker lacked.
    Version {
        /// What is needed, as `name@version`.
        #[schema(example = "charge@2")]
        needs: String,
    },
    /// Its children: it has returned, and settles once they are closed.
    Children {
        /// The number of children that are not closed.
        open: u64,
    },
    /// An operator or a deploy: it is parked.
    Operator {
        /// Why: a code, in words, and the place in the code.
        #[schema(value_type = serde_json::Value)]
        reason: Box<RawValue>,
    },
}

/// A domain event that an invocation emitted.
#[derive(Serialize, ToSchema)]
pub(crate) struct NodeEvent {
    /// The operation's position in the function.
    position: u32,
    /// The event's id, unique within its source.
    id: String,
    /// Its CloudEvents type.
    #[schema(example = "orders.order-completed.v1")]
    r#type: String,
}

/// What the author of a function should know.
#[derive(Serialize, ToSchema)]
pub(crate) struct NodeFinding {
    /// `unused_call`: a call's handle was dropped without having been awaited. `foreign_await`: the body awaits something that
    /// is not durable beside a step. `near_limit`: the tree comes near one of its limits.
    #[schema(example = "unused_call")]
    code: String,
    /// What was found, in words.
    message: String,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    found_at: Timestamp,
}

/// A journal entry.
#[derive(Serialize, ToSchema)]
pub(crate) struct TimelineEntry {
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What it records.
    #[schema(example = "step_resolved")]
    kind: &'static str,
    /// The operation's position in the function; null if the entry is about the invocation itself.
    #[schema(required = true)]
    position: Option<u32>,
    /// The completion's number within its tree; null if the entry is not a completion.
    #[schema(required = true)]
    number: Option<u32>,
    /// The attempt that it is about; null if it is about none.
    #[schema(required = true)]
    attempt: Option<u32>,
    /// A step's name, an event's type, a started function, a promise's name; null if the kind has no name.
    #[schema(required = true)]
    name: Option<String>,
    /// Its content, in the shape of its kind.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
}

impl TreeSummary {
    pub(crate) fn of(context: &str, row: TreeRow) -> Self {
        Self {
            id: row.id,
            function: row.function,
            version: row.version,
            state: row.state.into(),
            closing: row.closing.into(),
            deadline: row.deadline,
            closed: row.state.is_closed(),
            created_at: row.created_at,
            settled_at: row.settled_at,
            aside: row.aside,
            correlation: row.cause.correlation,
            causation: row.cause.causation,
            urls: Urls::of(context, row.id),
        }
    }
}

impl TreeList {
    /// A page of these trees.
    pub(crate) fn of(context: &str, listed: Vec<ListedTree>, next_cursor: Option<String>) -> Self {
        let mut list = Self { trees: Vec::new(), unreadable: Vec::new(), next_cursor };
        for tree in listed {
            match tree {
                ListedTree::Row(row) => list.trees.push(TreeSummary::of(context, row)),
                ListedTree::Unreadable(core::UnreadableTree { id, reason }) => {
                    let urls = Urls::of(context, id);
                    list.unreadable.push(UnreadableTree { id, state: "unreadable", reason, urls });
                }
            }
        }
        list
    }
}

impl Tree {
    pub(crate) fn of(context: &str, view: TreeView, timeline: bool) -> Self {
        let nodes = view.nodes.into_iter().map(|node| Node::of(node, timeline)).collect();
        let requests = view.requests.into_iter().map(ControlEntry::from).collect();
        Self { summary: TreeSummary::of(context, view.row), nodes, requests }
    }
}

impl Node {
    fn of(view: NodeView, timeline: bool) -> Self {
        let resolved = matches!(view.promise, PromiseState::ReturnedOk | PromiseState::Resolved);
        let pending = matches!(view.promise, PromiseState::Pending);
        let bytes = view.outcome.unwrap_or_default();
        Self {
            parent: view.path.parent().map(|parent| parent.to_string()),
            path: view.path.to_string(),
            function: view.function,
            version: view.version,
            state: view.promise.into(),
            closing: view.closing.into(),
            undo: view.undo.map(|undo| undo.to_string()),
            undoes: view.undoes,
            deadline: view.deadline,
            attempt: view.attempt,
            input: raw(&view.input),
            value: resolved.then(|| raw(&bytes)),
            error: (!resolved && !pending).then(|| Rejection::of(&bytes, view.promise.name(), view.attempt)),
            created_at: view.created_at,
            settled_at: view.settled_at,
            waits_on: view.waits_on.into_iter().map(NodeWait::from).collect(),
            promises: view.promises.into_iter().map(Promise::from).collect(),
            events: view.events.into_iter().map(NodeEvent::from).collect(),
            findings: view.findings.into_iter().map(NodeFinding::from).collect(),
            timeline: timeline.then(|| view.timeline.into_iter().map(TimelineEntry::from).collect()),
        }
    }
}

impl From<WaitsOn> for NodeWait {
    fn from(waits_on: WaitsOn) -> Self {
        match waits_on {
            WaitsOn::Call { path, function, version } => Self::Call { path: path.to_string(), function, version },
            WaitsOn::Sleep { position, until } => Self::Sleep { position, until },
            WaitsOn::Promise { position, id, until } => {
                Self::Promise { position, id: id.to_string(), name: id.name, until }
            }
            WaitsOn::StepRetry { position, name, until, attempt, error } => {
                Self::StepRetry { position, name, until, attempt, error }
            }
            WaitsOn::FunctionRetry { until, attempt, error } => Self::FunctionRetry { until, attempt, error },
            WaitsOn::Running { worker } => Self::Running { worker: worker.0 },
            WaitsOn::Claim { since } => Self::Claim { since },
            WaitsOn::Version { needs } => Self::Version { needs: needs.to_string() },
            WaitsOn::Children { open } => Self::Children { open: open as u64 },
            WaitsOn::Operator { reason } => Self::Operator { reason: raw(&reason.into()) },
        }
    }
}

impl From<EmittedView> for NodeEvent {
    fn from(view: EmittedView) -> Self {
        Self { position: view.position, id: view.id.to_string(), r#type: view.cloud_type }
    }
}

impl From<FindingView> for NodeFinding {
    fn from(view: FindingView) -> Self {
        Self { code: view.code, message: view.message, found_at: view.found_at }
    }
}

impl From<(Timestamp, JournalEntry)> for TimelineEntry {
    fn from((at, entry): (Timestamp, JournalEntry)) -> Self {
        Self {
            at,
            kind: entry.kind.name(),
            position: (entry.position != JournalEntry::NO_POSITION).then_some(entry.position),
            number: entry.number,
            attempt: (entry.attempt > 0).then_some(entry.attempt),
            name: (!entry.name.is_empty()).then_some(entry.name),
            payload: raw(&entry.payload),
        }
    }
}
