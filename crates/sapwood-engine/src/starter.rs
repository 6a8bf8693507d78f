//! Starts that others may contest, with a caller's id or by an event: batched on a connection of their own, because
//! they may wait for the transaction of another worker (W3).

use std::sync::Arc;

use sapwood_core::store::{Intake, Start, Started, Starter, StoreError, StoreErrorKind, StoreResult};
use tokio::sync::{mpsc, oneshot};

use crate::committer::{ROW_BYTES, batch_len, size_of_cause};
use crate::outage::User;
use crate::services::Services;
use crate::starting::Request;
use crate::trees::Trees;

/// The most starts of one batch: with more, latency grows and throughput does not.
const BATCH_STARTS: usize = 500;

/// Runs the starter until the engine has ended. A tree that was created begins to run before its caller is told of it.
pub(crate) async fn run(
    services: Arc<Services>,
    trees: Arc<Trees>,
    mut starter: Box<dyn Starter>,
    mut requests: mpsc::Receiver<Request>,
) {
    let mut gathered = Vec::new();
    while requests.recv_many(&mut gathered, BATCH_STARTS).await > 0 {
        let mut waiting = Vec::new();
        for request in gathered.drain(..) {
            match request {
                Request::Start { start, reply } => waiting.push(Waiting { start, reply }),
                Request::Intake { batch, reply } => {
                    let result = intake(&services, &trees, starter.as_mut(), &batch).await;
                    for (start, started) in batch.starts.iter().zip(result.iter().flatten()) {
                        adopt(&trees, start, started);
                    }
                    // The caller may be gone; the batch is durable all the same.
                    let _ = reply.send(result);
                }
            }
        }
        while !waiting.is_empty() {
            if services.life.has_ended() {
                return;
            }
            let (starts, replies): (Vec<_>, Vec<_>) =
                next_batch(&mut waiting).into_iter().map(|Waiting { start, reply }| (start, reply)).unzip();
            let results = start(&services, starter.as_mut(), &starts).await;
            answer(&trees, &starts, replies, results);
        }
        if services.life.has_ended() {
            return;
        }
    }
}

/// A start, and the caller that waits for it.
struct Waiting {
    start: Start,
    reply: oneshot::Sender<StoreResult<Started>>,
}

/// Takes the first batch: as many starts as one statement may carry.
fn next_batch(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    let rest = waiting.split_off(batch_len(waiting.iter().map(|waiting| size(&waiting.start)), BATCH_STARTS));
    std::mem::replace(waiting, rest)
}

/// What a start adds to its batch: its key, its tree and its root.
fn size(Start { tree, key }: &Start) -> usize {
    let scope = key.scope.stored().len();
    tree.input.len() + 2 * tree.function.len() + size_of_cause(&tree.cause) + key.key.len() + scope + 3 * ROW_BYTES
}

/// Sends a batch of starts until its outcome is known: a start with a key happens once, however often it is sent. A
/// batch that the store refuses for good is sent one by one, so that only the culprit fails.
async fn start(services: &Services, starter: &mut dyn Starter, starts: &[Start]) -> Vec<StoreResult<Started>> {
    let mut pause = services.outage.of(User::Starts).pause();
    let error = loop {
        match starter.start(starts).await {
            Ok(started) => {
                services.outage.of(User::Starts).answered();
                return started.into_iter().map(Ok).collect();
            }
            Err(error) if pause.after(&error).await => {}
            Err(error) => break error,
        }
    };
    if error.kind() == StoreErrorKind::Fenced {
        services.life.end_fenced(&error);
    }
    let is_for_good = matches!(error.kind(), StoreErrorKind::Permanent | StoreErrorKind::Unreadable);
    if !is_for_good || starts.len() == 1 {
        return starts.iter().map(|_| Err(StoreError::new(error.kind(), error.to_string()))).collect();
    }
    let mut results = Vec::with_capacity(starts.len());
    for one in starts {
        results.extend(Box::pin(start(services, starter, std::slice::from_ref(one))).await);
    }
    results
}

