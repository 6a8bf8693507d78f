//! Governing a tree from outside: requests for one of its invocations and all below it, which its owner carries out.
//!
//! A request is one row and a moved control counter, in one commit under the lock of the tree's row. From then on each
//! commit of the owner is refused, until it has read the request (K3): its next commit carries the request out, and says
//! so by the counter that it names.

use std::fmt;

use async_trait::async_trait;

use super::StoreResult;
use crate::control::{ControlRecord, ControlRequest, ControlVerb};
use crate::tree::{Closing, PromiseState};
use crate::{Path, TreeId};

/// Governs trees.
#[async_trait]
pub trait Governing {
    /// Judges a request by [`judge`] under the lock of the tree's row. If it is accepted, records it with the next number
    /// of the tree's control counter, which moves there; a tree without an owner is due at once, one that was set aside too. A
    /// settled tree in which something is undone again has [`Closing::Compensating`] from then on. `None` if there is no
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
    /// The invocation has its outcome already, which never changes, and nothing of it is left to do (P2).
    Settled(PromiseState),
    /// Its outcome is decided; what is left to do is only to close (K6).
    Decided(PromiseState),
    /// The same, or more, was asked for before.
    Requested,
    /// Nothing of it is parked, so it goes on by itself.
    NotParked,
}

impl NoEffect {
    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Settled(_) => "settled",
            Self::Decided(_) => "decided",
            Self::Requested => "requested",
            Self::NotParked => "not_parked",
        }
    }
}

impl fmt::Display for NoEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settled(promise) => {
                write!(f, "it is {}: an outcome never changes, and nothing of it is left to do", promise.name())
            }
            Self::Decided(promise) => {
                write!(f, "it is {}: its outcome is decided and stands, and it only closes", promise.name())
            }
            Self::Requested => f.write_str("the same, or more, was asked for before and is carried out"),
            Self::NotParked => f.write_str(
                "nothing of it is parked, and no compensation of it has failed: it runs, waits, or tries again by itself",
            ),
        }
    }
}

/// What is known of a tree when a request is judged, all of it as of the lock of the tree's row.
#[derive(Debug, Clone, Copy)]
pub struct Governed<'g> {
    /// The last request that was made for it.
    pub control: u32,
    /// It was set aside, and nothing brings it back yet.
    pub is_aside: bool,
    /// Of its invocations the one that the request names, if it is there, and those that are parked, compensate, or whose
    /// compensation has failed; for one that undoes something also the one of the next round.
    pub nodes: &'g [GovernedNode],
    /// The requests that the owner has not carried out yet.
    pub pending: &'g [ControlRecord],
}

/// What is known of an invocation when a request is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GovernedNode {
    /// Its place in the tree.
    pub path: Path,
    /// The state of its promise.
    pub promise: PromiseState,
    /// How far its compensation has come.
    pub closing: Closing,
    /// Whether it is parked.
    pub is_parked: bool,
}

impl Governed<'_> {
    fn node(&self, path: &Path) -> Option<&GovernedNode> {
        self.nodes.iter().find(|node| node.path == *path)
    }

    /// Whether the invocation at a path, or one below it, is so.
    fn has(&self, path: &Path, is_so: impl Fn(&GovernedNode) -> bool) -> bool {
        self.nodes.iter().any(|node| path.is_at_or_above(&node.path) && is_so(node))
    }

    /// Whether the invocation at a path undid something in its last round, and failed.
    fn is_failed_undo(&self, node: &GovernedNode) -> bool {
        let parent = node.path.parent().filter(|_| node.path.undoes().is_some());
        let has_failed = parent.and_then(|parent| self.node(&parent)).is_some_and(GovernedNode::has_failed);
        let was_next = node.path.undo_again().is_some_and(|next| self.node(&next).is_some());
        has_failed && node.promise.is_closed() && node.promise != PromiseState::Resolved && !was_next
    }
}

impl GovernedNode {
    /// Whether it is of interest to a request that names another invocation: it is parked, compensates, or its compensation
    /// has failed.
    #[must_use]
    pub const fn is_governable(&self) -> bool {
        self.is_parked || matches!(self.closing, Closing::Compensating | Closing::CompensationFailed)
    }

    fn has_failed(&self) -> bool {
        self.closing == Closing::CompensationFailed
    }

    fn compensates_again(&self) -> bool {
        self.promise.is_closed() && self.closing == Closing::Compensating
    }
}

