//! Random numbers: for jitter, and for the values that functions draw.

use uuid::Uuid;

/// A random number, uniform over all 64 bits.
pub(crate) fn number() -> u64 {
    // The upper 48 bits and the lower 16 of a version 4 UUID are random; version and variant lie between.
    let bits = Uuid::new_v4().as_u128();
    ((bits >> 80) as u64) << 16 | (bits as u64 & 0xffff)
}

/// A random fraction in `0.0..1.0`.
pub(crate) fn fraction() -> f64 {
    (number() >> 11) as f64 / (1_u64 << 53) as f64
}
