//! A reader of logs: takes the free partitions of its group, and reads each from its offset on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::future::select_all;
use futures::stream::BoxStream;
use jiff::Timestamp;
use sapwood_core::broker::{BrokerError, BrokerErrorKind, Consumed, Delivery, Subscription, TopicPartition};
use sapwood_core::retry::jittered;
use sapwood_core::store::{Hint, LogRecord, LoggedRecord, OrderedRows, Store};
use sapwood_engine::Environment;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;

use super::ANSWER;
use super::error::broker_error;
use crate::pace;

/// The most records of one read; it bounds the memory of a reader.
const ROWS: usize = 250;
/// The number of a log's only partition.
const PARTITION: i32 = 0;

/// A membership of a group on some topics.
pub(super) struct LogSubscription {
    /// In the order in which they are read. The one that was read last goes to the end, so that no topic starves the
    /// others.
    seats: VecDeque<Seat>,
    /// How often all logs are read without a wake-up.
    period: Duration,
    /// The source of jitter.
    environment: Arc<dyn Environment>,
}

/// A place of a group at a topic's log.
pub(super) struct Seat {
    topic: String,
    store: Arc<dyn Store>,
    /// Announce appends of other processes.
    hints: BoxStream<'static, Hint>,
    /// Announces appends of this process.
    appended: watch::Receiver<()>,
    /// Has one permit; its holder owns the partition.
    free: Arc<Semaphore>,
    state: State,
}

/// Whether this member owns the partition, and how far it has read.
enum State {
    /// Another member has the partition.
    Waiting,
    /// This member has it, and the assignment was delivered. The offset to begin at is not known yet.
    Assigned { _permit: OwnedSemaphorePermit },
    /// This member has it. `offset` is read next; `look` is set if there may be something to read. `last` tells the
    /// record before `offset` from every other, if it was read here.
    Reading { _permit: OwnedSemaphorePermit, offset: i64, look: bool, last: Option<Mark> },
}

/// What tells a record from one that got its offset after the store had gone back.
type Mark = (Timestamp, Vec<(String, String)>);

/// Why a wait ended, with the index of the seat.
enum Woken {
    /// The partition became free, and is taken.
    Freed(usize, OwnedSemaphorePermit),
    /// The log may have new records.
    News(usize),
    /// The store's hints have ended.
    Silence(usize),
    /// It is time to look at every log.
    Period,
}

impl Seat {
    pub(super) fn new(
        topic: String,
        store: Arc<dyn Store>,
        appended: watch::Receiver<()>,
        free: Arc<Semaphore>,
    ) -> Self {
        let hints = store.hints();
        Self { topic, store, hints, appended, free, state: State::Waiting }
    }

    fn partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: PARTITION, topic_id: None }
    }

    /// Takes the partition if it is free.
    fn take_free(&mut self) -> Option<TopicPartition> {
        let State::Waiting = self.state else { return None };
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        self.state = State::Assigned { _permit: permit };
        Some(self.partition())
    }

    /// Waits until there is something to do for this seat.
    async fn woken(&mut self, at: usize) -> Woken {
        let Self { topic, hints, appended, free, state, .. } = self;
        match state {
            State::Waiting => match Arc::clone(free).acquire_owned().await {
                Ok(permit) => Woken::Freed(at, permit),
                // The semaphore is never closed.
                Err(_) => std::future::pending().await,
            },
            State::Assigned { .. } => std::future::pending().await,
            State::Reading { .. } => loop {
                tokio::select! {
                    Ok(()) = appended.changed() => return Woken::News(at),
                    hint = hints.next() => match hint {
                        Some(Hint::Log(of)) if of == *topic => return Woken::News(at),
                        Some(Hint::Missed) => return Woken::News(at),
                        Some(_) => {}
                        None => return Woken::Silence(at),
                    },
                }
            },
        }
    }

    fn consumed(&self, logged: LoggedRecord) -> Consumed {
        let LoggedRecord { offset, record: LogRecord { topic, key, headers, content }, .. } = logged;
        Consumed { topic, partition: PARTITION, offset, key: Some(Bytes::from(key)), headers, content }
    }

    /// Reads what comes next; `None` if there is nothing. Cancel safe: it changes nothing before the store has answered.
    async fn read(&mut self) -> Result<Option<Delivery>, BrokerError> {
        let State::Reading { offset, look: true, last, .. } = &self.state else { return Ok(None) };
        // Each read begins with the record that was read last: if it is no longer there, the log went back.
        let (offset, again) = (*offset, last.is_some());
        // Marked as seen before the read, so that an append after it wakes the reader again.
        self.appended.borrow_and_update();
        let read = self.store.log_read(&self.topic, offset - i64::from(again), ROWS + usize::from(again));
        let read = pace::answered(ANSWER, read).await.map_err(broker_error)?;
        let OrderedRows { rows: mut logged, unreadable } = read;
        let is_full = logged.len() > ROWS - usize::from(!again);
        if again && unreadable.as_ref().is_none_or(|row| row.at >= offset) {
            self.require_last(&logged)?;
            logged.remove(0);
        } else if again {
            // It was readable, so it was delivered: what follows it is read without it.
            self.forget_last();
            return Ok(None);
        }
        let last = logged.last().map(|logged| logged.offset);
        if let State::Reading { offset, look, last: mark, .. } = &mut self.state {
            *look = is_full;
            *offset = last.map_or(*offset, |last| last + 1);
            if let Some(logged) = logged.last() {
                *mark = Some(mark_of(logged));
            }
        }
        if !logged.is_empty() {
            if let State::Reading { look, .. } = &mut self.state {
                // The next read tells of a record that cannot be read.
                *look |= unreadable.is_some();
            }
            return Ok(Some(Delivery::Batch(logged.into_iter().map(|logged| self.consumed(logged)).collect())));
        }
        Ok(unreadable.map(|row| Delivery::Stopped {
            partition: self.partition(),
            reason: format!("the record at offset {} of its log: {}", row.at, row.reason),
        }))
    }
}

