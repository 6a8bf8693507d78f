//! What functions under test tell their test, and how it tells them to go on.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use sapwood::Dependencies;
use sapwood_core::BoundedContext;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::wait::PATIENCE;

/// The context of the functions under test.
pub struct Probing;

impl BoundedContext for Probing {
    const NAME: &'static str = "probing";
}

/// What functions under test tell their test, and are told by it.
#[derive(Default)]
pub struct Probe {
    marks: Mutex<Vec<String>>,
    /// After each mark, and when work is no longer held.
    changed: watch::Sender<()>,
    gates: Mutex<HashMap<String, Arc<Semaphore>>>,
    switches: Mutex<HashSet<String>>,
    /// How the names of work begin that is held.
    held: Mutex<Option<String>>,
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
    /// If it never does.
    pub async fn reached(&self, what: &str, times: usize) {
        self.until(what, times, |mark| mark == what).await;
    }

    /// Waits until so much has happened that begins with `prefix`.
    ///
    /// # Panics
    /// If it never does.
    pub async fn reached_any(&self, prefix: &str, times: usize) {
        self.until(prefix, times, |mark| mark.starts_with(prefix)).await;
    }

    async fn until(&self, what: &str, times: usize, counts: impl Fn(&String) -> bool) {
        let reached = self.changed_until(|| self.marks.lock().iter().filter(|mark| counts(mark)).count() >= times);
        if timeout(PATIENCE, reached).await.is_err() {
            panic!("{what} never happened {times} times; this happened: {:?}", self.marks.lock());
        }
    }

    async fn changed_until(&self, is_so: impl Fn() -> bool) {
        let mut changed = self.changed.subscribe();
        while !is_so() {
            changed.changed().await.expect("the probe is kept");
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

    /// Marks that it has come to a gate, and waits there.
    pub async fn comes_to(&self, gate: &str) {
        self.mark(gate);
        self.pass(gate).await;
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

    /// A piece of work: marked as `begun WHAT` and as `done WHAT`. In between it waits while its name is held.
    pub async fn works(&self, what: &str) {
        self.mark(format!("begun {what}"));
        self.changed_until(|| self.held.lock().as_ref().is_none_or(|held| !what.starts_with(held))).await;
        self.mark(format!("done {what}"));
    }

    /// Work whose name begins so waits from now on.
    pub fn hold(&self, prefix: &str) {
        *self.held.lock() = Some(prefix.to_owned());
    }

    /// Lets all work go on.
    pub fn hold_none(&self) {
        *self.held.lock() = None;
        self.changed.send_replace(());
    }
}
