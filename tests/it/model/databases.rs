//! A few seeds on every store: what the model finds in memory holds on the databases too. Their time is the machine's with
//! jumps, so steps take none, and the clock jumps to what is due next.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sapwood_core::Path;
use sapwood_core::clock::Clock as _;
use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::tree::{Closing, PromiseState, TreeState};
use sapwood_engine::{Effect, TreeView};
use sapwood_tests::engine::World;
use sapwood_tests::store::outbox;

use super::always_true::always_true;
use super::bodies::{App, Build as _, Outside, Today};
use super::chance::Chance;
use super::oracle::{self, Known};
use super::plan::Plan;
use super::promises::{Outcome, Promises};

sapwood_tests::on_every_engine!(crate::model::databases { a_few_trees_come_to_what_their_plans_say });

/// Trees of each case; the small plans come first.
const TREES: u64 = 12;

/// P2, R2, R4, K1, K2, N1: on every store, with workers that die while a tree waits.
async fn a_few_trees_come_to_what_their_plans_say(world: &World) {
    let outside = Arc::new(Outside::new(Box::new(|_, _| Ok(())), false));
    let app = Arc::new(Today(App { outside: Arc::clone(&outside), worker: OnceLock::new() }));
    let mut engine = world.launch(&app).await;
    let (mut chance, mut promises) = (Chance::of(1), Promises::default());
    for number in 0..TREES {
        let plan = Plan::draw(&mut chance, 1 + usize::try_from(number).expect("small"));
        let tree = Today::start(&engine, &plan, None).await.expect("a tree");
        let mut revision = 0;
        loop {
            let view = world.tree_until(&engine, tree, |view| rests(world, view, revision)).await;
            revision = view.row.revision;
            let asks = if view.row.closing == Closing::CompensationFailed { 50 } else { 0 };
            if view.row.is_closed() && !chance.percent(asks) {
                break;
            }
            if view.row.is_closed() || view.nodes.iter().any(|node| node.parked.is_some()) {
                let (actor, reason) = ("the test".to_owned(), "it may be better now".to_owned());
                let request = ControlRequest { path: Path::root(), verb: ControlVerb::Retry, actor, reason };
                let effect = engine.govern(tree, &request).await.expect("the request is taken");
                assert_eq!(effect, Effect::Accepted);
                continue;
            }
            if chance.percent(20) {
                engine = world.take_over(&engine, &app).await;
            }
            let now = world.store().clock().now();
            let pending = view.nodes.iter().flat_map(|node| &node.promises);
            let pending: Vec<_> = pending.filter(|promise| promise.state == PromiseState::Pending).collect();
            match view.row.ready_at {
                Some(due) if pending.is_empty() || chance.percent(50) => {
                    let due = due.duration_since(now);
                    // As fine as every database tells the time.
                    world.advance(Duration::try_from(due).unwrap_or_default() + Duration::from_millis(1)).await;
                }
                _ => {
                    let id = pending[chance.index(pending.len())].id.clone();
                    let outcome = Outcome::Resolved(format!("value {revision}"));
                    let by_engine = chance.percent(50);
                    promises.settle(&engine, id, outcome, by_engine).await.unwrap_or_else(|wrong| panic!("{wrong}"));
                    engine.poke().await;
                }
            }
        }
        let record = engine.store().tree_read(tree).await.expect("the store answers").expect("the tree is there");
        let events = outbox(engine.store().as_ref()).await.iter().filter(|row| row.event.tree == tree).count();
        let effects = |key: &str| outside.count(key);
        let judged = always_true(&record, false).and_then(|()| promises.judge(&record)).and_then(|()| {
            oracle::judge(
                &plan,
                &record,
                &Known { effects: &effects, is_undisturbed: false, refuses: false, was_set_back: false, events },
            )
        });
        judged.unwrap_or_else(|wrong| panic!("{wrong}\n{plan:#?}\n{record:#?}"));
    }
}

/// Whether a tree is closed, or waits for a time that has not come or for what settles a promise, since it was seen last.
fn rests(world: &World, view: &TreeView, seen: u64) -> bool {
    let now = world.store().clock().now();
    let waits = matches!(view.row.state, TreeState::Suspended | TreeState::Parked) && view.row.owner.is_none();
    view.row.is_closed() || view.row.revision > seen && waits && view.row.ready_at.is_none_or(|at| at > now)
}
