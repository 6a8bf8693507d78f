//! Every stored form that the engine writes: the payloads of journal entries, and recorded outcomes. One owner, so
//! that what is written in one place can be read in every other.
//!
//! `docs/reference/journal.md` shows an example of each form; a test here compares the two.
//!
//! A stored form is plain JSON. The JSON that is written here never begins with a byte below 0x20, so such a byte can
//! name a codec that wrote the rest. This build knows no codec: it reads plain JSON and refuses everything else by
//! name.

use std::fmt::{self, Write as _};

use bytes::Bytes;
use jiff::Timestamp;
use sapwood_core::json::{self, NotRecordable};
use sapwood_core::{CallFailure, Failure, Position, TreeId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// How often a debug build reads and writes a value again. Two orders of a set of two are the same in every second
/// round, so this finds it in all but one of 256 cases, and a larger set nearly always.
const STABLE_ROUNDS: u32 = 8;

/// The first byte that plain JSON can begin with; a smaller one names a codec.
const FIRST_PLAIN: u8 = 0x20;

/// The most bytes of a message that are recorded.
const MESSAGE_BYTES: usize = 8 * 1024;

/// The most bytes of a text that a message quotes.
const EXCERPT_BYTES: usize = 4 * 1024;

/// A message as it is recorded: its beginning, and how long it was, if it is long. Messages are authors' texts, such as
/// those of panics and errors, and stand beside values whose size is limited.
pub(crate) fn in_brief(message: impl Into<String>) -> String {
    beginning(message.into(), MESSAGE_BYTES)
}

/// A text as it is quoted within a message: so short that the message has room for its own words.
pub(crate) fn excerpt(text: impl Into<String>) -> String {
    beginning(text.into(), EXCERPT_BYTES)
}

fn beginning(mut text: String, most: usize) -> String {
    if text.len() > most {
        let bytes = text.len();
        text.truncate(text.floor_char_boundary(most));
        text.shrink_to_fit();
        let _ = write!(text, "… ({bytes} bytes in all)");
    }
    text
}

/// The stored form of a value of an author's type.
///
/// # Errors
/// [`NotRecordable`] if it could not be read back: nothing is written then. In a debug build also if the encoding is
/// not the same each time, because a replay would take the difference for a violation.
pub(crate) fn record<T: Serialize + DeserializeOwned>(value: &T) -> Result<Bytes, NotRecordable> {
    record_and_read(value).map(|(stored, _)| stored)
}

/// As [`record`], with the value as it is read back: what a replay would see (R6).
pub(crate) fn record_and_read<T: Serialize + DeserializeOwned>(value: &T) -> Result<(Bytes, T), NotRecordable> {
    let stored = Bytes::from(json::to_vec(value)?);
    let read_back = || {
        serde_json::from_slice::<T>(&stored)
            .map_err(|error| NotRecordable::new::<T>(format!("it cannot be read back: {error}")))
    };
    if cfg!(debug_assertions) {
        for _ in 0..STABLE_ROUNDS {
            if json::to_vec(&read_back()?)? != stored {
                let why =
                    "its encoding changes when it is read and written again; a set or map without an order does that";
                return Err(NotRecordable::new::<T>(why));
            }
        }
    }
    let read = read_back()?;
    Ok((stored, read))
}

/// The stored form of one of the types below.
pub(crate) fn encode<T: Serialize + ?Sized>(form: &T) -> Bytes {
    match serde_json::to_vec(form) {
        Ok(bytes) => bytes.into(),
        Err(error) => unreachable!("a {} is always JSON: {error}", std::any::type_name::<T>()),
    }
}

/// Reads a stored form.
///
/// # Errors
/// [`PayloadError`] if it is not the stored form of a `T`.
pub(crate) fn decode<T: DeserializeOwned>(stored: &[u8]) -> Result<T, PayloadError> {
    Ok(serde_json::from_slice(plain(stored)?)?)
}

/// The JSON text of a stored form.
///
/// # Errors
/// [`PayloadError::Codec`] if another codec than plain JSON wrote it.
pub fn plain(stored: &[u8]) -> Result<&[u8], PayloadError> {
    match stored.first() {
        Some(codec) if *codec < FIRST_PLAIN => Err(PayloadError::Codec(*codec)),
        _ => Ok(stored),
    }
}

/// A stored form that this build cannot read.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It was written by a codec that this build does not know.
    #[error("it is stored with codec {0:#04x}, which this build does not know")]
    Codec(u8),
    /// The type that is read panicked.
    #[error("it cannot be read: its type panicked: {0}")]
    Panic(String),
    /// What was made of it could not be read back.
    #[error("{0}")]
    NotRecordable(String),
    /// It is not JSON, or not of the type that is read.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// The payload of [`StepRetried`](sapwood_core::journal::EntryKind::StepRetried).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRetried {
    /// What the attempt ended with, in words.
    pub(crate) message: String,
}

