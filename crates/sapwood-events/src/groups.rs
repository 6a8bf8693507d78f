//! Which consumer of a context an event starts: by group, then by topic and type.

use std::collections::{BTreeMap, BTreeSet};

use sapwood_engine::{EventTrigger, Registry, Trigger};

use crate::LaunchError;

/// What one group of a context subscribes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group, as consumers name it.
    pub name: &'static str,
    /// The consumer of each topic and type.
    routes: BTreeMap<(String, String), Target>,
}

/// The function that an event starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The consumer's name.
    pub function: &'static str,
    /// The newest of its versions that subscribe to the event (V2).
    pub version: u32,
}

impl Group {
    /// The topics it reads, each once.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        let topics: BTreeSet<_> = self.routes.keys().map(|(topic, _)| topic.clone()).collect();
        topics.into_iter().collect()
    }

    /// The consumer of a type on a topic. Sources are not compared, because a type already names its context.
    #[must_use]
    pub fn target(&self, topic: &str, cloud_type: &str) -> Option<Target> {
        // A map whose keys are owned pairs cannot be searched with a borrowed pair. A scan is enough: a group has few
        // routes.
        let found = self.routes.iter().find(|((on, of), _)| on == topic && of == cloud_type);
        found.map(|(_, target)| *target)
    }
}

#[cfg(test)]
impl Group {
    /// A group of one consumer.
    pub(crate) fn of(context: &str, function: &'static str, version: u32, trigger: &EventTrigger) -> Self {
        let mut groups = group(context, [(function, version, trigger)].into_iter()).expect("one consumer");
        groups.remove(0)
    }
}

/// The groups of a context, by name.
///
/// # Errors
/// [`LaunchError::TwoConsumers`] if two functions of one group subscribe to one event.
pub fn groups_of(context: &str, registry: &Registry) -> Result<Vec<Group>, LaunchError> {
    let consumers = registry.functions().filter_map(|definition| match &definition.trigger {
        Trigger::Event(trigger) => Some((definition.name, definition.version, trigger)),
        Trigger::Call => None,
    });
    group(context, consumers)
}

fn group<'a>(
    context: &str,
    consumers: impl Iterator<Item = (&'static str, u32, &'a EventTrigger)>,
) -> Result<Vec<Group>, LaunchError> {
    let mut groups: BTreeMap<&'static str, Group> = BTreeMap::new();
    for (function, version, trigger) in consumers {
        let name = trigger.group;
        let group = groups.entry(name).or_insert_with(|| Group { name, routes: BTreeMap::new() });
        let route = (trigger.topic.clone(), trigger.cloud_type.clone());
        let target = group.routes.entry(route).or_insert(Target { function, version });
        if target.function != function {
            return Err(LaunchError::TwoConsumers {
                context: context.to_owned(),
                group: name.to_owned(),
                cloud_type: trigger.cloud_type.clone(),
                first: target.function.to_owned(),
                second: function.to_owned(),
            });
        }
        target.version = target.version.max(version);
    }
    Ok(groups.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trigger(group: &'static str, context: &'static str, cloud_type: &str) -> EventTrigger {
        EventTrigger {
            group,
            source_context: context,
            topic: sapwood_core::event::topic_of(context),
            cloud_type: cloud_type.to_owned(),
            source: sapwood_core::event::source_of(context),
        }
    }

    #[test]
    fn a_group_reads_the_topics_of_all_its_consumers() {
        let completed = trigger("shipping", "orders", "orders.completed.v1");
        let paid = trigger("shipping", "billing", "billing.paid.v1");
        let audit = trigger("audit", "orders", "orders.completed.v1");
        let consumers = [("book", 1, &completed), ("file", 1, &paid), ("note", 1, &audit)];
        let groups = group("shipping", consumers.into_iter()).expect("valid");
        assert_eq!(groups.iter().map(|group| group.name).collect::<Vec<_>>(), ["audit", "shipping"]);
        assert_eq!(groups[1].topics(), ["billing.events", "orders.events"]);
        let target = |topic, cloud_type| groups[1].target(topic, cloud_type).map(|target| target.function);
        assert_eq!(target("orders.events", "orders.completed.v1"), Some("book"));
        assert_eq!(target("orders.events", "orders.cancelled.v1"), None);
        assert_eq!(target("billing.events", "orders.completed.v1"), None);
    }

    /// V2: new starts take the newest version.
    #[test]
    fn an_event_starts_the_newest_version_that_subscribes_to_it() {
        let first = trigger("shipping", "orders", "orders.completed.v1");
        let second = trigger("shipping", "orders", "orders.completed.v2");
        let consumers = [("book", 1, &first), ("book", 2, &first), ("book", 3, &second)];
        let groups = group("shipping", consumers.into_iter()).expect("valid");
        let version = |cloud_type| groups[0].target("orders.events", cloud_type).map(|target| target.version);
        assert_eq!((version("orders.completed.v1"), version("orders.completed.v2")), (Some(2), Some(3)));
    }

    #[test]
    fn two_consumers_of_one_event_in_one_group_are_an_error_that_names_both() {
        let completed = trigger("shipping", "orders", "orders.completed.v1");
        let consumers = [("book", 1, &completed), ("track", 1, &completed)];
        let message = group("shipping", consumers.into_iter()).expect_err("two of a group").to_string();
        assert!(["`book`", "`track`", "`orders.completed.v1`"].iter().all(|name| message.contains(name)), "{message}");
    }
}
