//! The OpenAPI document: the routes, and a path for each function of the contexts that are served.
//!
//! The routes describe themselves (utoipa). Functions are known only at run time, so this module writes their paths:
//! one for each function that a request can start, with the JSON Schemas of its parameters, result and error as
//! components `{context}.{function}.input`, `.output`, `.error` and `.outcome`. Types that schemas share within a
//! context are components `{context}.{Type}`. The text depends on the functions alone, because keys are sorted.

use std::collections::{BTreeMap, BTreeSet};

use sapwood_engine::{Definition, Registry};
use serde_json::{Map, Value, json};

use crate::model::function::{is_startable, start_url};
use crate::model::schema::{definition_of, inlined};
use crate::problem::Code;

/// The OpenAPI 3.1 document of the `routes` and of these contexts (name and functions), as indented JSON.
pub(crate) fn with_functions(routes: &utoipa::openapi::OpenApi, contexts: &[(&str, &Registry)]) -> String {
    let mut document = serde_json::to_value(routes).unwrap_or_default();
    describe_problems(&mut document);
    let generic = document["paths"][START_PATH]["post"].clone();
    let mut components = Components::default();
    let mut tags = Vec::new();

    let contexts: BTreeMap<_, _> = contexts.iter().copied().collect();
    for (context, registry) in &contexts {
        tags.push(json!({"name": context, "description": format!("The functions of context `{context}`.")}));
        for function in registry.functions().filter(|function| is_startable(registry, function)) {
            components.function(context, function);
            let path = start_url(context, function.name);
            document["paths"][path] = json!({"post": start_operation(context, function, &generic)});
        }
    }

    if let Some(all) = document["tags"].as_array_mut() {
        all.extend(tags);
    }
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        schemas.extend(components.schemas);
    }
    name_contexts(&mut document, &contexts.keys().copied().collect::<Vec<_>>());
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    text
}

/// The generic route that starts a function; its operation is the pattern for those of single functions.
const START_PATH: &str = "/v1/{context}/functions/{name}";
/// Where references to components point.
const COMPONENT: &str = "#/components/schemas/";

/// The operation that starts one function: the generic one, with names and schemas in place of parameters.
fn start_operation(context: &str, function: &Definition, generic: &Value) -> Value {
    let mut operation = generic.clone();
    let (summary, more) = function.description.split_once("\n\n").unwrap_or((function.description, ""));
    let summary = summary.split_whitespace().collect::<Vec<_>>().join(" ");
    let component = |part: &str| format!("{COMPONENT}{context}.{}.{part}", function.name);

    operation["tags"] = json!([context]);
    operation["operationId"] = json!(format!("{context}.{}.start", function.name));
    operation["summary"] = if summary.is_empty() { json!(function.name) } else { json!(summary) };
    operation["description"] = json!(
        format!(
            "{more}\n\nStarts `{}@{}`. Its outcome, at `tree_result`, has the shape of schema `{context}.{}.outcome`.",
            function.name, function.version, function.name
        )
        .trim_start()
    );
    operation["requestBody"]["content"]["application/json"]["schema"] = json!({"$ref": component("input")});
    if let Some(parameters) = operation["parameters"].as_array_mut() {
        parameters.retain(|parameter| parameter["in"] != "path");
    }
    for status in ["200", "201"] {
        operation["responses"][status]["links"] = json!({
            "outcome": {
                "operationId": "tree_result",
                "parameters": {"context": context, "id": "$response.body#/tree"},
                "description": format!("Its value or error is of schema `{context}.{}.outcome`.", function.name),
            },
        });
    }
    operation
}

/// Completes the responses that are problems, because their handlers only name the codes in the description.
fn describe_problems(document: &mut Value) {
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    for (path, item) in paths {
        for (_, operation) in item.as_object_mut().into_iter().flatten() {
            let Some(responses) = operation["responses"].as_object_mut() else { continue };
            if path.starts_with("/v1/") {
                responses.entry("500".to_owned()).or_insert_with(|| json!({"description": "`internal`"}));
            }
            for response in responses.values_mut() {
                let codes = codes_in(response["description"].as_str().unwrap_or_default());
                if !codes.is_empty() {
                    let examples: Map<_, _> =
                        codes.iter().map(|code| (code.name().to_owned(), example(*code))).collect();
                    let schema = json!({"$ref": format!("{COMPONENT}Problem")});
                    response["content"] = json!({"application/problem+json": {"schema": schema, "examples": examples}});
                }
            }
        }
    }
}

/// The codes that a description names between backticks.
fn codes_in(description: &str) -> Vec<Code> {
    description.split('`').skip(1).step_by(2).filter_map(Code::from_name).collect()
}

fn example(code: Code) -> Value {
    let body = json!({
        "type": code.uri(), "title": code.title(), "status": code.status().as_u16(), "code": code.name(),
        "detail": code.help(),
    });
    json!({"value": body})
}

