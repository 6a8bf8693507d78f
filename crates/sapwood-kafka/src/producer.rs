//! Publishing: order per key, one answer per record.
//!
//! A publish hands all its records to librdkafka and waits for the acknowledgements. Four things keep the order:
//!
//! - publishes pass one gate, in the order of their calls, before they hand records over, even if one has to wait for
//!   room;
//! - the producer is idempotent, so that retries keep the order within a partition;
//! - it is *gapless*: once the broker refuses a batch permanently, no further record of that client passes. The client
//!   is then replaced, and every publish sends again, in order, what had not passed;
//! - a batch is refused as a whole, even if only one record is too large. Records that were refused together are sent
//!   again one by one, and only a record that is refused alone is `Refused`.
//!
//! ```text
//!   publish ─► gate ─► hand over ─► wait ─┬─► acknowledged, or refused alone: the answer
//!                ▲                        └─► not passed: a fresh client, in order, again
//!                └────────────────────────────┘
//! ```
//!
//! Dropping a publish does not take back the records that were handed over; the others stay unpublished. Two publishes
//! that wait for answers at the same time keep their order unless the broker refuses something; a caller that always
//! needs their order awaits the first before it begins the second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use sapwood_core::broker::{BrokerError, BrokerErrorKind, Record};
use tokio::sync::{Mutex as Gate, MutexGuard, Notify, oneshot};

use crate::KafkaOptions;
use crate::elsewhere::drop_elsewhere;
use crate::error::{fatal, kind_of, while_doing};
use crate::quiet::Quiet;

/// How long to wait for room before a record is handed over again. Acknowledgements wake the wait, so this is only a
/// safeguard.
const ROOM_PERIOD: Duration = Duration::from_millis(100);

/// How long a publish waits before it uses a second fresh client, and the most that this wait grows to. A client costs
/// connections, so their rate must be bounded.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What librdkafka's delivery report says of one record.
type Outcome = Result<(), Code>;

/// Publishes records, through one client after the other.
pub(crate) struct Producer {
    /// For the next client.
    options: KafkaOptions,
    /// The current client. The publish that holds the lock hands its records over; the others queue behind it in the
    /// order of their calls. The lock is held on purpose while waiting for room, because a later publish must not
    /// overtake.
    gate: Gate<Option<Arc<Client>>>,
}

impl Producer {
    pub(crate) fn new(options: &KafkaOptions) -> Result<Self, BrokerError> {
        let client = Client::new(options)?;
        Ok(Self { options: options.clone(), gate: Gate::new(Some(Arc::new(client))) })
    }

