//! Engines for a test: one or several on its store, with bodies cached or evicted, crashes, and waits for what happens.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sapwood::Dependencies;
use sapwood_core::store::Store;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_core::{BoundedContext, Path, TreeId};
use sapwood_engine::{CachePolicy, Engine, EngineOptions, NodeView, SystemEnvironment, TreeView};
use tokio::sync::{Semaphore, watch};

use crate::faults::Faults;
use crate::store::TestStore;
use crate::wait::{PATIENCE, within};

/// How long a case may take: those with a crash at every commit are many runs.
const CASE: Duration = Duration::from_secs(180);

/// How often a condition is looked at that nobody signals.
const LOOK: Duration = Duration::from_millis(3);

/// Longer than any test: a lease ends only where the test moves the clock, so a busy machine declares nobody dead.
pub const LEASE: Duration = Duration::from_secs(3_600);

/// A store, and the engines that a test runs on it.
pub struct World {
    store: TestStore,
    cache: CachePolicy,
    engines: Mutex<Vec<Engine>>,
}

impl World {
    /// A world on this store; every engine of it treats its bodies like this.
    #[must_use]
    pub fn new(store: TestStore, cache: CachePolicy) -> Self {
        Self { store, cache, engines: Mutex::default() }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &TestStore {
        &self.store
    }

    /// Whether a body leaves memory whenever it waits.
    #[must_use]
    pub fn evicts(&self) -> bool {
        self.cache == CachePolicy::Evict
    }

    /// How the engines here run.
    #[must_use]
    pub fn options(&self) -> EngineOptions {
        EngineOptions {
            cache: self.cache,
            lease: LEASE,
            heartbeat: Duration::from_millis(200),
            environment: Arc::new(SystemEnvironment::with_clock(self.store.clock())),
            ..EngineOptions::default()
        }
    }

    /// Another process with this app.
    ///
    /// # Panics
    /// Where it does not launch.
    pub async fn launch<A: Dependencies>(&self, app: &Arc<A>) -> Engine {
        self.launch_on(app, self.store.another().await, self.options()).await
    }

    /// Another process that runs so.
    ///
    /// # Panics
    /// Where it does not launch.
    pub async fn launch_with<A: Dependencies>(&self, app: &Arc<A>, options: EngineOptions) -> Engine {
        self.launch_on(app, self.store.another().await, options).await
    }

    /// An engine on this store, which is the world's own behind faults.
    ///
    /// # Panics
    /// Where it does not launch.
    pub async fn launch_on<A: Dependencies>(
        &self,
        app: &Arc<A>,
        store: Arc<dyn Store>,
        options: EngineOptions,
    ) -> Engine {
        let engine = Engine::launch(Arc::clone(app), store, options).await.expect("the engine launches");
        self.engines.lock().push(engine.clone());
        engine
    }

    /// Moves the clock, and makes every engine look at it.
    pub async fn advance(&self, by: Duration) {
        self.store.advance(by).await;
        self.engines.lock().iter().for_each(Engine::poke);
    }

    /// Kills an engine as if its process had died, and waits until nothing of it runs any more.
    pub async fn crash(&self, engine: &Engine) {
        engine.kill();
        let still = async || engine.health().trees == 0;
        until("a killed engine is still", still).await;
    }

    /// Declares a crashed engine dead on behalf of a survivor, who takes its trees over. The clock moves past the
    /// lease for that.
    ///
    /// # Panics
    /// Where the store does not declare it dead.
    pub async fn bury(&self, dead: &Engine, survivor: &Engine) {
        self.store.advance(LEASE * 2).await;
        let buried = survivor.store().worker_bury(survivor.worker(), &[dead.worker()]).await.expect("a burial");
        assert_eq!(buried, [dead.worker()]);
        survivor.poke();
    }

    /// A process that takes over from one that crashed.
    pub async fn take_over<A: Dependencies>(&self, dead: &Engine, app: &Arc<A>) -> Engine {
        self.crash(dead).await;
        let survivor = self.launch(app).await;
        self.bury(dead, &survivor).await;
        survivor
    }

    /// As [`Self::take_over`], by a process whose store makes the faults that `plan` plans before it takes anything over.
    pub async fn take_over_with_faults<A: Dependencies>(
        &self,
        dead: &Engine,
        app: &Arc<A>,
        plan: impl FnOnce(&Faults),
    ) -> (Engine, Arc<Faults>) {
        self.crash(dead).await;
        let (store, faults) = Faults::before(self.store.another().await);
        plan(&faults);
        let survivor = self.launch_on(app, store, self.options()).await;
        self.bury(dead, &survivor).await;
        (survivor, faults)
    }

    /// Ends every engine and closes the store.
    pub async fn end(self) {
        let engines = std::mem::take(&mut *self.engines.lock());
        for engine in engines {
            self.crash(&engine).await;
        }
        self.store.store().close().await;
    }
}

/// Waits until a tree is as `condition` says.
///
/// # Panics
/// Where it never is, saying how it is instead.
pub async fn tree_until(engine: &Engine, tree: TreeId, condition: impl Fn(&TreeView) -> bool) -> TreeView {
    let last = Mutex::new(None);
    let waiting = async {
        loop {
            let view = engine.tree(tree).await.expect("the store answers").expect("the tree is there");
            if condition(&view) {
                return view;
            }
            *last.lock() = Some(view);
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(view) => view,
        Err(_) => panic!("the tree never became as expected; it is {:#?}", last.lock()),
    }
}

/// Waits until a tree holds nothing: nobody owns it, and it waits.
pub async fn tree_suspended(engine: &Engine, tree: TreeId) -> TreeView {
    tree_until(engine, tree, |view| view.row.state == TreeState::Suspended && view.row.owner.is_none()).await
}

/// Waits until the invocation at a path has been offered the completion of this number, and waits again, durably.
///
/// # Panics
/// Where it never does.
pub async fn has_seen(engine: &Engine, tree: TreeId, path: &str, number: u32) {
    let path: Path = path.parse().expect("a path");
    let seen = async || {
        let image = engine.store().tree_load(tree).await.expect("the store answers").expect("the tree is there");
        image.open.iter().any(|open| open.path == path && open.state.seen.is_some_and(|seen| seen >= number))
    };
    until("an invocation that waits again", seen).await;
}

/// The node at a path, as `/0/1`.
///
/// # Panics
/// Where there is none.
#[must_use]
pub fn node<'a>(view: &'a TreeView, path: &str) -> &'a NodeView {
    let path: Path = path.parse().expect("a path");
    view.nodes.iter().find(|node| node.path == path).unwrap_or_else(|| panic!("there is no {path} in {view:#?}"))
}

