//! The shapes: what is done with the functions, and from when until when it is measured.

use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::ValueEnum;
use sapwood::{Call, Function, TreeHandle, TreeId, TreeState};
use sapwood_core::WorkerId;
use sapwood_core::store::Store;

use super::functions::{Awaits, Does, HOUR, emits, fans_out, races, sleeps, steps_at_once, steps_in_order};
use super::{LEASE, Spent, Stopwatch, World, launch};
use crate::Result;

/// The time between two looks at a row that another task changes.
const LOOK: Duration = Duration::from_millis(2);

/// Of the sleepers that wake one after another, one in so many wakes while it is measured.
const WAKES_ONE_IN: u32 = 20;

/// What one tree does `n` times.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Shape {
    /// Children that return at once, awaited with `FuturesUnordered`.
    ChildrenUnordered,
    /// Children that return at once, awaited with `try_join_all`.
    ChildrenTogether,
    /// Children that return at once, awaited one after another.
    ChildrenInOrder,
    /// Children with a step each.
    ChildrenWithSteps,
    /// Children that sleep, and wake at one time.
    ChildrenAsleep,
    /// Children that sleep, wake at one time, and sleep again.
    ChildrenAsleepAgain,
    /// Children that sleep, of which some wake one after another, each for a turn of its own.
    ChildrenWakingInTurn,
    /// Children that sleep, taken over by another worker after a crash, and woken at one time.
    ChildrenTakenOver,
    /// Children that fail at their first attempt.
    ChildrenRetried,
    /// Children whose steps fail at their first attempt.
    ChildrenWithStepsRetried,
    /// Sleeps of one function, which end at one time.
    Sleeps,
    /// Steps of one function, one after another.
    StepsInOrder,
    /// Steps of one function, at once.
    StepsAtOnce,
    /// Races of a step and a sleep, one after another.
    Races,
    /// Events of one function.
    Events,
    /// The view of a tree with children that sleep.
    View,
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Shape {
    pub(super) async fn run(self, world: &World, n: u32) -> Result<Spent> {
        use Awaits::{InOrder, Together, Unordered};
        match self {
            Self::ChildrenUnordered => world.to_its_end(fans_out(n, Does::Nothing, Unordered)).await,
            Self::ChildrenTogether => world.to_its_end(fans_out(n, Does::Nothing, Together)).await,
            Self::ChildrenInOrder => world.to_its_end(fans_out(n, Does::Nothing, InOrder)).await,
            Self::ChildrenWithSteps => world.to_its_end(fans_out(n, Does::Step, Unordered)).await,
            Self::ChildrenAsleep => world.through_an_hour(fans_out(n, Does::Sleep, Unordered)).await,
            Self::ChildrenAsleepAgain => world.through_two_hours(n).await,
            Self::ChildrenWakingInTurn => world.waking_in_turn(n).await,
            Self::ChildrenTakenOver => world.taken_over(n).await,
            Self::ChildrenRetried => world.through_an_outage(fans_out(n, Does::Fail, Unordered)).await,
            Self::ChildrenWithStepsRetried => world.through_an_outage(fans_out(n, Does::FailStep, Unordered)).await,
            Self::Sleeps => world.through_an_hour(sleeps(n)).await,
            Self::StepsInOrder => world.to_its_end(steps_in_order(n)).await,
            Self::StepsAtOnce => world.to_its_end(steps_at_once(n)).await,
            Self::Races => world.to_its_end(races(n)).await,
            Self::Events => world.to_its_end(emits(n)).await,
            Self::View => world.viewed(n).await,
        }
    }
}

impl World {
    /// From the start to the result.
    async fn to_its_end<F: Function>(&self, call: Call<F>) -> Result<Spent> {
        let watch = Stopwatch::start(&self.place).await?;
        self.engine.start(call).await?.result().await.map_err(|error| error.to_string())?;
        Ok(watch.stop())
    }

    /// From the start to the result; an hour passes once everything waits.
    async fn through_an_hour<F: Function>(&self, call: Call<F>) -> Result<Spent> {
        let watch = Stopwatch::start(&self.place).await?;
        let tree = self.asleep(call).await?;
        self.place.advance(2 * HOUR).await?;
        self.engine.poke().await;
        tree.result().await.map_err(|error| error.to_string())?;
        Ok(watch.stop())
    }