impl Seat {
    /// Begins the log anew if it no longer has the record that was read last: its store went back, and new records have
    /// the offsets of lost ones. What comes again is deduped by its consumers.
    fn require_last(&mut self, logged: &[LoggedRecord]) -> Result<(), BrokerError> {
        let State::Reading { offset, look, last, .. } = &mut self.state else { return Ok(()) };
        let is_there = logged.first().is_some_and(|first| first.offset == *offset - 1 && Some(mark_of(first)) == *last);
        if is_there {
            return Ok(());
        }
        let message = format!(
            "the log of `{}` went back: it no longer has the record before offset {offset}, which was read; it is read \
             again from its oldest record",
            self.topic
        );
        tracing::error!(topic = self.topic, offset, "{message}");
        (*offset, *look, *last) = (0, true, None);
        Err(BrokerError::new(BrokerErrorKind::Passing, message))
    }

    fn forget_last(&mut self) {
        if let State::Reading { look, last, .. } = &mut self.state {
            (*look, *last) = (true, None);
        }
    }
}

fn mark_of(logged: &LoggedRecord) -> Mark {
    (logged.time, logged.record.headers.clone())
}

impl LogSubscription {
    pub(super) fn new(seats: Vec<Seat>, period: Duration, environment: Arc<dyn Environment>) -> Self {
        Self { seats: seats.into(), period, environment }
    }

    async fn read(&mut self) -> Result<Option<Delivery>, BrokerError> {
        for at in 0..self.seats.len() {
            if let Some(delivery) = self.seats[at].read().await? {
                self.seats.rotate_left(at + 1);
                return Ok(Some(delivery));
            }
        }
        Ok(None)
    }

    async fn woken(&mut self) -> Woken {
        let seats = self.seats.iter_mut().enumerate().map(|(at, seat)| Box::pin(seat.woken(at)));
        let seats: Vec<_> = seats.collect();
        tokio::select! {
            (woken, ..) = select_all_or_pending(seats) => woken,
            () = sleep(jittered(self.period, self.environment.jitter())) => Woken::Period,
        }
    }

    fn wake(&mut self, woken: Woken) -> Option<TopicPartition> {
        let look = |seat: &mut Seat| {
            if let State::Reading { look, .. } = &mut seat.state {
                *look = true;
            }
        };
        match woken {
            Woken::Freed(at, permit) => {
                self.seats[at].state = State::Assigned { _permit: permit };
                return Some(self.seats[at].partition());
            }
            Woken::News(at) => look(&mut self.seats[at]),
            Woken::Silence(at) => self.seats[at].hints = futures::stream::pending().boxed(),
            Woken::Period => self.seats.iter_mut().for_each(look),
        }
        None
    }
}

/// Checks that the log can be read from `offset` on without skipping anything (H8).
async fn check(store: &dyn Store, topic: &str, offset: i64) -> Result<(), BrokerError> {
    let before = offset.saturating_sub(1).max(0);
    let first = store.log_read(topic, before, 1).await.map_err(broker_error)?;
    let oldest = first.rows.first().map(|logged| logged.offset).or(first.unreadable.map(|row| row.at));
    // The record before `offset` was read; if it still exists, none after it is missing.
    if offset == 0 || oldest.is_some_and(|oldest| oldest <= offset) {
        return Ok(());
    }
    let message = format!(
        "`{topic}` should be read from offset {offset} on, but its log has {}: records were deleted before they were \
         read, or this is another log",
        oldest.map_or_else(|| "ended before".to_owned(), |oldest| format!("nothing before {oldest}")),
    );
    Err(BrokerError::new(BrokerErrorKind::Fatal, message))
}

/// [`select_all`] panics without futures, so a membership without topics waits for ever instead.
async fn select_all_or_pending<F: Future<Output = Woken> + Unpin>(futures: Vec<F>) -> (Woken, usize, Vec<F>) {
    if futures.is_empty() {
        return std::future::pending().await;
    }
    select_all(futures).await
}

#[async_trait]
impl Subscription for LogSubscription {
    /// Cancel safe: the result of each await is stored in its seat before the next await.
    async fn next(&mut self) -> Result<Delivery, BrokerError> {
        let free: Vec<_> = self.seats.iter_mut().filter_map(Seat::take_free).collect();
        if !free.is_empty() {
            return Ok(Delivery::Assigned(free));
        }
        loop {
            if let Some(delivery) = self.read().await? {
                return Ok(delivery);
            }
            let woken = self.woken().await;
            if let Some(partition) = self.wake(woken) {
                return Ok(Delivery::Assigned(vec![partition]));
            }
        }
    }

    async fn begin(&mut self, partitions: &[(TopicPartition, Option<i64>)]) -> Result<(), BrokerError> {
        for (partition, from) in partitions {
            let Some(seat) = self.seats.iter_mut().find(|seat| seat.topic == partition.topic) else { continue };
            if let Some(from) = from {
                check(seat.store.as_ref(), &seat.topic, *from).await?;
            }
            seat.state = match std::mem::replace(&mut seat.state, State::Waiting) {
                State::Waiting => State::Waiting,
                State::Assigned { _permit } | State::Reading { _permit, .. } => {
                    State::Reading { _permit, offset: from.unwrap_or(0), look: true, last: None }
                }
            };
        }
        Ok(())
    }

    async fn advise(&mut self, _: &[(TopicPartition, i64)]) -> Result<(), BrokerError> {
        Ok(())
    }
}
