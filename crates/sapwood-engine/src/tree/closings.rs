//! How far the invocations of one tree have come in undoing what they did, counted. Pure.

use sapwood_core::tree::Closing;

/// How far the invocations of a tree have come in undoing what they did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closings {
    /// How many compensate.
    compensating: usize,
    /// Of how many a compensation has failed.
    failed: usize,
    has_compensated: bool,
}

impl Closings {
    /// An invocation has come so far.
    pub(super) const fn enter(&mut self, closing: Closing) {
        match closing {
            Closing::Compensating => self.compensating += 1,
            Closing::CompensationFailed => self.failed += 1,
            Closing::Compensated => self.has_compensated = true,
            Closing::None | Closing::Undoable => {}
        }
    }

    /// An invocation was so far, and has come further, or is retried.
    pub(super) const fn leave(&mut self, closing: Closing) {
        match closing {
            Closing::Compensating => self.compensating = self.compensating.saturating_sub(1),
            Closing::CompensationFailed => self.failed = self.failed.saturating_sub(1),
            Closing::Compensated | Closing::None | Closing::Undoable => {}
        }
    }

    /// What the tree shows: that one has failed, else the least far. Of a settled tree, in which something is undone again,
    /// that comes first: it is what lets the tree be claimed.
    pub(super) const fn worst(self, is_settled: bool) -> Closing {
        match (self.compensating > 0, self.failed > 0) {
            (true, _) if is_settled => Closing::Compensating,
            (_, true) => Closing::CompensationFailed,
            (true, false) => Closing::Compensating,
            (false, false) if self.has_compensated => Closing::Compensated,
            (false, false) => Closing::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// N1, K2: one that failed shows until it is retried.
    #[test]
    fn a_tree_shows_the_worst_of_its_invocations() {
        use Closing::{Compensated, Compensating, CompensationFailed, None, Undoable};
        let cases: [(&[Closing], Closing, Closing); 6] = [
            (&[], None, None),
            (&[Undoable, None], None, None),
            (&[Compensated, None], Compensated, Compensated),
            (&[Compensated, Compensating], Compensating, Compensating),
            (&[Compensated, CompensationFailed], CompensationFailed, CompensationFailed),
            (&[Compensating, CompensationFailed], CompensationFailed, Compensating),
        ];
        for (all, open, settled) in cases {
            let mut closings = Closings::default();
            all.iter().for_each(|closing| closings.enter(*closing));
            assert_eq!((closings.worst(false), closings.worst(true)), (open, settled), "{all:?}");
        }
        let mut retried = Closings::default();
        retried.enter(CompensationFailed);
        retried.leave(CompensationFailed);
        retried.enter(Compensating);
        assert_eq!(retried.worst(false), Compensating);
        retried.leave(Compensating);
        retried.enter(Compensated);
        assert_eq!(retried.worst(false), Compensated);
    }
}
