//! Decides without I/O what the relay does next: which lanes to read, what to publish, which lanes to write back.
//!
//! ```text
//!   published                    read_to
//!     │  in flight, at most one    │
//!     ▼  flight per lane           ▼
//! ────●━━━━━━━━━━━━━━●─────────────●──────► seq
//!      acknowledged  waiting        not read yet
//! ```
//!
//! A lane has one flight at a time, so that no event overtakes another in it; the next rows are read meanwhile.
//! `published` is the last row up to which all rows are acknowledged. A lane that was lost and leased again is a new
//! one: its life distinguishes it from what is still under way for the old one.
//!
//! The store outranks this memory. It may have gone back, after a failover to a replica that lagged or a restore. Then
//! its cursor is behind what it had confirmed, or the row that was read last is no longer there. Such a lane begins
//! again where the store says, and what it had published beyond that is told ([`Setback`]).
//!
//! For a moment two publishers may work on one lane, a stale one and its successor. Each publishes without gaps, from a
//! row up to which all rows are acknowledged. So however their records interleave, the *first* occurrences are in
//! order, and consumers dedupe the others.

use std::collections::{BTreeMap, VecDeque};

use sapwood_core::EventId;
use sapwood_core::broker::{BrokerError, BrokerErrorKind, Record};
use sapwood_core::retry::Backoff;
use sapwood_core::store::{LaneAdvance, LaneLease, OrderedRows, OutboxRow, UnreadableRow};
use tokio::time::Instant;

use crate::cloud;
use crate::health::{RefusedEvent, Setback, UnreadableEvent};
use crate::pace;

/// The most rows of a lane in one read, and in one flight. A lane reads one flight ahead, so twice this number bounds
/// the rows that it has in memory.
const ROWS: usize = 200;

/// The lanes this process publishes.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: BTreeMap<u16, Lane>,
    /// Events acknowledged since the start.
    published: u64,
    /// Lanes taken over since the start: the life of the next one.
    lives: u64,
}

/// A lane that this process publishes.
#[derive(Debug)]
struct Lane {
    /// The epoch of the lease; results of another epoch are ignored.
    epoch: i64,
    /// The last row up to which all rows are acknowledged.
    published: i64,
    /// The same, as the store has it; it is written back less often than flights land.
    written: i64,
    /// The last row in memory.
    read_to: i64,
    /// The event of that row, if it was read in this life of the lane. Each read begins with it again: if the store no
    /// longer has it there, the store went back, and new rows may have the numbers of lost ones.
    last: Option<EventId>,
    /// The store failed since the last read. It may have gone back, so nothing is written back before a read has found
    /// the last row again.
    unsure: bool,
    /// The store did not have the last row where it was. The lane rests until the next claim tells where it stands.
    doubted: bool,
    /// Distinguishes this life of the lane from earlier ones, which may have had the same epoch.
    life: u64,
    /// There may be rows after `read_to`.
    look: bool,
    /// A read is under way; a second one would read the same rows.
    reading: bool,
    /// A flight is under way; a second one could overtake it.
    flying: bool,
    /// Rows that are read and not counted as published yet, by `seq`.
    rows: VecDeque<Waiting>,
    /// The row after those, if it cannot be read. None behind it is published, because it may be of the same key.
    unreadable: Option<UnreadableRow>,
    /// Set from a failed flight until one succeeds.
    trouble: Option<Trouble>,
    /// How long the lane rests after an outage.
    outage: Backoff,
    /// How long the lane rests after a permanent refusal.
    refusal: Backoff,
}

/// A row that is not acknowledged, or that follows one that is not.
#[derive(Debug)]
struct Waiting {
    row: OutboxRow,
    acknowledged: bool,
}

/// What follows from a failed flight.
#[derive(Debug)]
struct Trouble {
    /// The lane rests until then.
    until: Instant,
    /// The event that the broker refuses permanently, if that is why.
    refused: Option<RefusedEvent>,
}

