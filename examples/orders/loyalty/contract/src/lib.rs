//! What other contexts know of loyalty: its name. It publishes nothing yet.

use sapwood_core::BoundedContext;

/// The loyalty context.
#[derive(BoundedContext)]
#[context(name = "loyalty")]
pub struct Loyalty;
