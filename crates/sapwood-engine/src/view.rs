//! A whole tree for a reader: every node with what it waits on (G1, G2). Pure: rows in, view out.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::control::ControlRecord;
use sapwood_core::journal::{Entry, EntryKind};
use sapwood_core::tree::{
    Closing, InvocationRow, PromiseRow, PromiseState, SettledPromise, Timer, TimerKind, TreeRecord, TreeRow,
};
use sapwood_core::{EventId, FunctionVersion, Path, Position, PromiseId, TreeId, WorkerId};

use crate::payload::{Found, PromiseMade, Retried, StepRetried, decode};

/// A whole tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeView {
    /// Its row.
    pub row: TreeRow,
    /// Its invocations, parents before children.
    pub nodes: Vec<NodeView>,
    /// The requests that were made for it, in order.
    pub requests: Vec<ControlRecord>,
}

/// One invocation of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its path in the tree.
    pub path: Path,
    /// Its function.
    pub function: String,
    /// Its version.
    pub version: u32,
    /// The state of its promise.
    pub promise: PromiseState,
    /// How far its compensation has come.
    pub closing: Closing,
    /// The function that undoes it, if its caller gave one.
    pub undo: Option<FunctionVersion>,
    /// The position of the operation of its caller that it undoes.
    pub undoes: Option<Position>,
    /// When it settles at the latest: by its own deadline, or by that of a caller.
    pub deadline: Option<Timestamp>,
    /// The attempt it is in, or ended in.
    pub attempt: u32,
    /// Its input: JSON.
    pub input: Bytes,
    /// Its result, or its rejection: JSON.
    pub outcome: Option<Bytes>,
    /// Why it is parked: JSON.
    pub parked: Option<Bytes>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its promise settled.
    pub settled_at: Option<Timestamp>,
    /// What it waits on; empty once it is closed, and never before.
    pub waits_on: Vec<WaitsOn>,
    /// The external promises that it made.
    pub promises: Vec<PromiseView>,
    /// The events it emitted.
    pub events: Vec<EmittedView>,
    /// What its author should know, found while it ran.
    pub findings: Vec<FindingView>,
    /// Its journal, with when each entry was recorded.
    pub timeline: Vec<(Timestamp, Entry)>,
}

/// An event that an invocation emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmittedView {
    /// Its position in program order.
    pub position: Position,
    /// The event.
    pub id: EventId,
    /// Its CloudEvents type.
    pub cloud_type: String,
}

/// What the author of a function should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindingView {
    /// What was found: the name of a [`FindingCode`](crate::FindingCode).
    pub code: String,
    /// In words.
    pub message: String,
    /// When it was recorded.
    pub found_at: Timestamp,
}

/// An external promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromiseView {
    /// Its identity.
    pub id: PromiseId,
    /// Its position in program order.
    pub position: Position,
    /// Its state: pending, resolved, rejected, cancelled once nobody awaits it any longer, or timed out.
    pub state: PromiseState,
    /// The JSON Schema of its value.
    pub schema: Bytes,
    /// When it was made.
    pub made_at: Timestamp,
    /// Its own deadline.
    pub deadline: Option<Timestamp>,
    /// When it was settled.
    pub settled_at: Option<Timestamp>,
    /// What settled it: JSON, `{"resolved":…}`, `{"rejected":{"message":…}}` or `"timed_out"`.
    pub outcome: Option<Bytes>,
}

impl PromiseView {
    /// The view of a promise of a tree.
    pub(crate) fn of(tree: TreeId, row: PromiseRow) -> Self {
        let state = row.state();
        let (settled_at, outcome) = row.settled.map(|settled| (settled.settled_at, settled.outcome)).unzip();
        let made = decode::<PromiseMade>(&row.made).ok();
        let schema = made.as_ref().map(|made| Bytes::copy_from_slice(made.schema.get().as_bytes()));
        Self {
            id: PromiseId { tree, path: row.path, name: row.name },
            position: row.position,
            state,
            // By a schema that this build cannot read, nothing fits.
            schema: schema.unwrap_or_else(|| Bytes::from_static(b"false")),
            made_at: row.made_at,
            deadline: made.and_then(|made| made.deadline),
            settled_at,
            outcome,
        }
    }
}

