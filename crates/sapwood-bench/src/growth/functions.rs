//! The functions of the shapes: each does one kind of thing `n` times.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{join_all, try_join_all};
use futures::stream::FuturesUnordered;
use sapwood::prelude::*;

use crate::workloads::{Bench, BenchApp, BenchError, nothing};

pub(super) const HOUR: Duration = Duration::from_secs(3_600);

/// How a function awaits its children.
///
/// `join_all` and `try_join_all` of the ecosystem poll every future at each wake if these are thirty or fewer, and from
/// then on those that were woken; an author's own combinator that polls all of many is quadratic, whatever is below it.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub(super) enum Awaits {
    /// With `FuturesUnordered`.
    Unordered,
    /// With `try_join_all`.
    Together,
    /// One after another.
    InOrder,
}

/// What the children of a function do.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub(super) enum Does {
    /// Nothing.
    Nothing,
    /// One step.
    Step,
    /// An hour's sleep.
    Sleep,
    /// An hour's sleep, and another.
    SleepAgain,
    /// So many hours' sleep as tell their place.
    SleepInTurn,
    /// A step that fails while the outside is down; the function is attempted again.
    Fail,
    /// A step that fails while the outside is down; it is attempted again itself.
    FailStep,
}

/// Calls `n` children and awaits them.
#[sapwood::function]
pub(super) async fn fans_out(cx: &mut Cx<BenchApp>, n: u32, does: Does, awaits: Awaits) -> Result<u32, BenchError> {
    let children: Vec<_> = (0..n).map(|place| cx.call(child(place, does))).collect();
    let mut ended = 0;
    match awaits {
        Awaits::Unordered => {
            let mut children: FuturesUnordered<_> = children.into_iter().collect();
            while let Some(child) = children.next().await {
                ended += child?;
            }
        }
        Awaits::Together => ended += try_join_all(children).await?.into_iter().sum::<u32>(),
        Awaits::InOrder => {
            for child in children {
                ended += child.await?;
            }
        }
    }
    Ok(ended)
}

#[sapwood::function(retry(attempts = 10, backoff = "1h..1h"))]
pub(super) async fn child(cx: &mut Cx<BenchApp>, place: u32, does: Does) -> Result<u32, BenchError> {
    match does {
        Does::Nothing => {}
        Does::Step => drop(cx.step("step", nothing).await?),
        Does::Sleep => cx.sleep(HOUR).await,
        Does::SleepAgain => {
            cx.sleep(HOUR).await;
            cx.dependencies().woken.send_modify(|woken| *woken += 1);
            cx.sleep(HOUR).await;
        }
        Does::SleepInTurn => {
            cx.sleep(HOUR * (place + 1)).await;
            cx.dependencies().woken.send_modify(|woken| *woken += 1);
        }
        Does::Fail | Does::FailStep => {
            let attempts = if matches!(does, Does::Fail) { 1 } else { 10 };
            let app = cx.dependencies();
            let step = move || talks(Arc::clone(&app));
            cx.step("talk", step).retry(RetryPolicy::new(attempts, HOUR, HOUR)).await?;
        }
    }
    Ok(1)
}

async fn talks(app: Arc<BenchApp>) -> Result<(), BenchError> {
    if app.is_down.load(Ordering::SeqCst) { Err(BenchError::Down) } else { Ok(()) }
}

/// Sleeps `n` times at once.
#[sapwood::function]
pub(super) async fn sleeps(cx: &mut Cx<BenchApp>, n: u32) -> Result<u32, BenchError> {
    let sleeps: Vec<_> = (0..n).map(|_| cx.sleep(HOUR)).collect();
    join_all(sleeps).await;
    Ok(n)
}

/// `n` steps, one after another.
#[sapwood::function]
pub(super) async fn steps_in_order(cx: &mut Cx<BenchApp>, n: u32) -> Result<u32, BenchError> {
    for _ in 0..n {
        cx.step("step", nothing).await?;
    }
    Ok(n)
}

/// `n` steps at once.
#[sapwood::function]
pub(super) async fn steps_at_once(cx: &mut Cx<BenchApp>, n: u32) -> Result<u32, BenchError> {
    let steps: Vec<_> = (0..n).map(|_| cx.step("step", nothing)).collect();
    try_join_all(steps).await?;
    Ok(n)
}

/// `n` races of a step and a sleep, one after another.
#[sapwood::function]
pub(super) async fn races(cx: &mut Cx<BenchApp>, n: u32) -> Result<u32, BenchError> {
    let mut won = 0;
    for _ in 0..n {
        let (step, sleep) = (cx.step("step", nothing), cx.sleep(HOUR));
        tokio::select! {
            result = step => won += result.map(|_| 1)?,
            () = sleep => {}
        }
    }
    Ok(won)
}

/// One event of many.
#[derive(Serialize, Deserialize, JsonSchema, Event)]
#[event(context = Bench, name = "counted", key = key)]
pub(super) struct Counted {
    /// The key.
    key: String,
}

/// Emits `n` events.
#[sapwood::function]
pub(super) async fn emits(cx: &mut Cx<BenchApp>, n: u32) -> Result<u32, BenchError> {
    for event in 0..n {
        cx.emit(Counted { key: event.to_string() });
    }
    Ok(n)
}
