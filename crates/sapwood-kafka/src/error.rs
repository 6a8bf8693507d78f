//! Classifies librdkafka's errors.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use sapwood_core::broker::{BrokerError, BrokerErrorKind};

/// A passing error.
pub(crate) fn passing(message: impl Into<String>) -> BrokerError {
    BrokerError::new(BrokerErrorKind::Passing, message)
}

/// An error after which the client can no longer be used.
pub(crate) fn fatal(message: impl Into<String>) -> BrokerError {
    BrokerError::new(BrokerErrorKind::Fatal, message)
}

/// `error` with what was being done, classified by its code.
pub(crate) fn while_doing(doing: impl Into<String>, error: KafkaError) -> BrokerError {
    let kind = match &error {
        // The settings, or a name that is not valid.
        KafkaError::ClientConfig(..) | KafkaError::ClientCreation(_) | KafkaError::Nul(_) => BrokerErrorKind::Refused,
        KafkaError::Canceled => BrokerErrorKind::Passing,
        // `rdkafka_error_code` does not cover this one.
        KafkaError::AdminOp(code) => kind_of(*code),
        other => other.rdkafka_error_code().map_or(BrokerErrorKind::Fatal, kind_of),
    };
    BrokerError::new(kind, doing).caused_by(error)
}

/// The kind of a code.
///
/// Only an error that is known to be permanent is `Refused`; one that is not listed here may pass.
pub(crate) fn kind_of(code: Code) -> BrokerErrorKind {
    match code {
        Code::MessageSizeTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidRecord
        | Code::PolicyViolation
        | Code::InvalidTopic
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidArgument => BrokerErrorKind::Refused,
        Code::Fatal | Code::Fenced | Code::FencedInstanceId => BrokerErrorKind::Fatal,
        _ => BrokerErrorKind::Passing,
    }
}
