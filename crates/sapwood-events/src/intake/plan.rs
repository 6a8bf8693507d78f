//! Decides without I/O what to do with a batch of records: what starts a tree, what is skipped, how offsets move.

use std::collections::{BTreeMap, VecDeque};

use sapwood_core::TreeId;
use sapwood_core::broker::{Consumed, TopicPartition};
use sapwood_core::json::canonical;
use sapwood_core::store::{AssignedPartition, Intake, KeyScope, NewTree, OffsetAdvance, Start, StartKey};
use sapwood_core::tree::Cause;
use sapwood_engine::Delivered;
use tokio::time::Instant;

use crate::cloud::{self, Envelope};
use crate::groups::{Group, Target};

/// The most records in one commit: enough to share the cost of a commit, and few enough to keep it short.
const ROWS: usize = 500;
/// The most bytes of content in one commit, unless a single record has more. It bounds the memory of a commit if
/// records are large.
const BYTES: usize = 4 * 1024 * 1024;

/// The partitions this member has, with the epochs of their assignments.
#[derive(Debug, Default)]
pub(super) struct Assignments {
    partitions: BTreeMap<(String, i32), Assignment>,
}

/// How the store stands to what this member remembers of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It has the same.
    Agreed,
    /// It has assigned the partition to another member since.
    Taken,
    /// It lost what this member remembers.
    WentBack,
}

/// Whether a partition that the broker assigned to this member is assigned to it by the store too.
#[derive(Debug)]
enum Assignment {
    Mine {
        partition: TopicPartition,
        epoch: i64,
        /// What the store last told, or took.
        next_offset: Option<i64>,
    },
    /// The store refused it, because another member has it. The broker should revoke it soon.
    Lost { since: Instant },
}

impl Assignments {
    /// Notes that the store has assigned these.
    pub(super) fn assigned(&mut self, assigned: &[AssignedPartition]) {
        for AssignedPartition { partition, epoch, next_offset } in assigned {
            let (partition, epoch, next_offset) = (partition.clone(), *epoch, *next_offset);
            let assignment = Assignment::Mine { partition: partition.clone(), epoch, next_offset };
            self.partitions.insert((partition.topic.clone(), partition.partition), assignment);
        }
    }

    /// Notes that the store has taken these.
    pub(super) fn advanced(&mut self, offsets: &[(TopicPartition, i64)]) {
        for (TopicPartition { topic, partition, .. }, to) in offsets {
            if let Some(Assignment::Mine { next_offset, .. }) = self.partitions.get_mut(&(topic.clone(), *partition)) {
                *next_offset = Some(*to);
            }
        }
    }

    /// The partitions that this member reads.
    pub(super) fn all_mine(&self) -> Vec<TopicPartition> {
        let mine = self.partitions.values().filter_map(|assignment| match assignment {
            Assignment::Mine { partition, .. } => Some(partition.clone()),
            Assignment::Lost { .. } => None,
        });
        mine.collect()
    }

    /// How the store stands to a partition of this member, given the row that it has of it.
    pub(super) fn standing(&self, partition: &TopicPartition, stored: Option<&AssignedPartition>) -> Standing {
        let mine = self.partitions.get(&(partition.topic.clone(), partition.partition));
        let Some(Assignment::Mine { epoch, next_offset, .. }) = mine else { return Standing::Taken };
        match stored {
            Some(stored) if stored.epoch > *epoch => Standing::Taken,
            Some(stored) if stored.epoch == *epoch && stored.next_offset == *next_offset => Standing::Agreed,
            // Epochs only grow, too, unless the store goes back.
            Some(_) | None => Standing::WentBack,
        }
    }

    /// Notes that the broker has revoked these.
    pub(super) fn revoked(&mut self, partitions: &[TopicPartition]) {
        for TopicPartition { topic, partition, .. } in partitions {
            self.partitions.remove(&(topic.clone(), *partition));
        }
    }

    /// Notes that the store has refused this one.
    pub(super) fn lost(&mut self, topic: &str, partition: i32, now: Instant) {
        self.partitions.insert((topic.to_owned(), partition), Assignment::Lost { since: now });
    }

    /// When the first of the lost partitions was lost that the broker still assigns to this member.
    pub(super) fn lost_since(&self) -> Option<Instant> {
        let lost = self.partitions.values().filter_map(|assignment| match assignment {
            Assignment::Lost { since } => Some(*since),
            Assignment::Mine { .. } => None,
        });
        lost.min()
    }

