//! Group commit: the turns of all trees of a process go to a few committers. While a committer has one commit under
//! way, its next batch gathers; an idle committer commits a turn at once.
//!
//! A tree has at most one turn under way and always the same committer, so its turns commit in order. A tree is told of
//! its verdict only after the commit, so what it then tells to others, such as a waiter, is durable.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use sapwood_core::store::{Committer, OutboxEvent, Recovered, StoreErrorKind, Turn, Verdict};
use sapwood_core::tree::{Cause, InvocationState};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::life::Life;
use crate::outage::{Outage, Pause, Use, User};
use crate::tree::{Mailbox, Signal};

/// The most turns of one batch: with more, latency grows and throughput does not.
const BATCH_TURNS: usize = 1_000;

/// Bytes after which a batch is full: a statement of several megabytes is parsed and sent in a few milliseconds, and a
/// few such batches fit into memory beside each other.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What a row costs besides its texts and payloads: ids, numbers, times. An estimate, which is enough to bound a batch.
pub(crate) const ROW_BYTES: usize = 64;

/// A turn and the mailbox that is told what became of it.
pub(crate) struct Submission {
    turn: Turn,
    mailbox: Arc<Mailbox>,
}

/// The way to the committers of a worker.
pub(crate) struct Committers {
    /// One per committer.
    senders: Vec<mpsc::UnboundedSender<Submission>>,
}

impl Committers {
    /// `count` committers, and the channel from which each receives. The channels are unbounded, but have at most one
    /// turn per tree in memory.
    pub(crate) fn new(count: u16) -> (Self, Vec<mpsc::UnboundedReceiver<Submission>>) {
        let (senders, receivers) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        (Self { senders }, receivers)
    }

    /// Sends a turn to the committer of its tree.
    pub(crate) fn submit(&self, turn: Turn, mailbox: Arc<Mailbox>) {
        // Any even spread will do, and the low bits of a version 7 UUID are random.
        let committer = turn.tree.uuid().as_u128() as usize % self.senders.len();
        // The channel is closed only when the engine has ended; then `Signal::Kill` tells the tree.
        let _ = self.senders[committer].send(Submission { turn, mailbox });
    }
}

/// Runs one committer until the engine has ended.
pub(crate) async fn run(
    mut committer: Box<dyn Committer>,
    mut submissions: mpsc::UnboundedReceiver<Submission>,
    life: Arc<Life>,
    outage: Arc<Outage>,
    user: User,
) {
    let mut gathered: Vec<Submission> = Vec::new();
    let mut busy = Busy::new();
    loop {
        if gathered.is_empty() {
            tokio::select! {
                biased;

                received = submissions.recv_many(&mut gathered, BATCH_TURNS) => {
                    if received == 0 {
                        return;
                    }
                }
                () = busy.is_due() => {}
            }
        }
        gathered.append(&mut busy.take_due());
        while gathered.len() < BATCH_TURNS
            && let Ok(submission) = submissions.try_recv()
        {
            gathered.push(submission);
        }
        if life.has_ended() {
            return;
        }
        let sizes = gathered.iter().map(|submission| size(&submission.turn));
        let rest = gathered.split_off(batch_len(sizes, BATCH_TURNS));
        let batch = std::mem::replace(&mut gathered, rest);
        let mut commit = Commit { committer: committer.as_mut(), life: &life, store: outage.of(user) };
        busy.put(commit_and_tell(&mut commit, batch).await);
    }
}

/// The first pause before a turn is sent again whose tree's row is locked: about the length of a commit.
const BUSY_FIRST: Duration = Duration::from_millis(1);

/// The longest such pause. A stranger may hold a row for minutes, and asking more often would not end that.
const BUSY_LONGEST: Duration = Duration::from_millis(250);

/// Turns whose trees' rows another statement has locked. They are sent again after a pause, which grows while they stay
/// locked; other turns are not held up.
struct Busy {
    turns: Vec<Submission>,
    due: Option<Pin<Box<Sleep>>>,
    pause: Duration,
}

