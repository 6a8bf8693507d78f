//! One run of a seed: a few trees on a store in memory, workers that die, and what else is injected; then an end in peace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use sapwood_core::clock::Clock;
use sapwood_core::control::{ControlRequest, ControlVerb};
use sapwood_core::journal::EntryKind;
use sapwood_core::store::{Membership as _, Store, StoreErrorKind};
use sapwood_core::tree::{Closing, InvocationRow, PromiseState, TreeRecord, TreeState};
use sapwood_core::{Path, PromiseId, TreeId, WorkerId};
use sapwood_engine::{CachePolicy, Effect, Engine, EngineOptions, Environment};
use sapwood_memory::MemoryStore;
use sapwood_tests::changes::Changes;
use sapwood_tests::environment::SeededEnvironment;
use sapwood_tests::faults::{Fault, StoreFaults};
use sapwood_tests::front::{telling, with_faults};
use sapwood_tests::store::outbox;
use tokio::time::{Instant, sleep, timeout};

use super::always_true::{always_true, goes_on};
use super::bodies::{App, Build as _, Other, Outside, Today};
use super::chance::Chance;
use super::oracle::{self, Known};
use super::plan::Plan;
use super::promises::{Answer, Outcome, Promises, made};
use super::requests::Requests;

/// How long a worker is believed alive: long enough for few renewals, short enough for quick takeovers.
const LEASE: Duration = Duration::from_secs(10);

/// Until when all is closed that is not disturbed: longer than everything that plans sleep, and a grace besides.
const PEACE: Duration = Duration::from_secs(3 * 3_600);

/// How long a commit is held at least, or waited for that is to be held.
const HELD: Duration = Duration::from_secs(5);

/// More commits and claims than any tree of a run takes.
const BUSY: u64 = 2_000;

/// What a run had.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Ran {
    pub(super) trees: usize,
    pub(super) invocations: usize,
    pub(super) commits: u64,
    /// Promises that were settled.
    pub(super) settled: usize,
    /// Requests that were accepted.
    pub(super) requests: usize,
}

impl std::ops::AddAssign for Ran {
    fn add_assign(&mut self, other: Self) {
        self.trees += other.trees;
        self.invocations += other.invocations;
        self.commits += other.commits;
        self.settled += other.settled;
        self.requests += other.requests;
    }
}

/// The store's time: that of a runtime whose clock stands still while there is something to do, and what it was set ahead.
struct StoreTime {
    begun: Instant,
    ahead_ms: AtomicI64,
}

impl Clock for StoreTime {
    fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.ahead_ms.load(Ordering::Relaxed));
        Timestamp::constant(1_800_000_000, 0) + self.begun.elapsed() + ahead
    }
}

/// A worker of the run.
struct Worker {
    engine: Engine,
    /// Whether it has the other build.
    is_other: bool,
    faults: Arc<StoreFaults>,
}

struct World {
    chance: Chance,
    time: Arc<StoreTime>,
    store: MemoryStore,
    changes: Changes,
    outside: Arc<Outside>,
    promises: Promises,
    requests: Requests,
    /// How many builds there are at once.
    builds: u64,
    workers: Vec<Worker>,
    /// What was injected, in words.
    injected: Vec<String>,
    is_disturbed: bool,
    /// Whether a commit was to be refused for good: only then may a tree be parked for that.
    refuses: bool,
}

/// Runs a seed on a runtime of its own.
///
/// # Errors
/// What was wrong, with the plans and all that was injected.
pub(super) fn run(seed: u64) -> Result<Ran, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut chance = Chance::of(seed);
        // Small plans come first, and every third run is not disturbed.
        let size = 1 + usize::try_from(seed % 12).expect("small");
        let plans: Vec<Plan> = (0..1 + chance.index(3)).map(|_| Plan::draw(&mut chance, size)).collect();
        let mut world = World::new(chance);
        let outside = Arc::clone(&world.outside);
        let ran = tokio::select! {
            biased;
            () = outside.alarmed() => Err(outside.first_wrong().unwrap_or_default()),
            ran = world.run(&plans, !seed.is_multiple_of(3)) => ran,
        };
        let told = ran.map_err(|wrong| report(seed, &wrong, &plans, &world));
        world.end().await;
        told
    })
}