    /// The number of partitions that this member reads.
    pub(super) fn count(&self) -> usize {
        self.partitions.values().filter(|assignment| matches!(assignment, Assignment::Mine { .. })).count()
    }

    /// The advance of a partition of this member to an offset.
    fn advance(&self, topic: &str, partition: i32, to: i64) -> Option<OffsetAdvance> {
        match self.partitions.get(&(topic.to_owned(), partition))? {
            Assignment::Mine { partition, epoch, next_offset } => Some(OffsetAdvance {
                partition: partition.clone(),
                epoch: *epoch,
                after: *next_offset,
                next_offset: to,
            }),
            Assignment::Lost { .. } => None,
        }
    }
}

/// A record, and what it starts.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    /// `None` if no consumer of the group subscribes to the record: it only moves the offset. The tree's id is drawn
    /// once, so that a commit whose answer was lost is repeated unchanged.
    pub(super) start: Option<Start>,
    /// Bytes of content, by which commits are cut.
    bytes: usize,
}

/// Reads a batch for a group.
pub(super) fn items_of(group: &Group, records: Vec<Consumed>, new_id: &impl Fn() -> TreeId) -> Vec<Item> {
    records.into_iter().map(|record| item_of(group, record, new_id)).collect()
}

fn item_of(group: &Group, record: Consumed, new_id: &impl Fn() -> TreeId) -> Item {
    let target = cloud::type_of(&record).and_then(|cloud_type| group.target(&record.topic, cloud_type));
    let start = target.and_then(|target| match Envelope::read(&record) {
        Ok(envelope) => Some(start_of(group, target, envelope, new_id())),
        Err(unreadable) => {
            let Consumed { topic, partition, offset, .. } = &record;
            tracing::warn!(topic, partition, offset, %unreadable, "a record of a subscribed type is skipped");
            None
        }
    });
    let bytes = record.content.len();
    Item { topic: record.topic, partition: record.partition, offset: record.offset, start, bytes }
}

fn start_of(group: &Group, target: Target, envelope: Envelope, tree: TreeId) -> Start {
    let key = StartKey {
        scope: KeyScope::Group(group.name.to_owned()),
        key: format!("{} {}", envelope.source, envelope.id),
        // Of the content alone, because the attributes may differ when the event is delivered again.
        digest: canonical::digest(envelope.content.get().as_bytes()),
    };
    let cause = Cause {
        correlation: envelope.correlation.unwrap_or_else(|| envelope.id.to_string()),
        causation: Some(envelope.id.to_string()),
        traceparent: envelope.traceparent,
    };
    let Envelope { id, source, key: event_key, time, content, .. } = envelope;
    let delivered = Delivered { id, source, key: event_key, time, content };
    let tree = NewTree {
        id: tree,
        function: target.function.to_owned(),
        version: target.version,
        input: serde_json::to_vec(&delivered).expect("texts and JSON are always JSON").into(),
        cause,
        deadline: None,
    };
    Start { tree, key }
}

/// Cuts items into commits, keeping their order.
pub(super) fn cut(items: Vec<Item>) -> VecDeque<Vec<Item>> {
    let mut commits = VecDeque::new();
    let (mut commit, mut bytes) = (Vec::new(), 0);
    for item in items {
        if !commit.is_empty() && (commit.len() == ROWS || bytes + item.bytes > BYTES) {
            commits.push_back(std::mem::take(&mut commit));
            bytes = 0;
        }
        bytes += item.bytes;
        commit.push(item);
    }
    if !commit.is_empty() {
        commits.push_back(commit);
    }
    commits
}

/// The items of a refused commit, one commit per partition. Their trees take new identities: if the refused commit was
/// sent again after a lost answer, it may have been applied the first time. Its trees run already then, and an event
/// that is known by its key must not run them a second time.
pub(super) fn by_partition(items: Vec<Item>, new_id: &impl Fn() -> TreeId) -> Vec<Vec<Item>> {
    let mut partitions: BTreeMap<(String, i32), Vec<Item>> = BTreeMap::new();
    for mut item in items {
        if let Some(start) = &mut item.start {
            start.tree.id = new_id();
        }
        partitions.entry((item.topic.clone(), item.partition)).or_default().push(item);
    }
    partitions.into_values().collect()
}

