//! The comparison of inputs: canonical JSON over the fields that were recorded (SEMANTICS R8, P5).

use serde_json::Value;
use sha2::{Digest, Sha256};

/// A digest of a value's canonical JSON (keys sorted, no white space). Equal digests are equal inputs; unequal ones
/// are decided by [`covers`].
#[must_use]
pub fn digest(value: &Value) -> [u8; 32] {
    // serde_json's map is a BTreeMap (the workspace does not enable `preserve_order`), so its text is canonical.
    Sha256::digest(value.to_string().as_bytes()).into()
}

/// Whether `now` says the same as `recorded` in every field that was recorded.
///
/// A field that only `now` has is compatible: it was added since, with a default. Anything else that differs is not.
#[must_use]
pub fn covers(recorded: &Value, now: &Value) -> bool {
    match (recorded, now) {
        (Value::Object(recorded), Value::Object(now)) => {
            recorded.iter().all(|(key, value)| now.get(key).is_some_and(|other| covers(value, other)))
        }
        (Value::Array(recorded), Value::Array(now)) => {
            recorded.len() == now.len() && recorded.iter().zip(now).all(|(a, b)| covers(a, b))
        }
        (recorded, now) => recorded == now,
    }
}

/// [`covers`] for texts. Equal bytes are not parsed, and a text that is not JSON equals only itself.
#[must_use]
pub fn covers_bytes(recorded: &[u8], now: &[u8]) -> bool {
    if recorded == now {
        return true;
    }
    match (serde_json::from_slice(recorded), serde_json::from_slice(now)) {
        (Ok(recorded), Ok(now)) => covers(&recorded, &now),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_added_field_is_compatible_and_a_changed_or_missing_one_is_not() {
        let recorded = json!({"card": "a", "lines": [{"sku": 1}]});
        assert!(covers(&recorded, &json!({"lines": [{"sku": 1, "gift": false}], "card": "a", "note": null})));
        assert!(!covers(&recorded, &json!({"card": "b", "lines": [{"sku": 1}]})));
        assert!(!covers(&recorded, &json!({"card": "a"})));
        assert!(!covers(&recorded, &json!({"card": "a", "lines": []})));
    }

    #[test]
    fn the_digest_ignores_the_order_of_keys() {
        let a: Value = serde_json::from_str(r#"{"x":1,"y":{"b":2,"a":3}}"#).expect("JSON");
        let b: Value = serde_json::from_str(r#"{"y":{"a":3,"b":2},"x":1}"#).expect("JSON");
        assert_eq!(digest(&a), digest(&b));
    }
}
