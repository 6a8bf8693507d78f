//! External promises: what is known of them, settling one, and what has settled and its owner has not heard of.
//!
//! A settle is one row and a moved inbox counter, in one commit under the lock of the tree's row; the owner gives it its
//! completion number. A turn that releases the tree names the counter, so no settle falls between a tree that is about to
//! be released and one that is due (S3).

use async_trait::async_trait;

use super::StoreResult;
use crate::control::{ControlRecord, ControlVerb};
use crate::tree::{PromiseRow, SettledPromise, Settlement};
use crate::{Path, TreeId};

/// External promises.
#[async_trait]
pub trait Promises {
    /// The promises of a tree, of one invocation or of all, of one name or of all, in the order of path and position. None is
    /// pending past its deadline: it is settled first, with [`TIMED_OUT`] (D3). `None` if there is no such tree.
    async fn promise_find(
        &self,
        tree: TreeId,
        path: Option<&Path>,
        name: Option<&str>,
    ) -> StoreResult<Option<Vec<PromiseRow>>>;

    /// Judges a settle by [`settle`] under the lock of the tree's row, after what is past its deadline was settled. If it wins, stores it with the next number of the
    /// tree's inbox counter, which moves there; a tree without an owner that is not set aside is due at once. `None` if
    /// there is no such tree.
    async fn promise_settle(
        &self,
        tree: TreeId,
        path: &Path,
        name: &str,
        settlement: &Settlement,
    ) -> StoreResult<Option<Settling>>;

    /// The promises of a tree that were settled after this number of its inbox counter, in that order. Those that are past
    /// their deadline by the store's clock are settled first (P4).
    async fn promise_inbox(&self, tree: TreeId, after: u32) -> StoreResult<Vec<SettledPromise>>;
}

/// The outcome of a promise that was settled by its deadline: only a store writes it (P4).
pub const TIMED_OUT: &[u8] = b"\"timed_out\"";

/// What became of a settle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settling {
    /// It is stored, and is the promise's outcome.
    Stored {
        /// The number that it gave the tree's inbox counter.
        inbox: u32,
    },
    /// The promise was settled before, and that outcome stands (P3).
    Settled(Box<SettledPromise>),
    /// Nobody awaits the promise any longer.
    Closed,
    /// The invocation has made no promise of this name.
    Unknown,
}

/// What becomes of a settle. `pending` are the requests that the owner of the tree has not carried out yet, `inbox` is the
/// tree's counter; all of it as of the lock of the tree's row.
#[must_use]
pub fn settle(found: Option<&PromiseRow>, pending: &[ControlRecord], inbox: u32) -> Settling {
    let Some(promise) = found else { return Settling::Unknown };
    if let Some(settled) = &promise.settled {
        return Settling::Settled(Box::new(settled.clone()));
    }
    if !promise.is_awaited || pending.iter().any(|record| reaches(record, &promise.path)) {
        return Settling::Closed;
    }
    Settling::Stored { inbox: inbox.wrapping_add(1) }
}

/// Whether a request that is still to be carried out ends the forward work of an invocation. Cancelling lets what undoes
/// something go on.
fn reaches(ControlRecord { request, .. }: &ControlRecord, path: &Path) -> bool {
    request.path.is_at_or_above(path)
        && match request.verb {
            ControlVerb::Kill => true,
            ControlVerb::Cancel => !path.undoes_below(&request.path),
            ControlVerb::Resume | ControlVerb::Retry => false,
        }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use jiff::Timestamp;

    use super::*;
    use crate::control::ControlRequest;
    use crate::tree::PromiseState;

    fn promise(path: &str) -> PromiseRow {
        PromiseRow {
            path: path.parse().expect("a path"),
            position: 4,
            name: "approval".to_owned(),
            made: Bytes::new(),
            made_at: Timestamp::UNIX_EPOCH,
            is_awaited: true,
            deadline: None,
            settled: None,
        }
    }

    fn pending(path: &str, verb: ControlVerb) -> ControlRecord {
        let path = path.parse().expect("a path");
        let request = ControlRequest { path, verb, actor: String::new(), reason: String::new() };
        ControlRecord { control: 1, request, requested_at: Timestamp::UNIX_EPOCH }
    }

    /// P2, P3: only a promise that is pending is settled; one that was settled before tells its outcome.
    #[test]
    fn only_a_pending_promise_is_settled() {
        let open = promise("/3");
        assert_eq!(settle(Some(&open), &[], 7), Settling::Stored { inbox: 8 });
        assert_eq!(settle(None, &[], 7), Settling::Unknown);
        let dropped = PromiseRow { is_awaited: false, ..open.clone() };
        assert_eq!(settle(Some(&dropped), &[], 7), Settling::Closed);
        let winner = SettledPromise {
            path: open.path.clone(),
            position: 4,
            name: open.name.clone(),
            state: PromiseState::Rejected,
            outcome: Bytes::from_static(b"{}"),
            settled_at: Timestamp::UNIX_EPOCH,
            inbox: 3,
        };
        for is_awaited in [true, false] {
            let settled = PromiseRow { is_awaited, settled: Some(winner.clone()), ..open.clone() };
            assert_eq!(settle(Some(&settled), &[], 7), Settling::Settled(Box::new(winner.clone())));
            assert_eq!(settled.state(), PromiseState::Rejected);
        }
        assert_eq!([open.state(), dropped.state()], [PromiseState::Pending, PromiseState::Cancelled]);
    }

    /// K3: what a request reaches goes forward no more, also before its owner has read the request.
    #[test]
    fn a_promise_that_a_request_reaches_is_not_settled() {
        use ControlVerb::{Cancel, Kill};
        let cases = [
            ("/", Cancel, "/3", true),
            ("/3", Cancel, "/3", true),
            ("/3", Kill, "/3/0", true),
            ("/3/0", Cancel, "/3", false),
            ("/4", Kill, "/3", false),
            ("/", Cancel, "/3/~7", false),
            ("/", Cancel, "/3/~7/0", false),
            ("/3/~7", Cancel, "/3/~7/0", true),
            ("/", Kill, "/3/~7", true),
        ];
        for (at, verb, path, is_closed) in cases {
            let expected = if is_closed { Settling::Closed } else { Settling::Stored { inbox: 1 } };
            assert_eq!(settle(Some(&promise(path)), &[pending(at, verb)], 0), expected, "{verb:?} {at}: {path}");
        }
    }
}