/// What becomes of a request.
#[must_use]
pub fn judge(governed: Governed<'_>, request: &ControlRequest) -> Ruling {
    let path = &request.path;
    let Some(node) = governed.node(path) else { return Ruling::UnknownNode };
    let brings_back = matches!(request.verb, ControlVerb::Resume | ControlVerb::Retry)
        && governed.is_aside
        && node.path == Path::root();
    if governed.pending.iter().any(|before| includes(&before.request, request)) && !brings_back {
        return Ruling::NoEffect(NoEffect::Requested);
    }
    let can_change = match request.verb {
        ControlVerb::Cancel => node.promise == PromiseState::Pending,
        ControlVerb::Kill => !node.promise.is_closed() || governed.has(path, GovernedNode::compensates_again),
        ControlVerb::Resume => brings_back || governed.has(path, |node| node.is_parked),
        ControlVerb::Retry => {
            brings_back
                || governed.has(path, |node| node.is_parked || node.has_failed())
                || governed.is_failed_undo(node)
        }
    };
    if can_change {
        return Ruling::Accepted { control: governed.control.wrapping_add(1) };
    }
    Ruling::NoEffect(match (request.verb, node.promise) {
        (_, promise) if promise.is_closed() && !governed.has(path, GovernedNode::compensates_again) => {
            NoEffect::Settled(promise)
        }
        (ControlVerb::Resume | ControlVerb::Retry, PromiseState::Pending) => NoEffect::NotParked,
        (_, decided) => NoEffect::Decided(decided),
    })
}

