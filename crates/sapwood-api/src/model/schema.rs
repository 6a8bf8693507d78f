//! JSON Schemas of functions, rearranged so that a reader sees the shape first.

use serde_json::{Map, Value};

/// If the schema is only a reference to one of its own definitions, returns that definition, with the others beside it.
///
/// A type that contains itself stays a reference, because its definition is needed under its name.
pub(crate) fn inlined(mut schema: Value) -> Value {
    let Some(root) = schema.as_object_mut() else { return schema };
    let Some(name) = root.get("$ref").and_then(Value::as_str).and_then(definition_of) else { return schema };
    let Some(Value::Object(definitions)) = root.get_mut("$defs") else { return schema };
    if definitions.values().any(|definition| refers(definition, &name)) {
        return schema;
    }
    let Some(Value::Object(mut whole)) = definitions.remove(&name) else { return schema };
    root.remove("$ref");
    // A keyword beside the reference describes this use, so it replaces that of the definition.
    whole.append(root);
    if whole.get("$defs").and_then(Value::as_object).is_some_and(Map::is_empty) {
        whole.remove("$defs");
    }
    Value::Object(whole)
}

/// The name of the definition that a reference within a schema points to.
pub(crate) fn definition_of(reference: &str) -> Option<String> {
    // JSON Pointer escapes.
    reference.strip_prefix("#/$defs/").map(|name| name.replace("~1", "/").replace("~0", "~"))
}

fn refers(schema: &Value, name: &str) -> bool {
    match schema {
        Value::Object(object) => object.iter().any(|(key, value)| match value.as_str().and_then(definition_of) {
            Some(definition) if key == "$ref" => definition == name,
            _ => refers(value, name),
        }),
        Value::Array(items) => items.iter().any(|item| refers(item, name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bare_reference_is_replaced_by_what_it_means() {
        let schema = json!({"$ref": "#/$defs/F", "$defs": {
            "F": {"type": "object", "properties": {"order": {"$ref": "#/$defs/Order"}}}, "Order": {"type": "string"},
        }});
        let expected = json!({"type": "object", "properties": {"order": {"$ref": "#/$defs/Order"}}, "$defs": {
            "Order": {"type": "string"},
        }});
        assert_eq!(inlined(schema), expected);
        assert_eq!(inlined(json!({"$ref": "#/$defs/F", "$defs": {"F": {"type": "null"}}})), json!({"type": "null"}));
    }

    #[test]
    fn a_type_that_contains_itself_stays_a_reference() {
        let schema =
            json!({"$ref": "#/$defs/List", "$defs": {"List": {"properties": {"next": {"$ref": "#/$defs/List"}}}}});
        assert_eq!(inlined(schema.clone()), schema);
    }
}
