//! The open invocations of one tree, with what the driver asks of all of them at each turn: which keep the tree owned,
//! which wait for durability. Pure.
//!
//! The answers are kept beside the nodes as these change, because a tree of ten thousand would otherwise be walked at
//! each event of one of them. So a node's status and its work are changed here alone. What the nodes take of memory is
//! kept as well: a node that was touched is measured again, and no other one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use bytes::Bytes;
use sapwood_core::Path;

use super::node::{Move, Node, NodeId, Status};
use crate::activation::{Notice, Work};

/// What a node takes of memory besides payloads: itself, and its places in the tables. An estimate.
const NODE_BYTES: usize = 1024;

/// The open invocations of one tree.
#[derive(Default)]
pub(super) struct Nodes {
    by_id: BTreeMap<NodeId, Box<Kept>>,
    by_path: HashMap<Path, NodeId>,
    /// Ids are never used again, so a late wake finds no other node.
    next: NodeId,
    /// Those that run, or could run at once.
    active: BTreeSet<NodeId>,
    /// Those whose journal is to be read.
    load_wanted: BTreeSet<NodeId>,
    /// Those with a step or a start that waits for durability.
    wanting: BTreeSet<NodeId>,
    /// Those with something under way that ends by itself: a step, a start, the reading of a journal.
    in_flight: BTreeSet<NodeId>,
    parked: BTreeSet<NodeId>,
    /// Those that may have changed since they were measured.
    touched: Vec<NodeId>,
    /// What all of them took when they were measured.
    bytes: usize,
}

impl Nodes {
    pub(super) fn add(&mut self, node: Node) -> NodeId {
        let id = self.next;
        self.next += 1;
        self.by_path.insert(node.path.clone(), id);
        self.by_id.insert(id, Box::new(Kept { node, measured: None, places: Places::default() }));
        self.touched.push(id);
        self.index(id);
        id
    }

    pub(super) fn remove(&mut self, id: NodeId) -> Option<Node> {
        let kept = self.by_id.remove(&id)?;
        self.by_path.remove(&kept.node.path);
        self.bytes -= kept.measured.unwrap_or(0);
        self.move_between(id, kept.places, Places::default());
        Some(kept.node)
    }

    pub(super) fn get(&self, id: NodeId) -> Option<&Node> {
        self.by_id.get(&id).map(|kept| &kept.node)
    }

    /// A node, for all changes but those of its status and its work.
    pub(super) fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        let kept = self.by_id.get_mut(&id)?;
        if let Some(bytes) = kept.measured.take() {
            self.bytes -= bytes;
            self.touched.push(id);
        }
        Some(&mut kept.node)
    }

    /// The node at a path.
    pub(super) fn at(&self, path: &Path) -> Option<NodeId> {
        self.by_path.get(path).copied()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.by_id.keys().copied()
    }

    /// Moves the status of a node on; `false` if this cannot happen to it, or it is settled.
    pub(super) fn on(&mut self, id: NodeId, by: Move) -> bool {
        let has_moved = self.get_mut(id).is_some_and(|node| node.on(by));
        if has_moved {
            self.index(id);
        }
        has_moved
    }

    pub(super) fn set_work(&mut self, id: NodeId, work: Work) {
        if let Some(node) = self.get_mut(id)
            && node.work != work
        {
            node.work = work;
            self.index(id);
        }
    }

    /// Those that run, or could run at once.
    pub(super) fn active(&self) -> impl Iterator<Item = &Node> {
        self.active.iter().filter_map(|id| self.get(*id))
    }

    pub(super) fn active_ids(&self) -> Vec<NodeId> {
        self.active.iter().copied().collect()
    }

    /// Those whose journal is to be read.
    pub(super) fn load_wanted(&self) -> Vec<NodeId> {
        self.load_wanted.iter().copied().collect()
    }

    /// The first of those created after `after` with a step or a start that waits for durability.
    pub(super) fn wanting_after(&self, after: Option<NodeId>) -> Option<NodeId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.wanting.range((from, Bound::Unbounded)).next().copied()
    }

    pub(super) fn is_any_in_flight(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// Whether anything waits for everything recorded to be durable.
    pub(super) fn wants(&self) -> bool {
        !self.load_wanted.is_empty() || !self.wanting.is_empty()
    }

    pub(super) fn parked_ids(&self) -> Vec<NodeId> {
        self.parked.iter().copied().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty()
    }

    /// What they take of memory with their bodies, in bytes; an estimate. Asked are the bodies of those that were touched.
    pub(super) fn bytes(&mut self, of_body: impl Fn(NodeId) -> usize) -> usize {
        for id in std::mem::take(&mut self.touched) {
            if let Some(kept) = self.by_id.get_mut(&id) {
                let bytes = NODE_BYTES + payloads(&kept.node) + of_body(id);
                kept.measured = Some(bytes);
                self.bytes += bytes;
            }
        }
        self.bytes
    }

    /// Keeps a node in those tables that it belongs into now.
    fn index(&mut self, id: NodeId) {
        let Some(kept) = self.by_id.get_mut(&id) else { return };
        let now = Places::of(&kept.node);
        let before = std::mem::replace(&mut kept.places, now);
        self.move_between(id, before, now);
    }

    fn move_between(&mut self, id: NodeId, before: Places, now: Places) {
        let tables = [
            (&mut self.active, before.active, now.active),
            (&mut self.load_wanted, before.load_wanted, now.load_wanted),
            (&mut self.wanting, before.wanting, now.wanting),
            (&mut self.in_flight, before.in_flight, now.in_flight),
            (&mut self.parked, before.parked, now.parked),
        ];
        for (table, was, is) in tables {
            if was && !is {
                table.remove(&id);
            } else if is && !was {
                table.insert(id);
            }
        }
    }
}

fn payloads(node: &Node) -> usize {
    let notices: usize = node.notices.iter().map(Notice::bytes).sum();
    node.input.as_ref().map_or(0, Bytes::len) + node.state.outcome.as_ref().map_or(0, Bytes::len) + notices
}

/// A node, in a box of the table.
struct Kept {
    node: Node,
    /// What it took of memory when it was measured; `None` if it was touched since.
    measured: Option<usize>,
    places: Places,
}

/// In which tables a node is.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    active: bool,
    load_wanted: bool,
    wanting: bool,
    in_flight: bool,
    parked: bool,
}

impl Places {
    fn of(node: &Node) -> Self {
        Self {
            active: node.is_active(),
            load_wanted: matches!(node.status(), Status::LoadWanted | Status::UndosWanted),
            wanting: node.status() == Status::Active && node.work.is_wanted,
            in_flight: node.is_in_flight(),
            parked: node.status() == Status::Parked,
        }
    }
}
