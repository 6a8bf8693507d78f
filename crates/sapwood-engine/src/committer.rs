//! Group commit: the turns of all trees of a process go to a few committers. While a committer has one commit under
//! way, its next batch gathers; an idle committer commits a turn at once.
//!
//! A tree has at most one turn under way and always the same committer, so its turns commit in order. A tree is told of
//! its verdict only after the commit, so what it then tells to others, such as a waiter, is durable.

use std::sync::Arc;

use sapwood_core::store::{Committer, Recovered, StoreError, StoreErrorKind, Turn, Verdict};
use tokio::sync::mpsc;

use crate::life::Life;
use crate::outage::{Outage, Pause};
use crate::tree::{Mailbox, Signal};

/// The most turns of one batch: with more, latency grows and throughput does not.
const BATCH_TURNS: usize = 1_000;

/// Bytes after which a batch is full: a statement of several megabytes is parsed and sent in a few milliseconds, and a
/// few such batches fit into memory beside each other.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What a row costs besides its payload: keys, numbers, names. An estimate, which is enough to bound a batch.
const ROW_BYTES: usize = 64;

/// What an event costs besides its content: a row and its headers. An estimate too.
const EVENT_BYTES: usize = 256;

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
) {
    let mut gathered: Vec<Submission> = Vec::new();
    loop {
        if gathered.is_empty() && submissions.recv_many(&mut gathered, BATCH_TURNS).await == 0 {
            return;
        }
        while gathered.len() < BATCH_TURNS
            && let Ok(submission) = submissions.try_recv()
        {
            gathered.push(submission);
        }
        if life.has_ended() {
            return;
        }
        let sizes = gathered.iter().map(|submission| size(&submission.turn));
        let rest = gathered.split_off(batch_len(sizes));
        let batch = std::mem::replace(&mut gathered, rest);
        let busy = commit(&mut Commit { committer: committer.as_mut(), life: &life, outage: &outage }, batch).await;
        if !busy.is_empty() {
            // Another statement has these trees' rows locked for a moment; the next batch has their turns again.
            if gathered.is_empty() {
                tokio::task::yield_now().await;
            }
            gathered.extend(busy);
        }
    }
}

/// How many turns of these sizes, in order, fit into one batch. The first one always fits, or it would never commit.
fn batch_len(sizes: impl Iterator<Item = usize>) -> usize {
    let mut bytes = 0;
    let fits = |size: &usize| {
        let fits = bytes == 0 || bytes + size <= BATCH_BYTES;
        bytes += size;
        fits
    };
    sizes.take(BATCH_TURNS).take_while(fits).count()
}

fn size(turn: &Turn) -> usize {
    let entries: usize = turn.entries.iter().map(|(_, entry)| entry.payload.len() + ROW_BYTES).sum();
    let inputs: usize = turn.invocations.iter().map(|invocation| invocation.input.len() + ROW_BYTES).sum();
    let events: usize = turn.events.iter().map(|event| event.content.len() + EVENT_BYTES).sum();
    entries + inputs + events + ROW_BYTES
}

/// Commits a batch and tells its trees the verdicts; returns the turns to be sent again.
async fn commit(commit: &mut Commit<'_>, batch: Vec<Submission>) -> Vec<Submission> {
    let (turns, mailboxes): (Vec<Turn>, Vec<Arc<Mailbox>>) =
        batch.into_iter().map(|submission| (submission.turn, submission.mailbox)).unzip();
    let verdicts = commit.verdicts(&turns).await;
    let mut busy = Vec::new();
    for ((turn, mailbox), verdict) in turns.into_iter().zip(mailboxes).zip(verdicts) {
        match verdict {
            Ok(Verdict::Busy) => busy.push(Submission { turn, mailbox }),
            verdict => mailbox.send(Signal::Verdict(verdict)),
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
    /// The pauses between attempts.
    outage: &'c Outage,
}

impl Commit<'_> {
    /// One verdict per turn, however long it takes. After a lost connection the store is asked what it applied; after a
    /// passing error the batch is sent again; a batch that the store refuses for good is halved until the culprit is
    /// alone.
    async fn verdicts(&mut self, turns: &[Turn]) -> Verdicts {
        let outage = self.outage;
        let mut pause = outage.pause();
        loop {
            let error = match self.committer.commit(turns).await {
                Ok(verdicts) => return verdicts.into_iter().map(Ok).collect(),
                Err(error) => error,
            };
            match error.kind() {
                StoreErrorKind::Permanent | StoreErrorKind::Unreadable => return self.bisect(turns, &error).await,
                StoreErrorKind::Connection => {
                    if !pause.after(&error).await {
                        return refused(turns);
                    }
                    if let Some(verdicts) = self.recover(turns, &mut pause).await {
                        return verdicts;
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

    async fn bisect(&mut self, turns: &[Turn], error: &StoreError) -> Verdicts {
        if turns.len() <= 1 {
            return turns.iter().map(|_| Err(error.to_string())).collect();
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
    use sapwood_core::TreeId;
    use sapwood_core::store::{Next, Ownership, StoreResult};
    use sapwood_core::tree::TreeState;
    use uuid::Uuid;

    use super::*;
    use crate::environment::SystemEnvironment;

    fn turn(tree: u128) -> Turn {
        Turn {
            tree: TreeId::from(Uuid::from_u128(tree)),
            revision: 1,
            control: 0,
            inbox: None,
            created: None,
            invocations: Vec::new(),
            changes: Vec::new(),
            entries: Vec::new(),
            timers_set: Vec::new(),
            timers_cleared: Vec::new(),
            events: Vec::new(),
            next: Next { state: TreeState::Running, number: 0, ownership: Ownership::Keep },
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
            assert_eq!(batch_len(sizes), expected);
        }
        assert_eq!(batch_len([1, BATCH_BYTES * 2, 1].into_iter()), 1, "a large turn waits for a batch of its own");
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
            Ok(vec![Verdict::Committed; turns.len()])
        }

        async fn recover(&mut self, _: &[Turn]) -> StoreResult<Vec<Recovered>> {
            Ok(self.recovered.clone())
        }
    }

    async fn verdicts(planned: &mut Planned, turns: &[Turn]) -> (Verdicts, bool) {
        let life = Arc::new(Life::default());
        let outage = Outage::new(Arc::clone(&life), Arc::new(SystemEnvironment::default()));
        let verdicts = Commit { committer: planned, life: &life, outage: &outage }.verdicts(turns).await;
        (verdicts, life.has_ended())
    }

    fn planned(answers: &[StoreErrorKind]) -> Planned {
        Planned { answers: answers.iter().copied().collect(), recovered: Vec::new(), bad: None, commits: Vec::new() }
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

    /// C1: a committer whose fence is refused ends its engine, and nothing of the batch counts.
    #[tokio::test]
    async fn a_refused_fence_ends_the_engine() {
        let mut planned = planned(&[StoreErrorKind::Fenced]);
        let (verdicts, has_ended) = verdicts(&mut planned, &[turn(1)]).await;
        assert_eq!(verdicts, [Ok(Verdict::Refused)]);
        assert!(has_ended);
    }
}