fn report(seed: u64, wrong: &str, plans: &[Plan], world: &World) -> String {
    let mut told = format!("{wrong}\n\nseed {seed}; alone: SAPWOOD_TEST_MODEL_SEED={seed} ./test model::\n");
    for plan in plans {
        let _ = write!(told, "\nplan {}\n", serde_json::to_string(plan).expect("a plan is JSON"));
    }
    for injected in &world.injected {
        let _ = write!(told, "\n{injected}");
    }
    for tree in world.store.inspect(|_| true).unwrap_or_default() {
        let _ = write!(told, "\n\ntree {} {:?}", tree.row.id, tree.row);
        for row in &tree.invocations {
            let it = &row.invocation;
            let _ =
                write!(told, "\n  {} {} {:?} {} {:?}", it.path, it.function, it.state, row.created_at, row.settled_at);
        }
        for (path, at, entry) in &tree.entries {
            let _ = write!(told, "\n  {path} {at} {entry:?}");
        }
        for timer in &tree.timers {
            let _ = write!(told, "\n  {timer:?}");
        }
        for request in &tree.requests {
            let _ = write!(told, "\n  {request:?}");
        }
        for settled in &tree.settled {
            let _ = write!(told, "\n  {settled:?}");
        }
    }
    told
}

impl World {
    fn new(mut chance: Chance) -> Self {
        let builds = chance.weighted(&[(4, 1), (1, 2)]);
        let time = Arc::new(StoreTime { begun: Instant::now(), ahead_ms: AtomicI64::new(0) });
        let store = MemoryStore::new(Arc::clone(&time) as Arc<dyn Clock>);
        let changes = Changes::default();
        let judged = store.clone();
        let judge = move |worker, key: &str| may_begin(&judged, worker, key);
        let outside = Arc::new(Outside::new(Box::new(judge), true));
        watch(&changes, &store, &outside);
        let (promises, requests) = (Promises::default(), Requests::default());
        let (workers, injected, is_disturbed, refuses) = (Vec::new(), Vec::new(), false, false);
        Self {
            chance,
            time,
            store,
            changes,
            outside,
            promises,
            requests,
            builds,
            workers,
            injected,
            is_disturbed,
            refuses,
        }
    }

    async fn run(&mut self, plans: &[Plan], disturbs: bool) -> Result<Ran, String> {
        for _ in 0..1 + self.chance.below(2) {
            self.launch().await;
        }
        for (number, plan) in plans.iter().enumerate() {
            if disturbs && self.chance.percent(50) {
                self.disturb().await?;
            }
            self.start(plan, number).await?;
        }
        for _ in 0..if disturbs { 1 + self.chance.below(8) } else { 0 } {
            let pause = self.chance.weighted(&[(3, 0), (3, 50), (4, 1_500), (2, 12_000)]);
            let pause = Duration::from_millis(self.chance.below(pause + 1));
            sleep(pause).await;
            self.disturb().await?;
            self.sound()?;
        }
        self.comes_to_rest().await?;
        self.judge(plans).await
    }

    /// A worker of one of the builds that there are.
    async fn launch(&mut self) {
        let is_other = self.builds == 2 && self.chance.percent(50);
        self.launch_build(is_other).await;
    }