/// A read to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) lane: u16,
    pub(super) after: i64,
    pub(super) limit: usize,
    life: u64,
}

/// Records to publish in one call.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) records: Vec<Record>,
    pub(super) manifest: Vec<FlownRow>,
}

/// The row that a record of a flight comes from; one per record, in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct FlownRow {
    lane: u16,
    life: u64,
    seq: i64,
}

impl Lanes {
    /// Takes over the lanes that are leased now, and drops all others. `confirmed` is [`Self::confirmed`] as of the
    /// moment at which the leases were asked for. Returns the lanes in which the store went back.
    pub(super) fn leased(&mut self, leases: &[LaneLease], confirmed: &BTreeMap<u16, i64>) -> Vec<Setback> {
        self.lanes.retain(|lane, _| leases.iter().any(|lease| lease.lane == *lane));
        let mut setbacks = Vec::new();
        for lease in leases {
            let LaneLease { lane, epoch, published: stored } = *lease;
            if let Some(at) = self.lanes.get(&lane) {
                let is_behind = at.epoch == epoch && confirmed.get(&lane).is_some_and(|known| stored < *known);
                if at.epoch == epoch && !is_behind && !at.doubted {
                    continue;
                }
                // A later epoch is another lease: what this one had not written back was published again by another. If the
                // last row is not there, the store has lost it, even if its cursor was written back after that.
                if epoch <= at.epoch && (stored < at.read_to || at.doubted) {
                    setbacks.push(Setback { lane, published: at.published, stored });
                }
            }
            self.lives += 1;
            self.lanes.insert(lane, Lane::new(lease, self.lives));
        }
        setbacks
    }

    /// How far the store has confirmed that each lane is published.
    pub(super) fn confirmed(&self) -> BTreeMap<u16, i64> {
        self.lanes.iter().map(|(lane, at)| (*lane, at.written)).collect()
    }

    /// Notes that the store failed, so that it may have gone back.
    pub(super) fn store_failed(&mut self) {
        for lane in self.lanes.values_mut().filter(|lane| lane.last.is_some()) {
            (lane.unsure, lane.look) = (true, true);
        }
    }

    /// Whether a lane waits for a claim to tell where it stands.
    pub(super) fn has_doubts(&self) -> bool {
        self.lanes.values().any(|lane| lane.doubted)
    }

    /// Notes that any lane may have new rows.
    pub(super) fn look(&mut self) {
        self.lanes.values_mut().for_each(|lane| lane.look = true);
    }

    /// The reads to begin.
    pub(super) fn reads(&mut self) -> Vec<Read> {
        let wanting = self.lanes.iter_mut().filter(|(_, lane)| {
            lane.look && !lane.reading && !lane.doubted && (lane.rows.len() <= ROWS || lane.unsure)
        });
        wanting
            .map(|(number, lane)| {
                lane.look = false;
                lane.reading = true;
                // One row before those wanted: the last one again.
                let again = i64::from(lane.last.is_some());
                Read {
                    lane: *number,
                    after: lane.read_to - again,
                    limit: ROWS + usize::from(again > 0),
                    life: lane.life,
                }
            })
            .collect()
    }

    /// Takes the rows of a read; `None` if it failed and must be repeated.
    pub(super) fn read(&mut self, read: Read, rows: Option<OrderedRows<OutboxRow>>) {
        let Some(lane) = self.lane(read.lane, read.life) else { return };
        lane.reading = false;
        let Some(OrderedRows { mut rows, unreadable }) = rows else {
            lane.look = true;
            return;
        };
        let is_full = rows.len() >= read.limit;
        if read.after < lane.read_to {
            if unreadable.as_ref().is_some_and(|row| row.at == lane.read_to) {
                // It was readable, so it is in memory or published: the rows after it are read without it.
                (lane.last, lane.look) = (None, true);
                return;
            }
            if rows.first().map(|row| (row.seq, &row.event.id)) != lane.last.as_ref().map(|last| (lane.read_to, last)) {
                lane.doubted = true;
                return;
            }
            rows.remove(0);
        }
        lane.unsure = false;
        lane.unreadable = unreadable;
        lane.look |= is_full;
        if let Some(row) = rows.last() {
            (lane.read_to, lane.last) = (row.seq, Some(row.event.id.clone()));
        }
        lane.rows.extend(rows.into_iter().map(|row| Waiting { row, acknowledged: false }));
    }