/// Lists in every parameter `context` the contexts that exist.
fn name_contexts(document: &mut Value, names: &[&str]) {
    if names.is_empty() {
        return;
    }
    let operations = document["paths"].as_object_mut().into_iter().flatten();
    for operation in operations.filter_map(|(_, item)| item.as_object_mut()).flatten().map(|(_, operation)| operation) {
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            if parameter["name"] == "context" && parameter["in"] == "path" {
                parameter["schema"]["enum"] = json!(names);
            }
        }
    }
}

/// The schemas of functions, as components of the document.
#[derive(Default)]
struct Components {
    schemas: Map<String, Value>,
    /// By the name of a component: the definition it was made of, with everything that this refers to.
    origins: BTreeMap<String, String>,
}

impl Components {
    fn function(&mut self, context: &str, function: &Definition) {
        let base = format!("{context}.{}", function.name);
        self.add(context, &format!("{base}.input"), inlined(function.input_schema().to_value()));
        self.add(context, &format!("{base}.output"), function.output_schema().to_value());
        self.add(context, &format!("{base}.error"), function.error_schema().to_value());
        self.schemas.insert(format!("{base}.outcome"), outcome(&base));
    }

    /// Adds a schema under `name`, and its definitions as components beside it.
    fn add(&mut self, context: &str, name: &str, mut schema: Value) {
        let mut definitions = Map::new();
        if let Some(object) = schema.as_object_mut() {
            object.remove("$schema");
            if let Some(Value::Object(found)) = object.remove("$defs") {
                definitions = found;
            }
        }
        let names: BTreeMap<String, String> = definitions
            .keys()
            .map(|definition| (definition.clone(), self.name_of(context, definition, &definitions)))
            .collect();
        for (definition, mut schema) in definitions {
            point(&mut schema, &names, &names[&definition]);
            self.schemas.insert(names[&definition].clone(), schema);
        }
        point(&mut schema, &names, name);
        self.schemas.insert(name.to_owned(), schema);
    }

    /// The component of a definition. Two types of one name (in two modules) are two components: the first one gets the
    /// plain name.
    fn name_of(&mut self, context: &str, definition: &str, definitions: &Map<String, Value>) -> String {
        let origin = whole(definition, definitions);
        let plain = format!("{context}.{}", component_name(definition));
        let mut name = plain.clone();
        let mut count = 1;
        while self.origins.get(&name).is_some_and(|other| *other != origin) {
            count += 1;
            name = format!("{plain}_{count}");
        }
        self.origins.insert(name.clone(), origin);
        name
    }
}