/// Where the promise at a path stands; `None` where there is no such invocation yet.
#[must_use]
pub fn promise(view: &TreeView, path: &str) -> Option<PromiseState> {
    let path: Path = path.parse().ok()?;
    view.nodes.iter().find(|node| node.path == path).map(|node| node.promise)
}

/// Waits for `what`, which nobody signals.
///
/// # Panics
/// Where it never comes.
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    within(what, waiting).await;
}

/// Runs a case, but not for ever.
///
/// # Panics
/// Where it does not end.
pub async fn in_time(case: impl Future<Output = ()>) {
    tokio::time::timeout(CASE, case).await.unwrap_or_else(|_| panic!("the case does not end"));
}

/// The context of the functions under test.
pub struct Probing;

impl BoundedContext for Probing {
    const NAME: &'static str = "probing";
}

/// What functions under test tell their test, and are told by it.
#[derive(Default)]
pub struct Probe {
    marks: Mutex<Vec<String>>,
    changed: watch::Sender<()>,
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    switches: Mutex<HashSet<String>>,
}

impl Dependencies for Probe {
    type Context = Probing;
}

impl Probe {
    /// A probe of one test; every engine of the test shares it.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Tells the test that something happened.
    pub fn mark(&self, what: impl Into<String>) {
        self.marks.lock().push(what.into());
        self.changed.send_replace(());
    }

