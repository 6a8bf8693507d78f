//! The workloads: functions whose steps only return 100 bytes, so that the platform is what is measured.

use std::sync::atomic::AtomicBool;

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
}

/// Why a function fails.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub(crate) enum BenchError {
    /// The outside does not answer.
    #[error("the outside is down")]
    #[retry]
    Down,
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

/// Two steps in sequence.
#[sapwood::function]
pub(crate) async fn two_steps(cx: &mut Cx<BenchApp>) -> Result<String, BenchError> {
    cx.step("one", nothing).await?;
    cx.step("two", nothing).await
}
