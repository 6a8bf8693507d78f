//! Functions that do what their plan says, and tell the run of each side effect.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use sapwood::prelude::*;
use sapwood::{Dependencies, RetryPolicy};
use sapwood_core::failure::CallFailureKind;
use sapwood_core::{BoundedContext, CallError, WorkerId};
use tokio::sync::Notify;

use super::plan::{ALWAYS, End, How, Op, Plan, Rival, STEP_ATTEMPTS, Work};

/// The context of the functions of runs.
pub(super) struct Modelling;

impl BoundedContext for Modelling {
    const NAME: &'static str = "modelling";
}

/// What one worker of a run gives its functions.
pub(super) struct App {
    pub(super) outside: Arc<Outside>,
    /// Who it is, once that is known.
    pub(super) worker: OnceLock<WorkerId>,
}

impl Dependencies for App {
    type Context = Modelling;
}

/// Judges a side effect as it begins: the worker that begins it, and its idempotency key.
pub(super) type Judge = Box<dyn Fn(WorkerId, &str) -> Result<(), String> + Send + Sync>;

/// The world outside of the trees, which no crash touches.
pub(super) struct Outside {
    /// How often each side effect began, by its key.
    effects: Mutex<BTreeMap<String, u32>>,
    /// What was found wrong.
    wrong: Mutex<Vec<String>>,
    alarm: Notify,
    judge: Judge,
    /// Whether steps take their time.
    takes_time: bool,
}

impl Outside {
    pub(super) fn new(judge: Judge, takes_time: bool) -> Self {
        Self { effects: Mutex::default(), wrong: Mutex::default(), alarm: Notify::new(), judge, takes_time }
    }

    /// How often a side effect began.
    pub(super) fn count(&self, key: &str) -> u32 {
        self.effects.lock().get(key).copied().unwrap_or(0)
    }

    pub(super) fn is_wrong(&self, what: String) {
        self.wrong.lock().push(what);
        self.alarm.notify_one();
    }

    /// Waits until something is wrong.
    pub(super) async fn alarmed(&self) {
        self.alarm.notified().await;
    }

    /// What was found wrong first.
    pub(super) fn first_wrong(&self) -> Option<String> {
        self.wrong.lock().first().cloned()
    }

    fn begins(&self, worker: Option<WorkerId>, key: &str) -> u32 {
        if let Some(Err(wrong)) = worker.map(|worker| (self.judge)(worker, key)) {
            self.is_wrong(format!("side effect {key}: {wrong}"));
        }
        let mut effects = self.effects.lock();
        let count = effects.entry(key.to_owned()).or_insert(0);
        *count += 1;
        *count
    }
}

/// Why a function of a run fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize, JsonSchema, Failure)]
pub(super) enum Woe {
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
}

/// What functions of a run emit.
#[derive(Debug, Clone, PartialEq, Eq, Event, Serialize, Deserialize, JsonSchema)]
#[event(context = Modelling, name = "modelled", key = name)]
pub(super) struct Modelled {
    /// Who emits it.
    pub(super) name: String,
}

type Awaited<'a> = Pin<Box<dyn Future<Output = Result<String, CallError<Woe>>> + Send + 'a>>;

/// Does what its plan says; tried again.
#[sapwood::function(retry(attempts = 3, backoff = "10ms..2s"))]
pub(super) async fn model_tries(cx: &mut Cx<App>, plan: Plan) -> Result<String, Woe> {
    perform(cx, &plan).await
}

/// Does what its plan says, once.
#[sapwood::function(retry(attempts = 1))]
pub(super) async fn model_tries_once(cx: &mut Cx<App>, plan: Plan) -> Result<String, Woe> {
    perform(cx, &plan).await
}

/// Undoes what gave this; fails if that is marked.
#[sapwood::function(retry(attempts = 2, backoff = "10ms..2s"))]
pub(super) async fn model_undoes(cx: &mut Cx<App>, done: String) -> Result<(), Woe> {
    let fails = if done.starts_with('!') { ALWAYS } else { 0 };
    step(cx, &Work { ms: 20, fails, how: How::Terminal, is_interruptible: false }).await.map(drop)
}

async fn perform(cx: &mut Cx<App>, plan: &Plan) -> Result<String, Woe> {
    let (mut told, mut held) = (vec![plan.name.clone()], VecDeque::new());
    for op in &plan.ops {
        match operate(cx, plan, op, &mut held).await {
            Ok(said) => told.push(said),
            Err(error) if plan.catches => told.push(format!("caught {error}")),
            Err(error) => return Err(error),
        }
    }
    let what = plan.name.clone();
    match plan.end {
        End::Returns => Ok(told.join(",")),
        End::Fails => Err(Woe::Broken { what }),
        End::Busy => Err(Woe::Busy { what }),
    }
}

