//! Starts that others may contest, with a caller's id or by an event: batched on a connection of their own, for they
//! may wait for a stranger's transaction (W3).

use std::sync::Arc;

use sapwood_core::store::{Intake, Start, Started, Starter, StoreError, StoreErrorKind, StoreResult};
use tokio::sync::{mpsc, oneshot};

use crate::engine::Inner;
use crate::pause::Pause;

/// Starts of one batch at most.
const BATCH_STARTS: usize = 500;

/// Requests that may wait: callers beyond it wait for room, so a burst holds no memory without bound.
pub(crate) const QUEUE: usize = 10_000;

/// What is asked of the starter.
pub(crate) enum Request {
    Start { start: Start, reply: oneshot::Sender<StoreResult<Started>> },
    Intake { batch: Intake, reply: oneshot::Sender<StoreResult<Vec<Started>>> },
}

/// Runs the starter until the engine stops. Trees that were created begin to run before anybody is told of them.
pub(crate) async fn run(engine: Arc<Inner>, mut starter: Box<dyn Starter>, mut requests: mpsc::Receiver<Request>) {
    let mut gathered = Vec::new();
    while requests.recv_many(&mut gathered, BATCH_STARTS).await > 0 {
        let mut starts = Vec::new();
        let mut replies = Vec::new();
        for request in gathered.drain(..) {
            match request {
                Request::Start { start, reply } => {
                    starts.push(start);
                    replies.push(reply);
                }
                Request::Intake { batch, reply } => {
                    let result = intake(&engine, starter.as_mut(), &batch).await;
                    for (start, started) in batch.starts.iter().zip(result.iter().flatten()) {
                        adopt(&engine, start, started);
                    }
                    // Whoever asked may be gone; the batch is durable all the same.
                    let _ = reply.send(result);
                }
            }
        }
        if engine.is_killed() {
            return;
        }
        if !starts.is_empty() {
            let results = start(&engine, starter.as_mut(), &starts).await;
            answer(&engine, &starts, replies, results);
        }
    }
}

/// Sends a batch of starts until its outcome is known: a start with a key happens once, however often it is sent. A
/// batch the store refuses for good is sent one by one, so that only the culprit fails.
async fn start(engine: &Inner, starter: &mut dyn Starter, starts: &[Start]) -> Vec<StoreResult<Started>> {
    let mut pause = Pause::new();
    let error = loop {
        match starter.start(starts).await {
            Ok(started) => return started.into_iter().map(Ok).collect(),
            Err(error) if pause.after(engine, &error).await => {}
            Err(error) => break error,
        }
    };
    if error.kind() == StoreErrorKind::Fenced {
        engine.fenced(&error);
    }
    if error.kind() != StoreErrorKind::Permanent || starts.len() == 1 {
        return starts.iter().map(|_| Err(StoreError::new(error.kind(), error.to_string()))).collect();
    }
    let mut results = Vec::with_capacity(starts.len());
    for one in starts {
        results.extend(Box::pin(start(engine, starter, std::slice::from_ref(one))).await);
    }
    results
}

/// Sends a batch of events until its outcome is known.
async fn intake(engine: &Arc<Inner>, starter: &mut dyn Starter, batch: &Intake) -> StoreResult<Vec<Started>> {
    let mut pause = Pause::new();
    let mut answer_was_lost = false;
    loop {
        match starter.intake(batch).await {
            Err(error) if error.kind() == StoreErrorKind::Refused && answer_was_lost => {
                adopt_unanswered(engine, batch).await;
                return Err(error);
            }
            Err(error) => {
                answer_was_lost |= error.kind() == StoreErrorKind::Connection;
                if !pause.after(engine, &error).await {
                    return Err(error);
                }
            }
            started => return started,
        }
    }
}

/// A batch whose answer was lost, and whose partition went to another member meanwhile, may have been taken in all the
/// same. Then its trees are this worker's, and the other member passes over its events.
async fn adopt_unanswered(engine: &Arc<Inner>, batch: &Intake) {
    for start in &batch.starts {
        let mut pause = Pause::new();
        let row = loop {
            match engine.store().tree_row(start.tree.id).await {
                Err(error) if pause.after(engine, &error).await => {}
                row => break row,
            }
        };
        if let Ok(Some(row)) = row
            && row.owner == Some(engine.worker())
            && row.revision == 0
        {
            engine.run_begun(start.tree.clone());
        }
    }
}

fn answer(
    engine: &Arc<Inner>,
    starts: &[Start],
    replies: Vec<oneshot::Sender<StoreResult<Started>>>,
    results: Vec<StoreResult<Started>>,
) {
    for ((start, reply), result) in starts.iter().zip(replies).zip(results) {
        if let Ok(started) = &result {
            adopt(engine, start, started);
        }
        // Whoever asked may be gone; the tree runs all the same.
        let _ = reply.send(result);
    }
}

/// Runs a tree that was created here; one that an earlier try of the same request created is known by its id.
fn adopt(engine: &Arc<Inner>, start: &Start, started: &Started) {
    let is_ours = match started {
        Started::Created => true,
        Started::Existing { tree, .. } => *tree == start.tree.id,
    };
    if is_ours {
        engine.run_begun(start.tree.clone());
    }
}
