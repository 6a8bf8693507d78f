//! Governing a tree from outside: requests for one of its invocations and all below it, which its owner carries out.
//!
//! A request is one row and a moved control counter, in one commit under the lock of the tree's row. From then on each
//! commit of the owner is refused, until it has read the request (K3): its next commit carries the request out, and says
//! so by the counter that it names.

use async_trait::async_trait;

use super::StoreResult;
use crate::TreeId;
use crate::control::{ControlRecord, ControlRequest, ControlVerb};
use crate::tree::{PromiseState, TreeState};

/// Governs trees.
#[async_trait]
pub trait Governing {
    /// Judges a request by [`judge`] under the lock of the tree's row. If it is accepted, records it with the next number
    /// of the tree's control counter, which moves there; a tree without an owner is due at once. `None` if there is no
    /// such tree.
    async fn tree_govern(&self, tree: TreeId, request: &ControlRequest) -> StoreResult<Option<Ruling>>;
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It can change something: it is recorded, and will be carried out.
    Accepted {
        /// The number that it has.
        control: u32,
    },
    /// It would change nothing; nothing is recorded.
    NoEffect(NoEffect),
    /// The tree has no such invocation.
    UnknownNode,
}

/// Why a request changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoEffect {
    /// The invocation has its outcome already, and nothing of it is left to do.
    Settled(PromiseState),
    /// Its outcome is decided; what is left to do is only to close (K6).
    Decided(PromiseState),
    /// The same, or more, was asked for before.
    Requested,
}

/// What is known of a tree when a request is judged, all of it as of the lock of the tree's row.
#[derive(Debug, Clone, Copy)]
pub struct Governed<'g> {
    /// The tree's state.
    pub state: TreeState,
    /// The last request that was made for it.
    pub control: u32,
    /// The promise of the invocation that the request names; `None` if there is none.
    pub promise: Option<PromiseState>,
    /// The requests that the owner has not carried out yet.
    pub pending: &'g [ControlRecord],
}

/// What becomes of a request.
#[must_use]
pub fn judge(governed: Governed<'_>, request: &ControlRequest) -> Ruling {
    let Some(promise) = governed.promise else { return Ruling::UnknownNode };
    if governed.state.is_closed() || promise.is_closed() {
        return Ruling::NoEffect(NoEffect::Settled(promise));
    }
    let includes = |before: &ControlRecord| {
        before.request.path.is_at_or_above(&request.path)
            && (before.request.verb == request.verb || before.request.verb == ControlVerb::Kill)
    };
    if governed.pending.iter().any(includes) {
        return Ruling::NoEffect(NoEffect::Requested);
    }
    match (request.verb, promise) {
        (ControlVerb::Cancel, PromiseState::Pending) | (ControlVerb::Kill, _) => {
            Ruling::Accepted { control: governed.control.wrapping_add(1) }
        }
        (ControlVerb::Cancel, decided) => Ruling::NoEffect(NoEffect::Decided(decided)),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn request(path: &str, verb: ControlVerb) -> ControlRequest {
        ControlRequest { path: path.parse().expect("a path"), verb, actor: String::new(), reason: String::new() }
    }

    fn pending(path: &str, verb: ControlVerb) -> Vec<ControlRecord> {
        vec![ControlRecord { control: 1, request: request(path, verb), requested_at: Timestamp::UNIX_EPOCH }]
    }

    /// K6: a request is accepted if and only if it can change something.
    #[test]
    fn a_request_is_accepted_if_it_can_change_something() {
        use ControlVerb::{Cancel, Kill};
        use PromiseState::{
            Cancelled, Cancelling, Pending, Rejected, Resolved, ReturnedErr, ReturnedOk, TimedOut, TimingOut,
        };
        let no = |why| Ruling::NoEffect(why);
        for promise in
            [Pending, ReturnedOk, ReturnedErr, Cancelling, TimingOut, Resolved, Rejected, Cancelled, TimedOut]
        {
            for verb in [Cancel, Kill] {
                let governed =
                    Governed { state: TreeState::Suspended, control: 6, promise: Some(promise), pending: &[] };
                let expected = match (promise, verb) {
                    (Resolved | Rejected | Cancelled | TimedOut, _) => no(NoEffect::Settled(promise)),
                    (Pending, _) | (_, Kill) => Ruling::Accepted { control: 7 },
                    (_, Cancel) => no(NoEffect::Decided(promise)),
                };
                assert_eq!(judge(governed, &request("/1", verb)), expected, "{verb:?} of {promise:?}");
            }
        }
        let none = Governed { state: TreeState::Suspended, control: 6, promise: None, pending: &[] };
        assert_eq!(judge(none, &request("/1", Cancel)), Ruling::UnknownNode);
        let over = Governed { state: TreeState::Rejected, control: 6, promise: Some(Rejected), pending: &[] };
        assert_eq!(judge(over, &request("/", Kill)), no(NoEffect::Settled(Rejected)));
    }

    /// K6: what was asked for before, here or above, is not asked for again; more than it is.
    #[test]
    fn a_request_that_is_included_in_an_earlier_one_changes_nothing() {
        use ControlVerb::{Cancel, Kill};
        let cases = [
            ("/1", Cancel, "/1", Cancel, true),
            ("/1", Cancel, "/1/2", Cancel, true),
            ("/", Cancel, "/1", Cancel, true),
            ("/1", Kill, "/1", Cancel, true),
            ("/1", Cancel, "/1", Kill, false),
            ("/1/2", Cancel, "/1", Cancel, false),
            ("/1", Cancel, "/12", Cancel, false),
            ("/1", Cancel, "/2", Cancel, false),
        ];
        for (before, verb_before, path, verb, is_included) in cases {
            let pending = pending(before, verb_before);
            let governed = Governed {
                state: TreeState::Running,
                control: 6,
                promise: Some(PromiseState::Pending),
                pending: &pending,
            };
            let expected =
                if is_included { Ruling::NoEffect(NoEffect::Requested) } else { Ruling::Accepted { control: 7 } };
            assert_eq!(
                judge(governed, &request(path, verb)),
                expected,
                "{verb:?} {path} after {verb_before:?} {before}"
            );
        }
    }
}