impl Busy {
    const fn new() -> Self {
        Self { turns: Vec::new(), due: None, pause: BUSY_FIRST }
    }

    fn put(&mut self, turns: Vec<Submission>) {
        if turns.is_empty() {
            if self.turns.is_empty() {
                self.pause = BUSY_FIRST;
            }
            return;
        }
        self.turns.extend(turns);
        self.due = Some(Box::pin(tokio::time::sleep(self.pause)));
        self.pause = BUSY_LONGEST.min(self.pause * 2);
    }

    /// Waits until there is something to be sent again; for ever if there is nothing.
    async fn is_due(&mut self) {
        match &mut self.due {
            Some(due) => due.await,
            None => std::future::pending().await,
        }
    }

    fn take_due(&mut self) -> Vec<Submission> {
        let is_due = self.due.as_mut().is_some_and(|due| due.now_or_never().is_some());
        if !is_due {
            return Vec::new();
        }
        self.due = None;
        std::mem::take(&mut self.turns)
    }
}

/// How many of these sizes, in order, fit into one batch of at most so many. The first one always fits, or it would never
/// be sent.
pub(crate) fn batch_len(sizes: impl Iterator<Item = usize>, most: usize) -> usize {
    let mut bytes = 0;
    let fits = |size: &usize| {
        let fits = bytes == 0 || bytes + size <= BATCH_BYTES;
        bytes += size;
        fits
    };
    sizes.take(most).take_while(fits).count()
}

/// What a turn adds to its batch: every text and payload that a caller can make large.
fn size(turn: &Turn) -> usize {
    let created = turn.created.as_ref().map_or(0, |tree| tree.function.len() + size_of_cause(&tree.cause) + ROW_BYTES);
    let invocations = turn.invocations.iter().map(|invocation| {
        invocation.input.len() + invocation.function.len() + size_of_state(&invocation.state) + ROW_BYTES
    });
    let changes = turn.changes.iter().map(|change| size_of_state(&change.state) + ROW_BYTES);
    let entries = turn.entries.iter().map(|(_, entry)| entry.payload.len() + entry.name.len() + ROW_BYTES);
    let timers = (turn.timers_set.len() + turn.timers_cleared.len()) * ROW_BYTES;
    let events = turn.events.iter().map(size_of_event);
    let rows: usize = invocations.chain(changes).chain(entries).chain(events).sum();
    created + rows + timers + ROW_BYTES
}

fn size_of_state(state: &InvocationState) -> usize {
    state.outcome.as_ref().map_or(0, Bytes::len) + state.parked.as_ref().map_or(0, Bytes::len)
}

fn size_of_event(event: &OutboxEvent) -> usize {
    let texts = [&event.topic, &event.key, &event.cloud_type, &event.source, &event.correlation, &event.causation];
    let texts: usize = texts.into_iter().map(String::len).sum();
    event.content.len()
        + texts
        + event.id.as_str().len()
        + event.traceparent.as_ref().map_or(0, String::len)
        + ROW_BYTES
}

/// What led to a tree comes from a caller or from an event.
pub(crate) fn size_of_cause(cause: &Cause) -> usize {
    let others = [&cause.causation, &cause.traceparent].into_iter().flatten();
    cause.correlation.len() + others.map(String::len).sum::<usize>()
}

/// Commits a batch and tells its trees the verdicts; returns the turns to be sent again.
async fn commit_and_tell(commit: &mut Commit<'_>, batch: Vec<Submission>) -> Vec<Submission> {
    let (turns, mailboxes): (Vec<Turn>, Vec<Arc<Mailbox>>) =
        batch.into_iter().map(|submission| (submission.turn, submission.mailbox)).unzip();
    let verdicts = commit.verdicts(&turns).await;
    let mut busy = Vec::new();
    for ((turn, mailbox), verdict) in turns.into_iter().zip(mailboxes).zip(verdicts) {
        match verdict {
            Ok(Verdict::Busy) => busy.push(Submission { turn, mailbox }),
            Ok(Verdict::Committed) => mailbox.send(Signal::Committed),
            Ok(Verdict::Refused) => mailbox.send(Signal::Refused(Box::new(turn))),
            Err(error) => mailbox.send(Signal::Failed(error)),
        }
    }
    busy
}

