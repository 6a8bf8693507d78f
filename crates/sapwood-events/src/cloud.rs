//! Events as CloudEvents 1.0 in Kafka's binary mode: attributes in `ce_` headers, the content as it is.
//!
//! Sapwood adds one attribute of its own, `sapwoodtree`: the tree that emitted the event. The `sequence` extension
//! carries the event's `seq` in its lane. It is for audits and never a reason to drop an event: after a failover of the
//! producer's database, numbers are used again. Events in the structured mode are not read.

use jiff::Timestamp;
use sapwood_core::EventId;
use sapwood_core::broker::{Consumed, Record};
use sapwood_core::store::OutboxRow;
use serde_json::value::{RawValue, to_raw_value};

/// The names of the headers on a record.
mod header {
    pub(super) const CONTENT_TYPE: &str = "content-type";
    pub(super) const SPEC_VERSION: &str = "ce_specversion";
    pub(super) const ID: &str = "ce_id";
    pub(super) const SOURCE: &str = "ce_source";
    pub(super) const TYPE: &str = "ce_type";
    pub(super) const TIME: &str = "ce_time";
    pub(super) const SEQUENCE: &str = "ce_sequence";
    pub(super) const CORRELATION: &str = "ce_correlationid";
    pub(super) const CAUSATION: &str = "ce_causationid";
    pub(super) const TRACE_PARENT: &str = "ce_traceparent";
    pub(super) const TREE: &str = "ce_sapwoodtree";
}

/// The record that a row of the outbox is published as.
#[must_use]
pub fn record_of(row: &OutboxRow) -> Record {
    let event = &row.event;
    let mut headers = vec![
        (header::CONTENT_TYPE.to_owned(), "application/json".to_owned()),
        (header::SPEC_VERSION.to_owned(), "1.0".to_owned()),
        (header::ID.to_owned(), event.id.to_string()),
        (header::SOURCE.to_owned(), event.source.clone()),
        (header::TYPE.to_owned(), event.cloud_type.clone()),
        (header::TIME.to_owned(), event.time.to_string()),
        // Padded to one length, because the extension compares sequences as text.
        (header::SEQUENCE.to_owned(), format!("{:019}", row.seq)),
        (header::TREE.to_owned(), event.tree.to_string()),
        (header::CORRELATION.to_owned(), event.correlation.clone()),
        (header::CAUSATION.to_owned(), event.causation.clone()),
    ];
    if let Some(traceparent) = &event.traceparent {
        headers.push((header::TRACE_PARENT.to_owned(), traceparent.clone()));
    }
    Record { topic: event.topic.clone(), key: event.key.clone(), headers, content: event.content.clone() }
}

/// The type of the event that a record carries; `None` if it carries no CloudEvent.
#[must_use]
pub fn type_of(record: &Consumed) -> Option<&str> {
    attribute(record, header::TYPE)
}

/// An event as it was delivered.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Its identity, unique within its source.
    pub id: EventId,
    /// Its producer, such as `/sapwood/orders`.
    pub source: String,
    /// Its type.
    pub cloud_type: String,
    /// The record's key as text; empty if it has none.
    pub key: String,
    /// When it was emitted, if the producer gives the time in RFC 3339.
    pub time: Option<Timestamp>,
    /// The tree that emitted it, if the producer is a Sapwood context.
    pub tree: Option<String>,
    /// The same in every tree and event that followed from one start.
    pub correlation: Option<String>,
    /// What caused it; for an event of a Sapwood context, the invocation that emitted it.
    pub causation: Option<String>,
    /// The W3C trace context at the emit.
    pub traceparent: Option<String>,
    /// The content as it was written; `null` if the record is empty. Content that is not JSON is kept as a string, so that an operator
    /// can see what the consumer refused.
    pub content: Box<RawValue>,
}