/// The payload of [`SleepBegun`](sapwood_core::journal::EntryKind::SleepBegun).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SleepBegun {
    /// Its length in milliseconds.
    pub(crate) ms: u64,
}

/// The payload of [`Started`](sapwood_core::journal::EntryKind::Started).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Started {
    /// The new root's input, which replay compares.
    pub(crate) input: Box<RawValue>,
    /// What became of the start.
    pub(crate) outcome: StartOutcome,
}

/// What became of a start by a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StartOutcome {
    /// The root exists, started by this operation.
    Tree(TreeId),
    /// It cannot be started: its id is malformed, or belongs to another root.
    Refused {
        /// Why, in words.
        message: String,
    },
}

/// The payload of [`Retried`](sapwood_core::journal::EntryKind::Retried).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Retried {
    /// What the attempt ended with, in words.
    pub(crate) message: String,
    /// The positions of failed steps that the next attempt runs again.
    pub(crate) forgotten: Vec<Position>,
    /// An operator asked for the next attempt: it is the first of a fresh budget.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) afresh: bool,
}

/// The payload of [`UndoRetried`](sapwood_core::journal::EntryKind::UndoRetried).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UndoRetried {
    /// The last completion number of the tree: undos that had failed under it, or a smaller one, are made again.
    pub(crate) number: u32,
    /// Undos that were never begun are made as well. They are if all that failed is undone again, or if the first round is
    /// not over; what a kill left out stays so if one undo alone is retried.
    pub(crate) unbegun: bool,
}

/// The payload of [`Found`](sapwood_core::journal::EntryKind::Found).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// What it is about: a called function, a limit; empty if the code says it all.
    pub(crate) about: String,
    /// What was found, in words.
    pub(crate) message: String,
}

/// The payload of [`UndoDeclared`](sapwood_core::journal::EntryKind::UndoDeclared): the call that undoes what comes next.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct UndoDeclared {
    /// Its function, as `name@version`.
    pub(crate) function: String,
    /// Its input.
    pub(crate) input: Box<RawValue>,
}

/// The payload of [`PromiseMade`](sapwood_core::journal::EntryKind::PromiseMade).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PromiseMade {
    /// The JSON Schema of its value, by which any process of the context judges a settle.
    pub(crate) schema: Box<RawValue>,
    /// Its own deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<Timestamp>,
}

/// The payload of [`PromiseSettled`](sapwood_core::journal::EntryKind::PromiseSettled), and the outcome in the table
/// `promise`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PromiseOutcome {
    /// Its value.
    Resolved(Box<RawValue>),
    /// Why it was rejected, in words.
    Rejected {
        /// The words.
        message: String,
    },
    /// Its deadline passed.
    TimedOut,
}

impl PromiseOutcome {
    /// Reads the stored form.
    ///
    /// # Errors
    /// [`PayloadError`] if it is not a stored outcome.
    pub(crate) fn read(stored: &[u8]) -> Result<Self, PayloadError> {
        decode(stored)
    }
}

/// A rejection: the outcome of a rejected invocation, and the payload of
/// [`StepRejected`](sapwood_core::journal::EntryKind::StepRejected).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rejection {
    /// What kind of rejection it is.
    pub kind: RejectionKind,
    /// The error in words.
    pub message: String,
    /// The error itself, if a value of the author's own type ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Box<RawValue>>,
}

/// What kind of rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RejectionKind {
    /// A terminal error of the author's own type.
    Failed,
    /// A transient error that outlived its attempts, or that a retry would only have repeated.
    Exhausted,
    /// A limit of the tree was met.
    Limit,
    /// A step timed out at its last attempt, and the error type of the function cannot say so.
    StepTimedOut,
    /// The function cannot read its recorded input.
    Input,
    /// It was cancelled.
    Cancelled,
    /// It was stopped without compensation.
    Killed,
}