    /// Publishes records, as [`Broker::publish`](sapwood_core::broker::Broker::publish) describes.
    pub(crate) async fn publish(&self, records: Vec<Record>) -> Vec<Result<(), BrokerError>> {
        let mut answers: Vec<Option<Result<(), BrokerError>>> = records.iter().map(|_| None).collect();
        let mut open: Vec<usize> = (0..records.len()).collect();
        let mut alone = false;
        let mut pause = FIRST_PAUSE;
        while !open.is_empty() {
            let outcomes = match self.send(&records, &open, alone).await {
                Ok(outcomes) => outcomes,
                Err(error) => {
                    fail_all(&open, &mut answers, &error);
                    break;
                }
            };
            let round = judge(&open, &outcomes, alone);
            for (index, outcome) in round.answered {
                answers[index] = Some(outcome.map_err(|code| refusal(&records[index], code)));
            }
            // If each fresh client is spent at once, a pause bounds how fast they follow each other.
            if round.again.len() == open.len() && !round.refused_in_company {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            alone |= round.refused_in_company;
            open = round.again;
        }
        let unanswered = || Err(fatal("Kafka's producer has lost a record's report"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
    }

    /// Sends those `records` that are `open`, and waits for their reports.
    async fn send(&self, records: &[Record], open: &[usize], alone: bool) -> Result<Vec<Outcome>, BrokerError> {
        let mut gate = self.gate.lock().await;
        if !alone {
            let client = self.client(&mut gate)?;
            let handed_over = client.hand_over(records, open).await;
            drop(gate);
            return Ok(handed_over.outcomes().await);
        }
        // No record of another publish may get into the batch, so the gate is held until each answer.
        let mut outcomes = Vec::with_capacity(open.len());
        for index in open {
            let client = self.client(&mut gate)?;
            outcomes.extend(client.hand_over(records, &[*index]).await.outcomes().await);
            // What comes after a record that has not passed must not pass before it.
            if outcomes
                .last()
                .is_some_and(|outcome| outcome.is_err_and(|code| kind_of(code) != BrokerErrorKind::Refused))
            {
                break;
            }
        }
        outcomes.resize(open.len(), Err(Code::PurgeQueue));
        Ok(outcomes)
    }

    /// The current client, or a fresh one if that is spent.
    ///
    /// # Errors
    /// The client was spent by something that a fresh one would meet as well, such as a missing permission to write.
    fn client(&self, gate: &mut MutexGuard<'_, Option<Arc<Client>>>) -> Result<Arc<Client>, BrokerError> {
        match gate.take() {
            Some(client) if !client.is_spent() => {
                **gate = Some(Arc::clone(&client));
                return Ok(client);
            }
            Some(client) => client.refused()?,
            None => {}
        }
        let client = Arc::new(Client::new(&self.options)?);
        **gate = Some(Arc::clone(&client));
        Ok(client)
    }
}

/// What to do after a round of sending.
#[derive(Debug, Default, PartialEq, Eq)]
struct Round {
    /// Records that have their answer.
    answered: Vec<(usize, Outcome)>,
    /// Records to send again, in order.
    again: Vec<usize>,
    /// Whether a record was refused as a part of a batch.
    refused_in_company: bool,
}

/// Sorts the reports of a round.
///
/// After a record that failed with an error that may pass, no later record is sent again: the caller will repeat that
/// record, and later ones must not be on the broker before it.
fn judge(open: &[usize], outcomes: &[Outcome], alone: bool) -> Round {
    let mut round = Round::default();
    let mut stopped = None;
    for (index, outcome) in open.iter().zip(outcomes) {
        match outcome {
            Ok(()) => round.answered.push((*index, Ok(()))),
            // A publish of one record shares its batch as well, with records of other publishes.
            Err(code) if concerns_batch(*code) && !alone => {
                round.refused_in_company = true;
                round.again.push(*index);
            }
            Err(code) if kind_of(*code) == BrokerErrorKind::Refused => round.answered.push((*index, Err(*code))),
            Err(code) if not_passed(*code) => match stopped {
                None => round.again.push(*index),
                Some(stopped) => round.answered.push((*index, Err(stopped))),
            },
            Err(code) => {
                stopped = Some(*code);
                round.answered.push((*index, Err(*code)));
            }
        }
    }
    round
}

/// Whether a refusal concerns a whole batch, although perhaps only one record in it is the cause.
fn concerns_batch(code: Code) -> bool {
    matches!(code, Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidMessage)
}

/// Whether a record did not pass because another one had spent its client.
fn not_passed(code: Code) -> bool {
    matches!(
        code,
        Code::GaplessGuarantee
            | Code::Fatal
            | Code::PurgeQueue
            | Code::PurgeInflight
            | Code::OutOfOrderSequenceNumber
            | Code::UnknownProducerId
            | Code::InvalidProducerEpoch
    )
}

fn refusal(record: &Record, code: Code) -> BrokerError {
    let (topic, key) = (&record.topic, &record.key);
    let kind = if not_passed(code) { BrokerErrorKind::Passing } else { kind_of(code) };
    BrokerError::new(kind, format!("Kafka does not take the record with key `{key}` for topic `{topic}`"))
        .caused_by(KafkaError::MessageProduction(code))
}

fn fail_all(open: &[usize], answers: &mut [Option<Result<(), BrokerError>>], error: &BrokerError) {
    for index in open {
        answers[*index] = Some(Err(BrokerError::new(error.kind(), error.to_string())));
    }
}

/// One client of librdkafka, in use until it is spent.
struct Client {
    // An option only so that `drop` can take it.
    producer: Option<ThreadedProducer<Reports>>,
}

impl Client {
    fn new(options: &KafkaOptions) -> Result<Self, BrokerError> {
        let producer = ThreadedProducer::from_config_and_context(&options.producer(), Reports::default())
            .map_err(|error| while_doing("configuring Kafka's producer", error))?;
        Ok(Self { producer: Some(producer) })
    }

    fn producer(&self) -> &ThreadedProducer<Reports> {
        self.producer.as_ref().expect("it is taken only by drop")
    }

    fn is_spent(&self) -> bool {
        // The flag may be set a moment after a refusal is reported; librdkafka's own error is set before.
        self.producer().context().spent.load(Ordering::Acquire) || self.producer().client().fatal_error().is_some()
    }

    /// # Errors
    /// The broker refused the client itself, permanently.
    fn refused(&self) -> Result<(), BrokerError> {
        let Some((code, reason)) = self.producer().client().fatal_error() else { return Ok(()) };
        if kind_of(code) != BrokerErrorKind::Refused {
            return Ok(());
        }
        Err(BrokerError::new(BrokerErrorKind::Refused, format!("Kafka refuses the producer: {reason}"))
            .caused_by(KafkaError::MessageProduction(code)))
    }

    /// Hands over those `records` that are `open`, in order; waits for room if there is none.
    async fn hand_over(self: &Arc<Self>, records: &[Record], open: &[usize]) -> HandedOver {
        let (told, answer) = oneshot::channel();
        let parcel = Arc::new(Parcel::new(open.len(), told));
        for (place, index) in open.iter().enumerate() {
            self.hand_over_one(&records[*index], Ticket { parcel: Arc::clone(&parcel), place }).await;
        }
        HandedOver { client: Arc::clone(self), answer }
    }

    async fn hand_over_one(&self, record: &Record, ticket: Ticket) {
        let mut ticket = Box::new(ticket);
        loop {
            // Created before the send, so that an acknowledgement in between is not missed.
            let room = self.producer().context().room.notified();
            let outgoing = BaseRecord::with_opaque_to(&record.topic, ticket)
                .key(record.key.as_bytes())
                .payload(&record.content[..])
                .headers(headers(record));
            let Err((error, returned)) = self.producer().send(outgoing) else { return };
            ticket = returned.delivery_opaque;
            match error.rdkafka_error_code() {
                // A timeout is the safeguard's, not an error.
                Some(Code::QueueFull) => _ = tokio::time::timeout(ROOM_PERIOD, room).await,
                // The error for a topic name with a zero byte has no code.
                code => {
                    let code = code.unwrap_or(Code::InvalidTopic);
                    self.producer().context().heed(code);
                    return ticket.report(Err(code));
                }
            }
        }
    }
}

/// Records that were handed over, and whose reports are awaited.
struct HandedOver {
    /// The client must outlive its reports: if it were dropped before, it would discard what is on its way.
    client: Arc<Client>,
    answer: oneshot::Receiver<Vec<Outcome>>,
}

impl HandedOver {
    async fn outcomes(self) -> Vec<Outcome> {
        let outcomes = self.answer.await;
        drop(self.client);
        // Every ticket reports before it is dropped, and the last one sends.
        outcomes.unwrap_or_default()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        drop_elsewhere(self.producer.take());
    }
}

fn headers(record: &Record) -> OwnedHeaders {
    let room = OwnedHeaders::new_with_capacity(record.headers.len());
    record.headers.iter().fold(room, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// The reports of the records that were handed over together.
struct Parcel {
    state: Mutex<ParcelState>,
}

struct ParcelState {
    /// One per record; a record without a report counts as discarded by the client.
    outcomes: Vec<Outcome>,
    /// Records without a report.
    open: usize,
    /// Receives the reports once the last one has come; taken then.
    told: Option<oneshot::Sender<Vec<Outcome>>>,
}

impl Parcel {
    fn new(count: usize, told: oneshot::Sender<Vec<Outcome>>) -> Self {
        let outcomes = vec![Err(Code::PurgeQueue); count];
        Self { state: Mutex::new(ParcelState { outcomes, open: count, told: Some(told) }) }
    }
}

/// One record's place in its parcel; it travels through librdkafka and back.
struct Ticket {
    parcel: Arc<Parcel>,
    place: usize,
}

impl Ticket {
    fn report(self, outcome: Outcome) {
        let mut state = self.parcel.state.lock();
        state.outcomes[self.place] = outcome;
        state.open -= 1;
        if state.open > 0 {
            return;
        }
        let outcomes = std::mem::take(&mut state.outcomes);
        if let Some(told) = state.told.take() {
            // If the publish was dropped, the answer has no receiver.
            _ = told.send(outcomes);
        }
    }
}

/// Takes librdkafka's delivery reports.
#[derive(Default)]
struct Reports {
    quiet: Quiet,
    /// Notified by every report, because each frees room in the client's queue.
    room: Notify,
    /// Set once no record of the client can pass any longer.
    spent: AtomicBool,
}

impl Reports {
    fn heed(&self, code: Code) {
        if not_passed(code) {
            self.spent.store(true, Ordering::Release);
        }
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, kind: &str, line: &str) {
        self.quiet.log(level, kind, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.heed(code);
        }
        self.quiet.error(error, reason);
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Fail)),
        };
        if let Err(code) = outcome {
            self.heed(code);
        }
        ticket.report(outcome);
        self.room.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_in_company_is_tried_alone() {
        let round = judge(&[0, 1, 2], &[Ok(()), Err(Code::MessageSizeTooLarge), Err(Code::PurgeQueue)], false);
        let expected = Round { answered: vec![(0, Ok(()))], again: vec![1, 2], refused_in_company: true };
        assert_eq!(round, expected);
    }

    #[test]
    fn a_publish_of_one_record_may_have_had_company() {
        let round = judge(&[0], &[Err(Code::MessageSizeTooLarge)], false);
        assert_eq!(round, Round { answered: vec![], again: vec![0], refused_in_company: true });
    }

    #[test]
    fn what_is_refused_alone_is_refused_and_the_rest_is_sent() {
        let round = judge(&[1, 2], &[Err(Code::MessageSizeTooLarge), Err(Code::PurgeQueue)], true);
        let answered = vec![(1, Err(Code::MessageSizeTooLarge))];
        assert_eq!(round, Round { answered, again: vec![2], refused_in_company: false });
    }

    #[test]
    fn nothing_is_sent_again_past_a_record_whose_error_may_pass() {
        let round = judge(&[0, 1], &[Err(Code::RequestTimedOut), Err(Code::PurgeQueue)], false);
        let answered = vec![(0, Err(Code::RequestTimedOut)), (1, Err(Code::RequestTimedOut))];
        assert_eq!(round, Round { answered, again: vec![], refused_in_company: false });
    }
}
