//! Functions that do what their plan says, and tell the run of each side effect.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use sapwood::prelude::*;
use sapwood::{Dependencies, RetryPolicy};
use sapwood_core::failure::{CallFailureKind, PromiseErrorKind};
use sapwood_core::{BoundedContext, CallError, CallFailure, PromiseError, TreeId, WorkerId};
use sapwood_engine::{Engine, StartError};
use tokio::sync::Notify;

use super::plan::{Asked, End, How, Op, PAUSES, Plan, Rival, STEP_ATTEMPTS, Then, Work, fails_to_undo, promise_name};

/// How long an attempt of a slow step may take, which takes no time otherwise.
const SLOW: Duration = Duration::from_millis(200);

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

/// One build.
pub(super) struct Today(pub(super) App);

/// Another one, at the same time.
pub(super) struct Other(pub(super) App);

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
    /// Whether the clock was set back: then times say nothing of what came first.
    was_set_back: AtomicBool,
}

impl Outside {
    pub(super) fn new(judge: Judge, takes_time: bool) -> Self {
        Self {
            effects: Mutex::default(),
            wrong: Mutex::default(),
            alarm: Notify::new(),
            judge,
            takes_time,
            was_set_back: AtomicBool::new(false),
        }
    }

    pub(super) fn sets_back(&self) {
        self.was_set_back.store(true, Ordering::Relaxed);
    }

