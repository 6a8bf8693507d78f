//! JSON Schemas of values that come from outside: made once for each type, and judged by.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::LazyLock;

use parking_lot::Mutex;
use sapwood_core::json::canonical;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;
use serde_json::value::RawValue;

/// The schemas that were made so far. A body may make a thousand promises of one type.
static MADE: LazyLock<Mutex<HashMap<TypeId, Box<RawValue>>>> = LazyLock::new(Mutex::default);

/// The JSON Schema of a type, without what every schema here has.
pub(crate) fn of<T: JsonSchema + 'static>() -> Box<RawValue> {
    let made = MADE.lock().get(&TypeId::of::<T>()).cloned();
    made.unwrap_or_else(|| {
        // Not under the lock: it is an author's code.
        let mut schema = SchemaGenerator::default().into_root_schema_for::<T>();
        schema.remove("$schema");
        let schema = serde_json::value::to_raw_value(&schema).unwrap_or_default();
        MADE.lock().insert(TypeId::of::<T>(), schema.clone());
        schema
    })
}

/// The canonical form of a value that fits a schema.
///
/// # Errors
/// In words, what does not fit, each with its place in the value.
pub(crate) fn fitting(schema: &str, value: &[u8]) -> Result<String, String> {
    if let Some(key) = canonical::reserved_key(value) {
        return Err(format!("the key `{key}` has a meaning of its own to its reader"));
    }
    let read: Value = serde_json::from_slice(value).map_err(|error| error.to_string())?;
    let canonical = canonical::canonical(value).ok_or("it is nested too deep")?;
    let schema: Value = serde_json::from_str(schema).map_err(|error| format!("its schema is not JSON: {error}"))?;
    let validator = jsonschema::validator_for(&schema).map_err(|error| format!("its schema is none: {error}"))?;
    let wrong: Vec<String> = validator
        .iter_errors(&read)
        .take(WRONG_MOST)
        .map(|error| match error.instance_path().as_str() {
            "" => error.to_string(),
            path => format!("`{path}`: {error}"),
        })
        .collect();
    if wrong.is_empty() { Ok(canonical) } else { Err(wrong.join("; ")) }
}

/// The most faults that are named: a value of another kind may have one in each of its fields.
const WRONG_MOST: usize = 5;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Approval {
        by: String,
        level: u8,
        #[serde(default)]
        notes: Vec<String>,
        kind: Kind,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
        Limited { cents: u64 },
    }

    fn fits(value: &str) -> Result<String, String> {
        fitting(of::<Approval>().get(), value.as_bytes())
    }

    #[test]
    fn a_value_that_fits_is_kept_as_it_was_written_without_white_space() {
        let value = r#" {"kind": {"limited": {"cents": 12345678901234567890}}, "level": 3, "by": "anna"} "#;
        let kept = r#"{"by":"anna","kind":{"limited":{"cents":12345678901234567890}},"level":3}"#;
        assert_eq!(fits(value), Ok(kept.to_owned()));
        // What is recorded is read by the type, which would refuse a key that stands there twice.
        let twice = r#"{"by":"anna","by":"berta","level":3,"kind":"plain"}"#;
        let kept = fits(twice).expect("it fits");
        assert_eq!(serde_json::from_str::<Approval>(&kept).expect("an approval").by, "berta");
        assert_eq!(of::<Approval>().get(), of::<Approval>().get());
    }

    #[test]
    fn a_value_that_does_not_fit_is_told_where() {
        for (value, place) in [
            ("7", "7 is not of type"),
            (r#"{"by":"anna","level":3}"#, "kind"),
            (r#"{"by":"anna","level":256,"kind":"plain"}"#, "`/level`"),
            (r#"{"by":7,"level":-1,"kind":"plain"}"#, "`/by`"),
            (r#"{"by":"anna","level":1,"kind":"plain","notes":[1]}"#, "`/notes/0`"),
            (r#"{"by":"anna","level":1,"kind":"other"}"#, "`/kind`"),
            (r#"{"by":"anna","level":1"#, "EOF"),
            (r#"{"by":"anna","level":1,"kind":"plain","$serde_json::private::RawValue":"1"}"#, "a meaning of its own"),
        ] {
            let why = fits(value).expect_err(value);
            assert!(why.contains(place), "{value}: {why}");
        }
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(fits(&deep).is_err());
    }
}