async fn operate(cx: &mut Cx<App>, plan: &Plan, op: &Op, held: &mut VecDeque<Awaited<'static>>) -> Result<String, Woe> {
    let said = |said: &str| Ok(said.to_owned());
    match op {
        Op::Step(work) => step(cx, work).await,
        Op::Sleep(ms) => {
            cx.sleep(Duration::from_millis(*ms)).await;
            said("slept")
        }
        Op::Call(plan) => heard(call(cx, plan).await),
        Op::Hold(plan) => {
            held.push_back(call(cx, plan));
            said("held")
        }
        Op::Await => match held.pop_front() {
            Some(first) => heard(first.await),
            None => said("nothing"),
        },
        Op::Drop => {
            drop(held.pop_front());
            said("dropped")
        }
        Op::Race { plan, rival, is_biased } => race(cx, plan, rival, *is_biased).await,
        Op::Join(plans) => {
            let calls: Vec<_> = plans.iter().map(|plan| call(cx, plan)).collect();
            let all: Result<Vec<_>, _> = join_all(calls).await.into_iter().map(heard).collect();
            all.map(|all| all.join("+"))
        }
        Op::Emit => {
            cx.emit(Modelled { name: plan.name.clone() });
            said("emitted")
        }
        Op::Draw => Ok(cx.random().to_string()),
        Op::Compensate => {
            cx.compensate("what comes next", model_undoes(plan.name.clone()));
            said("declared")
        }
    }
}

async fn race(cx: &mut Cx<App>, plan: &Plan, rival: &Rival, is_biased: bool) -> Result<String, Woe> {
    let first = call(cx, plan);
    let second: Awaited<'static> = match rival {
        Rival::Sleep(ms) => {
            let sleep = cx.sleep(Duration::from_millis(*ms));
            Box::pin(async move {
                sleep.await;
                Ok("slept first".to_owned())
            })
        }
        Rival::Call(rival) => call(cx, rival),
    };
    let won = if is_biased {
        tokio::select! { biased; first = first => first, second = second => second }
    } else {
        tokio::select! { first = first => first, second = second => second }
    };
    heard(won)
}

fn call(cx: &mut Cx<App>, plan: &Plan) -> Awaited<'static> {
    /// The same for each function that performs a plan.
    macro_rules! call {
        ($function:path) => {{
            let call = $function(plan.clone());
            let call = if plan.undo { call.undo(model_undoes) } else { call };
            Box::pin(cx.call(match plan.deadline_ms {
                Some(ms) => call.deadline(Duration::from_millis(ms)),
                None => call,
            }))
        }};
    }
    if plan.attempts == 1 { call!(model_tries_once) } else { call!(model_tries) }
}

/// What a caller hears of a call.
fn heard(result: Result<String, CallError<Woe>>) -> Result<String, Woe> {
    let broken = |what: String| Err(Woe::Broken { what });
    match result {
        Ok(told) => Ok(format!("({told})")),
        Err(CallError::Failed { error, .. } | CallError::Exhausted { error, .. }) => broken(format!("({error})")),
        Err(CallError::Ended(failure)) => match failure.kind {
            CallFailureKind::Cancelled => broken("(cancelled)".to_owned()),
            CallFailureKind::TimedOut => broken("(timed out)".to_owned()),
            other => broken(other.to_string()),
        },
    }
}

async fn step(cx: &mut Cx<App>, work: &Work) -> Result<String, Woe> {
    let (app, key) = (cx.dependencies(), cx.idempotency_key());
    let run = async || {
        let count = app.outside.begins(app.worker.get().copied(), &key);
        if app.outside.takes_time && work.ms > 0 {
            tokio::time::sleep(Duration::from_millis(work.ms)).await;
        }
        let what = "step".to_owned();
        match work.how {
            _ if count > work.fails => Ok("did".to_owned()),
            How::Terminal => Err(Woe::Broken { what }),
            How::Transient => Err(Woe::Busy { what }),
            // Without a word of the hook: there are thousands.
            How::Panic => std::panic::resume_unwind(Box::new(what)),
        }
    };
    let policy = RetryPolicy::new(STEP_ATTEMPTS, Duration::from_millis(10), Duration::from_secs(2));
    let step = cx.step("step", run).retry(policy);
    if work.is_interruptible { step.interruptible().await } else { step.await }
}