/// A definition with everything it refers to, as text to compare.
fn whole(definition: &str, definitions: &Map<String, Value>) -> String {
    let mut seen = BTreeSet::new();
    let mut open = vec![definition.to_owned()];
    while let Some(next) = open.pop() {
        if let Some(schema) = definitions.get(&next)
            && seen.insert(next)
        {
            references(schema, &mut open);
        }
    }
    let parts: Vec<_> = seen.iter().map(|name| json!([name, definitions[name]])).collect();
    json!([definition, parts]).to_string()
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object {
                match value.as_str().and_then(definition_of) {
                    Some(name) if key == "$ref" => found.push(name),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// Turns references within a schema into references to components; `own` is the schema's own component, which `#`
/// refers to.
fn point(schema: &mut Value, names: &BTreeMap<String, String>, own: &str) {
    match schema {
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                let component = match value.as_str() {
                    Some("#") if key == "$ref" => Some(own),
                    Some(text) if key == "$ref" => {
                        definition_of(text).and_then(|name| names.get(&name)).map(String::as_str)
                    }
                    _ => None,
                };
                match component {
                    Some(component) => *value = json!(format!("{COMPONENT}{component}")),
                    None => point(value, names, own),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| point(item, names, own)),
        _ => {}
    }
}

/// OpenAPI takes letters, digits, `.`, `-` and `_` in the names of components.
fn component_name(definition: &str) -> String {
    definition.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

/// The shape of `tree_result` for one function.
fn outcome(base: &str) -> Value {
    let of = |part: &str| json!({"$ref": format!("{COMPONENT}{base}.{part}")});
    let rejection = json!({"allOf": [
        {"$ref": format!("{COMPONENT}Rejection")},
        {"properties": {"error": {"anyOf": [of("error"), {"type": "null"}]}}},
    ]});
    let case = |state: Value, member: &str, schema: Value| {
        let properties = json!({"state": state, member: schema});
        json!({"required": [member], "properties": properties})
    };
    json!({
        "allOf": [{"$ref": format!("{COMPONENT}Outcome")}],
        "oneOf": [
            case(json!({"const": "resolved"}), "value", of("output")),
            case(json!({"enum": ["rejected", "cancelled", "timed_out"]}), "error", rejection),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_become_components_and_references_follow() {
        let mut components = Components::default();
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": {"order": {"$ref": "#/$defs/Order"}, "next": {"$ref": "#"}},
            "$defs": {"Order": {"properties": {"line": {"$ref": "#/$defs/Line"}}}, "Line": {"type": "string"}},
        });
        components.add("orders", "orders.f.input", schema);
        let expected = json!({
            "orders.Line": {"type": "string"},
            "orders.Order": {"properties": {"line": {"$ref": "#/components/schemas/orders.Line"}}},
            "orders.f.input": {"type": "object", "properties": {
                "order": {"$ref": "#/components/schemas/orders.Order"},
                "next": {"$ref": "#/components/schemas/orders.f.input"},
            }},
        });
        assert_eq!(Value::Object(components.schemas), expected);
    }

    #[test]
    fn types_of_one_name_share_a_component_only_where_they_are_the_same_all_the_way_down() {
        let schema = |line: &str| {
            let order = json!({"items": {"$ref": "#/$defs/Line"}});
            json!({"$ref": "#/$defs/Order", "$defs": {"Order": order, "Line": {"type": line}}})
        };
        let mut components = Components::default();
        components.add("orders", "orders.f.input", schema("string"));
        components.add("orders", "orders.g.input", schema("string"));
        assert_eq!(components.schemas.len(), 4);
        components.add("orders", "orders.h.input", schema("integer"));
        assert_eq!(components.schemas["orders.h.input"]["$ref"], "#/components/schemas/orders.Order_2");
        assert_eq!(components.schemas["orders.Order_2"]["items"]["$ref"], "#/components/schemas/orders.Line_2");
        assert_eq!(components.schemas["orders.Line"]["type"], "string");
    }

    #[test]
    fn the_document_without_contexts_has_every_route_and_no_dangling_reference() {
        let document: Value = serde_json::from_str(&crate::routes::openapi(&[])).expect("JSON");
        let paths: Vec<_> = document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        assert_eq!(
            paths,
            [
                "/health/live",
                "/health/ready",
                "/problems/{name}",
                "/v1/{context}/functions",
                "/v1/{context}/functions/{name}",
                "/v1/{context}/promises/{promise}",
                "/v1/{context}/promises/{promise}/reject",
                "/v1/{context}/promises/{promise}/resolve",
                "/v1/{context}/trees",
                "/v1/{context}/trees/{id}",
                "/v1/{context}/trees/{id}/cancel",
                "/v1/{context}/trees/{id}/kill",
                "/v1/{context}/trees/{id}/promises",
                "/v1/{context}/trees/{id}/promises/{name}",
                "/v1/{context}/trees/{id}/promises/{name}/reject",
                "/v1/{context}/trees/{id}/promises/{name}/resolve",
                "/v1/{context}/trees/{id}/result",
                "/v1/{context}/trees/{id}/resume",
                "/v1/{context}/trees/{id}/retry",
            ]
        );
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        assert_no_dangling(&document, schemas);
    }

    #[test]
    fn naming_the_contexts_adds_nothing_to_operations_without_one() {
        let mut document = json!({"paths": {"/health/live": {"get": {}}, "/v1/{context}/trees": {"get": {"parameters": [
            {"name": "context", "in": "path", "schema": {"type": "string"}},
        ]}}}});
        name_contexts(&mut document, &["orders"]);
        assert_eq!(document["paths"]["/health/live"], json!({"get": {}}));
        let parameter = &document["paths"]["/v1/{context}/trees"]["get"]["parameters"][0];
        assert_eq!(parameter["schema"]["enum"], json!(["orders"]));
    }

    #[test]
    fn every_problem_of_an_operation_has_the_status_of_its_code() {
        let document: Value = serde_json::from_str(&crate::routes::openapi(&[])).expect("JSON");
        let mut named = BTreeSet::new();
        for (_, item) in document["paths"].as_object().expect("paths") {
            for (_, operation) in item.as_object().expect("operations") {
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    let codes = codes_in(response["description"].as_str().expect("described"));
                    assert_eq!(codes.is_empty(), status.as_str() < "400", "{response}");
                    assert!(codes.iter().all(|code| code.status().as_str() == status), "{response}");
                    named.extend(codes);
                }
            }
        }
        let of_the_framework = [Code::MethodNotAllowed];
        let all: BTreeSet<_> = Code::ALL.into_iter().filter(|code| !of_the_framework.contains(code)).collect();
        assert_eq!(named, all);
    }

    fn assert_no_dangling(value: &Value, schemas: &Map<String, Value>) {
        match value {
            Value::Object(object) => object.iter().for_each(|(key, value)| match value.as_str() {
                Some(text) if key == "$ref" => {
                    let name = text.strip_prefix(COMPONENT).expect("a component");
                    assert!(schemas.contains_key(name), "{name}");
                }
                _ => assert_no_dangling(value, schemas),
            }),
            Value::Array(items) => items.iter().for_each(|item| assert_no_dangling(item, schemas)),
            _ => {}
        }
    }
}
