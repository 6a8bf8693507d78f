//! Rows that this build cannot read: only their own tree is concerned, it is set aside and named, and all others go on.

use std::collections::{BTreeMap, BTreeSet};

use sapwood::prelude::*;
use sapwood_core::store::{ListedTree, Settling, StoreErrorKind, TreeFilter};
use sapwood_core::tree::{PromiseState, Settlement, TreeState};
use sapwood_core::{Path, TreeId};
use sapwood_engine::Effect;
use sapwood_tests::damage::{self, Damage};
use sapwood_tests::engine::{World, is_idle};
use sapwood_tests::probe::Probe;
use sapwood_tests::store::TestStore;

use super::{HOUR, Trouble};

sapwood_tests::on_both_stores!(crate::engine::unreadable {
    a_damaged_value_of_any_column_concerns_its_own_tree_alone,
    a_tree_that_is_set_aside_names_its_reason_and_comes_back_once_it_is_mended,
    a_tree_that_was_set_aside_is_resumed_once_it_is_mended,
});

/// Of each healthy tree so many damaged ones are claimed together with it.
const BETWEEN: usize = 10;

#[sapwood::function]
async fn leaves_a_row_of_each_kind(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.step("work", async || Ok::<_, Trouble>(())).await?;
    let promise = cx.promise::<u32>("p");
    let child = cx.call(waits_too());
    cx.sleep(HOUR).await;
    promise.await?;
    Ok(child.await?)
}

#[sapwood::function]
async fn waits_too(cx: &mut Cx<Probe>) -> Result<(), Trouble> {
    cx.sleep(HOUR).await;
    Ok(())
}

/// The rows of a tree that are damaged, one of each table.
fn row_of(test: &TestStore, table: &str, tree: TreeId) -> Option<String> {
    let id = test.literal(tree);
    let root = if test.schema().is_some() { "'\\x00'" } else { "x'00'" };
    match table {
        "tree" => Some(format!("id = {id}")),
        "promise" => Some(format!("tree_id = {id}")),
        "invocation" | "timer" => Some(format!("tree_id = {id} and path = {root}")),
        "journal" => Some(format!("tree_id = {id} and path = {root} and seq = 0")),
        _ => None,
    }
}

/// C3, G2: the claim of a batch in which one row cannot be read takes all the others, and no tree stays with a worker that
/// does not drive it.
pub(super) async fn a_damaged_value_of_any_column_concerns_its_own_tree_alone(test: &TestStore) {
    let world = World::new(TestStore::on(test.database()).await, sapwood_tests::engine::EVICTED);
    let (test, app) = (world.store(), Probe::new());
    let first = world.launch(&app).await;
    let mut damages = Vec::new();
    for table in damage::tables(test).await {
        if row_of(test, &table, TreeId::fresh()).is_some() {
            damages.extend(damage::damages(test, &table).await);
        }
    }
    assert!(damages.len() > 150, "{}", damages.len());
    let (mut victims, mut healthy): (Vec<(TreeId, Damage)>, Vec<TreeId>) = Default::default();
    for (n, damage) in damages.into_iter().enumerate() {
        if n % BETWEEN == 0 {
            healthy.push(first.start(leaves_a_row_of_each_kind()).await.expect("a tree").id());
        }
        victims.push((first.start(leaves_a_row_of_each_kind()).await.expect("a tree").id(), damage));
    }
    is_idle(&first).await;
    first.drain().await.expect("a drain");
    for tree in victims.iter().map(|(tree, _)| tree).chain(&healthy) {
        settles(test, *tree).await;
    }
    let mut damaged = Vec::new();
    for (tree, damage) in victims {
        let which = row_of(test, &damage.table, tree).expect("a table of trees");
        if damage::make(test, &damage, &which).await && damage.column != "id" {
            damaged.push((tree, damage));
        }
    }
    assert!(damaged.len() > 80, "{}", damaged.len());

    let second = world.launch(&app).await;
    world.advance(HOUR).await;
    for tree in &healthy {
        world.tree_until(&second, *tree, |view| view.row.state == TreeState::Resolved).await;
    }
    let owned = format!("tree where owner = {}", second.worker().0);
    let is_settled = async || second.health().trees == 0 && test.count(&owned).await == 0;
    test.changes().until("no tree stays with a worker that does not drive it", is_settled).await;

    let listed: BTreeSet<TreeId> = all(&second).await.iter().map(ListedTree::id).collect();
    let aside = second.health().set_aside;
    assert!(!aside.is_empty(), "health names them");
    for (tree, damage) in &damaged {
        assert!(listed.contains(tree), "{damage}: {tree} is in the list");
        if let Err(error) = second.tree(*tree).await {
            assert_eq!(error.kind(), StoreErrorKind::Unreadable, "{damage}: {error}");
        }
        if let Err(error) = second.store().tree_load(*tree).await {
            assert!(!error.is_passing(), "{damage}: {error}");
        }
    }
    world.end().await;
}

/// Settles the promise that a tree waits for.
async fn settles(test: &TestStore, tree: TreeId) {
    let one = Settlement { state: PromiseState::Resolved, outcome: "{\"resolved\":1}".into() };
    let settling = test.store().promise_settle(tree, &Path::root(), "p", &one).await.expect("the store");
    assert_eq!(settling, Some(Settling::Stored { inbox: 1 }));
}

/// Every tree, page by page.
async fn all(engine: &Engine) -> Vec<ListedTree> {
    let mut filter = TreeFilter { limit: 7, ..TreeFilter::default() };
    let mut all = Vec::new();
    loop {
        let page = engine.list(&filter).await.expect("a page");
        filter.before = page.last().map(ListedTree::id);
        all.extend(page);
        if filter.before.is_none() {
            return all;
        }
    }
}

