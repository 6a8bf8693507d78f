//! A context as it is served: its engine, and the further sources of its health.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use sapwood_engine::Engine;

/// One bounded context, as it is served.
#[derive(Clone)]
pub struct ContextApi {
    engine: CurrentEngine,
    /// Sources besides the engine, asked at each request.
    health: Vec<HealthSource>,
}

impl ContextApi {
    /// A context whose health is that of its engine.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self::following(move || engine.clone())
    }

    /// A context whose engine may be another one later: a worker that was declared dead joins again as a new one. It is
    /// asked for at each request.
    #[must_use]
    pub fn following(engine: impl Fn() -> Engine + Send + Sync + 'static) -> Self {
        Self { engine: CurrentEngine(Arc::new(engine)), health: Vec::new() }
    }

    /// Adds a source of the context's health besides the engine, such as its relay and intakes.
    #[must_use]
    pub fn health(mut self, source: impl Fn() -> Vec<HealthPart> + Send + Sync + 'static) -> Self {
        self.health.push(HealthSource(Arc::new(source)));
        self
    }

    pub(crate) fn engine(&self) -> Engine {
        (self.engine.0)()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.engine().context()
    }

    /// The parts of the context's health: the engine's own first, then those of the sources.
    pub(crate) fn parts(&self) -> Vec<HealthPart> {
        let engine = self.engine();
        let health = engine.health();
        let part = |name: &str, trouble: Option<String>| HealthPart {
            name: name.to_owned(),
            state: if trouble.is_some() { HealthState::Down } else { HealthState::Up },
            detail: trouble,
        };
        let lease = (!health.lease_is_good).then(|| "the worker's lease is not renewed; it starts nothing".to_owned());
        let work = match (health.is_stopped, health.is_draining) {
            (true, _) => {
                Some(health.stopped.as_ref().map_or_else(|| "stopped".to_owned(), |why| format!("stopped: {why}")))
            }
            (false, true) => Some("draining: trees are no longer started or claimed".to_owned()),
            (false, false) => None,
        };
        let trees = health.set_aside.first().map(|(tree, reason)| {
            let more = match health.set_aside.len() - 1 {
                0 => String::new(),
                more => format!(" (and {more} more)"),
            };
            format!("tree {tree} is set aside{more}: {reason}")
        });
        let trees = HealthPart {
            name: "trees".to_owned(),
            state: if trees.is_some() { HealthState::Degraded } else { HealthState::Up },
            detail: trees,
        };
        let lost = (health.lost_commits > 0).then(|| HealthPart {
            name: "history".to_owned(),
            state: HealthState::Degraded,
            detail: Some(format!(
                "the store went back: {} commits that were acknowledged are lost; the log names their trees",
                health.lost_commits
            )),
        });
        let own = [part("store", health.store_error()), part("lease", lease), part("work", work), trees];
        let warnings = engine.store().info().durability_warnings();
        let durability = (!warnings.is_empty()).then(|| HealthPart {
            name: "durability".to_owned(),
            state: HealthState::Degraded,
            detail: Some(warnings.join("; ")),
        });
        let more = self.health.iter().flat_map(|source| (source.0)());
        own.into_iter().chain(durability).chain(lost).chain(more).collect()
    }
}

/// Gives the engine that a context has now.
#[derive(Clone)]
struct CurrentEngine(Arc<dyn Fn() -> Engine + Send + Sync>);

/// A source of a context's health. It is asked at each request, so it must answer from memory.
#[derive(Clone)]
pub struct HealthSource(Arc<dyn Fn() -> Vec<HealthPart> + Send + Sync>);

impl fmt::Debug for HealthSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HealthSource")
    }
}

/// The health of one part of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthPart {
    /// The part: `store`, `relay`, `intake shipping` ...
    pub name: String,
    /// How it is.
    pub state: HealthState,
    /// Why it is not up, in words; `None` if it is up. It must contain no secret, because every client can read it.
    pub detail: Option<String>,
}

/// How a part of a context is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// As it should be.
    Up,
    /// It waits for something, and the context goes on meanwhile. An outage of the broker fails no tree (E4), so taking
    /// the process out of service because of it would turn a small outage into a large one.
    Degraded,
    /// The context cannot serve.
    Down,
}

/// The contexts that are served, by name.
#[derive(Clone)]
pub(crate) struct Contexts(Arc<BTreeMap<&'static str, ContextApi>>);

impl Contexts {
    pub(crate) fn new(contexts: Vec<ContextApi>) -> Self {
        Self(Arc::new(contexts.into_iter().map(|context| (context.name(), context)).collect()))
    }

    pub(crate) fn find(&self, name: &str) -> Option<&ContextApi> {
        self.0.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &ContextApi> {
        self.0.values()
    }
}
