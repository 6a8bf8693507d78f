//! What goes over the wire. These are deliberately not the types of the core, because they are promised to clients.
//!
//! Times are RFC 3339 in UTC; lengths of time are milliseconds and say so in their names; values that authors defined
//! (inputs, results, errors) are embedded as the recorded JSON, without decoding it.

pub(crate) mod control;
pub(crate) mod function;
pub(crate) mod health;
pub(crate) mod outcome;
pub(crate) mod problem;
pub(crate) mod promise;
pub(crate) mod schema;
pub(crate) mod state;
pub(crate) mod tree;

use bytes::Bytes;
use sapwood_engine::plain;
use serde_json::value::RawValue;

/// A recorded value, unchanged.
///
/// Stored forms are plain JSON. One that is not, because another program wrote it, is shown as text, and one of a codec
/// that this build does not know as what is wrong with it, so that the rest of its tree stays readable.
pub(crate) fn raw(bytes: &Bytes) -> Box<RawValue> {
    let text = match plain(bytes) {
        Ok(json) => String::from_utf8_lossy(json),
        Err(error) => format!("not readable: {error}").into(),
    };
    match RawValue::from_string(text.clone().into_owned()) {
        Ok(raw) => raw,
        Err(_) => serde_json::value::to_raw_value(&text).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recorded_value_is_embedded_as_it_stands() {
        assert_eq!(raw(&Bytes::from_static(br#"{"b": 1.0,"a":2}"#)).get(), r#"{"b": 1.0,"a":2}"#);
        assert_eq!(raw(&Bytes::from_static(b"not json")).get(), r#""not json""#);
        let unknown = raw(&Bytes::from_static(b"\x01\xff"));
        assert!(unknown.get().contains("not readable") && unknown.get().contains("codec 0x01"), "{unknown}");
    }
}