/// Why a record cannot be read as an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record has no usable `{0}` header")]
pub struct Unreadable(pub &'static str);

impl Envelope {
    /// Reads a record. Everything but id, source and type may be missing.
    ///
    /// # Errors
    /// [`Unreadable`] if one of those three is missing: the record cannot be routed, or has no identity to dedupe by.
    pub fn read(record: &Consumed) -> Result<Self, Unreadable> {
        let required = |name| attribute(record, name).map(str::to_owned).ok_or(Unreadable(name));
        let optional = |name| attribute(record, name).map(str::to_owned);
        Ok(Self {
            id: EventId::from(required(header::ID)?),
            source: required(header::SOURCE)?,
            cloud_type: required(header::TYPE)?,
            key: record.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default(),
            time: attribute(record, header::TIME).and_then(|time| time.parse().ok()),
            tree: optional(header::TREE),
            correlation: optional(header::CORRELATION),
            causation: optional(header::CAUSATION),
            traceparent: optional(header::TRACE_PARENT),
            content: content_of(&record.content),
        })
    }
}

fn content_of(bytes: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(bytes);
    match RawValue::from_string(text.clone().into_owned()) {
        Ok(json) => json,
        Err(_) if bytes.is_empty() => RawValue::NULL.to_owned(),
        Err(_) => match to_raw_value(&text) {
            Ok(quoted) => quoted,
            Err(_) => unreachable!("text is always JSON"),
        },
    }
}

/// The longest attribute that is read, because a longer one would not fit into the key by which events are deduped.
const ATTRIBUTE_BYTES: usize = 1_000;

/// A header's value. A value that is empty, has control characters (CloudEvents allows neither) or is too long counts
/// as missing, so that a record of a foreign producer is skipped and does not stop the records after it.
fn attribute<'a>(record: &'a Consumed, name: &str) -> Option<&'a str> {
    let (_, value) = record.headers.iter().find(|(header, _)| header == name)?;
    let fits = (1..=ATTRIBUTE_BYTES).contains(&value.len()) && !value.contains(char::is_control);
    fits.then_some(value.as_str())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sapwood_core::store::OutboxEvent;
    use sapwood_core::{Path, TreeId};

    use super::*;

    fn row() -> OutboxRow {
        let tree = TreeId::fresh();
        let event = OutboxEvent {
            id: EventId::of(tree, &Path::root().child(2), 5),
            topic: "orders.events".to_owned(),
            key: "order-42".to_owned(),
            lane: 3,
            cloud_type: "orders.order-completed.v1".to_owned(),
            source: "/sapwood/orders".to_owned(),
            time: "2026-11-23T12:00:00.25Z".parse().expect("a time"),
            tree,
            correlation: "order-42".to_owned(),
            causation: format!("{tree}:/2"),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
            content: Bytes::from_static(br#"{"total":12}"#),
        };
        OutboxRow { seq: 17, event }
    }

    fn consumed(record: Record) -> Consumed {
        let Record { topic, key, headers, content } = record;
        Consumed { topic, partition: 0, offset: 0, key: Some(key.into()), headers, content }
    }

    fn foreign(headers: &[(&str, &str)], content: &'static [u8]) -> Consumed {
        Consumed {
            topic: "legacy".to_owned(),
            partition: 1,
            offset: 9,
            key: None,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            content: Bytes::from_static(content),
        }
    }

    const IDENTITY: [(&str, &str); 3] = [("ce_id", "7"), ("ce_source", "/legacy"), ("ce_type", "invoice.paid")];

    /// E7: events are CloudEvents and carry tree id, causation, correlation and trace context.
    #[test]
    fn an_event_is_delivered_as_it_was_emitted() {
        let row = row();
        let envelope = Envelope::read(&consumed(record_of(&row))).expect("a CloudEvent");
        let expected = Envelope {
            id: row.event.id,
            source: row.event.source,
            cloud_type: row.event.cloud_type,
            key: row.event.key,
            time: Some(row.event.time),
            tree: Some(row.event.tree.to_string()),
            correlation: Some(row.event.correlation),
            causation: Some(row.event.causation),
            traceparent: row.event.traceparent,
            content: RawValue::from_string(r#"{"total":12}"#.to_owned()).expect("JSON"),
        };
        assert_eq!(format!("{envelope:?}"), format!("{expected:?}"));
    }

    /// E7: the attributes are named as the Kafka binding of CloudEvents 1.0 has them.
    #[test]
    fn every_header_is_an_attribute_that_cloud_events_allows() {
        let record = record_of(&row());
        for (name, value) in &record.headers {
            assert!(!value.is_empty(), "{name}");
            let Some(attribute) = name.strip_prefix("ce_") else {
                assert_eq!((name.as_str(), value.as_str()), ("content-type", "application/json"));
                continue;
            };
            assert!(attribute.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{attribute}");
            assert!(attribute.len() <= 20, "{attribute}");
        }
        assert!(record.headers.contains(&("ce_specversion".to_owned(), "1.0".to_owned())));
        assert!(record.headers.contains(&("ce_sequence".to_owned(), "0000000000000000017".to_owned())));
        assert!(record.headers.contains(&("ce_time".to_owned(), "2026-11-23T12:00:00.25Z".to_owned())));
    }

    #[test]
    fn a_foreign_producer_may_leave_out_all_but_the_identity() {
        let envelope = Envelope::read(&foreign(&IDENTITY, b"")).expect("an identity");
        assert_eq!((envelope.id.as_str(), envelope.source.as_str()), ("7", "/legacy"));
        assert_eq!((envelope.key.as_str(), envelope.time, envelope.content.get()), ("", None, "null"));
    }

    #[test]
    fn a_record_without_identity_is_no_event() {
        for missing in 0..IDENTITY.len() {
            let mut headers = IDENTITY.to_vec();
            let (name, _) = headers.remove(missing);
            assert_eq!(Envelope::read(&foreign(&headers, b"{}")).err(), Some(Unreadable(name)));
            headers.push((name, ""));
            assert_eq!(
                Envelope::read(&foreign(&headers, b"{}")).err(),
                Some(Unreadable(name)),
                "an empty one counts as missing"
            );
        }
        assert_eq!(type_of(&foreign(&[], b"{}")), None);
    }

    #[test]
    fn content_that_is_no_json_is_kept_as_text() {
        let envelope = Envelope::read(&foreign(&IDENTITY, b"<paid/>")).expect("an identity");
        assert_eq!(envelope.content.get(), "\"<paid/>\"");
    }
}