    async fn launch_build(&mut self, is_other: bool) {
        let (store, faults) = with_faults(telling(Arc::new(self.store.clone()), &self.changes));
        let app = App { outside: Arc::clone(&self.outside), worker: OnceLock::new() };
        let clock = Arc::clone(&self.time) as Arc<dyn Clock>;
        let environment: Arc<dyn Environment> = Arc::new(SeededEnvironment::new(self.chance.next(), clock));
        let cache = self.chance.weighted(&[
            (4, CachePolicy::Bytes(1 << 30)),
            (4, CachePolicy::Evict),
            (1, CachePolicy::Bytes(0)),
        ]);
        let concurrency = self.chance.weighted(&[(1, 1), (1, 2), (3, 10_000)]);
        let heartbeat = Duration::from_secs(2);
        let options =
            EngineOptions { cache, concurrency, heartbeat, lease: LEASE, environment, ..EngineOptions::default() };
        let engine = if is_other {
            let other = Arc::new(Other(app));
            let engine = Engine::launch(Arc::clone(&other), store, options).await;
            engine.inspect(|engine| _ = other.app().worker.set(engine.worker()))
        } else {
            let today = Arc::new(Today(app));
            let engine = Engine::launch(Arc::clone(&today), store, options).await;
            engine.inspect(|engine| _ = today.app().worker.set(engine.worker()))
        };
        let engine = engine.expect("the engine launches");
        faults.kills(&engine);
        let build = if is_other { "other" } else { "today's" };
        self.says(format!("worker {:?} launches: {build} build, {cache:?}, {concurrency} at once", engine.worker()));
        self.workers.push(Worker { engine, is_other, faults });
    }

    /// V1: a tree may need the version of any build.
    async fn has_each_build(&mut self) {
        for is_other in [false, true] {
            let is_there = self.workers.iter().any(|worker| worker.is_other == is_other);
            if self.builds == 2 && !is_there {
                self.launch_build(is_other).await;
            }
        }
    }

    fn says(&mut self, what: String) {
        let at = self.time.now();
        self.injected.push(format!("{at} {what}"));
    }

    /// A worker that lives; another one is launched if none does.
    async fn alive(&mut self) -> usize {
        self.workers.retain(|worker| worker.engine.stopped().now_or_never().is_none());
        if self.workers.is_empty() {
            self.launch().await;
        }
        self.chance.index(self.workers.len())
    }

    /// P5: as often as it takes, with an id or without.
    async fn start(&mut self, plan: &Plan, number: usize) -> Result<(), String> {
        let id = self.chance.percent(50).then(|| format!("plan-{number}"));
        for _ in 0..20 {
            let alive = self.alive().await;
            let Worker { engine, is_other, .. } = &self.workers[alive];
            let start = if *is_other { Other::start } else { Today::start };
            let mut begun = start(engine, plan, id.as_deref());
            let begun = match timeout(HELD, &mut begun).await {
                Ok(begun) => Ok(begun),
                Err(_) => {
                    self.let_go();
                    timeout(PEACE, begun).await
                }
            };
            match begun.map_err(|_| "a start was never answered".to_owned())? {
                Ok(tree) => {
                    self.says(format!("{tree} starts"));
                    return Ok(());
                }
                Err(error) => self.says(format!("a start failed: {error}")),
            }
        }
        Err("no worker starts the tree".to_owned())
    }

