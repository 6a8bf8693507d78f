//! Turns errors of the log's store into errors of a broker.

use sapwood_core::broker::{BrokerError, BrokerErrorKind};
use sapwood_core::store::{StoreError, StoreErrorKind};

pub(super) const fn kind_of(kind: StoreErrorKind) -> BrokerErrorKind {
    match kind {
        StoreErrorKind::Connection | StoreErrorKind::Transient => BrokerErrorKind::Passing,
        StoreErrorKind::Permanent | StoreErrorKind::Unreadable | StoreErrorKind::Refused => BrokerErrorKind::Refused,
        StoreErrorKind::Fenced => BrokerErrorKind::Fatal,
    }
}

pub(super) fn broker_error(error: StoreError) -> BrokerError {
    BrokerError::new(kind_of(error.kind()), format!("the log's store: {error}")).caused_by(error)
}