    pub(super) fn was_set_back(&self) -> bool {
        self.was_set_back.load(Ordering::Relaxed)
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
    /// A step took too long.
    #[error(transparent)]
    #[failure(call)]
    Late(CallFailure),
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

/// A call or a promise, and what its body says of it.
type Awaited = Pin<Box<dyn Future<Output = Result<String, Woe>> + Send>>;

/// A build: it has its own version of the function that tries once, and all others in the same.
pub(super) trait Build: Dependencies<Context = Modelling> + Sized {
    fn app(&self) -> &App;

    fn call(cx: &mut Cx<Self>, plan: &Plan) -> Awaited;

    /// Declares what undoes the next operation of what has this name.
    fn compensate(cx: &mut Cx<Self>, name: &str);

    fn start(engine: &Engine, plan: &Plan, id: Option<&str>) -> Starts;
}

/// What starting a tree comes to.
pub(super) type Starts = Pin<Box<dyn Future<Output = Result<TreeId, StartError>> + Send>>;

/// The functions of a build.
macro_rules! functions {
    ($build:ty, $tries:ident, $once:ident @ $version:tt, $pauses:ident, $undoes:ident) => {
        /// Does what its plan says; tried again.
        #[sapwood::function(name = "model_tries", retry(attempts = 3, backoff = "10ms..2s"))]
        async fn $tries(cx: &mut Cx<$build>, plan: Plan) -> Result<String, Woe> {
            perform(cx, &plan).await
        }

        /// Does what its plan says, once.
        #[sapwood::function(name = "model_tries_once", version = $version, retry(attempts = 1))]
        async fn $once(cx: &mut Cx<$build>, plan: Plan) -> Result<String, Woe> {
            perform(cx, &plan).await
        }

        /// Does what its plan says, twice; then it waits for an operator.
        #[sapwood::function(name = "model_pauses", on_exhausted = "pause", retry(attempts = 2, backoff = "10ms..2s"))]
        async fn $pauses(cx: &mut Cx<$build>, plan: Plan) -> Result<String, Woe> {
            perform(cx, &plan).await
        }

        /// Undoes what gave this; fails as often as that is marked.
        #[sapwood::function(name = "model_undoes", retry(attempts = 2, backoff = "10ms..2s"))]
        async fn $undoes(cx: &mut Cx<$build>, done: String) -> Result<(), Woe> {
            let fails = fails_to_undo(&done);
            step(cx, &Work { ms: 20, fails, how: How::Terminal, is_interruptible: false }).await.map(drop)
        }

        impl Dependencies for $build {
            type Context = Modelling;
        }

        impl Build for $build {
            fn app(&self) -> &App {
                &self.0
            }

            fn call(cx: &mut Cx<Self>, plan: &Plan) -> Awaited {
                /// The same for each function that performs a plan.
                macro_rules! call {
                    ($function:path) => {{
                        let call = $function(plan.clone());
                        let call = if plan.undo { call.undo($undoes) } else { call };
                        let call = cx.call(match plan.deadline_ms {
                            Some(ms) => call.deadline(Duration::from_millis(ms)),
                            None => call,
                        });
                        Box::pin(async move { heard(call.await) })
                    }};
                }
                match plan.attempts {
                    1 => call!($once),
                    PAUSES => call!($pauses),
                    _ => call!($tries),
                }
            }

            fn compensate(cx: &mut Cx<Self>, name: &str) {
                cx.compensate("what comes next", $undoes(name.to_owned()));
            }

            fn start(engine: &Engine, plan: &Plan, id: Option<&str>) -> Starts {
                /// The same for each function that performs a plan.
                macro_rules! start {
                    ($function:path) => {{
                        let call = $function(plan.clone());
                        let call = if let Some(id) = id { call.id(id) } else { call };
                        let call = match plan.deadline_ms {
                            Some(ms) => call.deadline(Duration::from_millis(ms)),
                            None => call,
                        };
                        let engine = engine.clone();
                        Box::pin(async move { engine.start(call).await.map(|tree| tree.id()) })
                    }};
                }
                match plan.attempts {
                    1 => start!($once),
                    PAUSES => start!($pauses),
                    _ => start!($tries),
                }
            }
        }
    };
}

functions!(Today, model_tries, model_tries_once @ 1, model_pauses, model_undoes);
functions!(Other, model_tries_too, model_tries_once_too @ 2, model_pauses_too, model_undoes_too);

async fn perform<B: Build>(cx: &mut Cx<B>, plan: &Plan) -> Result<String, Woe> {
    let (mut told, mut held) = (vec![plan.name.clone()], VecDeque::new());
    for (at, op) in plan.ops.iter().enumerate() {
        match operate(cx, plan, (at, op), &mut held).await {
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

async fn operate<B: Build>(
    cx: &mut Cx<B>,
    plan: &Plan,
    (at, op): (usize, &Op),
    held: &mut VecDeque<Awaited>,
) -> Result<String, Woe> {
    let said = |said: &str| Ok(said.to_owned());
    match op {
        Op::Step(work) => step(cx, work).await,
        Op::Steps(one, other) => {
            let (one, other) = (step(cx, one), step(cx, other));
            let (one, other) = tokio::join!(one, other);
            Ok(format!("{}&{}", one?, other?))
        }
        Op::Hurry(work, ms) => {
            let (work, sleep) = (step(cx, work), sleep(cx, *ms));
            tokio::select! { biased; done = work => done, waited = sleep => waited }
        }
        Op::Sleep(ms) => {
            cx.sleep(Duration::from_millis(*ms)).await;
            said("slept")
        }
        Op::Nap(ms) => {
            held.push_back(sleep(cx, *ms));
            said("naps")
        }
        Op::Call(plan) => B::call(cx, plan).await,
        Op::Hold(plan) => {
            held.push_back(B::call(cx, plan));
            said("held")
        }
        Op::Await => match held.pop_front() {
            Some(first) => first.await,
            None => said("nothing"),
        },
        Op::Glance(ms) => {
            let sleep = sleep(cx, *ms);
            let Some(first) = held.front_mut() else { return sleep.await };
            let heard = tokio::select! {
                biased;
                heard = first => heard,
                waited = sleep => return waited,
            };
            held.pop_front();
            heard
        }
        Op::Drop => {
            drop(held.pop_front());
            said("dropped")
        }
        Op::Race { plan, rival, is_biased } => {
            let first = B::call(cx, plan);
            let second = match rival {
                Rival::Sleep(ms) => sleep(cx, *ms),
                Rival::Call(rival) => B::call(cx, rival),
                Rival::Promise(asked) => promise(cx, at, asked),
            };
            race(first, second, *is_biased).await
        }
        Op::Join(plans) => {
            let calls: Vec<_> = plans.iter().map(|plan| B::call(cx, plan)).collect();
            let all: Result<Vec<_>, _> = join_all(calls).await.into_iter().collect();
            all.map(|all| all.join("+"))
        }
        Op::Promise(asked, then) => {
            let promise = promise(cx, at, asked);
            match then {
                Then::Awaits => promise.await,
                Then::Holds => {
                    held.push_back(promise);
                    said("held")
                }
                Then::Drops => {
                    drop(promise);
                    said("dropped")
                }
                Then::Races { ms, is_biased } => {
                    let sleep = sleep(cx, *ms);
                    race(promise, sleep, *is_biased).await
                }
            }
        }
        Op::Emit => {
            cx.emit(Modelled { name: plan.name.clone() });
            said("emitted")
        }
        Op::Draw => Ok(cx.random().to_string()),
        Op::Compensate => {
            B::compensate(cx, &plan.name);
            said("declared")
        }
    }
}

async fn race(first: Awaited, second: Awaited, is_biased: bool) -> Result<String, Woe> {
    if is_biased {
        tokio::select! { biased; first = first => first, second = second => second }
    } else {
        tokio::select! { first = first => first, second = second => second }
    }
}

fn sleep<B: Build>(cx: &mut Cx<B>, ms: u64) -> Awaited {
    let sleep = cx.sleep(Duration::from_millis(ms));
    Box::pin(async move {
        sleep.await;
        Ok("(slept first)".to_owned())
    })
}

/// The promise that the operation at this place makes.
fn promise<B: Build>(cx: &mut Cx<B>, at: usize, asked: &Asked) -> Awaited {
    let name = promise_name(at);
    let promise = match asked.until_ms {
        Some(ms) => cx.promise_until::<String>(&name, Duration::from_millis(ms)),
        None => cx.promise::<String>(&name),
    };
    Box::pin(async move { told(promise.await) })
}

/// What a body hears of a promise.
fn told(result: Result<String, PromiseError>) -> Result<String, Woe> {
    let what = match result {
        Ok(value) => return Ok(format!("<{value}>")),
        Err(error) => match error.kind {
            PromiseErrorKind::Rejected { message } => format!("<rejected {message}>"),
            PromiseErrorKind::TimedOut => "<timed out>".to_owned(),
            other => format!("<{other}>"),
        },
    };
    Err(Woe::Broken { what })
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

fn step<B: Build>(cx: &mut Cx<B>, work: &Work) -> Awaited {
    let (dependencies, key, work) = (cx.dependencies(), cx.idempotency_key(), work.clone());
    let (how, is_interruptible) = (work.how, work.is_interruptible);
    let run = move || {
        let (dependencies, key, work) = (Arc::clone(&dependencies), key.clone(), work.clone());
        async move { works(dependencies.app(), &key, &work).await }
    };
    let policy = RetryPolicy::new(STEP_ATTEMPTS, Duration::from_millis(10), Duration::from_secs(2));
    let step = cx.step("step", run).retry(policy);
    let step = if how == How::Slow { step.timeout(SLOW) } else { step };
    let step = if is_interruptible { step.interruptible() } else { step };
    // Another attempt may be faster.
    let busy = |error| if matches!(error, Woe::Late(_)) { Woe::Busy { what: "step".to_owned() } } else { error };
    Box::pin(async move { step.await.map_err(busy) })
}

async fn works(app: &App, key: &str, work: &Work) -> Result<String, Woe> {
    let count = app.outside.begins(app.worker.get().copied(), key);
    if app.outside.takes_time && work.ms > 0 {
        tokio::time::sleep(Duration::from_millis(work.ms)).await;
    }
    let what = "step".to_owned();
    match work.how {
        _ if count > work.fails => Ok("did".to_owned()),
        How::Terminal => Err(Woe::Broken { what }),
        How::Slow => std::future::pending().await,
        How::Transient => Err(Woe::Busy { what }),
        // Without a word of the hook: there are thousands.
        How::Panic => std::panic::resume_unwind(Box::new(what)),
    }
}
