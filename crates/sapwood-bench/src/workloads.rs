//! The workloads: functions whose steps only return 100 bytes, so that the platform is what is measured.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sapwood::prelude::*;
use tokio::sync::watch;

/// The bench context.
#[derive(BoundedContext)]
#[context(name = "bench")]
pub(crate) struct Bench;

/// What the functions need.
#[derive(Default, Dependencies)]
#[dependencies(of = Bench)]
pub(crate) struct BenchApp {
    /// While it is set, what talks to the outside fails.
    pub(crate) is_down: AtomicBool,
    /// How many sleepers have woken.
    pub(crate) woken: watch::Sender<u32>,
    /// Which functions went on after they were suspended, and when.
    awake: Mutex<HashMap<u32, Instant>>,
}

impl BenchApp {
    /// Nobody is awake.
    pub(crate) fn forget_awake(&self) {
        self.awake.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.woken.send_replace(0);
    }

    /// Which functions are awake and since when, once they are so many.
    pub(crate) async fn all_awake(&self, many: usize) -> HashMap<u32, Instant> {
        // This value holds the sender.
        let _ = self.woken.subscribe().wait_for(|woken| *woken as usize >= many).await;
        self.awake.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_awake(&self, number: u32) {
        // A body may run again before its end is durable.
        let mut awake = self.awake.lock().unwrap_or_else(PoisonError::into_inner);
        awake.entry(number).or_insert_with(Instant::now);
        let many = u32::try_from(awake.len()).unwrap_or(u32::MAX);
        drop(awake);
        self.woken.send_modify(|woken| *woken = many.max(*woken));
    }
}

/// Why a function fails.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub(crate) enum BenchError {
    /// The outside does not answer.
    #[error("the outside is down")]
    #[retry]
    Down,
    /// It fails on purpose.
    #[error("it fails on purpose")]
    OnPurpose,
    /// A promise was not resolved.
    #[error("nobody says when to go on")]
    NotTold,
    /// A child's failure.
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

/// Bytes of a result, quotes included: about the size of a small record.
pub(crate) const RESULT_BYTES: usize = 100;

pub(crate) async fn nothing() -> Result<String, BenchError> {
    Ok("x".repeat(RESULT_BYTES - 2))
}

/// Three steps in sequence.
#[sapwood::function]
pub(crate) async fn seq3(cx: &mut Cx<BenchApp>) -> Result<String, BenchError> {
    cx.step("one", nothing).await?;
    cx.step("two", nothing).await?;
    cx.step("three", nothing).await
}

/// A root with four children of two steps.
#[sapwood::function]
pub(crate) async fn tree4x2(cx: &mut Cx<BenchApp>) -> Result<usize, BenchError> {
    let mut children = Vec::new();
    for _ in 0..4 {
        children.push(cx.call(two_steps()));
    }
    let results = futures::future::try_join_all(children).await?;
    Ok(results.len())
}

/// A call whose step ends, and then an error.
#[sapwood::function]
pub(crate) async fn fails(cx: &mut Cx<BenchApp>) -> Result<(), BenchError> {
    cx.call(one_step()).await?;
    Err(BenchError::OnPurpose)
}

/// The same, and the call is undone.
#[sapwood::function]
pub(crate) async fn undone(cx: &mut Cx<BenchApp>) -> Result<(), BenchError> {
    cx.call(one_step().undo(undo_step)).await?;
    Err(BenchError::OnPurpose)
}

/// One step.
#[sapwood::function]
pub(crate) async fn one_step(cx: &mut Cx<BenchApp>) -> Result<String, BenchError> {
    cx.step("one", nothing).await
}

/// Undoes one step with another.
#[sapwood::function]
pub(crate) async fn undo_step(cx: &mut Cx<BenchApp>, done: String) -> Result<String, BenchError> {
    debug_assert_eq!(done.len(), RESULT_BYTES - 2, "it is given what was done");
    cx.step("undo", nothing).await
}

/// Waits for a child that takes for ever, as long as it may.
#[sapwood::function]
pub(crate) async fn times_out(cx: &mut Cx<BenchApp>, millis: u64) -> Result<(), BenchError> {
    // It ends by its deadline, which is what is measured.
    let _ = cx.call(sleeps_a_day().deadline(Duration::from_millis(millis))).await;
    Ok(())
}

/// Sleeps for a day.
#[sapwood::function]
pub(crate) async fn sleeps_a_day(cx: &mut Cx<BenchApp>) -> Result<(), BenchError> {
    cx.sleep(Duration::from_secs(86_400)).await;
    Ok(())
}

/// Waits for a child that takes a moment.
#[sapwood::function]
pub(crate) async fn dozes(cx: &mut Cx<BenchApp>, millis: u64) -> Result<(), BenchError> {
    Ok(cx.call(dozes_off(millis)).await?)
}

/// Sleeps for a moment.
#[sapwood::function]
pub(crate) async fn dozes_off(cx: &mut Cx<BenchApp>, millis: u64) -> Result<(), BenchError> {
    cx.sleep(Duration::from_millis(millis)).await;
    Ok(())
}

/// The promise of a function that waits for one.
pub(crate) const GO: &str = "go";

/// Waits for a promise.
#[sapwood::function]
pub(crate) async fn awaits_go(cx: &mut Cx<BenchApp>, number: u32) -> Result<(), BenchError> {
    cx.promise::<bool>(GO).await.map_err(|_| BenchError::NotTold)?;
    cx.dependencies().is_awake(number);
    Ok(())
}

/// Sleeps until a time.
#[sapwood::function]
pub(crate) async fn sleeps_until(cx: &mut Cx<BenchApp>, number: u32, until_ms: i64) -> Result<(), BenchError> {
    let left = until_ms - cx.now().as_millisecond();
    cx.sleep(Duration::from_millis(left.unsigned_abs())).await;
    cx.dependencies().is_awake(number);
    Ok(())
}

/// Two steps in sequence.
#[sapwood::function]
pub(crate) async fn two_steps(cx: &mut Cx<BenchApp>) -> Result<String, BenchError> {
    cx.step("one", nothing).await?;
    cx.step("two", nothing).await
}
