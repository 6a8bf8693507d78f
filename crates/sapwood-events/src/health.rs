//! The health of a context's choreography, for operators.

use std::collections::BTreeMap;

/// The health of one context's choreography.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoreographyHealth {
    /// The broker, as it describes itself.
    pub broker: String,
    /// The relay, which publishes the context's events.
    pub relay: RelayHealth,
    /// The intakes, one per group.
    pub intakes: Vec<IntakeHealth>,
}

impl ChoreographyHealth {
    /// Checks every part.
    ///
    /// # Errors
    /// The first problem found, in words. Trees of the context go on meanwhile, so a problem here is not a reason to
    /// stop sending requests to the process.
    pub fn check(&self) -> Result<(), String> {
        self.relay.check()?;
        self.intakes.iter().try_for_each(IntakeHealth::check)
    }
}

/// The health of a relay, which publishes a context's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayHealth {
    /// Whether it runs.
    pub running: bool,
    /// The lanes that this process publishes, each with the last row of the outbox up to which all rows are
    /// acknowledged.
    pub lanes: BTreeMap<u16, i64>,
    /// Events acknowledged by the broker since the start.
    pub published: u64,
    /// Events handed to the broker and not acknowledged.
    pub in_flight: usize,
    /// Events that the broker refuses permanently; the lane of each is stopped there.
    pub refused: Vec<RefusedEvent>,
    /// Rows of the outbox that this build cannot read; the lane of each is stopped there.
    pub unreadable: Vec<UnreadableEvent>,
    /// Lanes in which the store went back since the start: the last time of each.
    pub setbacks: Vec<Setback>,
    /// Whether the broker takes events; if not, why.
    pub broker: Result<(), String>,
    /// Whether the store answers; if not, why.
    pub store: Result<(), String>,
}

/// A lane in which the store went back behind what it had confirmed: it was restored, or failed over to a replica that
/// lagged. Events between the two were published; those of them that the store lost are known to their consumers alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setback {
    /// The lane.
    pub lane: u16,
    /// The last row that was published before.
    pub published: i64,
    /// The last row that is published as the store has it now; from there the lane goes on.
    pub stored: i64,
}

/// A row of the outbox that this build cannot read. Its lane is stopped there; the other lanes go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableEvent {
    /// The lane.
    pub lane: u16,
    /// The row's place in its lane.
    pub seq: i64,
    /// What is wrong with it.
    pub why: String,
}

/// An event that the broker refuses. Its lane is stopped there; the other lanes go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEvent {
    /// The lane.
    pub lane: u16,
    /// The event.
    pub id: String,
    /// Its type.
    pub cloud_type: String,
    /// The topic it is published to.
    pub topic: String,
    /// The broker's reason.
    pub why: String,
}

impl RelayHealth {
    pub(crate) const fn starting(broker: Result<(), String>) -> Self {
        Self {
            running: true,
            lanes: BTreeMap::new(),
            published: 0,
            in_flight: 0,
            refused: Vec::new(),
            unreadable: Vec::new(),
            setbacks: Vec::new(),
            broker,
            store: Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        if !self.running {
            return Err("the relay has stopped".to_owned());
        }
        self.broker.as_ref().map_err(|why| format!("events cannot be published: {why}"))?;
        self.store.as_ref().map_err(|why| format!("the outbox cannot be read: {why}"))?;
        self.setbacks.first().map_or(Ok(()), |Setback { lane, published, stored }| {
            Err(format!(
                "the store went back: lane {lane} of the outbox was published to row {published}, the store has {stored}"
            ))
        })?;
        self.unreadable.first().map_or(Ok(()), |UnreadableEvent { lane, seq, why }| {
            Err(format!("row {seq} of lane {lane} of the outbox cannot be read: {why}"))
        })?;
        self.refused.first().map_or(Ok(()), |refused| {
            Err(format!("the broker refuses event {} on `{}`: {}", refused.id, refused.topic, refused.why))
        })
    }
}

/// The health of an intake, which takes in the events of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeHealth {
    /// Whether it runs.
    pub running: bool,
    /// The group, as consumers name it.
    pub group: String,
    /// Its topics.
    pub topics: Vec<String>,
    /// Partitions this process reads.
    pub partitions: usize,
    /// Events that started a tree since the intake started.
    pub taken: u64,
    /// Events that had been taken in before.
    pub duplicates: u64,
    /// Records that no consumer of the group subscribes to.
    pub skipped: u64,
    /// The event at which the group is stopped, because the store refuses it permanently.
    pub stuck: Option<String>,
    /// Partitions that the broker stopped at a record that it cannot read, and why; the others go on.
    pub stopped: BTreeMap<String, String>,
    /// Whether the broker delivers; if not, why.
    pub broker: Result<(), String>,
    /// Whether the store takes events in; if not, why.
    pub store: Result<(), String>,
}

impl IntakeHealth {
    pub(crate) const fn starting(group: String, topics: Vec<String>, broker: Result<(), String>) -> Self {
        Self {
            running: true,
            group,
            topics,
            partitions: 0,
            taken: 0,
            duplicates: 0,
            skipped: 0,
            stuck: None,
            stopped: BTreeMap::new(),
            broker,
            store: Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        let group = &self.group;
        if !self.running {
            return Err(format!("the intake of group `{group}` has stopped"));
        }
        self.broker.as_ref().map_err(|why| format!("group `{group}` gets no events: {why}"))?;
        self.store.as_ref().map_err(|why| format!("group `{group}` cannot take events in: {why}"))?;
        self.stuck.as_ref().map_or(Ok(()), |stuck| Err(format!("group `{group}` is stopped at {stuck}")))?;
        self.stopped
            .iter()
            .next()
            .map_or(Ok(()), |(partition, why)| Err(format!("group `{group}` is stopped in {partition}: {why}")))
    }
}