    /// The next flight: the waiting rows of every lane that has no flight and does not rest.
    pub(super) fn flight(&mut self, now: Instant) -> Option<Flight> {
        let mut flight = Flight { records: Vec::new(), manifest: Vec::new() };
        for (number, lane) in &mut self.lanes {
            if lane.flying || lane.doubted || !lane.rested(now) {
                continue;
            }
            // A refused event is published alone, so that no other overtakes it if it is refused again.
            let most = if lane.refusal_of().is_some() { 1 } else { ROWS };
            for Waiting { row, .. } in lane.rows.iter().filter(|waiting| !waiting.acknowledged).take(most) {
                lane.flying = true;
                flight.records.push(cloud::record_of(row));
                flight.manifest.push(FlownRow { lane: *number, life: lane.life, seq: row.seq });
            }
        }
        (!flight.records.is_empty()).then_some(flight)
    }

    /// Takes the results of a flight, one per record.
    pub(super) fn landed(
        &mut self,
        manifest: &[FlownRow],
        results: Vec<Result<(), BrokerError>>,
        now: Instant,
        fraction: f64,
    ) {
        let mut results = results.into_iter();
        for flown in manifest.chunk_by(|a, b| a.lane == b.lane) {
            let results: Vec<_> = results.by_ref().take(flown.len()).collect();
            self.published += results.iter().filter(|result| result.is_ok()).count() as u64;
            let Some(lane) = flown.first().and_then(|row| self.lane(row.lane, row.life)) else { continue };
            lane.landed(flown, results, now, fraction);
        }
    }

    /// How far lanes are published, of those whose progress the store does not have yet.
    pub(super) fn advances(&self) -> Vec<LaneAdvance> {
        let behind =
            self.lanes.iter().filter(|(_, lane)| lane.written < lane.published && !lane.unsure && !lane.doubted);
        behind.map(|(lane, at)| LaneAdvance { lane: *lane, epoch: at.epoch, published: at.published }).collect()
    }

    /// Notes that the store has these now, except those of lanes that did not move: they rest until a claim has shown whether
    /// they are lost, or the store went back. Returns whether there are any.
    pub(super) fn advanced(&mut self, advances: &[LaneAdvance], lost: &[u16]) -> bool {
        for LaneAdvance { lane, epoch, published } in advances {
            let is_lost = lost.contains(lane);
            let Some(at) = self.lanes.get_mut(lane).filter(|at| at.epoch == *epoch) else { continue };
            if is_lost {
                at.doubted = true;
            } else {
                at.written = *published;
            }
        }
        !lost.is_empty()
    }

    /// When the next resting lane publishes again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        let resting = self.lanes.values().filter(|lane| !lane.flying);
        resting.filter_map(|lane| lane.trouble.as_ref()).map(|trouble| trouble.until).min()
    }

    /// Events acknowledged since the start.
    pub(super) const fn published(&self) -> u64 {
        self.published
    }

    /// The lanes that this process publishes, each with the last row up to which all rows are acknowledged.
    pub(super) fn published_to(&self) -> BTreeMap<u16, i64> {
        self.lanes.iter().map(|(number, lane)| (*number, lane.published)).collect()
    }

    /// Rows before which a lane is stopped.
    pub(super) fn unreadable(&self) -> Vec<UnreadableEvent> {
        let stopped = self.lanes.iter().filter_map(|(lane, at)| Some((*lane, at.unreadable.as_ref()?)));
        stopped.map(|(lane, row)| UnreadableEvent { lane, seq: row.at, why: row.reason.clone() }).collect()
    }

    /// Events at which a lane is stopped.
    pub(super) fn refused(&self) -> Vec<RefusedEvent> {
        self.lanes.values().filter_map(Lane::refusal_of).cloned().collect()
    }

    fn lane(&mut self, number: u16, life: u64) -> Option<&mut Lane> {
        self.lanes.get_mut(&number).filter(|lane| lane.life == life)
    }
}