/// Whether a request asks for nothing that one before it, which is still to be carried out, does not ask for.
fn includes(before: &ControlRequest, request: &ControlRequest) -> bool {
    let asks_for_more = match request.verb {
        ControlVerb::Cancel => before.verb == ControlVerb::Kill,
        ControlVerb::Resume => before.verb == ControlVerb::Retry,
        ControlVerb::Kill | ControlVerb::Retry => false,
    };
    before.path.is_at_or_above(&request.path) && (before.verb == request.verb || asks_for_more)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    const PROMISES: &[PromiseState] = PromiseState::ALL;

    fn path(text: &str) -> Path {
        text.parse().expect("a path")
    }

    fn request(at: &str, verb: ControlVerb) -> ControlRequest {
        ControlRequest { path: path(at), verb, actor: String::new(), reason: String::new() }
    }

    fn pending(at: &str, verb: ControlVerb) -> Vec<ControlRecord> {
        vec![ControlRecord { control: 1, request: request(at, verb), requested_at: Timestamp::UNIX_EPOCH }]
    }

    fn node(at: &str, promise: PromiseState, closing: Closing) -> GovernedNode {
        GovernedNode { path: path(at), promise, closing, is_parked: false }
    }

    fn parked(at: &str, promise: PromiseState) -> GovernedNode {
        GovernedNode { is_parked: true, ..node(at, promise, Closing::None) }
    }

    fn governed(nodes: &[GovernedNode]) -> Governed<'_> {
        Governed { control: 6, is_aside: false, nodes, pending: &[] }
    }

    const ACCEPTED: Ruling = Ruling::Accepted { control: 7 };

    fn no(why: NoEffect) -> Ruling {
        Ruling::NoEffect(why)
    }

    /// K6: a request is accepted if and only if it can change something.
    #[test]
    fn a_request_is_accepted_if_it_can_change_something() {
        use ControlVerb::{Cancel, Kill, Resume, Retry};
        for promise in PROMISES.iter().copied() {
            for verb in ControlVerb::ALL.iter().copied() {
                let expected = match (promise, verb) {
                    (promise, _) if promise.is_closed() => no(NoEffect::Settled(promise)),
                    (PromiseState::Pending, Cancel) | (_, Kill) => ACCEPTED,
                    (PromiseState::Pending, Resume | Retry) => no(NoEffect::NotParked),
                    (_, Cancel | Resume | Retry) => no(NoEffect::Decided(promise)),
                };
                let nodes = [node("/1", promise, Closing::None)];
                assert_eq!(judge(governed(&nodes), &request("/1", verb)), expected, "{verb:?} of {promise:?}");
            }
        }
        assert_eq!(judge(governed(&[]), &request("/1", Cancel)), Ruling::UnknownNode);
    }

    /// R9, F8: what is parked is resumed and retried, by its own path or by one above it.
    #[test]
    fn what_is_parked_is_resumed_and_retried() {
        use PromiseState::{Pending, Resolved, ReturnedErr};
        for promise in [Pending, ReturnedErr] {
            let nodes = [node("/", Pending, Closing::None), parked("/1", promise), node("/2", Pending, Closing::None)];
            for verb in [ControlVerb::Resume, ControlVerb::Retry] {
                for (at, expected) in [("/", ACCEPTED), ("/1", ACCEPTED), ("/2", no(NoEffect::NotParked))] {
                    assert_eq!(judge(governed(&nodes), &request(at, verb)), expected, "{verb:?} {at}");
                }
            }
        }
        let over = [node("/", Resolved, Closing::None)];
        assert_eq!(judge(governed(&over), &request("/", ControlVerb::Retry)), no(NoEffect::Settled(Resolved)));
    }

    /// C4: a tree that was set aside comes back, whatever was asked for before.
    #[test]
    fn a_tree_that_was_set_aside_is_brought_back() {
        let (nodes, before) = ([node("/", PromiseState::Pending, Closing::None)], pending("/", ControlVerb::Resume));
        let aside = Governed { is_aside: true, pending: &before, ..governed(&nodes) };
        assert_eq!(judge(aside, &request("/", ControlVerb::Resume)), ACCEPTED);
        let due = Governed { is_aside: false, ..aside };
        assert_eq!(judge(due, &request("/", ControlVerb::Resume)), no(NoEffect::Requested));
    }

    /// K2, P2: a compensation that failed is retried by the path of the undo, of its caller, and of the tree, also when all
    /// of these are settled; what is undone already, and what is being undone again, is not.
    #[test]
    fn a_compensation_that_failed_is_retried() {
        use Closing::{Compensated, Compensating, CompensationFailed, None};
        use ControlVerb::{Cancel, Kill, Retry};
        use PromiseState::{Rejected, Resolved};
        let of_saga = |closing, undo, next: Option<PromiseState>| {
            let next = next.map(|next| node("/1/~3.2", next, None));
            let nodes = [node("/", Resolved, None), node("/1", Rejected, closing), node("/1/~3", undo, None)];
            nodes.into_iter().chain(next).collect::<Vec<_>>()
        };
        let asks = |nodes: &[GovernedNode], at, verb| judge(governed(nodes), &request(at, verb));
        let failed = of_saga(CompensationFailed, Rejected, Option::None);
        for at in ["/", "/1", "/1/~3"] {
            assert_eq!(asks(&failed, at, Retry), ACCEPTED, "{at}");
            assert_eq!(asks(&failed, at, Kill), no(NoEffect::Settled(if at == "/" { Resolved } else { Rejected })));
        }
        for (nodes, undo) in [
            (of_saga(Compensated, Rejected, Some(Resolved)), Rejected),
            (of_saga(CompensationFailed, Rejected, Some(Rejected)), Rejected),
            (of_saga(CompensationFailed, Resolved, Option::None), Resolved),
        ] {
            assert_eq!(asks(&nodes, "/1/~3", Retry), no(NoEffect::Settled(undo)), "{nodes:?}");
        }
        let again = of_saga(Compensating, Rejected, Some(PromiseState::Pending));
        assert_eq!(asks(&again, "/1", Retry), no(NoEffect::Decided(Rejected)));
        assert_eq!(asks(&again, "/", Cancel), no(NoEffect::Decided(Resolved)));
        assert_eq!(asks(&again, "/", Kill), ACCEPTED, "nothing but a kill stops it");
    }

    /// K6: what was asked for before, here or above, is not asked for again; more than it is.
    #[test]
    fn a_request_that_is_included_in_an_earlier_one_changes_nothing() {
        use ControlVerb::{Cancel, Kill, Resume, Retry};
        let cases = [
            ("/1", Cancel, "/1", Cancel, true),
            ("/1", Cancel, "/1/2", Cancel, true),
            ("/", Cancel, "/1", Cancel, true),
            ("/1", Kill, "/1", Cancel, true),
            ("/1", Cancel, "/1", Kill, false),
            ("/1/2", Cancel, "/1", Cancel, false),
            ("/1", Cancel, "/12", Cancel, false),
            ("/1", Cancel, "/2", Cancel, false),
            ("/", Resume, "/1", Resume, true),
            ("/1", Retry, "/1", Resume, true),
            ("/1", Resume, "/1", Retry, false),
            ("/1", Resume, "/1", Cancel, false),
            ("/1", Kill, "/1", Resume, false),
        ];
        for (before, verb_before, at, verb, is_included) in cases {
            let nodes = [parked(at, PromiseState::Pending)];
            let before_it = pending(before, verb_before);
            let governed = Governed { pending: &before_it, ..governed(&nodes) };
            let expected = if is_included { no(NoEffect::Requested) } else { ACCEPTED };
            assert_eq!(judge(governed, &request(at, verb)), expected, "{verb:?} {at} after {verb_before:?} {before}");
        }
    }

    #[test]
    fn each_reason_has_its_code_and_says_what_is_so() {
        let reasons = [
            NoEffect::Settled(PromiseState::Rejected),
            NoEffect::Decided(PromiseState::ReturnedErr),
            NoEffect::Requested,
            NoEffect::NotParked,
        ];
        let codes: std::collections::BTreeSet<_> = reasons.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), reasons.len());
        assert!(reasons[0].to_string().starts_with("it is rejected: an outcome never changes"));
    }
}