/// The commit of those items whose partition is still assigned to this member; `None` if there are no such items.
pub(super) fn intake_of(group: &Group, assignments: &Assignments, items: &[Item]) -> Option<Intake> {
    let mut offsets: BTreeMap<(&str, i32), OffsetAdvance> = BTreeMap::new();
    let mut starts = Vec::new();
    for item in items {
        let next_offset = item.offset + 1;
        let Some(advance) = assignments.advance(&item.topic, item.partition, next_offset) else { continue };
        offsets
            .entry((&item.topic, item.partition))
            .and_modify(|advance| advance.next_offset = advance.next_offset.max(next_offset))
            .or_insert(advance);
        starts.extend(item.start.clone());
    }
    let offsets: Vec<_> = offsets.into_values().collect();
    (!offsets.is_empty()).then(|| Intake { group: group.name.to_owned(), offsets, starts })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sapwood_core::EventId;
    use sapwood_engine::EventTrigger;
    use serde_json::{Value, json};

    use super::*;

    fn group() -> Group {
        let trigger = EventTrigger {
            group: "shipping",
            source_context: "orders",
            topic: "orders.events".to_owned(),
            cloud_type: "orders.completed.v1".to_owned(),
            source: "/sapwood/orders".to_owned(),
        };
        Group::of("shipping", "book_courier", 2, &trigger)
    }

    fn record(partition: i32, offset: i64, id: &str, cloud_type: &str, content: &'static str) -> Consumed {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Consumed {
            topic: "orders.events".to_owned(),
            partition,
            offset,
            key: Some(Bytes::from_static(b"order-42")),
            headers: vec![
                header("ce_id", id),
                header("ce_source", "/sapwood/orders"),
                header("ce_type", cloud_type),
                header("ce_correlationid", "c-1"),
            ],
            content: Bytes::from_static(content.as_bytes()),
        }
    }

    fn completed(partition: i32, offset: i64) -> Consumed {
        record(partition, offset, &format!("e-{partition}-{offset}"), "orders.completed.v1", "{}")
    }

    fn assignments(partitions: &[(i32, i64)]) -> Assignments {
        let assigned = partitions.iter().map(|(partition, epoch)| AssignedPartition {
            partition: TopicPartition {
                topic: "orders.events".to_owned(),
                partition: *partition,
                topic_id: Some("t-1".to_owned()),
            },
            epoch: *epoch,
            next_offset: None,
        });
        let mut assignments = Assignments::default();
        assignments.assigned(&assigned.collect::<Vec<_>>());
        assignments
    }

    fn offsets(intake: &Intake) -> Vec<(i32, i64, i64)> {
        let offset = |advance: &OffsetAdvance| (advance.partition.partition, advance.epoch, advance.next_offset);
        intake.offsets.iter().map(offset).collect()
    }

    /// H2: the offset moves in the commit that accepts the events.
    #[test]
    fn one_commit_moves_the_offsets_and_starts_the_newest_consumer() {
        let group = group();
        let items = items_of(&group, vec![completed(0, 4), completed(0, 5), completed(1, 9)], &TreeId::fresh);
        let intake = intake_of(&group, &assignments(&[(0, 3), (1, 7)]), &items).expect("two partitions");
        assert_eq!(offsets(&intake), [(0, 3, 6), (1, 7, 10)]);
        assert_eq!(intake.offsets[0].partition.topic_id.as_deref(), Some("t-1"));
        let tree = &intake.starts[0].tree;
        assert_eq!((tree.function.as_str(), tree.version), ("book_courier", 2));
        assert_eq!((tree.cause.correlation.as_str(), tree.cause.causation.as_deref()), ("c-1", Some("e-0-4")));
        let delivered: Delivered<Value> = serde_json::from_slice(&tree.input).expect("what a consumer reads");
        assert_eq!((delivered.id, delivered.key.as_str()), (EventId::from("e-0-4".to_owned()), "order-42"));
        assert_eq!(delivered.content, json!({}));
    }

    /// H4: dedupe is by the event's source and id.
    #[test]
    fn the_key_and_the_digest_of_an_event_do_not_depend_on_how_it_came() {
        let group = group();
        let mut again = record(3, 77, "e-1", "orders.completed.v1", r#"{"b":2, "a":1}"#);
        again.headers.push(("ce_sequence".to_owned(), "12".to_owned()));
        let first = record(0, 1, "e-1", "orders.completed.v1", r#"{"a":1,"b":2}"#);
        let items = items_of(&group, vec![first, again], &TreeId::fresh);
        let keys: Vec<_> = items.iter().filter_map(|item| item.start.as_ref()).map(|start| &start.key).collect();
        assert_eq!(keys[0], keys[1]);
        assert_eq!(keys[0].key, "/sapwood/orders e-1");
    }

    #[test]
    fn what_nobody_subscribes_to_only_moves_the_offset() {
        let group = group();
        let mut plain = completed(0, 8);
        plain.headers.clear();
        let records = vec![record(0, 7, "e", "orders.cancelled.v1", "{}"), plain];
        let intake =
            intake_of(&group, &assignments(&[(0, 1)]), &items_of(&group, records, &TreeId::fresh)).expect("an offset");
        assert_eq!((offsets(&intake), intake.starts.len()), (vec![(0, 1, 9)], 0));
    }

    #[test]
    fn a_partition_of_another_member_is_left_out_until_it_is_assigned_again() {
        let group = group();
        let mut assignments = assignments(&[(0, 1), (1, 1)]);
        let items = items_of(&group, vec![completed(0, 4), completed(1, 4), completed(2, 4)], &TreeId::fresh);
        let now = Instant::now();
        assignments.lost("orders.events", 0, now);
        assert_eq!((assignments.lost_since(), assignments.count()), (Some(now), 1));
        let intake = intake_of(&group, &assignments, &items).expect("partition 1");
        assert_eq!((offsets(&intake), intake.starts.len()), (vec![(1, 1, 5)], 1));

        let partition = |partition| TopicPartition { topic: "orders.events".to_owned(), partition, topic_id: None };
        assignments.revoked(&[partition(0), partition(1)]);
        assert_eq!((assignments.lost_since(), assignments.count()), (None, 0));
        assert_eq!(intake_of(&group, &assignments, &items), None);
    }

    /// H2: memory never outranks the store, which tells another member from a store that lost what it had.
    #[test]
    fn a_store_that_went_back_is_told_from_another_member() {
        let mut assignments = assignments(&[(0, 3)]);
        let partition = assignments.all_mine().remove(0);
        let stored = |epoch, next_offset| AssignedPartition { partition: partition.clone(), epoch, next_offset };
        assignments.advanced(&[(partition.clone(), 9)]);
        let intake = intake_of(&group(), &assignments, &items_of(&group(), vec![completed(0, 9)], &TreeId::fresh));
        let advance = &intake.expect("a partition").offsets[0];
        assert_eq!((advance.after, advance.next_offset), (Some(9), 10));
        for (row, standing) in [
            (Some(stored(3, Some(9))), Standing::Agreed),
            (Some(stored(3, Some(8))), Standing::WentBack),
            (Some(stored(3, None)), Standing::WentBack),
            (Some(stored(2, Some(9))), Standing::WentBack),
            (Some(stored(4, Some(8))), Standing::Taken),
            (None, Standing::WentBack),
        ] {
            assert_eq!(assignments.standing(&partition, row.as_ref()), standing, "{row:?}");
        }
        assignments.lost("orders.events", 0, Instant::now());
        assert_eq!(assignments.standing(&partition, None), Standing::Taken);
    }

    /// H4: a commit that was refused after its answer was lost may have been applied; sent again, its trees are others.
    #[test]
    fn a_refused_commit_is_cut_by_partition_and_its_trees_are_new() {
        let group = group();
        let items = items_of(&group, vec![completed(1, 4), completed(0, 4), completed(1, 5)], &TreeId::fresh);
        let id = |item: &Item| item.start.as_ref().map(|start| start.tree.id);
        let before: Vec<_> = items.iter().map(id).collect();
        let parts = by_partition(items, &TreeId::fresh);
        let offsets: Vec<Vec<_>> =
            parts.iter().map(|part| part.iter().map(|item| (item.partition, item.offset)).collect()).collect();
        assert_eq!(offsets, [vec![(0, 4)], vec![(1, 4), (1, 5)]]);
        assert!(parts.iter().flatten().all(|item| !before.contains(&id(item))));
    }

    #[test]
    fn commits_are_bounded_in_rows_and_bytes_and_keep_the_order() {
        let group = group();
        let mut items = items_of(&group, (0..1_200).map(|offset| completed(0, offset)).collect(), &TreeId::fresh);
        let rows: Vec<_> = cut(items.clone()).iter().map(Vec::len).collect();
        assert_eq!(rows, [500, 500, 200]);
        items.truncate(4);
        items.iter_mut().for_each(|item| item.bytes = BYTES / 2);
        items[2].bytes = 3 * BYTES;
        let offsets: Vec<Vec<_>> =
            cut(items).iter().map(|commit| commit.iter().map(|item| item.offset).collect()).collect();
        assert_eq!(offsets, [vec![0, 1], vec![2], vec![3]]);
    }
}