impl Lane {
    const fn new(lease: &LaneLease, life: u64) -> Self {
        Self {
            epoch: lease.epoch,
            published: lease.published,
            written: lease.published,
            read_to: lease.published,
            last: None,
            unsure: false,
            doubted: false,
            life,
            look: true,
            reading: false,
            flying: false,
            rows: VecDeque::new(),
            unreadable: None,
            trouble: None,
            outage: pace::outage(),
            refusal: pace::refusal(),
        }
    }

    fn rested(&self, now: Instant) -> bool {
        self.trouble.as_ref().is_none_or(|trouble| trouble.until <= now)
    }

    fn refusal_of(&self) -> Option<&RefusedEvent> {
        self.trouble.as_ref()?.refused.as_ref()
    }

    fn landed(&mut self, flown: &[FlownRow], results: Vec<Result<(), BrokerError>>, now: Instant, fraction: f64) {
        self.flying = false;
        let mut failed = None;
        for (row, result) in flown.iter().zip(results) {
            match result {
                Ok(()) => self.acknowledge(row.seq),
                Err(error) => failed = failed.or(Some((row, error))),
            }
        }
        self.advance();
        match failed {
            Some((row, error)) => self.fail(*row, &error, now, fraction),
            None => {
                self.trouble = None;
                self.outage.succeeded();
                self.refusal.succeeded();
            }
        }
    }

    fn acknowledge(&mut self, seq: i64) {
        if let Ok(at) = self.rows.binary_search_by_key(&seq, |waiting| waiting.row.seq) {
            self.rows[at].acknowledged = true;
        }
    }

    /// Drops the acknowledged rows at the front, and moves `published` to the last of them.
    fn advance(&mut self) {
        while let Some(waiting) = self.rows.pop_front_if(|waiting| waiting.acknowledged) {
            self.published = waiting.row.seq;
        }
    }

