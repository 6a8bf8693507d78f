//! Consumers: functions whose trigger is an event.

use std::ops::{Deref, DerefMut};

use jiff::Timestamp;
use sapwood_core::retry::{OnExhausted, RetryPolicy};
use sapwood_core::{Dependencies, Event, EventId, Failure};
use serde::{Deserialize, Serialize};

use crate::cx::{Cx, StartHandle};
use crate::function::{Call, CallableFrom};

/// A consumer, implemented by a type of its function's name.
///
/// `#[sapwood::consumer]` writes it; authors meet it only in bounds.
pub trait Consumer: Send + Sync + 'static {
    /// The dependencies it takes, and by them its bounded context.
    type Dependencies: Dependencies;
    /// The event it consumes.
    type Event: Event;
    /// Its error.
    type Error: Failure;
    /// Its stable name.
    const NAME: &'static str;
    /// Its version.
    const VERSION: u32;
    /// Its doc comment.
    const DESCRIPTION: &'static str;
    /// Where its source is, as `file:line:column`.
    const LOCATION: &'static str = "";
    /// The group that gets each event once.
    const GROUP: &'static str;
    /// How often it is attempted before the event is a dead letter.
    const RETRY: RetryPolicy;
    /// What becomes of it when its attempts are over.
    const ON_EXHAUSTED: OnExhausted = OnExhausted::Reject;

    /// Runs its body.
    fn run<'a>(
        event: Delivered<Self::Event>,
        cx: &'a mut ConsumerCx<Self::Dependencies>,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'a;
}

/// An event as its consumer gets it; derefs to the event itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Delivered<E> {
    /// The event's identity, unique within its source.
    #[schemars(with = "String")]
    pub id: EventId,
    /// The context that emitted it, as a CloudEvents source.
    pub source: String,
    /// The key by which its order is kept.
    pub key: String,
    /// When it was emitted, if the producer says so.
    #[schemars(with = "Option<String>")]
    pub time: Option<Timestamp>,
    /// The event itself.
    pub content: E,
}

impl<E> Deref for Delivered<E> {
    type Target = E;

    fn deref(&self) -> &E {
        &self.content
    }
}

/// The `cx` of a consumer: all that a function's [`Cx`] has, and `start`.
pub struct ConsumerCx<D: Dependencies> {
    cx: Cx<D>,
}

impl<D: Dependencies> ConsumerCx<D> {
    pub(crate) fn new(cx: Cx<D>) -> Self {
        Self { cx }
    }

    /// Starts a new root of this context: a boundary of its own, linked to this event (H9).
    ///
    /// The root runs on by itself; awaiting the handle only waits until the root durably exists.
    ///
    /// # Errors
    /// The handle gives a `CallFailure` if the call's id belongs to a root with another function or input.
    #[track_caller]
    pub fn start<F: CallableFrom<D>>(&mut self, call: Call<F>) -> StartHandle {
        crate::cx::start(&mut self.cx, call)
    }
}

impl<D: Dependencies> Deref for ConsumerCx<D> {
    type Target = Cx<D>;

    fn deref(&self) -> &Cx<D> {
        &self.cx
    }
}

impl<D: Dependencies> DerefMut for ConsumerCx<D> {
    fn deref_mut(&mut self) -> &mut Cx<D> {
        &mut self.cx
    }
}
