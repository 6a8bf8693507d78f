//! V: several versions of a function, in one binary and across deploys.

use std::sync::Arc;

use sapwood::{Dependencies, prelude::*};
use sapwood_core::FunctionVersion;
use sapwood_core::tree::PromiseState;
use sapwood_engine::{StartOptions, WaitsOn};
use sapwood_tests::engine::{World, node};
use sapwood_tests::probe::Probing;

use super::{HOUR, Trouble};

sapwood_tests::on_every_engine!(crate::engine::versions {
    a_child_s_version_is_fixed_when_it_is_created,
    new_starts_and_calls_take_the_newest_version,
    a_tree_that_needs_a_missing_version_waits_visibly_for_a_worker_that_has_it,
    the_error_of_a_child_names_the_version_that_ran,
});

/// The build of yesterday: it has version 1 alone.
struct Old;

/// The build of today: it has both.
struct Both;

/// The build of tomorrow: version 1 is gone.
struct New;

impl Dependencies for Old {
    type Context = Probing;
}

impl Dependencies for Both {
    type Context = Probing;
}

impl Dependencies for New {
    type Context = Probing;
}

#[sapwood::function(name = "asks")]
async fn asks_of_old(cx: &mut Cx<Old>, fails: bool) -> Result<String, Trouble> {
    Ok(format!("{} {}", cx.call(answers_of_old(fails)).await?, cx.call(answers_of_old(fails)).await?))
}

#[sapwood::function(name = "answers")]
async fn answers_of_old(cx: &mut Cx<Old>, fails: bool) -> Result<String, Trouble> {
    cx.sleep(HOUR).await;
    if fails { Err(Trouble::broken("version 1")) } else { Ok("one".to_owned()) }
}

#[sapwood::function(name = "asks")]
async fn asks_of_both(cx: &mut Cx<Both>, fails: bool) -> Result<String, Trouble> {
    let first = match cx.call(answers_of_both(fails)).await {
        Err(CallError::Failed { function, path, .. }) => return Ok(format!("{function} at {path}")),
        other => other?,
    };
    Ok(format!("{first} {}", cx.call(answers_of_both(fails)).await?))
}

#[sapwood::function(name = "answers")]
async fn answers_as_before(cx: &mut Cx<Both>, fails: bool) -> Result<String, Trouble> {
    cx.sleep(HOUR).await;
    if fails { Err(Trouble::broken("version 1")) } else { Ok("one, as before".to_owned()) }
}

#[sapwood::function(name = "answers", version = 2)]
async fn answers_of_both(_: &mut Cx<Both>, fails: bool) -> Result<String, Trouble> {
    if fails { Err(Trouble::broken("version 2")) } else { Ok("two".to_owned()) }
}

#[sapwood::function(name = "asks")]
async fn asks_of_new(cx: &mut Cx<New>, fails: bool) -> Result<String, Trouble> {
    Ok(format!("{} {}", cx.call(answers_of_new(fails)).await?, cx.call(answers_of_new(fails)).await?))
}

#[sapwood::function(name = "answers", version = 2)]
async fn answers_of_new(_: &mut Cx<New>, _fails: bool) -> Result<String, Trouble> {
    Ok("two".to_owned())
}

/// A history of the old build that waits in its first child.
async fn old_history(world: &World, fails: bool) -> TreeId {
    let old = world.launch(&Arc::new(Old)).await;
    let tree = old.start(asks_of_old(fails)).await.expect("a tree").id();
    world.tree_suspended(&old, tree).await;
    old.drain().await.expect("a drain");
    tree
}

/// V1: the child that was begun goes on in its version; the one called after the deploy is of the newest.
async fn a_child_s_version_is_fixed_when_it_is_created(world: &World) {
    let tree = old_history(world, false).await;
    let both = world.launch(&Arc::new(Both)).await;
    world.advance(HOUR).await;
    let result = both.attach::<asks_of_both>(tree).result().await;
    assert_eq!(result.expect("a result"), "one, as before two");
    let view = both.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!((node(&view, "/0").version, node(&view, "/1").version), (1, 2));
}

/// V2: by name, the newest.
async fn new_starts_and_calls_take_the_newest_version(world: &World) {
    let both = world.launch(&Arc::new(Both)).await;
    let reply = both.start_json("answers", br#"{"fails":false}"#, StartOptions::default()).await.expect("a tree");
    assert_eq!(both.attach::<answers_of_both>(reply.tree).result().await.expect("a result"), "two");
    let tree = both.start(asks_of_both(false)).await.expect("a tree");
    assert_eq!(tree.result().await.expect("a result"), "two two");
    assert_eq!(both.tree(reply.tree).await.expect("the store").expect("the tree").row.version, 2);
}

/// V1: a worker that meets a version it lacks releases the tree, saying what it needs; it is left alone by that worker
/// and taken by one that has it.
async fn a_tree_that_needs_a_missing_version_waits_visibly_for_a_worker_that_has_it(world: &World) {
    let tree = old_history(world, false).await;
    let new = world.launch(&Arc::new(New)).await;
    world.advance(HOUR).await;
    let view = world.tree_until(&new, tree, |view| view.row.needs.is_some()).await;
    assert_eq!((view.row.needs.clone(), view.row.owner), (Some(FunctionVersion::new("answers", 1)), None));
    assert_eq!(node(&view, "/0").promise, PromiseState::Pending);
    assert!(node(&view, "/0").waits_on.contains(&WaitsOn::Version { needs: FunctionVersion::new("answers", 1) }));
    // A worker that lacks it does not claim it again: a tree that is started now is claimed and settles, this one stays.
    new.poke().await;
    new.start(asks_of_new(false)).await.expect("a tree").result().await.expect("a result");
    let still = new.tree(tree).await.expect("the store").expect("the tree");
    assert_eq!(still.row.revision, view.row.revision);

    let both = world.launch(&Arc::new(Both)).await;
    let result = both.attach::<asks_of_both>(tree).result().await;
    assert_eq!(result.expect("a result"), "one, as before two");
}

/// F4, V1: attributable to the child that ran, not to the one that this build would call.
async fn the_error_of_a_child_names_the_version_that_ran(world: &World) {
    let tree = old_history(world, true).await;
    let both = world.launch(&Arc::new(Both)).await;
    world.advance(HOUR).await;
    let result = both.attach::<asks_of_both>(tree).result().await;
    assert_eq!(result.expect("a result"), "answers@1 at /0");
}