    /// As [`Self::through_an_hour`]; all sleep again, and a second hour passes.
    async fn through_two_hours(&self, n: u32) -> Result<Spent> {
        let mut woken = self.app.woken.subscribe();
        let watch = Stopwatch::start(&self.place).await?;
        let tree = self.asleep(fans_out(n, Does::SleepAgain, Awaits::Unordered)).await?;
        self.place.advance(2 * HOUR).await?;
        self.engine.poke().await;
        woken.wait_for(|woken| *woken == n).await?;
        released(self.engine.store().as_ref(), tree.id()).await?;
        self.place.advance(2 * HOUR).await?;
        self.engine.poke().await;
        tree.result().await.map_err(|error| error.to_string())?;
        Ok(watch.stop())
    }

    /// As [`Self::through_an_hour`]; until then the outside is down.
    async fn through_an_outage<F: Function>(&self, call: Call<F>) -> Result<Spent> {
        let watch = Stopwatch::start(&self.place).await?;
        self.app.is_down.store(true, Ordering::SeqCst);
        let tree = self.asleep(call).await?;
        self.app.is_down.store(false, Ordering::SeqCst);
        self.place.advance(2 * HOUR).await?;
        self.engine.poke().await;
        tree.result().await.map_err(|error| error.to_string())?;
        Ok(watch.stop())
    }

    /// From when all sleep until some have woken, each after the tree was released once more.
    async fn waking_in_turn(&self, n: u32) -> Result<Spent> {
        let tree = self.asleep(fans_out(n, Does::SleepInTurn, Awaits::Unordered)).await?;
        let mut woken = self.app.woken.subscribe();
        let watch = Stopwatch::start(&self.place).await?;
        for wake in 1..=n / WAKES_ONE_IN {
            self.place.advance(HOUR).await?;
            self.engine.poke().await;
            woken.wait_for(|woken| *woken >= wake).await?;
            released(self.engine.store().as_ref(), tree.id()).await?;
        }
        Ok(watch.stop())
    }

    /// From when another worker may have the tree until its result.
    async fn taken_over(&self, n: u32) -> Result<Spent> {
        let tree = self.asleep(fans_out(n, Does::Sleep, Awaits::Unordered)).await?;
        self.engine.kill();
        self.engine.idle().await;
        let watch = Stopwatch::start(&self.place).await?;
        let survivor = launch(&self.place, &self.app).await?;
        bury(survivor.store().as_ref(), self.engine.worker(), survivor.worker()).await?;
        self.place.advance(2 * HOUR).await?;
        survivor.poke().await;
        while survivor.outcome(tree.id(), LEASE).await?.is_none() {}
        let spent = watch.stop();
        survivor.kill();
        survivor.idle().await;
        Ok(spent)
    }

    async fn viewed(&self, n: u32) -> Result<Spent> {
        let tree = self.asleep(fans_out(n, Does::Sleep, Awaits::Unordered)).await?;
        let watch = Stopwatch::start(&self.place).await?;
        let view = self.engine.tree(tree.id()).await?.ok_or("the tree is not there")?;
        let spent = watch.stop();
        if view.nodes.len() == n as usize + 1 { Ok(spent) } else { Err("the view has not all nodes".into()) }
    }

    /// Starts a tree, and waits until no worker owns it.
    async fn asleep<F: Function>(&self, call: Call<F>) -> Result<TreeHandle<F>> {
        let tree = self.engine.start(call).await?;
        released(self.engine.store().as_ref(), tree.id()).await?;
        Ok(tree)
    }
}

/// Waits until a tree waits and has no owner.
async fn released(store: &dyn Store, tree: TreeId) -> Result<()> {
    loop {
        let row = store.tree_row(tree).await?.ok_or("the tree is not there")?;
        match row.state {
            TreeState::Suspended if row.owner.is_none() => return Ok(()),
            TreeState::Running | TreeState::Suspended => tokio::time::sleep(LOOK).await,
            state => return Err(format!("the tree is {}", state.name()).into()),
        }
    }
}

/// Declares a worker dead on behalf of another. A renewal of it that was on its way counts, so it is looked at anew until
/// it is dead.
async fn bury(store: &dyn Store, dead: WorkerId, by: WorkerId) -> Result<()> {
    loop {
        let renewal = store.lease(by).renew(LEASE).await?;
        let Some(silent) = renewal.others.into_iter().find(|beat| beat.worker == dead) else { return Ok(()) };
        store.worker_bury(by, &[silent]).await?;
    }
}