/// What an invocation waits on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitsOn {
    /// A child.
    Call {
        /// The child's path.
        path: Path,
        /// Its function.
        function: String,
        /// Its version.
        version: u32,
    },
    /// A sleep.
    Sleep {
        /// Its position in program order.
        position: Position,
        /// Its end.
        until: Timestamp,
    },
    /// An external promise.
    Promise {
        /// Its position in program order.
        position: Position,
        /// Its identity.
        id: PromiseId,
        /// Its own deadline.
        until: Option<Timestamp>,
    },
    /// The next attempt of a step.
    StepRetry {
        /// Its position in program order.
        position: Position,
        /// The step's name.
        name: String,
        /// When it is due.
        until: Timestamp,
        /// Attempts made.
        attempt: u32,
        /// What the last one ended with.
        error: String,
    },
    /// Its own next attempt.
    FunctionRetry {
        /// When it is due.
        until: Timestamp,
        /// Attempts made.
        attempt: u32,
        /// What the last one ended with.
        error: String,
    },
    /// Nothing: it runs, or a step of it is in flight, on the worker that owns its tree.
    Running {
        /// The worker.
        worker: WorkerId,
    },
    /// A worker that claims its tree.
    Claim {
        /// Since when the tree has been ready.
        since: Option<Timestamp>,
    },
    /// A worker that has this version.
    Version {
        /// The version.
        needs: FunctionVersion,
    },
    /// Children that are still open; its outcome is decided.
    Children {
        /// How many.
        open: usize,
    },
    /// An operator, or a deploy.
    Operator {
        /// What is wrong, in words.
        reason: String,
    },
}

impl TreeView {
    /// The view of a tree's rows.
    pub(crate) fn of(record: TreeRecord) -> Self {
        let TreeRecord { row, invocations, entries, timers, requests, settled } = record;
        let mut timelines: BTreeMap<Path, Vec<(Timestamp, Entry)>> = BTreeMap::new();
        for (path, at, entry) in entries {
            timelines.entry(path).or_default().push((at, entry));
        }
        // By the parent, and by the invocation: each node looks at its own only.
        let mut open: HashMap<Path, Vec<WaitsOn>> = HashMap::new();
        let decided: HashSet<Path> = invocations
            .iter()
            .filter(|row| row.invocation.state.promise != PromiseState::Pending)
            .map(|row| row.invocation.path.clone())
            .collect();
        for InvocationRow { invocation, .. } in &invocations {
            // What only compensates again keeps its caller from closing, and from nothing else.
            let keeps = |parent: &Path| {
                !invocation.state.promise.is_closed() || !invocation.state.is_closed() && decided.contains(parent)
            };
            if let Some(parent) = invocation.path.parent().filter(keeps) {
                open.entry(parent).or_default().push(WaitsOn::Call {
                    path: invocation.path.clone(),
                    function: invocation.function.clone(),
                    version: invocation.version,
                });
            }
        }
        let mut due: HashMap<Path, Vec<Timer>> = HashMap::new();
        for timer in timers {
            due.entry(timer.path.clone()).or_default().push(timer);
        }
        let mut settled_of: HashMap<Path, HashMap<Position, SettledPromise>> = HashMap::new();
        for settled in settled {
            settled_of.entry(settled.path.clone()).or_default().insert(settled.position, settled);
        }
        let mut deadlines: HashMap<Path, Timestamp> = HashMap::new();
        let nodes = invocations
            .into_iter()
            .map(|node| {
                let path = &node.invocation.path;
                // A caller comes before what it called. What undoes something has no deadline of a caller.
                let of_caller = path.parent().filter(|_| path.undoes().is_none());
                let of_caller = of_caller.and_then(|caller| deadlines.get(&caller).copied());
                let deadline = node.invocation.deadline.or(of_caller);
                deadlines.extend(deadline.map(|deadline| (path.clone(), deadline)));
                let timeline = timelines.remove(path).unwrap_or_default();
                let (open, due) = (open.remove(path).unwrap_or_default(), due.remove(path).unwrap_or_default());
                let promises = promises(row.id, &node, &timeline, settled_of.remove(path).unwrap_or_default());
                NodeView { deadline, ..node_view(&row, node, timeline, (open, promises), &due) }
            })
            .collect();
        Self { row, nodes, requests }
    }
}

