//! Choreography: how a context's events leave it, and how those of others begin trees in it.
//!
//! ```text
//!  outbox ──► relay ──► Broker ──► intake ──► Engine::intake: offsets, keys, new trees in one commit
//!  (commit    lanes,    Kafka, or            per group        (a consumer is a function whose trigger
//!   of trees)  in order  the store's log                       is an event)
//! ```
//!
//! | room | what is there |
//! |---|---|
//! | [`choreography`] | starts, shows and ends the tasks of one context |
//! | [`cloud`] | events as CloudEvents in Kafka's binary mode, both ways; pure |
//! | `relay` | publishes the outbox; its plan, `relay::lanes`, is pure |
//! | `intake` | takes events in; its plan, `intake::plan`, is pure |
//! | [`groups`] | which consumers a context has, by group and type; pure |
//! | [`log_broker`] | the store's own log as a broker, the embedded default |
//! | `topics` | makes sure of the topics, once |
//! | [`health`] | what an operator sees of all this |
//!
//! Nothing here waits for a consumer, and no tree waits for anything here (SEMANTICS E4, E5).

pub mod choreography;
pub mod cloud;
pub mod error;
pub mod groups;
pub mod health;
mod intake;
pub mod log_broker;
mod pace;
mod relay;

mod topics;

pub use choreography::{Choreography, ChoreographyOptions};
pub use error::LaunchError;
pub use health::{ChoreographyHealth, IntakeHealth, RefusedEvent, RelayHealth};
pub use log_broker::LogBroker;