/// R9: before it is mended, it is only set aside again; and also if it is the tree's own row that could not be read.
pub(super) async fn a_tree_that_was_set_aside_is_resumed_once_it_is_mended(test: &TestStore) {
    let world = World::new(TestStore::on(test.database()).await, sapwood_tests::engine::EVICTED);
    let (test, app) = (world.store(), Probe::new());
    let first = world.launch(&app).await;
    let by_timer = first.start(leaves_a_row_of_each_kind()).await.expect("a tree").id();
    let by_row = first.start(leaves_a_row_of_each_kind()).await.expect("a tree").id();
    is_idle(&first).await;
    first.drain().await.expect("a drain");
    let far = if test.schema().is_some() { "'290000-01-01'" } else { "9100000000000000000" };
    let of = |tree| test.literal(tree);
    test.execute(&format!("create table saved as select due_at from timer where tree_id = {}", of(by_timer))).await;
    test.execute(&format!("update timer set due_at = {far} where tree_id = {}", of(by_timer))).await;
    test.execute(&format!("update tree set function = '' where id = {}", of(by_row))).await;

    let second = world.launch(&app).await;
    world.advance(HOUR).await;
    let aside = async |many: usize| {
        let is_so = async || second.health().set_aside.len() == many;
        test.changes().until("trees that are set aside", is_so).await;
    };
    aside(2).await;
    let resumes = async |tree| second.attach::<leaves_a_row_of_each_kind>(tree).resume("it is mended").await;
    let trees = [by_timer, by_row];
    let revisions = async || {
        let found = second.store().tree_revisions(&trees).await.expect("revisions");
        found.into_iter().collect::<BTreeMap<TreeId, u64>>()
    };
    let before = revisions().await;
    for tree in trees {
        assert_eq!(resumes(tree).await.expect("the request is taken"), Effect::Accepted);
    }
    // A claim, and the end of what it came to.
    let are_set_aside_again = async || {
        let now = revisions().await;
        trees.iter().all(|tree| now[tree] >= before[tree] + 2)
    };
    test.changes().until("trees that are set aside again", are_set_aside_again).await;

    test.execute(&format!(
        "update timer set due_at = (select min(due_at) from saved) where tree_id = {}",
        of(by_timer)
    ))
    .await;
    test.execute(&format!("update tree set function = 'leaves_a_row_of_each_kind' where id = {}", of(by_row))).await;
    for tree in trees {
        assert_eq!(resumes(tree).await.expect("the request is taken"), Effect::Accepted);
        settles(test, tree).await;
        let view = world.tree_until(&second, tree, |view| view.row.state == TreeState::Resolved).await;
        assert_eq!(view.row.aside, None);
    }
    assert!(second.health().set_aside.is_empty());
    world.end().await;
}

/// G2, G6: a tree that is set aside is parked, says why wherever it can be read, and is claimed again when it is due.
pub(super) async fn a_tree_that_is_set_aside_names_its_reason_and_comes_back_once_it_is_mended(test: &TestStore) {
    let world = World::new(TestStore::on(test.database()).await, sapwood_tests::engine::EVICTED);
    let (test, app) = (world.store(), Probe::new());
    let first = world.launch(&app).await;
    let tree = first.start(leaves_a_row_of_each_kind()).await.expect("a tree").id();
    is_idle(&first).await;
    first.drain().await.expect("a drain");
    let id = test.literal(tree);
    let far = if test.schema().is_some() { "'290000-01-01'" } else { "9100000000000000000" };
    test.execute(&format!("create table saved as select due_at from timer where tree_id = {id}")).await;
    test.execute(&format!("update timer set due_at = {far} where tree_id = {id}")).await;

    let second = world.launch(&app).await;
    world.advance(HOUR).await;
    let aside = async || !second.health().set_aside.is_empty();
    test.changes().until("a tree that is set aside", aside).await;
    let (named, reason) = second.health().set_aside.remove(0);
    assert_eq!(named, tree);
    assert!(reason.contains("due_at"), "{reason}");
    let row = second.store().tree_row(tree).await.expect("a row").expect("it is there");
    assert_eq!((row.state, row.owner, row.ready_at), (TreeState::Parked, None, None));
    assert_eq!(row.aside.as_ref(), Some(&reason));
    let error = second.tree(tree).await.expect_err("its timers cannot be read");
    assert_eq!(error.kind(), StoreErrorKind::Unreadable, "{error}");
    // What settles meanwhile makes no worker claim it; it is heard when the tree comes back.
    let handle = second.attach::<leaves_a_row_of_each_kind>(tree);
    handle.promise("p").resolve(1_u32).await.expect("it is pending");
    let row = second.store().tree_row(tree).await.expect("a row").expect("it is there");
    assert_eq!((row.inbox, row.ready_at), (1, None));

    test.execute(&format!("update timer set due_at = (select min(due_at) from saved) where tree_id = {id}")).await;
    let view = second.tree(tree).await.expect("it can be read").expect("it is there");
    assert!(view.nodes.iter().all(|node| node.waits_on.iter().all(|on| format!("{on:?}").contains("set_aside"))));
    test.execute(&format!("update tree set ready_at = created_at where id = {id}")).await;
    second.poke().await;
    let view = world.tree_until(&second, tree, |view| view.row.state == TreeState::Resolved).await;
    assert_eq!(view.row.aside, None);
    assert!(second.health().set_aside.is_empty());
    world.end().await;
}
