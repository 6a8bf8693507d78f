//! Where time, chance, identities and tasks come from: one value, given at the start, so that a run can be repeated
//! from a seed on one thread.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use jiff::Timestamp;
use sapwood_core::clock::{Clock, SystemClock};
use sapwood_core::{ProcessId, TreeId};
use uuid::Uuid;

use crate::process;

/// What an engine takes from the machine it runs on, besides its store.
///
/// Waits are tokio's, so a runtime whose time is paused drives them too.
pub trait Environment: Send + Sync + 'static {
    /// The time of day.
    fn now(&self) -> Timestamp;

    /// The time since a fixed moment; it never goes back.
    fn monotonic(&self) -> Duration;

    /// A random number, uniform over all 64 bits.
    fn random(&self) -> u64;

    /// The identity of a new tree.
    fn tree_id(&self) -> TreeId;

    /// Runs a task.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Runs a task apart, so that no other task can starve it: on a thread and a runtime of its own.
    ///
    /// # Errors
    /// If the machine has no thread left.
    fn spawn_apart(&self, name: String, task: BoxFuture<'static, ()>) -> std::io::Result<()>;

    /// The process that the engine is of, if others of this machine can find out that it has ended.
    fn process(&self) -> Option<ProcessId> {
        None
    }

    /// Whether it is proved that a process of this machine has ended, and none of its threads runs. `false` says nothing:
    /// it may be of another machine.
    fn has_ended(&self, _process: ProcessId) -> bool {
        false
    }

    /// A random fraction in `0.0..1.0`.
    fn fraction(&self) -> f64 {
        // As many bits as a double has; more would round up to 1.
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A random fraction in `0.0..1.0` for the pauses of services. Nothing of it is recorded, and how often a service looks is
    /// a matter of timing, so a repeatable environment takes it from another source than what trees draw.
    fn jitter(&self) -> f64 {
        self.fraction()
    }

    /// A random UUID (version 4).
    fn uuid(&self) -> Uuid {
        let bits = u128::from(self.random()) << 64 | u128::from(self.random());
        uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid()
    }
}

/// The machine itself: its clocks, its randomness, tokio's current runtime.
pub struct SystemEnvironment {
    clock: Arc<dyn Clock>,
    /// Where the monotonic clock begins.
    origin: Instant,
}

impl SystemEnvironment {
    /// The machine with another clock for the time of day.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self { clock, origin: Instant::now() }
    }
}

impl Default for SystemEnvironment {
    fn default() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }
}

impl Environment for SystemEnvironment {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn random(&self) -> u64 {
        // The upper 48 bits and the lower 16 of a version 4 UUID are random; version and variant lie between.
        let bits = Uuid::new_v4().as_u128();
        ((bits >> 80) as u64) << 16 | (bits as u64 & 0xffff)
    }

    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn tree_id(&self) -> TreeId {
        TreeId::fresh()
    }

    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn spawn_apart(&self, name: String, task: BoxFuture<'static, ()>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(name).spawn(move || runtime.block_on(task))?;
        Ok(())
    }

    fn process(&self) -> Option<ProcessId> {
        process::own(|| ProcessId(Uuid::new_v4()))
    }

    fn has_ended(&self, process: ProcessId) -> bool {
        process::has_ended(process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_fractions_are_below_one_and_spread() {
        let environment = SystemEnvironment::default();
        let mut tenths = [0_u32; 10];
        for _ in 0..10_000 {
            let fraction = environment.fraction();
            assert!((0.0..1.0).contains(&fraction));
            tenths[(fraction * 10.0) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (700..=1_300).contains(count)), "{tenths:?}");
    }
}
