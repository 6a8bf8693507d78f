//! The watch over the topics of a subscription: a topic that vanishes, or is created again under its old name, must
//! stop the reader and not lead it to other records at the same offsets (SEMANTICS H8).
//!
//! librdkafka goes on in the new topic without an error, so the broker is asked for the topics' ids periodically.
//! Records of the new topic that come before the next question cannot be recognized; the store keeps with each offset
//! the id of its topic.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::client::Client;
use sapwood_core::broker::BrokerError;

use crate::error::{fatal, while_doing};
use crate::topic_id::{Answer, Question, TopicFound};

/// How often to ask. A question is one small request to one broker, so this can be often.
const PERIOD: Duration = Duration::from_secs(2);

/// How often to ask while a partition waits for its topic's id, or a topic was just found missing.
const HURRY: Duration = Duration::from_millis(200);

/// How often in a row a topic must be found missing to count as gone. Once is not enough, because a broker that has
/// just started may not know it yet.
const MISSING: u32 = 2;

/// What is known of the topics met so far.
pub(crate) struct TopicWatch<'client> {
    /// How long the broker may take to answer.
    timeout: Duration,
    /// The topics that were found at least once.
    known: HashMap<String, Known>,
    /// The question that is under way.
    question: Option<Question<'client>>,
    /// When the last question was asked; `None` makes the next look ask at once.
    asked: Option<Instant>,
}

/// What is known of a topic.
struct Known {
    /// `None` if the broker has no ids.
    id: Option<String>,
    /// How often in a row it was found missing.
    missing: u32,
}

impl<'client> TopicWatch<'client> {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, known: HashMap::new(), question: None, asked: None }
    }

    /// The id of a topic, once the topic is known; old brokers have no ids.
    pub(crate) fn id(&self, topic: &str) -> Option<Option<String>> {
        self.known.get(topic).map(|known| known.id.clone())
    }

    /// Makes the next look ask at once, also about topics that are new.
    pub(crate) fn look_again(&mut self) {
        self.question = None;
        self.asked = None;
    }

    /// Asks if it is time to, and takes the answer if it has come. Returns whether it has. Never waits.
    ///
    /// # Errors
    /// A topic was deleted, or created again.
    pub(crate) fn look<'t, C: ClientContext>(
        &mut self,
        client: &'client Client<C>,
        assigned: impl Iterator<Item = &'t str>,
        hurry: bool,
    ) -> Result<bool, BrokerError> {
        if let Some(question) = &self.question {
            let Some(answer) = question.answer(Duration::ZERO) else { return Ok(false) };
            self.question = None;
            return self.take(answer).map(|()| true);
        }
        let hurry = hurry || self.known.values().any(|known| known.missing > 0);
        let period = if hurry { HURRY } else { PERIOD };
        if self.asked.is_none_or(|asked| asked.elapsed() >= period) {
            self.asked = Some(Instant::now());
            self.question = self.ask(client, assigned)?;
        }
        Ok(false)
    }

    /// Asks and waits for the answer; here a topic counts as gone when it is missing once.
    ///
    /// # Errors
    /// A topic was deleted, or created again.
    pub(crate) fn look_now_blocking<'t, C: ClientContext>(
        &mut self,
        client: &'client Client<C>,
        assigned: impl Iterator<Item = &'t str>,
    ) -> Result<(), BrokerError> {
        for known in self.known.values_mut() {
            known.missing = MISSING - 1;
        }
        match self.ask(client, assigned)?.and_then(|question| question.answer(self.timeout)) {
            Some(answer) => self.take(answer),
            None => Ok(()),
        }
    }

    fn ask<'t, C: ClientContext>(
        &self,
        client: &'client Client<C>,
        assigned: impl Iterator<Item = &'t str>,
    ) -> Result<Option<Question<'client>>, BrokerError> {
        let mut topics: Vec<String> = assigned.map(str::to_owned).chain(self.known.keys().cloned()).collect();
        topics.sort_unstable();
        topics.dedup();
        if topics.is_empty() {
            return Ok(None);
        }
        let question = Question::ask(client, &topics, self.timeout);
        question.map(Some).map_err(|error| while_doing("asking for the ids of topics", error))
    }

    fn take(&mut self, answer: Answer) -> Result<(), BrokerError> {
        let found = match answer {
            Ok(found) => found,
            Err(code) => {
                tracing::debug!(%code, "Kafka does not report the ids of topics");
                return Ok(());
            }
        };
        for (name, found) in found {
            match found {
                TopicFound::Exists(id) => self.exists(&name, id)?,
                TopicFound::Missing => self.missing(&name)?,
                TopicFound::Unclear(code) => tracing::debug!(topic = name, %code, "Kafka does not report a topic's id"),
            }
        }
        Ok(())
    }

    fn exists(&mut self, name: &str, id: Option<String>) -> Result<(), BrokerError> {
        let known = self.known.entry(name.to_owned()).or_insert(Known { id: id.clone(), missing: 0 });
        known.missing = 0;
        if known.id == id {
            return Ok(());
        }
        let (old, new) = (known.id.as_deref().unwrap_or("none"), id.as_deref().unwrap_or("none"));
        Err(fatal(format!("the topic `{name}` was created again: its id was {old} and is {new}")))
    }

    fn missing(&mut self, name: &str) -> Result<(), BrokerError> {
        // A topic that never existed may still be created.
        let Some(known) = self.known.get_mut(name) else { return Ok(()) };
        known.missing += 1;
        if known.missing < MISSING {
            return Ok(());
        }
        Err(fatal(format!("the topic `{name}` no longer exists")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(found: TopicFound) -> Answer {
        Ok(HashMap::from([("orders.events".to_owned(), found)]))
    }

    fn exists(id: &str) -> Answer {
        answer(TopicFound::Exists(Some(id.to_owned())))
    }

    #[test]
    fn a_topic_under_another_id_is_another_topic() {
        let mut watch = TopicWatch::new(Duration::ZERO);
        assert_eq!(watch.id("orders.events"), None);
        watch.take(exists("a")).unwrap();
        watch.take(exists("a")).unwrap();
        assert_eq!(watch.id("orders.events"), Some(Some("a".to_owned())));
        assert!(watch.take(exists("b")).unwrap_err().to_string().contains("orders.events"));
    }

    #[test]
    fn a_topic_is_gone_when_it_is_missing_twice_in_a_row() {
        let mut watch = TopicWatch::new(Duration::ZERO);
        watch.take(answer(TopicFound::Missing)).unwrap();
        for found in [exists("a"), answer(TopicFound::Missing), exists("a"), answer(TopicFound::Missing)] {
            watch.take(found).unwrap();
        }
        assert!(watch.take(answer(TopicFound::Missing)).is_err());
    }
}
