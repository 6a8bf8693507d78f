//! What goes over the wire. These are deliberately not the types of the core, because they are promised to clients.
//!
//! Times are RFC 3339 in UTC; lengths of time are milliseconds and say so in their names; values that authors defined
//! (inputs, results, errors) are embedded as the recorded JSON, without decoding it.

pub(crate) mod function;
pub(crate) mod health;
pub(crate) mod outcome;
pub(crate) mod problem;
pub(crate) mod schema;
pub(crate) mod state;
pub(crate) mod tree;

use bytes::Bytes;
use serde_json::value::RawValue;

/// A recorded value, unchanged.
///
/// All payloads are JSON. One that is not, because another program wrote it, is shown as text, so that the rest of its
/// tree stays readable.
pub(crate) fn raw(bytes: &Bytes) -> Box<RawValue> {
    let text = String::from_utf8_lossy(bytes);
    match RawValue::from_string(text.into_owned()) {
        Ok(raw) => raw,
        Err(_) => serde_json::value::to_raw_value(&String::from_utf8_lossy(bytes)).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_value_is_embedded_as_it_stands() {
        assert_eq!(raw(&Bytes::from_static(br#"{"b": 1.0,"a":2}"#)).get(), r#"{"b": 1.0,"a":2}"#);
        assert_eq!(raw(&Bytes::from_static(b"not json")).get(), r#""not json""#);
    }
}
