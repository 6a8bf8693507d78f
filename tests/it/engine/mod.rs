//! The engine, sentence by sentence of SEMANTICS: every case on both databases and in memory, with bodies cached and
//! with bodies evicted whenever they wait.

mod boundaries;
mod call_errors;
mod cancellation;
mod claims;
mod compensation;
mod completions;
mod concurrency;
mod deadlines;
mod drains;
mod endings;
mod external;
mod foreign;
mod grants;
mod guards;
mod promises;
mod quarantine;
mod recording;
mod replay;
mod resuming;
mod retrying;
mod seeded;
mod suspension;
mod time;
mod transactions;
mod tree;
mod turns;
mod unreadable;
mod versions;
mod violations;

use std::time::Duration;

use sapwood::prelude::*;
use sapwood_tests::probe::{Probe, Probing};

const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

/// Why a function under test fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub(crate) enum Trouble {
    /// Trying again does not help.
    #[error("{what} is broken")]
    Broken {
        /// What is.
        what: String,
    },
    /// Trying again may help.
    #[error("{what} is busy")]
    #[retry]
    Busy {
        /// What is.
        what: String,
    },
    /// A call ended without an error of its own.
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

impl Trouble {
    fn broken(what: &str) -> Self {
        Self::Broken { what: what.to_owned() }
    }

    fn busy(what: &str) -> Self {
        Self::Busy { what: what.to_owned() }
    }
}

/// What functions under test emit.
#[derive(Debug, Clone, PartialEq, Eq, Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Probing, name = "probed", key = key)]
pub(crate) struct Probed {
    /// The key.
    pub(crate) key: String,
}

/// One attempt and no other.
fn once() -> RetryPolicy {
    quick(1)
}

/// So many attempts, one right after the other.
fn quick(attempts: u32) -> RetryPolicy {
    let moment = Duration::from_millis(1);
    RetryPolicy::new(attempts, moment, moment)
}

/// Sleeps, and marks that it woke.
#[sapwood::function]
async fn dozes(cx: &mut Cx<Probe>, name: String, hours: u32) -> Result<(), Trouble> {
    cx.sleep(HOUR * hours).await;
    cx.dependencies().mark(format!("{name} wakes"));
    Ok(())
}

/// A leaf of a tree that waits at the gate of this name and number.
#[sapwood::function]
async fn leaf(cx: &mut Cx<Probe>, name: String, n: u32) -> Result<u32, Trouble> {
    let app = cx.dependencies();
    let gate = format!("{name} {n}");
    let step = async || {
        app.comes_to(&gate).await;
        Ok::<_, Trouble>(n)
    };
    cx.step("work", step).await
}

/// Does it once more, and tells how often it was done.
fn one(app: &Probe, what: &str) -> Result<usize, Trouble> {
    app.mark(what);
    Ok(app.count(what))
}
