//! Group commit: turns of all trees of a process go to a few committers; while one commit is under way the next batch
//! gathers, and when idle a turn is committed at once.
//!
//! A tree has at most one turn under way and always the same committer, so its turns commit in order. Waiters are
//! told only after the commit.

use std::sync::Arc;

use sapwood_core::store::{Committer, Recovered, StoreError, StoreErrorKind, Turn, Verdict};
use tokio::sync::mpsc;

use crate::engine::Inner;
use crate::pause::Pause;
use crate::tree::{Mailbox, Signal};

/// Turns of one batch at most: beyond it latency grows and throughput does not.
const BATCH_TURNS: usize = 1_000;

/// Bytes of payload after which a batch is full.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A turn and who is told what became of it.
pub(crate) struct Submission {
    pub(crate) turn: Turn,
    pub(crate) mailbox: Arc<Mailbox>,
}

/// Runs one committer until the engine stops. The channel is unbounded, yet holds at most one turn a tree in memory.
pub(crate) async fn run(
    engine: Arc<Inner>,
    mut committer: Box<dyn Committer>,
    mut submissions: mpsc::UnboundedReceiver<Submission>,
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
        if engine.is_killed() {
            return;
        }
        let batch = take_batch(&mut gathered);
        let busy = commit(&engine, committer.as_mut(), batch).await;
        if !busy.is_empty() {
            // Somebody holds these trees' rows for a moment; the next batch asks again.
            if gathered.is_empty() {
                tokio::task::yield_now().await;
            }
            gathered.extend(busy);
        }
    }
}

/// The first turns that fit into a batch; at least one.
fn take_batch(gathered: &mut Vec<Submission>) -> Vec<Submission> {
    let mut bytes = 0;
    let fits = gathered.iter().take(BATCH_TURNS).take_while(|submission| {
        let fits = bytes == 0 || bytes + size(&submission.turn) <= BATCH_BYTES;
        bytes += size(&submission.turn);
        fits
    });
    let count = fits.count();
    let rest = gathered.split_off(count);
    std::mem::replace(gathered, rest)
}

fn size(turn: &Turn) -> usize {
    let entries: usize = turn.entries.iter().map(|(_, entry)| entry.payload.len() + 64).sum();
    let inputs: usize = turn.invocations.iter().map(|invocation| invocation.input.len() + 64).sum();
    let events: usize = turn.events.iter().map(|event| event.content.len() + 256).sum();
    entries + inputs + events + 64
}

/// Commits a batch and tells its trees; returns those that somebody held.
async fn commit(engine: &Inner, committer: &mut dyn Committer, batch: Vec<Submission>) -> Vec<Submission> {
    let (turns, mailboxes): (Vec<Turn>, Vec<Arc<Mailbox>>) =
        batch.into_iter().map(|submission| (submission.turn, submission.mailbox)).unzip();
    let verdicts = settle(engine, committer, &turns).await;
    let mut busy = Vec::new();
    for ((turn, mailbox), verdict) in turns.into_iter().zip(mailboxes).zip(verdicts) {
        match verdict {
            Ok(Verdict::Busy) => busy.push(Submission { turn, mailbox }),
            verdict => mailbox.send(Signal::Verdict(verdict)),
        }
    }
    busy
}

/// One verdict a turn, whatever it takes: a lost connection is asked about, a passing error is tried again, a batch
/// the database refuses for good is halved until the culprit is alone.
async fn settle(engine: &Inner, committer: &mut dyn Committer, turns: &[Turn]) -> Vec<Result<Verdict, String>> {
    let mut pause = Pause::new();
    loop {
        let error = match committer.commit(turns).await {
            Ok(verdicts) => return verdicts.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        match error.kind() {
            StoreErrorKind::Permanent => return bisect(engine, committer, turns, &error).await,
            StoreErrorKind::Connection => {
                if !pause.after(engine, &error).await {
                    return refused(turns);
                }
                if let Some(verdicts) = recover(engine, committer, turns, &mut pause).await {
                    return verdicts;
                }
            }
            StoreErrorKind::Transient => {
                if !pause.after(engine, &error).await {
                    return refused(turns);
                }
            }
            StoreErrorKind::Fenced | StoreErrorKind::Refused => {
                engine.fenced(&error);
                return refused(turns);
            }
        }
    }
}

/// Asks what became of a batch. `None` where nothing of it was applied: it is sent again.
async fn recover(
    engine: &Inner,
    committer: &mut dyn Committer,
    turns: &[Turn],
    pause: &mut Pause,
) -> Option<Vec<Result<Verdict, String>>> {
    loop {
        match committer.recover(turns).await {
            Ok(recovered) if recovered.iter().all(|recovered| *recovered == Recovered::Lost) => return None,
            Ok(recovered) => return Some(recovered.into_iter().map(verdict_of).collect()),
            Err(error) if pause.after(engine, &error).await => {}
            Err(error) => {
                engine.fenced(&error);
                return Some(refused(turns));
            }
        }
    }
}

/// A lost turn of a batch that was applied in part is sent again like one that somebody held.
fn verdict_of(recovered: Recovered) -> Result<Verdict, String> {
    Ok(match recovered {
        Recovered::Committed => Verdict::Committed,
        Recovered::Lost => Verdict::Busy,
        Recovered::Refused => Verdict::Refused,
    })
}

async fn bisect(
    engine: &Inner,
    committer: &mut dyn Committer,
    turns: &[Turn],
    error: &StoreError,
) -> Vec<Result<Verdict, String>> {
    if turns.len() == 1 {
        return vec![Err(error.to_string())];
    }
    let (left, right) = turns.split_at(turns.len() / 2);
    let mut verdicts = Box::pin(settle(engine, committer, left)).await;
    verdicts.extend(Box::pin(settle(engine, committer, right)).await);
    verdicts
}

fn refused(turns: &[Turn]) -> Vec<Result<Verdict, String>> {
    turns.iter().map(|_| Ok(Verdict::Refused)).collect()
}