/// The verdicts of a batch: an error for a turn that the store refuses for good.
type Verdicts = Vec<Result<Verdict, String>>;

/// The commit of one batch, until its outcome is known.
struct Commit<'c> {
    committer: &'c mut dyn Committer,
    /// Ended if the store refuses the fence.
    life: &'c Life,
    /// Told whether the store answers; gives the pauses between attempts.
    store: Use<'c>,
}

/// How often a batch may cost the connection, while the store answers otherwise, before it is sent in halves: the batch
/// itself may be what the server cannot take.
const LOSSES_OF_A_BATCH: u32 = 3;

/// How often a single turn may. By then it was paused for several seconds, and every other turn went through.
const LOSSES_OF_A_TURN: u32 = 10;

impl Commit<'_> {
    /// One verdict per turn, however long it takes. After a lost connection the store is asked what it applied; after a
    /// passing error the batch is sent again; a batch that the store refuses for good is halved until the culprit is
    /// alone.
    async fn verdicts(&mut self, turns: &[Turn]) -> Verdicts {
        let mut pause = self.store.pause();
        let mut losses = 0;
        loop {
            let error = match self.committer.commit(turns).await {
                Ok(verdicts) => {
                    self.store.answered();
                    return verdicts.into_iter().map(Ok).collect();
                }
                Err(error) => error,
            };
            match error.kind() {
                StoreErrorKind::Permanent | StoreErrorKind::Unreadable => {
                    self.store.answered();
                    return self.bisect(turns, &error.to_string()).await;
                }
                StoreErrorKind::Connection => {
                    if !pause.after(&error).await {
                        return refused(turns);
                    }
                    if let Some(verdicts) = self.recover(turns, &mut pause).await {
                        self.store.answered();
                        return verdicts;
                    }
                    losses += 1;
                    if losses >= if turns.len() > 1 { LOSSES_OF_A_BATCH } else { LOSSES_OF_A_TURN } {
                        let bytes: usize = turns.iter().map(size).sum();
                        let why = format!("the connection was lost {losses} times as {bytes} bytes were sent: {error}");
                        return self.bisect(turns, &why).await;
                    }
                }
                StoreErrorKind::Transient => {
                    if !pause.after(&error).await {
                        return refused(turns);
                    }
                }
                StoreErrorKind::Fenced | StoreErrorKind::Refused => {
                    self.life.end_fenced(&error);
                    return refused(turns);
                }
            }
        }
    }

    /// Asks what became of a batch. `None` if nothing of it was applied: it is sent again whole.
    async fn recover(&mut self, turns: &[Turn], pause: &mut Pause<'_>) -> Option<Verdicts> {
        loop {
            match self.committer.recover(turns).await {
                Ok(recovered) => return recovered_verdicts(&recovered),
                Err(error) if pause.after(&error).await => {}
                Err(error) => {
                    self.life.end_fenced(&error);
                    return Some(refused(turns));
                }
            }
        }
    }

    async fn bisect(&mut self, turns: &[Turn], error: &str) -> Verdicts {
        if turns.len() <= 1 {
            return turns.iter().map(|_| Err(error.to_owned())).collect();
        }
        let (left, right) = turns.split_at(turns.len() / 2);
        let mut verdicts = Box::pin(self.verdicts(left)).await;
        verdicts.extend(Box::pin(self.verdicts(right)).await);
        verdicts
    }
}