/// Sends a batch of events until its outcome is known.
async fn intake(
    services: &Services,
    trees: &Arc<Trees>,
    starter: &mut dyn Starter,
    batch: &Intake,
) -> StoreResult<Vec<Started>> {
    let mut pause = services.outage.of(User::Starts).pause();
    let mut answer_was_lost = false;
    loop {
        match starter.intake(batch).await {
            Err(error) if error.kind() == StoreErrorKind::Refused && answer_was_lost => {
                adopt_unanswered(services, trees, batch).await;
                return Err(error);
            }
            Err(error) => {
                answer_was_lost |= error.kind() == StoreErrorKind::Connection;
                if !pause.after(&error).await {
                    return Err(error);
                }
            }
            started => {
                services.outage.of(User::Starts).answered();
                return started;
            }
        }
    }
}

/// A batch whose answer was lost, and whose partition went to another member meanwhile, may have been taken in all the
/// same. Then this worker owns its trees and must drive them, because the other member passes over their events.
async fn adopt_unanswered(services: &Services, trees: &Arc<Trees>, batch: &Intake) {
    for start in &batch.starts {
        let row = services.outage.of(User::Starts).outlast(|| services.store.tree_row(start.tree.id)).await;
        if let Ok(Some(row)) = row
            && row.owner == Some(services.worker)
            && row.revision == 0
        {
            trees.run_created(start.tree.clone());
        }
    }
}

fn answer(
    trees: &Arc<Trees>,
    starts: &[Start],
    replies: Vec<oneshot::Sender<StoreResult<Started>>>,
    results: Vec<StoreResult<Started>>,
) {
    for ((start, reply), result) in starts.iter().zip(replies).zip(results) {
        if let Ok(started) = &result {
            adopt(trees, start, started);
        }
        // The caller may be gone; the tree runs all the same.
        let _ = reply.send(result);
    }
}

/// Runs a tree that was created here.
fn adopt(trees: &Arc<Trees>, start: &Start, started: &Started) {
    if *started == Started::Created {
        trees.run_created(start.tree.clone());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sapwood_core::TreeId;
    use sapwood_core::store::{KeyScope, NewTree, StartKey};
    use sapwood_core::tree::Cause;
    use uuid::Uuid;

    use super::*;

    fn waiting(count: usize, input: usize, key: usize) -> Vec<Waiting> {
        let start = |n: usize| {
            let tree = NewTree {
                id: TreeId::from(Uuid::from_u128(n as u128)),
                function: "place_order".to_owned(),
                version: 1,
                input: Bytes::from(vec![b'x'; input]),
                cause: Cause { correlation: "c".to_owned(), causation: None, traceparent: None },
                deadline: None,
            };
            Start { tree, key: StartKey { scope: KeyScope::Caller, key: "k".repeat(key), digest: [0; 32] } }
        };
        (0..count).map(|n| Waiting { start: start(n), reply: oneshot::channel().0 }).collect()
    }

    /// However many large starts wait, a statement carries few of them, and all are sent, in order.
    #[test]
    fn a_batch_of_starts_is_bounded_in_rows_and_in_bytes() {
        for (count, input, key, most) in [(1_200, 10, 10, BATCH_STARTS), (40, 700_000, 10, 11), (40, 10, 700_000, 11)] {
            let mut rest = waiting(count, input, key);
            let mut sent = Vec::new();
            while !rest.is_empty() {
                let batch = next_batch(&mut rest);
                assert!((1..=most).contains(&batch.len()), "{} starts of {input} bytes", batch.len());
                sent.extend(batch.iter().map(|waiting| waiting.start.tree.id));
            }
            assert!(sent.is_sorted() && sent.len() == count);
        }
        let mut one = waiting(1, 100_000_000, 1);
        assert_eq!(next_batch(&mut one).len(), 1, "one that is too large for any batch is sent alone");
    }
}