fn node_view(
    tree: &TreeRow,
    node: InvocationRow,
    timeline: Vec<(Timestamp, Entry)>,
    (open, promises): (Vec<WaitsOn>, Vec<PromiseView>),
    timers: &[Timer],
) -> NodeView {
    let waits_on = waits_on(tree, &node, &timeline, (open, &promises), timers);
    let InvocationRow { invocation, created_at, settled_at } = node;
    NodeView {
        promises,
        events: events(tree.id, &invocation.path, &timeline),
        findings: findings(&timeline),
        undoes: invocation.path.undoes(),
        undo: invocation.undo,
        path: invocation.path,
        function: invocation.function,
        version: invocation.version,
        promise: invocation.state.promise,
        closing: invocation.state.closing,
        deadline: invocation.deadline,
        attempt: invocation.state.attempt,
        input: invocation.input,
        outcome: invocation.state.outcome,
        parked: invocation.state.parked,
        created_at,
        settled_at,
        waits_on,
        timeline,
    }
}

fn events(tree: TreeId, path: &Path, timeline: &[(Timestamp, Entry)]) -> Vec<EmittedView> {
    timeline
        .iter()
        .filter(|(_, entry)| entry.kind == EntryKind::Emitted)
        .map(|(_, entry)| EmittedView {
            position: entry.position,
            id: EventId::of(tree, path, entry.position),
            cloud_type: entry.name.clone(),
        })
        .collect()
}

fn findings(timeline: &[(Timestamp, Entry)]) -> Vec<FindingView> {
    let found = timeline.iter().filter(|(_, entry)| entry.kind == EntryKind::Found);
    found
        .map(|(at, entry)| FindingView {
            code: entry.name.clone(),
            message: decode::<Found>(&entry.payload).map(|found| found.message).unwrap_or_default(),
            found_at: *at,
        })
        .collect()
}

/// The external promises that an invocation made.
fn promises(
    tree: TreeId,
    node: &InvocationRow,
    timeline: &[(Timestamp, Entry)],
    mut settled: HashMap<Position, SettledPromise>,
) -> Vec<PromiseView> {
    let of_kind = |kind| timeline.iter().filter(move |(_, entry)| entry.kind == kind);
    let dropped: HashSet<Position> = of_kind(EntryKind::Dropped).map(|(_, entry)| entry.position).collect();
    let is_pending = node.invocation.state.promise == PromiseState::Pending;
    let made = of_kind(EntryKind::PromiseMade).map(|(made_at, entry)| PromiseRow {
        path: node.invocation.path.clone(),
        position: entry.position,
        name: entry.name.clone(),
        made: entry.payload.clone(),
        made_at: *made_at,
        is_awaited: is_pending && !dropped.contains(&entry.position),
        deadline: None,
        settled: settled.remove(&entry.position),
    });
    made.map(|row| PromiseView::of(tree, row)).collect()
}