/// The verdicts of a batch whose answer was lost; `None` if nothing of it was applied. If a part of it was applied, a
/// lost turn is sent again, like one whose row was locked.
fn recovered_verdicts(recovered: &[Recovered]) -> Option<Verdicts> {
    if recovered.iter().all(|recovered| *recovered == Recovered::Lost) {
        return None;
    }
    let verdict = |recovered: &Recovered| match recovered {
        Recovered::Committed => Verdict::Committed,
        Recovered::Lost => Verdict::Busy,
        Recovered::Refused => Verdict::Refused,
    };
    Some(recovered.iter().map(|recovered| Ok(verdict(recovered))).collect())
}

fn refused(turns: &[Turn]) -> Verdicts {
    turns.iter().map(|_| Ok(Verdict::Refused)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{HashSet, VecDeque};

    use async_trait::async_trait;
    use sapwood_core::journal::{Entry, EntryKind};
    use sapwood_core::store::{InvocationChange, Next, Ownership, StoreError, StoreResult};
    use sapwood_core::tree::{Closing, Invocation, TreeState};
    use sapwood_core::{Path, TreeId};
    use uuid::Uuid;

    use super::*;
    use crate::environment::SystemEnvironment;

    fn turn(tree: u128) -> Turn {
        Turn {
            tree: TreeId::from(Uuid::from_u128(tree)),
            revision: 1,
            control: 0,
            inbox: None,
            not_before: None,
            only_before: None,
            created: None,
            invocations: Vec::new(),
            changes: Vec::new(),
            entries: Vec::new(),
            timers_set: Vec::new(),
            timers_cleared: Vec::new(),
            events: Vec::new(),
            next: Next { state: TreeState::Running, closing: Closing::None, number: 0, ownership: Ownership::Keep },
        }
    }

    #[test]
    fn a_batch_is_bounded_in_turns_and_in_bytes_and_never_empty() {
        let cases: [(&[usize], usize, usize); 6] = [
            (&[], 0, 0),
            (&[1], 1, 1),
            (&[1], BATCH_TURNS + 5, BATCH_TURNS),
            (&[BATCH_BYTES / 2], 3, 2),
            (&[BATCH_BYTES * 2], 3, 1),
            (&[BATCH_BYTES], 1, 1),
        ];
        for (sizes, times, expected) in cases {
            let sizes = std::iter::repeat_n(sizes, times).flatten().copied();
            assert_eq!(batch_len(sizes, BATCH_TURNS), expected);
        }
        assert_eq!(
            batch_len([1, BATCH_BYTES * 2, 1].into_iter(), BATCH_TURNS),
            1,
            "a large turn waits for a batch of its own"
        );
    }

    /// Whatever part of a turn is large, its batch is full.
    #[test]
    fn a_turn_counts_with_every_text_and_payload_that_it_carries() {
        const LARGE: usize = 100_000;
        let (text, bytes) = ("x".repeat(LARGE), Bytes::from(vec![b'x'; LARGE]));
        let state = || InvocationState::fresh();
        let invocation = |function: &str, input: &Bytes, state: InvocationState| {
            let (path, function) = (Path::root(), function.to_owned());
            vec![Invocation { path, function, version: 1, input: input.clone(), state, undo: None, deadline: None }]
        };
        let change = |state: InvocationState| vec![InvocationChange { path: Path::root(), state }];
        let entry = |name: &str, payload: &Bytes| {
            let (name, payload) = (name.to_owned(), payload.clone());
            let kind = EntryKind::StepResolved;
            vec![(Path::root(), Entry { seq: 0, kind, position: 0, number: None, attempt: 1, name, payload })]
        };
        let with_outcome = || InvocationState { outcome: Some(bytes.clone()), ..state() };
        let parked = || InvocationState { parked: Some(bytes.clone()), ..state() };
        let small = Bytes::new();
        let large = [
            Turn { invocations: invocation(&text, &small, state()), ..turn(1) },
            Turn { invocations: invocation("f", &bytes, state()), ..turn(1) },
            Turn { invocations: invocation("f", &small, with_outcome()), ..turn(1) },
            Turn { invocations: invocation("f", &small, parked()), ..turn(1) },
            Turn { changes: change(with_outcome()), ..turn(1) },
            Turn { changes: change(parked()), ..turn(1) },
            Turn { entries: entry(&text, &small), ..turn(1) },
            Turn { entries: entry("step", &bytes), ..turn(1) },
        ];
        for turn in large {
            assert!(size(&turn) >= LARGE, "{:.200}", format!("{turn:?}"));
        }
        assert!(size(&turn(1)) < 1_000);
    }

    #[test]
    fn the_turns_of_one_tree_go_to_one_committer() {
        let (committers, mut receivers) = Committers::new(2);
        for _ in 0..10 {
            committers.submit(turn(6), Arc::default());
            committers.submit(turn(7), Arc::default());
        }
        for receiver in &mut receivers {
            let mut trees = HashSet::new();
            while let Ok(submission) = receiver.try_recv() {
                trees.insert(submission.turn.tree);
            }
            assert_eq!(trees.len(), 1);
        }
    }

    /// C5: the recovery decides for each turn whether it is committed, refused, or sent again.
    #[test]
    fn a_recovered_batch_is_sent_again_whole_or_turn_by_turn() {
        use Recovered::{Committed, Lost, Refused};
        assert_eq!(recovered_verdicts(&[Lost, Lost]), None);
        let verdicts = recovered_verdicts(&[Committed, Lost, Refused]);
        assert_eq!(verdicts, Some(vec![Ok(Verdict::Committed), Ok(Verdict::Busy), Ok(Verdict::Refused)]));
    }

    /// Answers as planned, call by call; a turn of the bad tree makes its batch fail for good.
    struct Planned {
        answers: VecDeque<StoreErrorKind>,
        recovered: Vec<Recovered>,
        bad: Option<TreeId>,
        /// The tree whose turn costs the connection.
        kills: Option<TreeId>,
        commits: Vec<usize>,
    }

    #[async_trait]
    impl Committer for Planned {
        async fn commit(&mut self, turns: &[Turn]) -> StoreResult<Vec<Verdict>> {
            self.commits.push(turns.len());
            if let Some(kind) = self.answers.pop_front() {
                return Err(StoreError::new(kind, "as planned"));
            }
            if turns.iter().any(|turn| Some(turn.tree) == self.bad) {
                return Err(StoreError::new(StoreErrorKind::Permanent, "bad data"));
            }
            if turns.iter().any(|turn| Some(turn.tree) == self.kills) {
                return Err(StoreError::new(StoreErrorKind::Connection, "the server closed the connection"));
            }
            Ok(vec![Verdict::Committed; turns.len()])
        }

        async fn recover(&mut self, turns: &[Turn]) -> StoreResult<Vec<Recovered>> {
            Ok(self.recovered[..turns.len()].to_vec())
        }
    }

    async fn verdicts(planned: &mut Planned, turns: &[Turn]) -> (Verdicts, bool) {
        let life = Arc::new(Life::default());
        let outage = Outage::new(Arc::clone(&life), Arc::new(SystemEnvironment::default()));
        let store = outage.of(User::Commits(0));
        let verdicts = Commit { committer: planned, life: &life, store }.verdicts(turns).await;
        (verdicts, life.has_ended())
    }

    fn planned(answers: &[StoreErrorKind]) -> Planned {
        Planned {
            answers: answers.iter().copied().collect(),
            recovered: Vec::new(),
            bad: None,
            kills: None,
            commits: Vec::new(),
        }
    }

    /// W2: data that the store refuses for good halves the batch until the culprit is alone; the others commit.
    #[tokio::test]
    async fn a_culprit_is_found_by_halves_and_the_others_commit() {
        let turns: Vec<Turn> = (0..8).map(turn).collect();
        let mut planned = Planned { bad: Some(turns[5].tree), ..planned(&[]) };
        let (verdicts, has_ended) = verdicts(&mut planned, &turns).await;
        for (place, verdict) in verdicts.iter().enumerate() {
            assert_eq!(*verdict, if place == 5 { Err("bad data".to_owned()) } else { Ok(Verdict::Committed) });
        }
        assert_eq!(planned.commits, [8, 4, 4, 2, 1, 1, 2]);
        assert!(!has_ended);
    }

    /// C5: a batch of which nothing was applied is sent again; one that was applied is not.
    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_is_asked_about_and_a_passing_error_is_tried_again() {
        let turns: Vec<Turn> = (0..2).map(turn).collect();
        let lost = [StoreErrorKind::Connection];
        let mut sent_again = Planned { recovered: vec![Recovered::Lost; 2], ..planned(&lost) };
        assert_eq!(verdicts(&mut sent_again, &turns).await.0, vec![Ok(Verdict::Committed); 2]);
        assert_eq!(sent_again.commits, [2, 2]);
        let mut applied = Planned { recovered: vec![Recovered::Committed; 2], ..planned(&lost) };
        assert_eq!(verdicts(&mut applied, &turns).await.0, vec![Ok(Verdict::Committed); 2]);
        assert_eq!(applied.commits, [2]);
        let mut passing = planned(&[StoreErrorKind::Transient; 3]);
        assert_eq!(verdicts(&mut passing, &turns).await.0, vec![Ok(Verdict::Committed); 2]);
        assert_eq!(passing.commits, [2; 4]);
    }

    /// A2: what costs the connection each time it is sent is found by halves, and sent no more; the others commit.
    #[tokio::test(start_paused = true)]
    async fn a_turn_that_kills_the_connection_is_found_and_not_sent_for_ever() {
        let turns: Vec<Turn> = (0..4).map(turn).collect();
        let mut planned = Planned { kills: Some(turns[2].tree), recovered: vec![Recovered::Lost; 4], ..planned(&[]) };
        let (verdicts, has_ended) = verdicts(&mut planned, &turns).await;
        for (place, verdict) in verdicts.iter().enumerate() {
            match verdict {
                Err(why) => assert!(place == 2 && why.contains("the connection was lost 10 times"), "{place}: {why}"),
                verdict => assert!(place != 2 && *verdict == Ok(Verdict::Committed), "{place}: {verdict:?}"),
            }
        }
        let [batch, half, turn] = [LOSSES_OF_A_BATCH, LOSSES_OF_A_BATCH, LOSSES_OF_A_TURN].map(|times| times as usize);
        assert_eq!(planned.commits.len(), batch + 1 + half + turn + 1);
        assert!(!has_ended);
    }

    /// A row that a stranger holds is asked for in growing pauses, and holds no other turn up.
    #[tokio::test(start_paused = true)]
    async fn turns_that_are_busy_come_again_after_growing_pauses() {
        let mut busy = Busy::new();
        let mut waited = Vec::new();
        for _ in 0..12 {
            busy.put(vec![Submission { turn: turn(1), mailbox: Arc::default() }]);
            assert!(busy.take_due().is_empty(), "not before its pause");
            waited.push(busy.pause);
            busy.is_due().await;
            assert_eq!(busy.take_due().len(), 1);
        }
        assert!(waited.is_sorted() && waited[0] <= 2 * BUSY_FIRST && waited[11] == BUSY_LONGEST, "{waited:?}");
        busy.put(Vec::new());
        assert_eq!(busy.pause, BUSY_FIRST);
    }

    /// C1: a committer whose fence is refused ends its engine, and nothing of the batch counts.
    #[tokio::test]
    async fn a_refused_fence_ends_the_engine() {
        let mut planned = planned(&[StoreErrorKind::Fenced]);
        let (verdicts, has_ended) = verdicts(&mut planned, &[turn(1)]).await;
        assert_eq!(verdicts, [Ok(Verdict::Refused)]);
        assert!(has_ended);
    }
}
