//! The app of the fleet test: functions that do what their plans say and note each effect outside of the database.
//!
//! `FLEET_EFFECTS` names the directory of the effects; all else is set as for any app.

use std::time::Duration;

use futures::future::try_join_all;
use sapwood::prelude::*;
use sapwood::{Deadline, PromiseErrorKind};
use sapwood_tests::fleet::{ALWAYS, ANSWER, ENTER, ENTRIES, Effect, Effects, Plan, STEP_ATTEMPTS, Task};
use sqlx::AssertSqlSafe;

/// The fleet context.
#[derive(BoundedContext)]
#[context(name = "fleet")]
pub struct Fleet;

/// What its functions need.
#[derive(Dependencies)]
#[dependencies(of = Fleet, database = sapwood::Postgres)]
pub struct FleetDependencies {
    effects: Effects,
}

/// A tree came to the end of its plan.
#[derive(Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Fleet, name = "performed", version = 1, key = number)]
pub struct Performed {
    number: String,
}

/// Why a function of the fleet fails.
#[derive(Debug, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub enum Woe {
    /// As planned.
    #[error("it fails as planned")]
    Planned,
    /// The step is to be tried again.
    #[error("it is busy")]
    #[retry]
    Busy,
    /// The effects cannot be noted.
    #[error("no effect can be noted: {what}")]
    Outside {
        /// Why.
        what: String,
    },
    /// Who was asked refused.
    #[error("refused")]
    Refused,
    /// A call ended otherwise.
    #[error(transparent)]
    #[failure(call)]
    Call(CallFailure),
}

impl From<sqlx::Error> for Woe {
    fn from(error: sqlx::Error) -> Self {
        Self::Outside { what: error.to_string() }
    }
}

/// Does what its plan says, and tells it.
#[sapwood::function(retry(attempts = 1))]
pub async fn fleet_performs(cx: &mut Cx<FleetDependencies>, plan: Plan) -> Result<String, Woe> {
    let said = perform(cx, plan.task).await?;
    cx.emit(Performed { number: plan.number.to_string() });
    Ok(said.to_owned())
}

/// One step, which succeeds.
#[sapwood::function(retry(attempts = 1))]
pub async fn fleet_takes_part(cx: &mut Cx<FleetDependencies>, ms: u64) -> Result<Effect, Woe> {
    act(cx, ms, 0).await
}

/// Undoes a part.
#[sapwood::function(retry(attempts = 1))]
pub async fn fleet_undoes_part(cx: &mut Cx<FleetDependencies>, done: Effect) -> Result<(), Woe> {
    // What is undone was done.
    if done.key.is_empty() { Err(Woe::Planned) } else { act(cx, 5, 0).await.map(drop) }
}

/// Sleeps, and then has one step.
#[sapwood::function(retry(attempts = 1))]
pub async fn fleet_naps(cx: &mut Cx<FleetDependencies>, ms: u64) -> Result<Effect, Woe> {
    cx.sleep(Duration::from_millis(ms)).await;
    act(cx, 5, 0).await
}

/// Notes that a tree came to the end of its plan.
#[sapwood::consumer(group = "notes")]
pub async fn fleet_notes(
    cx: &mut ConsumerCx<FleetDependencies>,
    _event: Delivered<Performed>,
) -> Result<(), sapwood::Error> {
    let (app, key) = (cx.dependencies(), cx.idempotency_key());
    cx.step("note", async || app.effects.note(&key).map(|(effect, _)| effect).map_err(sapwood::Error::from)).await?;
    Ok(())
}

async fn perform(cx: &mut Cx<FleetDependencies>, task: Task) -> Result<&'static str, Woe> {
    match task {
        Task::Works { steps, ms, fails } => {
            for step in 0..steps {
                act(cx, ms, if step == 0 { fails } else { 0 }).await?;
            }
            Ok("worked")
        }
        Task::Fans { calls, ms } => {
            let calls: Vec<_> = (0..calls).map(|_| cx.call(fleet_takes_part(ms))).collect();
            try_join_all(calls).await?;
            Ok("fanned")
        }
        Task::Naps { ms } => {
            cx.sleep(Duration::from_millis(ms)).await;
            act(cx, 5, 0).await?;
            Ok("napped")
        }
        Task::Orders { calls, ms, fails } => {
            for _ in 0..calls {
                cx.call(fleet_takes_part(ms).undo(fleet_undoes_part)).await?;
            }
            if fails { Err(Woe::Planned) } else { Ok("ordered") }
        }
        Task::Hurries { nap_ms, deadline_ms } => {
            let nap = fleet_naps(nap_ms).deadline(Duration::from_millis(deadline_ms));
            Ok(if cx.call(nap).await.is_ok() { "in time" } else { "late" })
        }
        Task::Enters { entries, ms } => {
            for _ in 0..entries {
                enter(cx, ms).await?;
            }
            Ok("entered")
        }
        Task::Asks { deadline_ms } => ask(cx, deadline_ms).await,
    }
}

async fn ask(cx: &mut Cx<FleetDependencies>, deadline_ms: Option<u64>) -> Result<&'static str, Woe> {
    let answer = match deadline_ms {
        Some(ms) => cx.promise_until::<String>(ANSWER, Deadline::from(Duration::from_millis(ms))),
        None => cx.promise::<String>(ANSWER),
    };
    match answer.await.map_err(|error| error.kind) {
        Ok(_) => Ok("answered"),
        Err(PromiseErrorKind::TimedOut) => Ok("unanswered"),
        Err(_) => Err(Woe::Refused),
    }
}

async fn enter(cx: &mut Cx<FleetDependencies>, ms: u64) -> Result<Effect, Woe> {
    let (app, key) = (cx.dependencies(), cx.idempotency_key());
    let entered = cx.transaction(ENTER, async |mut tx| {
        let (effect, _) = app.effects.note(&key).map_err(|error| Woe::Outside { what: error.to_string() })?;
        let insert = sqlx::query(AssertSqlSafe(format!("insert into {ENTRIES} (step) values ($1)"))).bind(&key);
        insert.execute(&mut *tx).await?;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(effect)
    });
    entered.await
}

async fn act(cx: &mut Cx<FleetDependencies>, ms: u64, fails: u32) -> Result<Effect, Woe> {
    let (app, key) = (cx.dependencies(), cx.idempotency_key());
    let run = async || {
        let (effect, count) = app.effects.note(&key).map_err(|error| Woe::Outside { what: error.to_string() })?;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let fails = fails == ALWAYS || count <= fails as usize;
        if fails { Err(Woe::Busy) } else { Ok(effect) }
    };
    let policy = RetryPolicy::new(STEP_ATTEMPTS, Duration::from_millis(20), Duration::from_millis(500));
    cx.step("act", run).retry(policy).await
}

#[tokio::main]
async fn main() -> sapwood::Result<()> {
    let directory = std::env::var_os("FLEET_EFFECTS").expect("FLEET_EFFECTS names a directory");
    App::new().context(FleetDependencies { effects: Effects::in_directory(directory) }).run().await
}
