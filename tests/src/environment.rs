//! Environments of tests: one whose chance comes from a seed and whose tasks run on one thread, so that a run can be
//! repeated; and processes whose end is the test's to say.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::Mutex;
use sapwood_core::clock::Clock;
use sapwood_core::{ProcessId, TreeId};
use sapwood_engine::{Environment, SystemEnvironment};
use tokio::time::Instant;
use uuid::Uuid;

/// Chance from a seed; time from a clock that the test moves; every task on the runtime that spawns it.
pub struct SeededEnvironment {
    clock: Arc<dyn Clock>,
    origin: Instant,
    state: AtomicU64,
    /// Apart from what trees draw.
    pauses: AtomicU64,
    trees: AtomicU64,
}

impl SeededEnvironment {
    /// The environment of a seed. Make it within the runtime that it runs on.
    #[must_use]
    pub fn new(seed: u64, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            origin: Instant::now(),
            state: AtomicU64::new(seed),
            pauses: AtomicU64::new(seed),
            trees: AtomicU64::new(0),
        }
    }
}

impl Environment for SeededEnvironment {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn random(&self) -> u64 {
        next_of(&self.state)
    }

    fn jitter(&self) -> f64 {
        (next_of(&self.pauses) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A version 7 UUID in the order of the calls, as real ones are.
    fn tree_id(&self) -> TreeId {
        let count = self.trees.fetch_add(1, Ordering::Relaxed);
        let random = (u128::from(self.random()) << 64 | u128::from(self.random())).to_be_bytes();
        let random: [u8; 10] = std::array::from_fn(|at| random[at]);
        TreeId::from(uuid::Builder::from_unix_timestamp_millis(count, &random).into_uuid())
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn spawn_apart(&self, _: String, task: BoxFuture<'static, ()>) -> std::io::Result<()> {
        tokio::spawn(task);
        Ok(())
    }

    fn uuid(&self) -> Uuid {
        let bits = u128::from(self.random()) << 64 | u128::from(self.random());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }
}

/// SplitMix64, which needs no more state than its counter.
fn next_of(state: &AtomicU64) -> u64 {
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bits = state.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// A machine whose processes end when the test says so.
#[derive(Clone, Default)]
pub struct Machine {
    ended: Arc<Mutex<HashSet<ProcessId>>>,
}

impl Machine {
    /// The environment of a process of this machine.
    #[must_use]
    pub fn environment(&self, process: ProcessId, clock: Arc<dyn Clock>) -> Arc<dyn Environment> {
        Arc::new(MachineEnvironment { machine: self.clone(), process, system: SystemEnvironment::with_clock(clock) })
    }

    /// A process ends.
    pub fn ends(&self, process: ProcessId) {
        self.ended.lock().insert(process);
    }
}

struct MachineEnvironment {
    machine: Machine,
    process: ProcessId,
    system: SystemEnvironment,
}

impl Environment for MachineEnvironment {
    fn now(&self) -> Timestamp {
        self.system.now()
    }

    fn monotonic(&self) -> Duration {
        self.system.monotonic()
    }

    fn random(&self) -> u64 {
        self.system.random()
    }

    fn tree_id(&self) -> TreeId {
        self.system.tree_id()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.system.spawn(task);
    }

    fn spawn_apart(&self, name: String, task: BoxFuture<'static, ()>) -> std::io::Result<()> {
        self.system.spawn_apart(name, task)
    }

    fn process(&self) -> Option<ProcessId> {
        Some(self.process)
    }

    fn has_ended(&self, process: ProcessId) -> bool {
        self.machine.ended.lock().contains(&process)
    }
}