impl RejectionKind {
    /// The kind's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Exhausted => "exhausted",
            Self::Limit => "limit",
            Self::StepTimedOut => "step_timed_out",
            Self::Input => "input",
            Self::Cancelled => "cancelled",
            Self::Killed => "killed",
        }
    }
}

impl Rejection {
    /// A rejection without an error of the author's own.
    #[must_use]
    pub fn of(kind: RejectionKind, message: impl Into<String>) -> Self {
        Self { kind, message: in_brief(message), error: None }
    }

    pub(crate) fn of_body(error: &BodyError) -> Self {
        let kind = match error.transient {
            _ if error.error.is_empty() => RejectionKind::StepTimedOut,
            true => RejectionKind::Exhausted,
            false => RejectionKind::Failed,
        };
        let raw = String::from_utf8(error.error.to_vec()).ok().and_then(|text| RawValue::from_string(text).ok());
        Self { kind, message: error.message.clone(), error: raw }
    }

    /// The stored form.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        encode(self)
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`PayloadError`] if it is not a stored rejection.
    pub fn read(stored: &[u8]) -> Result<Self, PayloadError> {
        decode(stored)
    }
}

/// Why an invocation is parked. That is not a failure and consumes no attempt (R9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Parked {
    /// What kind of reason it is.
    pub(crate) code: ParkedCode,
    /// The reason in words.
    pub(crate) message: String,
    /// The position in program order.
    pub(crate) position: Position,
    /// The source location, as `file:line:column`, of the operation that the reason is about; if it is about none, of
    /// the last one that the body asked for; if it has asked for none, of the function. Empty for a whole tree.
    pub(crate) location: String,
    /// Of a divergence: what the journal has there, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) recorded: Option<String>,
    /// Of a divergence: what the code asks for now, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) asked: Option<String>,
    /// Of a function whose attempts are over; in a box, because a reason is handed on as an error.
    #[serde(flatten)]
    pub(crate) spent: Option<Box<Spent>>,
}

/// What is known of a function whose attempts are over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spent {
    /// How many it has made.
    pub(crate) attempts: u32,
    /// The positions of failed steps that run again if an operator retries it.
    pub(crate) forgotten: Vec<Position>,
}

/// What kind of reason to park.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ParkedCode {
    /// The code asks for something else than its record has: another build, or a body that is not deterministic.
    Divergence,
    /// This build cannot read what is recorded.
    Unreadable,
    /// A value could not be read back, so it was not recorded.
    NotRecordable,
    /// The body waits for something that is not durable.
    ForeignAwait,
    /// `cx` or one of its handles was used outside of its body.
    Misuse,
    /// The body makes two external promises of one name.
    DuplicatePromise,
    /// The body panicked at its last attempt.
    Panic,
    /// The body ended with a transient error at its last attempt, and pauses then.
    Exhausted,
    /// The store refuses what the tree recorded.
    Refused,
    /// Its workers died again and again while they had the tree (C4).
    Quarantine,
}

impl Parked {
    pub(crate) fn new(
        code: ParkedCode,
        message: impl Into<String>,
        position: Position,
        location: impl Into<String>,
    ) -> Self {
        let message = in_brief(message);
        let location = location.into();
        Self { code, message, position, location, recorded: None, asked: None, spent: None }
    }

    /// It is parked because its attempts are over.
    pub(crate) fn after(self, attempts: u32, forgotten: &[Position]) -> Self {
        let spent = Spent { attempts, forgotten: forgotten.to_vec() };
        Self { spent: Some(Box::new(spent)), ..self }
    }

    /// A difference between record and code, named on both sides.
    pub(crate) fn divergence(
        position: Position,
        recorded: impl Into<String>,
        asked: impl Into<String>,
        location: impl Into<String>,
    ) -> Self {
        let (recorded, asked) = (recorded.into(), asked.into());
        let message = format!("at position {position} the journal has {recorded}, the code asks for {asked}");
        let parked = Self::new(ParkedCode::Divergence, message, position, location);
        Self { recorded: Some(recorded), asked: Some(asked), ..parked }
    }
}

impl fmt::Display for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.location.is_empty() { Ok(()) } else { write!(f, " ({})", self.location) }
    }
}