    /// How often it happened.
    #[must_use]
    pub fn count(&self, what: &str) -> usize {
        self.marks.lock().iter().filter(|mark| *mark == what).count()
    }

    /// All that happened and begins with `prefix`, in order, without the prefix.
    #[must_use]
    pub fn marks(&self, prefix: &str) -> Vec<String> {
        self.marks.lock().iter().filter_map(|mark| mark.strip_prefix(prefix)).map(ToOwned::to_owned).collect()
    }

    /// Waits until it has happened so often.
    ///
    /// # Panics
    /// Where it never does.
    pub async fn reached(&self, what: &str, times: usize) {
        let mut changed = self.changed.subscribe();
        let reached = async {
            while self.count(what) < times {
                changed.changed().await.expect("the probe is kept");
            }
        };
        if tokio::time::timeout(PATIENCE, reached).await.is_err() {
            panic!("{what} never happened {times} times; this happened: {:?}", self.marks.lock());
        }
    }

    /// Waits at a gate until the test lets it through.
    ///
    /// # Panics
    /// Never: no gate is ever closed for good.
    pub async fn pass(&self, gate: &str) {
        self.gate(gate).acquire().await.expect("gates stay").forget();
    }

    /// Lets so many through a gate.
    pub fn open(&self, gate: &str, many: usize) {
        self.gate(gate).add_permits(many);
    }

    fn gate(&self, gate: &str) -> Arc<Semaphore> {
        let mut gates = self.gates.lock();
        Arc::clone(gates.entry(gate.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))))
    }

    /// Turns a switch on.
    pub fn turn_on(&self, switch: &str) {
        self.switches.lock().insert(switch.to_owned());
    }

    /// Turns a switch off.
    pub fn turn_off(&self, switch: &str) {
        self.switches.lock().remove(switch);
    }

    /// Whether a switch is on.
    #[must_use]
    pub fn is_on(&self, switch: &str) -> bool {
        self.switches.lock().contains(switch)
    }
}

/// Runs each case of a module four times: on both stores, with bodies cached and with bodies evicted whenever they
/// wait, as `sqlite::cached::CASE`, `postgres::evicted::CASE` and so on.
///
/// A case is `async fn case(world: &World)`. Use it once within a module.
#[macro_export]
macro_rules! on_every_engine {
    ($($module:ident)::+ { $($cases:tt)* }) => {
        mod postgres {
            mod cached {
                $crate::on_one_engine!(
                    postgres Trees(1_000)
                    #[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
                    $($module)::+ { $($cases)* }
                );
            }
            mod evicted {
                $crate::on_one_engine!(
                    postgres Evict
                    #[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
                    $($module)::+ { $($cases)* }
                );
            }
        }
        mod sqlite {
            mod cached {
                $crate::on_one_engine!(sqlite Trees(1_000) #[allow(unused_attributes)] $($module)::+ { $($cases)* });
            }
            mod evicted {
                $crate::on_one_engine!(sqlite Evict #[allow(unused_attributes)] $($module)::+ { $($cases)* });
            }
        }
    };
}

/// One quarter of [`on_every_engine!`].
#[doc(hidden)]
#[macro_export]
macro_rules! on_one_engine {
    ($store:ident $policy:ident $(($trees:expr))? #[$attribute:meta] $($module:ident)::+ { $($case:ident),* $(,)? }) => {
        use $($module)::+ as cases;
        use sapwood_engine::CachePolicy;
        const CACHE: CachePolicy = CachePolicy::$policy $(($trees))?;
        $crate::on_one_engine!(@each $store #[$attribute] $($case)*);
    };
    (@each $store:ident #[$attribute:meta]) => {};
    (@each $store:ident #[$attribute:meta] $case:ident $($rest:ident)*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        #[$attribute]
        async fn $case() {
            let world = $crate::engine::World::new($crate::store::TestStore::$store().await, CACHE);
            $crate::engine::in_time(cases::$case(&world)).await;
            world.end().await;
        }
        $crate::on_one_engine!(@each $store #[$attribute] $($rest)*);
    };
}
