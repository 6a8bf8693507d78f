//! The attributes and derives an author writes.
