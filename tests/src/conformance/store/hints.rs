//! Hints: they reach every listener on the store, whatever process sent them.

use std::collections::HashSet;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use sapwood_core::store::{Hint, Store};

use super::fixture::{Worker, full};
use crate::store::TestStore;
use crate::wait::within;

/// S3: every kind of hint reaches its giver and another process.
pub async fn a_hint_reaches_everybody_on_the_store(test: &TestStore) {
    let (store, other) = (test.store(), test.another().await);
    let given = [Hint::Ready, Hint::Outbox, Hint::Log("orders.events".to_owned()), Hint::Settled];
    for listener in [&store, &other] {
        let mut hints = listener.hints();
        for hint in &given {
            give_until_heard(&store, &mut hints, hint.clone()).await;
        }
    }
}

/// Gives a hint until it is heard; returns what else was heard meanwhile.
///
/// A listener that has just begun may miss the hint. It is told to look at everything when it listens, so the hint is
/// given again after each other one.
async fn give_until_heard(giver: &Arc<dyn Store>, hints: &mut BoxStream<'static, Hint>, hint: Hint) -> HashSet<Hint> {
    let mut others = HashSet::new();
    loop {
        giver.hint(std::slice::from_ref(&hint)).await.expect("given");
        let heard = within("a hint", hints.next()).await.expect("the store is open");
        if heard == hint {
            return others;
        }
        others.insert(heard);
    }
}

/// No hint sits in a commit of trees.
pub async fn a_commit_gives_no_hint(test: &TestStore) {
    let (store, other) = (test.store(), test.another().await);
    let mut hints = store.hints();
    let marker = |text: &str| Hint::Log(text.to_owned());
    // What a listener is told when it begins to listen is over once it hears another process.
    give_until_heard(&other, &mut hints, marker("before")).await;
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(3).await;
    for tree in trees {
        worker.commit_one(full(tree, 1)).await;
    }
    let mut heard = give_until_heard(&other, &mut hints, marker("after")).await;
    heard.remove(&marker("before"));
    assert_eq!(heard, HashSet::new());
}

/// Closing a store ends its hints.
pub async fn the_hints_end_when_the_store_closes(test: &TestStore) {
    let store = test.store();
    let mut hints = store.hints();
    store.close().await;
    let end = async { while hints.next().await.is_some() {} };
    within("the end of the stream", end).await;
}