fn waits_on(
    tree: &TreeRow,
    node: &InvocationRow,
    timeline: &[(Timestamp, Entry)],
    (open, promises): (Vec<WaitsOn>, &[PromiseView]),
    timers: &[Timer],
) -> Vec<WaitsOn> {
    let state = &node.invocation.state;
    if state.is_closed() {
        return Vec::new();
    }
    if let Some(reason) = &tree.aside {
        let reason = serde_json::json!({ "code": "set_aside", "message": reason }).to_string();
        return vec![WaitsOn::Operator { reason }];
    }
    if let Some(parked) = &state.parked {
        let reason = String::from_utf8_lossy(parked).into_owned();
        return vec![WaitsOn::Operator { reason }];
    }
    if state.promise != PromiseState::Pending {
        // A step that was in flight when it was cancelled may still be.
        return vec![if open.is_empty() { runs(tree) } else { WaitsOn::Children { open: open.len() } }];
    }
    let errors = last_errors(timers, timeline);
    let timers =
        timers.iter().filter_map(|timer| timer_view(timer, state.attempt, errors.get(&timer.position).copied()));
    let pending = promises.iter().filter(|promise| promise.state == PromiseState::Pending);
    let pending = pending.map(|promise| WaitsOn::Promise {
        position: promise.position,
        id: promise.id.clone(),
        until: promise.deadline,
    });
    let mut waits: Vec<WaitsOn> = open.into_iter().chain(timers).chain(pending).collect();
    // The worker that claimed the tree lacked this version: the node waits for it, whatever else is due.
    let is_needed = tree
        .needs
        .as_ref()
        .is_some_and(|needs| (needs.name(), needs.version()) == (&*node.invocation.function, node.invocation.version));
    // The rows of an owned tree may be behind its worker's memory: if they show nothing to wait on, it runs.
    if state.seen.is_none() || waits.is_empty() || is_needed {
        waits.push(runs(tree));
    }
    waits
}

/// What a runnable node waits on: nothing, if a worker has its tree, else a worker that claims it.
fn runs(tree: &TreeRow) -> WaitsOn {
    match (&tree.needs, tree.owner) {
        (Some(needs), _) => WaitsOn::Version { needs: needs.clone() },
        (None, Some(worker)) => WaitsOn::Running { worker },
        (None, None) => WaitsOn::Claim { since: tree.ready_at },
    }
}

/// The last entry of each operation that waits for its next attempt: it has the error of the last one.
fn last_errors<'t>(timers: &[Timer], timeline: &'t [(Timestamp, Entry)]) -> HashMap<Position, &'t Entry> {
    if timers.iter().all(|timer| matches!(timer.kind, TimerKind::Sleep | TimerKind::Promise)) {
        return HashMap::new();
    }
    let is_retry = |entry: &&Entry| matches!(entry.kind, EntryKind::StepRetried | EntryKind::Retried);
    timeline.iter().map(|(_, entry)| entry).filter(is_retry).map(|entry| (entry.position, entry)).collect()
}

fn timer_view(timer: &Timer, attempt: u32, last: Option<&Entry>) -> Option<WaitsOn> {
    let (position, until) = (timer.position, timer.due_at);
    Some(match timer.kind {
        TimerKind::Sleep => WaitsOn::Sleep { position, until },
        TimerKind::StepRetry => {
            let error = last.and_then(|entry| decode::<StepRetried>(&entry.payload).ok());
            WaitsOn::StepRetry {
                position,
                name: last.map(|entry| entry.name.clone()).unwrap_or_default(),
                until,
                attempt: last.map_or(0, |entry| entry.attempt),
                error: error.map(|payload| payload.message).unwrap_or_default(),
            }
        }
        TimerKind::FunctionRetry => {
            let error = last.and_then(|entry| decode::<Retried>(&entry.payload).ok());
            let error = error.map(|payload| payload.message).unwrap_or_default();
            WaitsOn::FunctionRetry { until, attempt: attempt.saturating_sub(1), error }
        }
        // It waits for the promise, not for its deadline.
        TimerKind::Promise => return None,
    })
}

impl std::fmt::Display for NodeView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {}", self.path, FunctionVersion::new(&*self.function, self.version), self.promise.name())
    }
}