    /// Lets the lane rest after a failure.
    fn fail(&mut self, at: FlownRow, error: &BrokerError, now: Instant, fraction: f64) {
        self.trouble = Some(match error.kind() {
            BrokerErrorKind::Passing | BrokerErrorKind::Fatal => {
                // A refusal that was seen before stays visible, because an outage does not resolve it.
                let refused = self.trouble.take().and_then(|trouble| trouble.refused);
                Trouble { until: now + self.outage.failed(fraction), refused }
            }
            BrokerErrorKind::Refused => {
                let row = self.rows.iter().find(|waiting| waiting.row.seq == at.seq);
                let refused = row.map(|Waiting { row, .. }| RefusedEvent {
                    lane: at.lane,
                    id: row.event.id.to_string(),
                    cloud_type: row.event.cloud_type.clone(),
                    topic: row.event.topic.clone(),
                    why: error.to_string(),
                });
                Trouble { until: now + self.refusal.failed(fraction), refused }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use sapwood_core::store::OutboxEvent;
    use sapwood_core::{EventId, TreeId};

    use super::*;

    const LONG: Duration = Duration::from_secs(3_600);

    fn lease(lane: u16, epoch: i64, published: i64) -> LaneLease {
        LaneLease { lane, epoch, published }
    }

    fn row(lane: u16, seq: i64) -> OutboxRow {
        let event = OutboxEvent {
            id: EventId::from(format!("event-{lane}-{seq}")),
            topic: "orders.events".to_owned(),
            key: format!("key-{lane}"),
            lane,
            cloud_type: "orders.order-completed.v1".to_owned(),
            source: "/sapwood/orders".to_owned(),
            time: jiff::Timestamp::UNIX_EPOCH,
            tree: TreeId::fresh(),
            correlation: "c".to_owned(),
            causation: "i".to_owned(),
            traceparent: None,
            content: Bytes::from_static(b"{}"),
        };
        OutboxRow { seq, event }
    }

    fn whole(rows: Vec<OutboxRow>) -> Option<OrderedRows<OutboxRow>> {
        Some(OrderedRows { rows, unreadable: None })
    }

    /// Reads what the plan wants from an outbox with the given sequences in each lane.
    fn fill(lanes: &mut Lanes, seqs: &[i64]) {
        for read in lanes.reads() {
            let rows = seqs.iter().filter(|seq| **seq > read.after).take(read.limit);
            let rows = rows.map(|seq| row(read.lane, *seq)).collect();
            lanes.read(read, whole(rows));
        }
    }

    fn ids(flight: &Flight) -> Vec<String> {
        let id = |record: &Record| record.headers.iter().find(|(name, _)| name == "ce_id").map(|(_, id)| id.clone());
        flight.records.iter().filter_map(id).collect()
    }

    fn all_well(flight: &Flight) -> Vec<Result<(), BrokerError>> {
        flight.records.iter().map(|_| Ok(())).collect()
    }

    fn error(kind: BrokerErrorKind) -> BrokerError {
        BrokerError::new(kind, "no")
    }

    /// E4: per key the order on the broker is the commit order. One flight per lane keeps it.
    #[test]
    fn a_lane_reads_ahead_but_has_one_flight_at_a_time() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        assert_eq!(lanes.leased(&[lease(0, 1, 0)], &BTreeMap::new()), []);
        fill(&mut lanes, &[1, 2]);
        let first = lanes.flight(now).expect("two rows");
        lanes.look();
        fill(&mut lanes, &[1, 2, 5]);
        assert!(lanes.flight(now).is_none(), "the first is in flight");

        lanes.landed(&first.manifest, all_well(&first), now, 0.5);
        assert_eq!(lanes.advances(), [LaneAdvance { lane: 0, epoch: 1, published: 2 }]);
        assert_eq!(ids(&lanes.flight(now).expect("the row read ahead")), ["event-0-5"]);
    }

    /// E4: nothing is lost. What counts as published never passes a row that is not acknowledged.
    #[test]
    fn a_lane_stops_before_a_refused_event_and_other_lanes_go_on() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        assert_eq!(lanes.leased(&[lease(0, 1, 0), lease(1, 1, 0)], &BTreeMap::new()), []);
        fill(&mut lanes, &[1, 2, 3]);
        let flight = lanes.flight(now).expect("rows of both lanes");
        let mut results = all_well(&flight);
        results[1] = Err(error(BrokerErrorKind::Refused));
        lanes.landed(&flight.manifest, results, now, 0.5);

        let published: Vec<_> = lanes.advances().iter().map(|advance| (advance.lane, advance.published)).collect();
        assert_eq!(published, [(0, 1), (1, 3)]);
        assert_eq!(lanes.refused().iter().map(|refused| refused.id.as_str()).collect::<Vec<_>>(), ["event-0-2"]);
        lanes.look();
        fill(&mut lanes, &[1, 2, 3, 4]);
        assert_eq!(ids(&lanes.flight(now).expect("the other lane's")), ["event-1-4"]);

        let probe = lanes.flight(now + LONG).expect("the refused event again");
        assert_eq!(ids(&probe), ["event-0-2"], "alone");
        lanes.landed(&probe.manifest, all_well(&probe), now + LONG, 0.5);
        assert!(lanes.refused().is_empty());
        assert_eq!(ids(&lanes.flight(now + LONG).expect("the rest")), ["event-0-4"], "the third was acknowledged");
        assert_eq!(lanes.advances()[0].published, 3);
    }

    /// E4: events leave after recovery.
    #[test]
    fn what_failed_in_an_outage_is_flown_again_in_order() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        assert_eq!(lanes.leased(&[lease(0, 1, 0)], &BTreeMap::new()), []);
        fill(&mut lanes, &[1, 2]);
        let flight = lanes.flight(now).expect("rows");
        let results = vec![Err(error(BrokerErrorKind::Passing)), Err(error(BrokerErrorKind::Passing))];
        lanes.landed(&flight.manifest, results, now, 0.5);
        assert!(lanes.flight(now).is_none(), "it rests");
        assert!(lanes.next_try().expect("a time") > now);
        assert_eq!(ids(&lanes.flight(now + LONG).expect("rows")), ["event-0-1", "event-0-2"]);
        assert_eq!(lanes.advances(), []);
    }

    #[test]
    fn what_is_under_way_for_a_lost_lease_changes_nothing_in_the_next() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        assert_eq!(lanes.leased(&[lease(0, 1, 0)], &BTreeMap::new()), []);
        fill(&mut lanes, &[1, 2]);
        let flight = lanes.flight(now).expect("rows");
        lanes.look();
        let reads = lanes.reads();
        assert!(lanes.advanced(&[LaneAdvance { lane: 0, epoch: 1, published: 0 }], &[0]));
        assert!(lanes.has_doubts() && lanes.flight(now).is_none(), "it rests until a claim");

        assert_eq!(lanes.leased(&[lease(0, 3, 1)], &BTreeMap::new()), []);
        lanes.landed(&flight.manifest, all_well(&flight), now, 0.5);
        lanes.read(reads[0], whole(vec![row(0, 9)]));
        assert_eq!(lanes.advances(), []);
        assert!(lanes.flight(now).is_none());
        assert_eq!(lanes.reads().iter().map(|read| read.after).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_lane_in_trouble_reads_no_more_than_two_flights() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.leased(&[lease(0, 1, 0)], &BTreeMap::new()), []);
        let seqs: Vec<i64> = (1..=5_000).collect();
        for _ in 0..10 {
            lanes.look();
            fill(&mut lanes, &seqs);
        }
        assert_eq!(lanes.lanes[&0].rows.len(), 2 * ROWS);
    }