/// What a body, or an attempt of a step, gave, in its stored form.
pub(crate) type BodyResult = Result<Bytes, BodyError>;

/// The error of a body, or of an attempt of a step, with what decides about a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BodyError {
    pub(crate) transient: bool,
    pub(crate) message: String,
    /// The stored form of the error itself; empty if a step timed out whose error type cannot say so.
    pub(crate) error: Bytes,
}

impl BodyError {
    /// An attempt of a step that took too long: like a transient error, of the step's own type if that can say so.
    pub(crate) fn timed_out<E: Failure>(message: String, failure: CallFailure) -> Result<Self, NotRecordable> {
        let error = E::of_call(failure).map(|error| record(&error)).transpose()?;
        Ok(Self { transient: true, message: in_brief(message), error: error.unwrap_or_default() })
    }

    pub(crate) fn of<E: Failure>(error: &E) -> Result<Self, NotRecordable> {
        Ok(Self { transient: error.is_transient(), message: in_brief(error.to_string()), error: record(error)? })
    }
}

/// The stored form of what a body, or an attempt of a step, gave.
///
/// # Errors
/// [`NotRecordable`] if it could not be read back.
pub(crate) fn body_result<T, E>(result: Result<T, E>) -> Result<BodyResult, NotRecordable>
where
    T: Serialize + DeserializeOwned,
    E: Failure,
{
    Ok(match result {
        Ok(value) => Ok(record(&value)?),
        Err(error) => Err(BodyError::of(&error)?),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sapwood_core::journal::EntryKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_long_message_is_cut_between_two_characters_and_says_how_long_it_was() {
        assert_eq!(in_brief("short"), "short");
        let exact = "x".repeat(MESSAGE_BYTES);
        assert_eq!(in_brief(exact.clone()), exact);
        for shift in 0..3 {
            let long = format!("{}{}", "x".repeat(shift), "\u{ffff}".repeat(MESSAGE_BYTES));
            let brief = in_brief(long.clone());
            assert!(brief.len() <= MESSAGE_BYTES + 40, "{}", brief.len());
            let (text, bytes) = brief.split_once('…').expect("it is cut");
            assert!(long.starts_with(text) && bytes == format!(" ({} bytes in all)", long.len()), "{bytes}");
        }
    }

    const PAGE: &str = include_str!("../../../docs/reference/journal.md");

    fn raw(value: &serde_json::Value) -> Box<RawValue> {
        serde_json::value::to_raw_value(value).expect("JSON")
    }

    fn tree() -> TreeId {
        "01980000-0000-7000-8000-000000000001".parse().expect("a tree id")
    }

    /// A stored form as this build writes it, and whether this build reads the same value back.
    fn golden<T: Serialize + DeserializeOwned>(value: &T) -> String {
        let stored = encode(value);
        let again: T = decode(&stored).expect("what is written can be read");
        assert_eq!(encode(&again), stored, "a round trip changes nothing");
        String::from_utf8(stored.to_vec()).expect("JSON is text")
    }

    /// The examples of each section of the page, by the section's title without its code.
    fn documented() -> BTreeMap<&'static str, Vec<String>> {
        let mut sections = BTreeMap::new();
        for section in PAGE.split("\n## ").skip(1) {
            let title = section.lines().next().unwrap_or_default();
            let name = title.trim_start_matches('`').split('`').next().unwrap_or_default();
            let blocks = section.split("```json\n").skip(1).filter_map(|rest| rest.split("\n```").next());
            sections.insert(name, blocks.flat_map(str::lines).map(ToOwned::to_owned).collect());
        }
        sections
    }

    /// R6: each form is the one that the page shows, and can be read back.
    #[test]
    fn each_stored_form_is_the_one_that_the_page_shows() {
        let error = json!({"Declined": {"reason": "expired"}});
        let rejection = |kind, message: &str, error: Option<&serde_json::Value>| {
            golden(&Rejection { kind, message: message.to_owned(), error: error.map(raw) })
        };
        let started = |outcome| golden(&Started { input: raw(&json!({"label": "L1"})), outcome });
        let approval = json!({"type": "object", "properties": {"by": {"type": "string"}}, "required": ["by"]});
        let expected: [(&str, Vec<String>); 10] = [
            (
                EntryKind::StepRejected.name(),
                vec![
                    rejection(RejectionKind::Failed, "card declined: expired", Some(&error)),
                    rejection(RejectionKind::Exhausted, "payment gateway unavailable", Some(&json!("Unavailable"))),
                ],
            ),
            (
                EntryKind::StepRetried.name(),
                vec![golden(&StepRetried { message: "payment gateway unavailable".into() })],
            ),
            (EntryKind::SleepBegun.name(), vec![golden(&SleepBegun { ms: 60_000 })]),
            (
                EntryKind::Started.name(),
                vec![
                    started(StartOutcome::Tree(tree())),
                    started(StartOutcome::Refused { message: format!("the id belongs to tree {}", tree()) }),
                ],
            ),
            (EntryKind::PromiseMade.name(), {
                let made = |deadline| PromiseMade { schema: raw(&approval), deadline };
                vec![golden(&made(None)), golden(&made(Some("2026-11-28T12:00:00Z".parse().expect("a time"))))]
            }),
            (
                EntryKind::PromiseSettled.name(),
                vec![
                    golden(&PromiseOutcome::Resolved(raw(&json!({"by": "anna"})))),
                    golden(&PromiseOutcome::Rejected { message: "the customer left".into() }),
                    golden(&PromiseOutcome::TimedOut),
                ],
            ),
            (EntryKind::Retried.name(), {
                let retried =
                    |afresh| Retried { message: "payment gateway unavailable".into(), forgotten: vec![0, 3], afresh };
                vec![golden(&retried(false)), golden(&retried(true))]
            }),
            (EntryKind::UndoRetried.name(), vec![golden(&UndoRetried { number: 41, unbegun: true })]),
            (
                "Outcomes",
                vec![
                    rejection(RejectionKind::Failed, "card declined: expired", Some(&error)),
                    rejection(RejectionKind::Exhausted, "payment gateway unavailable", Some(&json!("Unavailable"))),
                    rejection(RejectionKind::Limit, "call reserve: nodes would be 10001, the limit is 10000", None),
                    rejection(RejectionKind::StepTimedOut, "step gateway timed out after 20s", None),
                    rejection(RejectionKind::Input, "missing field `order_id`", None),
                ],
            ),
            (
                "Parked",
                vec![
                    golden(&Parked::divergence(2, "call reserve {\"sku\":1}", "step gateway", "src/orders.rs:12:9")),
                    golden(&Parked::new(
                        ParkedCode::NotRecordable,
                        "the result of step weigh: a value of type f64 cannot be recorded: \
                         NaN is not a number that JSON can hold",
                        0,
                        "src/orders.rs:8:20",
                    )),
                    golden(
                        &Parked::new(ParkedCode::Exhausted, "payment gateway unavailable", 1, "src/orders.rs:9:12")
                            .after(3, &[0]),
                    ),
                ],
            ),
        ];
        let documented = documented();
        for (section, forms) in expected {
            assert_eq!(documented.get(section), Some(&forms), "the section `{section}` of journal.md");
        }
    }

    /// Each kind of entry that is written has a section under its name and code; each reserved kind has a row of the
    /// table.
    #[test]
    fn the_page_has_each_kind_with_its_code() {
        for kind in EntryKind::ALL {
            let section = format!("\n## `{}` ({})\n", kind.name(), kind.code());
            let row = format!("\n| `{}` | {} |", kind.name(), kind.code());
            assert!(PAGE.contains(&section) != PAGE.contains(&row), "{} ({})", kind.name(), kind.code());
        }
    }

    /// R6: what another codec wrote is refused by name, and is never taken for JSON.
    #[test]
    fn a_codec_that_this_build_does_not_know_is_named() {
        for codec in 0..FIRST_PLAIN {
            let stored = [&[codec][..], b"{\"ms\":1}"].concat();
            let error = decode::<SleepBegun>(&stored).expect_err("no codec is known");
            assert!(matches!(error, PayloadError::Codec(found) if found == codec), "{error}");
            assert!(error.to_string().contains(&format!("codec {codec:#04x}")), "{error}");
        }
        for plain in [&b"1"[..], b"\"\"", b"null", b"{\"ms\":1}", b"", b" 1"] {
            assert!(super::plain(plain).is_ok(), "{plain:?}");
        }
    }
}
