//! Choreography: publishes a context's events, and starts a tree for each event that a consumer subscribes to.
//!
//! ```text
//!  outbox ──► relay ──► Broker ──► intake ──► Engine::intake: offsets, keys, new trees in one commit
//!  (commit    lanes,    Kafka, or            per group        (a consumer is a function whose trigger
//!   of trees)  in order  the store's log                       is an event)
//! ```
//!
//! | room | what is there |
//! |---|---|
//! | [`choreography`] | starts and ends the tasks of one context, and reports their health |
//! | [`cloud`] | events as CloudEvents in Kafka's binary mode, both ways; pure |
//! | `relay` | publishes the outbox; its plan, `relay::lanes`, is pure |
//! | `intake` | takes events in; its plan, `intake::plan`, is pure |
//! | [`groups`] | which consumers a context has, by group and type; pure |
//! | [`log_broker`] | the store's own log as a broker, the embedded default |
//! | `topics` | makes sure once that the topics exist |
//! | [`health`] | the health of all this, for operators |
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
pub use health::{ChoreographyHealth, IntakeHealth, RefusedEvent, RelayHealth, Setback, UnreadableEvent};
pub use log_broker::LogBroker;
