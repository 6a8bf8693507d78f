//! The reads under way, so that one which keeps the write-ahead log from being cut can be named.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The reads under way of one store. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reads {
    open: Arc<Mutex<Open>>,
}

/// By a number that ascends, so the first one has lasted the longest.
#[derive(Debug, Default)]
struct Open {
    next: u64,
    reads: BTreeMap<u64, (&'static str, Instant)>,
}

impl Reads {
    /// Notes a read of this kind, until what is returned is dropped.
    pub(crate) fn begin(&self, kind: &'static str) -> Reading {
        let mut open = self.open();
        open.next += 1;
        let number = open.next;
        open.reads.insert(number, (kind, Instant::now()));
        Reading { of: self.clone(), number }
    }

    /// The read that has lasted the longest, and for how long.
    pub(crate) fn oldest(&self) -> Option<(&'static str, Duration)> {
        self.open().reads.values().next().map(|(kind, since)| (*kind, since.elapsed()))
    }

    /// Nothing that holds this lock can panic half way, so what a poisoned lock guards is whole.
    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A read under way.
#[derive(Debug)]
pub(crate) struct Reading {
    of: Reads,
    number: u64,
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.of.open().reads.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_that_has_lasted_the_longest_is_named() {
        let reads = Reads::default();
        let oldest = || reads.oldest().map(|(kind, _)| kind);
        assert_eq!(oldest(), None);
        let first = reads.begin("ReadTree");
        let second = reads.clone().begin("ListTrees");
        assert_eq!(oldest(), Some("ReadTree"));
        drop(first);
        assert_eq!(oldest(), Some("ListTrees"));
        drop(second);
        assert_eq!(oldest(), None);
    }
}