    async fn disturb(&mut self) -> Result<(), String> {
        let at = self.alive().await;
        let Worker { engine, faults, .. } = &self.workers[at];
        let (engine, faults) = (engine.clone(), Arc::clone(faults));
        let worker = engine.worker();
        match self.chance.below(17) {
            0 => {
                self.is_disturbed = true;
                self.says(format!("worker {worker:?} is killed"));
                engine.kill();
                self.launch().await;
            }
            1 => {
                self.says(format!("worker {worker:?} drains"));
                self.launch().await;
                tokio::spawn(async move { engine.drain_within(Duration::from_secs(1)).await });
                // What is not over by then runs again.
                self.is_disturbed = true;
            }
            2..=4 => {
                let fault = self.chance.weighted(&[
                    (3, Fault::LostBefore),
                    (3, Fault::LostAfter),
                    (3, Fault::DiesBefore),
                    (3, Fault::DiesAfter),
                    (2, Fault::Held),
                    (1, Fault::Refused),
                ]);
                let commit = faults.commits() + 1 + self.chance.index(6);
                // A commit whose outcome is unknown, or that takes its time, makes nobody do anything again (C5).
                self.is_disturbed |= !matches!(fault, Fault::LostBefore | Fault::LostAfter | Fault::Held);
                self.refuses |= fault == Fault::Refused;
                self.says(format!("commit {commit} of worker {worker:?}: {fault:?}"));
                faults.plan(commit, fault);
            }
            5 => {
                self.says(format!("worker {worker:?} loses its next claim"));
                faults.lose_claim();
            }
            6 => {
                let ms = self.chance.weighted(&[(2, 100), (2, 5_000), (1, 60_000)]);
                self.says(format!("the store's clock jumps by {ms} ms"));
                self.time.ahead_ms.fetch_add(ms, Ordering::Relaxed);
            }
            7 => self.read(&engine).await?,
            8 => {
                self.says(format!("the next commit of worker {worker:?} is held"));
                faults.hold_all();
                let held = faults.holds() + 1;
                let _ = timeout(HELD, faults.held(held)).await;
                if self.chance.percent(80) {
                    self.settle(&engine).await?
                } else {
                    self.govern(&engine).await?
                }
                faults.let_go();
            }
            9..12 => self.settle(&engine).await?,
            12 => {
                let loses = self.chance.percent(70);
                self.says(format!("the hints of worker {worker:?} are lost: {loses}"));
                faults.lose_hints(loses);
            }
            13 => self.stall(&engine, &faults).await?,
            14 => {
                let ms = self.chance.weighted(&[(2, 100), (2, 5_000), (1, 60_000)]);
                self.says(format!("the store's clock is set back by {ms} ms"));
                self.outside.sets_back();
                self.time.ahead_ms.fetch_sub(ms, Ordering::Relaxed);
            }
            _ => self.govern(&engine).await?,
        }
        self.let_go();
        Ok(())
    }

    /// C1, C2: a worker that stands still is declared dead by another one, and commits nothing when it goes on.
    async fn stall(&mut self, engine: &Engine, faults: &StoreFaults) -> Result<(), String> {
        let worker = engine.worker();
        self.is_disturbed = true;
        self.says(format!("worker {worker:?} stands still"));
        self.launch().await;
        let survivor = self.workers[self.workers.len() - 1].engine.clone();
        faults.hold_all();
        faults.stand_still();
        sleep(3 * LEASE).await;
        let watches = survivor.stopped().now_or_never().is_none();
        let renewal = self.store.lease(worker).renew(LEASE).await;
        let is_dead = renewal.is_err_and(|error| error.kind() == StoreErrorKind::Fenced);
        let before = faults.turns().len();
        self.says(format!("worker {worker:?} goes on, dead: {is_dead}"));
        faults.let_go();
        faults.go_on();
        if is_dead {
            timeout(3 * LEASE, engine.stopped()).await.map_err(|_| "who is dead never stops".to_owned())?;
        }
        let after = faults.turns().len();
        match is_dead {
            false if watches => Err(format!("worker {worker:?} stood still, and nobody declared it dead")),
            true if after > before => Err(format!("worker {worker:?} is dead, and committed")),
            _ => Ok(()),
        }
    }

    /// Lets go on what is held.
    fn let_go(&self) {
        for Worker { faults, .. } in &self.workers {
            faults.let_go();
        }
    }

    /// D3, G2: whoever reads finds nothing pending past its deadline, and what everything waits on.
    async fn read(&mut self, engine: &Engine) -> Result<(), String> {
        self.says("somebody reads".to_owned());
        for tree in self.trees() {
            let view = engine.tree(tree.row.id).await.expect("the store answers").ok_or("a tree is gone")?;
            let record =
                engine.store().tree_read(tree.row.id).await.expect("the store answers").ok_or("a tree is gone")?;
            let now = self.time.now();
            if record.is_late(now) {
                return Err(format!("tree {}: at {now} something is pending past its deadline", tree.row.id));
            }
            let silent = view.nodes.iter().find(|node| {
                let is_closed = node.promise.is_closed() && node.closing != Closing::Compensating;
                node.waits_on.is_empty() != is_closed
            });
            if let Some(silent) = silent {
                return Err(format!("what it waits on: {silent:?}"));
            }
            for promise in view.nodes.iter().flat_map(|node| &node.promises) {
                self.promises.sees(promise, now)?;
            }
        }
        Ok(())
    }

