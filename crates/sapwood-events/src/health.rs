//! What an operator sees of a context's choreography.

use std::collections::BTreeMap;

/// The choreography of one context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoreographyHealth {
    /// The broker, as it describes itself.
    pub broker: String,
    /// What publishes the context's events.
    pub relay: RelayHealth,
    /// What takes events in, one a group.
    pub intakes: Vec<IntakeHealth>,
}

impl ChoreographyHealth {
    /// The first thing that is wrong, in words.
    ///
    /// # Errors
    /// That thing. Trees of the context go on meanwhile: this is no reason to send it no requests.
    pub fn check(&self) -> Result<(), String> {
        self.relay.check()?;
        self.intakes.iter().try_for_each(IntakeHealth::check)
    }
}

/// What publishes a context's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayHealth {
    /// Whether it runs.
    pub running: bool,
    /// Lanes this process publishes, each with the last row of the outbox before which everything is acknowledged.
    pub lanes: BTreeMap<u16, i64>,
    /// Events acknowledged by the broker since the start.
    pub published: u64,
    /// Events handed to the broker and not acknowledged.
    pub in_flight: usize,
    /// Events at which a lane stands still, because the broker refuses them for good.
    pub refused: Vec<RefusedEvent>,
    /// Whether the broker takes events.
    pub broker: Result<(), String>,
    /// Whether the store answers.
    pub store: Result<(), String>,
}

/// An event that the broker refuses. Its lane waits at it; the other lanes go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedEvent {
    /// The lane.
    pub lane: u16,
    /// The event.
    pub id: String,
    /// Its type.
    pub cloud_type: String,
    /// Where it should go.
    pub topic: String,
    /// What the broker says.
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
        self.refused.first().map_or(Ok(()), |refused| {
            Err(format!("the broker refuses event {} on `{}`: {}", refused.id, refused.topic, refused.why))
        })
    }
}

/// What takes events in for one group.
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
    /// Events that began a tree since the start.
    pub taken: u64,
    /// Events that were known already.
    pub duplicates: u64,
    /// Records of which no consumer of the group wants to know.
    pub skipped: u64,
    /// The event the group stands at, because the store refuses it for good.
    pub stuck: Option<String>,
    /// Whether the broker delivers.
    pub broker: Result<(), String>,
    /// Whether the store takes events in.
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
        self.stuck.as_ref().map_or(Ok(()), |stuck| Err(format!("group `{group}` stands at {stuck}")))
    }
}