    /// E4: nothing is lost, and the order of a key is kept: nothing behind a row that cannot be read is published.
    #[test]
    fn a_lane_stops_before_a_row_that_cannot_be_read_and_goes_on_once_it_can() {
        let now = Instant::now();
        let mut lanes = Lanes::default();
        assert_eq!(lanes.leased(&[lease(0, 1, 0)], &BTreeMap::new()), []);
        let unreadable = UnreadableRow { at: 2, reason: "no time".to_owned() };
        let read = lanes.reads()[0];
        lanes.read(read, Some(OrderedRows { rows: vec![row(0, 1)], unreadable: Some(unreadable) }));
        assert_eq!(lanes.unreadable(), [UnreadableEvent { lane: 0, seq: 2, why: "no time".to_owned() }]);
        assert_eq!(lanes.reads(), [], "it does not spin");
        let flight = lanes.flight(now).expect("the row before it");
        assert_eq!(ids(&flight), ["event-0-1"]);
        lanes.landed(&flight.manifest, all_well(&flight), now, 0.5);
        lanes.look();
        fill(&mut lanes, &[1, 2, 3]);
        assert!(lanes.unreadable().is_empty());
        assert_eq!(ids(&lanes.flight(now).expect("the rest")), ["event-0-2", "event-0-3"]);
    }

    /// Publishes all that is waiting, and lets the store have it.
    fn settle(lanes: &mut Lanes) {
        let now = Instant::now();
        while let Some(flight) = lanes.flight(now) {
            lanes.landed(&flight.manifest, all_well(&flight), now, 0.5);
        }
        let advances = lanes.advances();
        lanes.advanced(&advances, &[]);
    }