    /// Settles one of the promises that are there, whatever became of it before.
    async fn settle(&mut self, engine: &Engine) -> Result<(), String> {
        let made: Vec<PromiseId> = self.trees().iter().flat_map(made).collect();
        if made.is_empty() {
            return Ok(());
        }
        let id = made[self.chance.index(made.len())].clone();
        let number = self.injected.len();
        let outcome = match self.promises.last(&id) {
            Some(last) if self.chance.percent(20) => last.clone(),
            _ if self.chance.percent(70) => Outcome::Resolved(format!("value {number}")),
            _ => Outcome::Rejected { message: format!("no {number}") },
        };
        let by_engine = self.chance.percent(60);
        let answer: Answer = self.promises.settle(engine, id.clone(), outcome.clone(), by_engine).await?;
        let whose = if by_engine { "engine" } else { "store" };
        self.says(format!("{id} is settled at the {whose} with {outcome:?}: {answer:?}"));
        Ok(())
    }

    /// Asks for something of one of the invocations that are there, or of one that is not.
    async fn govern(&mut self, engine: &Engine) -> Result<(), String> {
        let trees = self.trees();
        if trees.is_empty() {
            return Ok(());
        }
        let tree = &trees[self.chance.index(trees.len())];
        let path = tree.invocations[self.chance.index(tree.invocations.len())].invocation.path.clone();
        let path = match self.chance.below(10) {
            0 => path.child(17),
            1 => path.undo(3),
            _ => path,
        };
        let verb = self.chance.weighted(&[
            (3, ControlVerb::Cancel),
            (1, ControlVerb::Kill),
            (2, ControlVerb::Resume),
            (3, ControlVerb::Retry),
        ]);
        self.ask(engine, tree.row.id, path, verb).await
    }

    async fn ask(&mut self, engine: &Engine, tree: TreeId, path: Path, verb: ControlVerb) -> Result<(), String> {
        let (actor, reason) = ("the run".to_owned(), "chance".to_owned());
        let request = ControlRequest { path, verb, actor, reason };
        let before = engine.store().tree_read(tree).await.expect("the store answers").ok_or("a tree is gone")?;
        let effect: Result<Effect, _> = engine.govern(tree, &request).await;
        self.says(format!("{verb:?} of {} in {tree}: {effect:?}", request.path));
        self.requests.asked(&before, request, effect)
    }

    fn trees(&self) -> Vec<TreeRecord> {
        self.store.inspect(|_| true).expect("the store answers")
    }

    fn sound(&self) -> Result<(), String> {
        self.outside.first_wrong().map_or(Ok(()), Err)
    }

    /// Nothing is injected any longer, and time goes on until every tree is closed.
    async fn comes_to_rest(&mut self) -> Result<(), String> {
        self.says("peace".to_owned());
        self.alive().await;
        for Worker { faults, .. } in &self.workers {
            faults.hold_none();
            faults.lose_hints(false);
        }
        let begun = Instant::now();
        let is_open = |row: &sapwood_core::tree::TreeRow| !row.is_closed();
        let mut pause = Duration::from_millis(100);
        let mut retries = self.chance.below(5);
        loop {
            self.sound()?;
            let alive = self.alive().await;
            self.has_each_build().await;
            let engine = self.workers[alive].engine.clone();
            let open = self.store.inspect(is_open).expect("the store answers");
            if open.is_empty() && !(retries > 0 && self.undo_again(&engine).await?) {
                return Ok(());
            }
            if begun.elapsed() > PEACE {
                return Err("not every tree is closed".to_owned());
            }
            retries = retries.saturating_sub(u64::from(open.is_empty()));
            for tree in open.iter().filter(|tree| tree.row.owner.is_none()) {
                self.lets_go_on(&engine, tree).await?;
            }
            if open.iter().any(|tree| tree.row.owner.is_none() && !made(tree).is_empty()) {
                self.settle(&engine).await?;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(60));
        }
    }

