//! Values as JSON: written so that they can be read back, and compared as they are written (SEMANTICS R6, R8, P5).

pub mod canonical;
mod strict;

pub use strict::{MAX_DEPTH, NotRecordable, to_vec};