    /// E4: nothing is lost if the store goes back: a cursor behind what it had confirmed is told and taken.
    #[test]
    fn a_cursor_that_went_back_resets_its_lane_and_an_answer_on_its_way_does_not() {
        let mut lanes = Lanes::default();
        lanes.leased(&[lease(0, 1, 0)], &BTreeMap::new());
        let asked_before = lanes.confirmed();
        fill(&mut lanes, &[1, 2, 3]);
        settle(&mut lanes);
        assert_eq!(lanes.leased(&[lease(0, 1, 0)], &asked_before), [], "it was asked before the cursor moved");
        assert_eq!(lanes.published_to()[&0], 3);

        let confirmed = lanes.confirmed();
        let setback = Setback { lane: 0, published: 3, stored: 1 };
        assert_eq!(lanes.leased(&[lease(0, 1, 1)], &confirmed), [setback]);
        fill(&mut lanes, &[1, 2]);
        assert_eq!(ids(&lanes.flight(Instant::now()).expect("rows")), ["event-0-2"], "from where the store stands");
    }

    /// E4: a number that was given again after the store went back is not taken for the row that had it before.
    #[test]
    fn a_lane_whose_last_row_is_gone_rests_until_a_claim_and_writes_nothing_back() {
        // The cursor may have been written back after the store went back (3): it is the row that tells.
        let lost = [vec![], vec![row(0, 2)], vec![OutboxRow { seq: 3, ..row(0, 9) }]];
        for (lost, stored) in lost.into_iter().flat_map(|lost| [(lost.clone(), 0), (lost, 3)]) {
            let now = Instant::now();
            let mut lanes = Lanes::default();
            lanes.leased(&[lease(0, 1, 0)], &BTreeMap::new());
            fill(&mut lanes, &[1, 2, 3]);
            let flight = lanes.flight(now).expect("rows");
            lanes.landed(&flight.manifest, all_well(&flight), now, 0.5);
            lanes.store_failed();
            assert_eq!(lanes.advances(), [], "nothing is written back before the last row is found again");
            let read = lanes.reads()[0];
            assert_eq!(read.after, 2, "the last row again");
            lanes.read(read, whole(lost));
            assert!(lanes.has_doubts());
            assert_eq!((lanes.advances(), lanes.reads(), lanes.flight(now).is_none()), (vec![], vec![], true));

            let confirmed = lanes.confirmed();
            let setback = Setback { lane: 0, published: 3, stored };
            assert_eq!(lanes.leased(&[lease(0, 1, stored)], &confirmed), [setback]);
            assert!(!lanes.has_doubts());
            fill(&mut lanes, &[stored + 1, stored + 2]);
            let next = [stored + 1, stored + 2].map(|seq| format!("event-0-{seq}"));
            assert_eq!(ids(&lanes.flight(now).expect("rows")), next);
        }
    }

    #[test]
    fn a_store_that_failed_and_did_not_go_back_is_written_to_again() {
        let mut lanes = Lanes::default();
        lanes.leased(&[lease(0, 1, 0)], &BTreeMap::new());
        fill(&mut lanes, &[1, 2, 3]);
        let now = Instant::now();
        let flight = lanes.flight(now).expect("rows");
        lanes.landed(&flight.manifest, all_well(&flight), now, 0.5);
        lanes.store_failed();
        fill(&mut lanes, &[1, 2, 3, 4]);
        assert_eq!(lanes.advances(), [LaneAdvance { lane: 0, epoch: 1, published: 3 }]);
        assert_eq!(ids(&lanes.flight(now).expect("rows")), ["event-0-4"]);
    }

    #[test]
    fn a_failed_read_is_repeated() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.leased(&[lease(0, 1, 7)], &BTreeMap::new()), []);
        let reads = lanes.reads();
        assert_eq!(lanes.reads(), [], "one is under way");
        lanes.read(reads[0], None);
        assert_eq!(lanes.reads(), reads);
        assert!(lanes.lanes[&0].reading);
    }
}