    /// An operator ends what the store refused for good, and lets go on what is parked otherwise.
    async fn lets_go_on(&mut self, engine: &Engine, tree: &TreeRecord) -> Result<(), String> {
        if tree.row.aside.is_some() && self.refuses {
            self.ask(engine, tree.row.id, Path::root(), ControlVerb::Kill).await?;
        }
        for it in tree.invocations.iter().map(|row| &row.invocation) {
            let Some(parked) = &it.state.parked else { continue };
            let parked = String::from_utf8_lossy(parked);
            let has = |code: &str| parked.contains(&format!(r#""code":"{code}""#));
            let verb = match has("refused") {
                true if self.refuses => ControlVerb::Kill,
                _ if has("panic") || has("exhausted") => {
                    self.chance.weighted(&[(8, ControlVerb::Retry), (3, ControlVerb::Resume), (1, ControlVerb::Cancel)])
                }
                _ => return Err(format!("{} is parked: {parked}", it.path)),
            };
            let path = if self.chance.percent(50) { it.path.clone() } else { Path::root() };
            let path = if verb == ControlVerb::Cancel { it.path.clone() } else { path };
            self.ask(engine, tree.row.id, path, verb).await?;
        }
        Ok(())
    }

    /// An operator has undone again what could not be undone. Whether there was something.
    async fn undo_again(&mut self, engine: &Engine) -> Result<bool, String> {
        let failed = self.store.inspect(|row| row.closing == Closing::CompensationFailed).expect("the store answers");
        if failed.is_empty() {
            return Ok(false);
        }
        let tree = &failed[self.chance.index(failed.len())];
        let has_failed = |row: &&InvocationRow| {
            let state = &row.invocation.state;
            let is_undo = row.invocation.path.undoes().is_some() && state.promise != PromiseState::Resolved;
            is_undo || state.closing == Closing::CompensationFailed
        };
        let paths: Vec<&Path> = tree.invocations.iter().filter(has_failed).map(|row| &row.invocation.path).collect();
        let of_all = self.chance.percent(30) || paths.is_empty();
        let path = if of_all { Path::root() } else { paths[self.chance.index(paths.len())].clone() };
        self.ask(engine, tree.row.id, path, ControlVerb::Retry).await?;
        Ok(true)
    }

    async fn judge(&mut self, plans: &[Plan]) -> Result<Ran, String> {
        let alive = self.alive().await;
        let engine = self.workers[alive].engine.clone();
        self.read(&engine).await?;
        let trees = self.trees();
        let rows = outbox(&self.store).await;
        let ids: BTreeSet<_> = rows.iter().map(|row| row.event.id.clone()).collect();
        if ids.len() != rows.len() {
            return Err("an event was emitted twice".to_owned());
        }
        let started: BTreeSet<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        let mut ran = Ran::default();
        for tree in &trees {
            let root = &tree.invocations.first().ok_or("a tree without a root")?.invocation;
            let input: Input = serde_json::from_slice(&root.input).map_err(|error| error.to_string())?;
            if !plans.contains(&input.plan) {
                return Err(format!("tree {} has another plan than {started:?}", tree.row.id));
            }
            let events = rows.iter().filter(|row| row.event.tree == tree.row.id).count();
            let effects = |key: &str| self.outside.count(key);
            let known = Known {
                effects: &effects,
                is_undisturbed: !self.is_disturbed,
                refuses: self.refuses,
                was_set_back: self.outside.was_set_back(),
                events,
            };
            let judged = oracle::judge(&input.plan, tree, &known)
                .and_then(|()| self.promises.judge(tree))
                .and_then(|()| self.requests.judge(tree, self.refuses));
            judged.map_err(|wrong| format!("tree {}: {wrong}", tree.row.id))?;
            ran += Ran {
                trees: 1,
                invocations: tree.invocations.len(),
                commits: tree.row.revision,
                settled: tree.settled.len(),
                requests: tree.requests.len(),
            };
        }
        if trees.len() < plans.len() {
            return Err("a tree was lost".to_owned());
        }
        self.sound().map(|()| ran)
    }

    async fn end(self) {
        for Worker { engine, .. } in &self.workers {
            engine.kill();
        }
        for Worker { engine, .. } in &self.workers {
            let _ = timeout(PEACE, engine.idle()).await;
        }
        self.store.close().await;
    }
}

#[derive(serde::Deserialize)]
struct Input {
    plan: Plan,
}

/// Looks at every tree that changed, after each call of the store that may change one.
fn watch(changes: &Changes, store: &MemoryStore, outside: &Arc<Outside>) {
    let (store, outside) = (store.clone(), Arc::downgrade(outside));
    let seen: Mutex<BTreeMap<TreeId, TreeRecord>> = Mutex::default();
    let calls = Mutex::new((Instant::now(), 0_u64));
    changes.at_each(move || {
        let Some(outside) = outside.upgrade() else { return };
        let calls = {
            let (mut since, now) = (calls.lock(), Instant::now());
            *since = if since.0 == now { (now, since.1 + 1) } else { (now, 0) };
            since.1
        };
        if calls == 2 * BUSY {
            outside.is_wrong(format!("{calls} calls of the store, and no time has passed"));
        }
        let mut seen = seen.lock();
        let has_changed = |row: &sapwood_core::tree::TreeRow| seen.get(&row.id).is_none_or(|before| before.row != *row);
        for tree in store.inspect(has_changed).unwrap_or_default() {
            let before = seen.get(&tree.row.id);
            let was_set_back = outside.was_set_back();
            let went_on = before.map_or(Ok(()), |before| goes_on(before, &tree, was_set_back));
            let is_busy = tree.row.revision > BUSY;
            let ends = if is_busy { Err(format!("it has been committed {BUSY} times")) } else { Ok(()) };
            if let Err(wrong) = always_true(&tree, was_set_back).and(went_on).and(ends) {
                outside.is_wrong(format!("tree {}: {wrong}", tree.row.id));
            }
            seen.insert(tree.row.id, tree);
        }
    });
}

/// C1, R3, R12, K4: a step begins at the worker that owns its tree, with no result recorded, and while its function goes
/// forward.
fn may_begin(store: &MemoryStore, worker: WorkerId, key: &str) -> Result<(), String> {
    let (tree, path) = key.split_once(':').ok_or("it is no key")?;
    let (path, id): (Path, TreeId) =
        (path.parse().map_err(|_| "it has no path")?, tree.parse().map_err(|_| "it has no tree")?);
    let trees = store.inspect(|row| row.id == id).map_err(|error| error.to_string())?;
    let tree = trees.first().ok_or("its tree is not durable")?;
    if tree.row.owner != Some(worker) {
        return Err(format!("it begins at worker {worker:?}, {:?} owns its tree", tree.row.owner));
    }
    let (of, position) = path.parent().zip(path.position()).ok_or("it has no invocation")?;
    // The keys of an undo are the same in each round.
    let rounds = tree.invocations.iter().filter(|row| row.invocation.path.without_rounds() == of);
    let row = rounds.max_by_key(|row| row.invocation.path.undo_round());
    let of = row.map_or(of, |row| row.invocation.path.clone());
    let promise = row.ok_or("its invocation is not durable")?.invocation.state.promise;
    // What a reader settled, its owner may not know yet.
    if !matches!(promise, PromiseState::Pending | PromiseState::TimingOut) || tree.row.state == TreeState::Parked {
        return Err(format!("its invocation is {promise:?}"));
    }
    let resolved = tree
        .entries
        .iter()
        .find(|(path, _, entry)| *path == of && entry.position == position && entry.kind == EntryKind::StepResolved);
    resolved.map_or(Ok(()), |(_, at, _)| Err(format!("its result was recorded at {at}")))
}
