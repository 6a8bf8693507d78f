//! What starts a function.

/// What starts a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trigger {
    /// A call of its context, or a start.
    Call,
    /// An event: the function is a consumer.
    Event(EventTrigger),
}

/// The events that start a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventTrigger {
    /// The group that gets each event once.
    pub group: &'static str,
    /// The context that owns the event.
    pub source_context: &'static str,
    /// The topic.
    pub topic: String,
    /// The CloudEvents type.
    pub cloud_type: String,
    /// The CloudEvents source.
    pub source: String,
}
