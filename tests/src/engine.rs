//! Engines for a test: one or several on its store, with bodies cached or evicted, crashes, and waits for what happens.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sapwood::Dependencies;
use sapwood_core::store::Store;
use sapwood_core::tree::{PromiseState, TreeState};
use sapwood_core::{Path, TreeId};
use sapwood_engine::{CachePolicy, Engine, EngineOptions, NodeView, SystemEnvironment, TreeView};
use tokio::time::timeout;

use crate::faults::StoreFaults;
use crate::front::with_faults;
use crate::store::{Database, LEASE, TestStore, bury};
use crate::wait::{PATIENCE, in_time, within};

/// Bodies that wait stay in memory, more of them than any test has.
pub const CACHED: CachePolicy = CachePolicy::Bytes(1 << 30);

/// Bodies leave memory whenever they wait.
pub const EVICTED: CachePolicy = CachePolicy::Evict;

/// A store, and the engines that a test runs on it.
pub struct World {
    store: TestStore,
    cache: CachePolicy,
    engines: Mutex<Vec<Engine>>,
    /// Those that crashed and are not yet declared dead.
    crashed: Mutex<Vec<Engine>>,
}

impl World {
    /// A world on this store; every engine of it treats its bodies like this.
    #[must_use]
    pub fn new(store: TestStore, cache: CachePolicy) -> Self {
        Self { store, cache, engines: Mutex::default(), crashed: Mutex::default() }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &TestStore {
        &self.store
    }

    /// Whether a body leaves memory whenever it waits.
    #[must_use]
    pub fn evicts(&self) -> bool {
        self.cache == EVICTED
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
    /// If it does not launch.
    pub async fn launch<A: Dependencies>(&self, app: &Arc<A>) -> Engine {
        self.launch_on(app, self.store.another().await, self.options()).await
    }

    /// Another process that runs so.
    ///
    /// # Panics
    /// If it does not launch.
    pub async fn launch_with<A: Dependencies>(&self, app: &Arc<A>, options: EngineOptions) -> Engine {
        self.launch_on(app, self.store.another().await, options).await
    }

    /// An engine on this store, which is the world's own behind faults. It takes over from those that crashed.
    ///
    /// # Panics
    /// If it does not launch.
    pub async fn launch_on<A: Dependencies>(
        &self,
        app: &Arc<A>,
        store: Arc<dyn Store>,
        options: EngineOptions,
    ) -> Engine {
        let engine = Engine::launch(Arc::clone(app), store, options).await.expect("the engine launches");
        self.engines.lock().push(engine.clone());
        let crashed = std::mem::take(&mut *self.crashed.lock());
        for dead in crashed {
            self.bury(&dead, &engine).await;
        }
        engine
    }

    /// Moves the clock, and makes every engine look at it.
    pub async fn advance(&self, by: Duration) {
        let engines = self.engines.lock().clone();
        let jump = async {
            self.store.advance(by).await;
            futures::future::join_all(engines.iter().map(Engine::poke)).await;
        };
        self.store.changes().jump(jump).await;
    }

    /// Kills an engine as if its process had died, and waits until it drives no tree.
    pub async fn kill(&self, engine: &Engine) {
        engine.kill();
        is_idle(engine).await;
    }

    /// As [`Self::kill`], and the next engine that is launched declares it dead, as its silence would: the store may still
    /// carry out what it was asked for last, and a claim of the dead holds a tree.
    pub async fn crash(&self, engine: &Engine) {
        self.kill(engine).await;
        self.crashed.lock().push(engine.clone());
    }

    /// Declares an engine dead, crashed or not, on behalf of a survivor, who takes its trees over.
    ///
    /// # Panics
    /// If the store does not declare it dead.
    pub async fn bury(&self, dead: &Engine, survivor: &Engine) {
        within("a burial", bury(survivor.store().as_ref(), dead.worker(), survivor.worker())).await;
        survivor.poke().await;
    }

    /// A process that takes over from one that crashed.
    pub async fn take_over<A: Dependencies>(&self, dead: &Engine, app: &Arc<A>) -> Engine {
        self.crash(dead).await;
        self.launch(app).await
    }

    /// As [`Self::take_over`], by a process whose store makes the faults that `plan` plans, before it takes anything
    /// over.
    pub async fn take_over_with_faults<A: Dependencies>(
        &self,
        dead: &Engine,
        app: &Arc<A>,
        plan: impl FnOnce(&StoreFaults),
    ) -> (Engine, Arc<StoreFaults>) {
        self.crash(dead).await;
        let (store, faults) = with_faults(self.store.another().await);
        plan(&faults);
        let survivor = self.launch_on(app, store, self.options()).await;
        (survivor, faults)
    }

    /// Waits until a tree is as `condition` says, as this process sees it.
    ///
    /// # Panics
    /// If it never is, saying how it is instead.
    pub async fn tree_until(&self, engine: &Engine, tree: TreeId, condition: impl Fn(&TreeView) -> bool) -> TreeView {
        let last = Mutex::new(None);
        let look = async || {
            let view = engine.tree(tree).await.expect("the store answers").expect("the tree is there");
            if condition(&view) {
                return Some(view);
            }
            *last.lock() = Some(view);
            None
        };
        match timeout(PATIENCE, self.store.changes().seen(look)).await {
            Ok(view) => view,
            Err(_) => panic!("the tree never became as expected; it is {:#?}", last.lock()),
        }
    }

    /// Waits until a tree has no owner and waits.
    pub async fn tree_suspended(&self, engine: &Engine, tree: TreeId) -> TreeView {
        self.tree_until(engine, tree, is_suspended).await
    }

    /// Waits until the invocation at a path has been offered the completion of this number, and waits again, durably.
    ///
    /// # Panics
    /// If it never does.
    pub async fn has_seen(&self, engine: &Engine, tree: TreeId, path: &str, number: u32) {
        let path: Path = path.parse().expect("a path");
        let seen = async || {
            let image = engine.store().tree_load(tree).await.expect("the store answers").expect("the tree is there");
            image.open.iter().any(|open| open.path == path && open.state.seen.is_some_and(|seen| seen >= number))
        };
        self.store.changes().until("an invocation that waits again", seen).await;
    }

    /// Ends every engine and closes the store.
    pub async fn end(self) {
        let engines = std::mem::take(&mut *self.engines.lock());
        for engine in engines {
            self.crash(&engine).await;
        }
        within("the end of the store", self.store.store().close()).await;
    }
}

/// Waits until an engine drives no tree.
pub async fn is_idle(engine: &Engine) {
    within("an engine that drives no tree", engine.idle()).await;
}

/// Whether a tree has no owner and waits.
#[must_use]
pub fn is_suspended(view: &TreeView) -> bool {
    view.row.state == TreeState::Suspended && view.row.owner.is_none()
}

/// The node at a path, as `/0/1`.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn node<'a>(view: &'a TreeView, path: &str) -> &'a NodeView {
    let path: Path = path.parse().expect("a path");
    view.nodes.iter().find(|node| node.path == path).unwrap_or_else(|| panic!("there is no {path} in {view:#?}"))
}

/// The phase of the promise at a path; `None` if there is no such invocation yet.
#[must_use]
pub fn promise(view: &TreeView, path: &str) -> Option<PromiseState> {
    let path: Path = path.parse().ok()?;
    view.nodes.iter().find(|node| node.path == path).map(|node| node.promise)
}

/// Runs a case on a world of its own.
pub async fn run(database: Database, cache: CachePolicy, case: impl AsyncFnOnce(&World)) {
    let world = World::new(TestStore::on(database).await, cache);
    in_time(case(&world)).await;
    world.end().await;
}
