//! A tree with much to do gives way: other tasks of the same thread have their turn in between.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::try_join_all;
use parking_lot::Mutex;
use sapwood::prelude::*;
use sapwood_engine::{Engine, EngineOptions, SystemEnvironment};
use sapwood_tests::store::{LEASE, TestStore};
use sapwood_tests::wait::{in_time, until};
use tokio::sync::watch;

use super::{HOUR, Trouble};

const CHILDREN: u32 = 900;

/// A driver polls 64 bodies in a row, and a poll does at most two of the things that are counted here.
const MOST_IN_A_ROW: u32 = 130;

#[derive(BoundedContext)]
#[context(name = "turning")]
struct Turning;

/// Counts what bodies do in each turn of another task.
#[derive(Default, Dependencies)]
#[dependencies(of = Turning)]
struct Turns {
    /// Turns of the other task so far.
    other: AtomicU32,
    /// By what is done, and in which turn: how often.
    done: Mutex<BTreeMap<(&'static str, u32), u32>>,
    asleep: watch::Sender<u32>,
}

impl Turns {
    fn does(&self, what: &'static str) {
        *self.done.lock().entry((what, self.other.load(Ordering::Relaxed))).or_default() += 1;
    }
}

#[sapwood::function]
async fn turns(cx: &mut Cx<Turns>) -> Result<(), Trouble> {
    let app = cx.dependencies();
    app.does("begin");
    let step = async || {
        app.does("run a step");
        Ok::<_, Trouble>(())
    };
    cx.step("step", step).await?;
    app.does("have a result");
    app.asleep.send_modify(|asleep| *asleep += 1);
    cx.sleep(HOUR).await;
    app.does("wake");
    Ok(())
}

#[sapwood::function]
async fn has_many_turns(cx: &mut Cx<Turns>) -> Result<(), Trouble> {
    let children: Vec<_> = (0..CHILDREN).map(|_| cx.call(turns())).collect();
    try_join_all(children).await?;
    Ok(())
}

/// Whatever a tree has much of to do at once, bodies to begin, steps to run, results to give, sleepers to wake: a task of
/// the same thread has a turn after each small part of it.
#[test]
fn a_tree_with_much_to_do_gives_way_to_other_tasks_of_its_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let app = Arc::<Turns>::default();
    runtime.block_on(in_time(async {
        let other = Arc::clone(&app);
        let other = tokio::spawn(async move {
            loop {
                other.other.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        });
        let test = TestStore::sqlite().await;
        let environment = Arc::new(SystemEnvironment::with_clock(test.clock()));
        let options = EngineOptions { lease: LEASE, environment, ..EngineOptions::default() };
        let engine = Engine::launch(Arc::clone(&app), test.store(), options).await.expect("the engine launches");
        let tree = engine.start(has_many_turns()).await.expect("a tree");
        until(app.asleep.subscribe(), "all sleep", |asleep| *asleep == CHILDREN).await;
        test.advance(2 * HOUR).await;
        engine.poke().await;
        tree.result().await.expect("a result");
        engine.drain().await.expect("it leaves");
        test.store().close().await;
        other.abort();
    }));
    let done = app.done.lock();
    for what in ["begin", "run a step", "have a result", "wake"] {
        let turns = || done.iter().filter(|((done, _), _)| *done == what).map(|(_, times)| *times);
        assert_eq!(turns().sum::<u32>(), CHILDREN, "{what}");
        let most = turns().max().unwrap_or_default();
        assert!(most <= MOST_IN_A_ROW, "{what}: {most} times in a row");
    }
}
