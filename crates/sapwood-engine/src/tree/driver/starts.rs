//! The roots that consumers start: ordered by their bodies, made by the starter, recorded here.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use sapwood_core::Position;
use serde_json::value::RawValue;

use super::{Driver, End, Outside};
use crate::activation::StartOrder;
use crate::payload::{StartOutcome, Started};
use crate::tree::node::NodeId;

impl Driver {
    pub(super) fn start(&self, node: NodeId, position: Position, order: StartOrder) -> BoxFuture<'static, Outside> {
        let (services, facts) = (Arc::clone(&self.services), Arc::clone(&self.tree.facts));
        let path = self.tree.node(node).map(|node| node.path.clone()).unwrap_or_default();
        let (function, input) = (order.function, order.input.clone());
        Box::pin(async move {
            let outcome = services.starts.by_consumer(&facts, &path, position, order).await;
            Outside::Started { node, position, function, input, outcome }
        })
    }

    /// A start has ended; it was not made if there is no outcome.
    pub(super) fn has_started(
        &mut self,
        node: NodeId,
        position: Position,
        function: &'static str,
        input: &Bytes,
        outcome: Option<StartOutcome>,
    ) {
        // The attempt that ordered the start may be over; then nothing waits for it.
        let is_awaited = self.bodies.get(&node).is_some_and(|body| body.awaits_start(position));
        match outcome.and_then(|outcome| started(input, outcome)) {
            Some(started) if is_awaited => {
                self.end(node, End::Start { position, function, started });
                self.queue(node);
            }
            Some(_) => {}
            // The start was not made; if the body still awaits it, its handle orders it again.
            // It is told now: nothing is recorded for it, so no hold may keep it back.
            None => {
                self.tree.start_failed(node, position);
                if let Some((_, work)) = self.tell(node) {
                    self.tree.set_work(node, work);
                    self.queue(node);
                }
            }
        }
    }
}

/// The record of a start; `None` if its input is not JSON, which its encoding rules out.
fn started(input: &[u8], outcome: StartOutcome) -> Option<Started> {
    let input = RawValue::from_string(String::from_utf8(input.to_vec()).ok()?).ok()?;
    Some(Started { input, outcome })
}
