//! The shape of a problem, for the OpenAPI document. [`crate::problem`] writes it.

use utoipa::ToSchema;

/// An error, as defined by RFC 9457.
#[derive(ToSchema)]
#[schema(example = json!({
    "type": "/problems/unknown_function",
    "title": "No such function",
    "status": 404,
    "code": "unknown_function",
    "detail": "context `orders` has no function `place_oder`; did you mean `place_order`?",
    "instance": "/v1/orders/functions/place_oder"
}))]
#[expect(dead_code, reason = "only its schema is used")]
pub(crate) struct Problem {
    /// A reference to the description of this kind of problem, which the process serves.
    #[schema(format = "uri-reference")]
    r#type: String,
    /// The kind of problem in a few words.
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The kind of problem, for programs: stable.
    code: String,
    /// This occurrence, for people.
    detail: String,
    /// The path of the request.
    #[schema(format = "uri-reference", nullable = false)]
    instance: Option<String>,
    /// With `id_conflict`: the tree that has the id.
    #[schema(value_type = Option<uuid::Uuid>, nullable = false)]
    tree: Option<String>,
    /// With `id_conflict`: the path of that tree.
    #[schema(format = "uri-reference", nullable = false)]
    url: Option<String>,
    /// With `promise_settled`: the promise, with the outcome that stands.
    #[schema(nullable = false)]
    promise: Option<super::promise::Promise>,
    /// With `ambiguous_promise`: the nodes that made a promise of this name.
    #[schema(nullable = false)]
    paths: Option<Vec<String>>,
    /// With `ambiguous_promise`: the ids of these promises.
    #[schema(nullable = false)]
    promises: Option<Vec<String>>,
    /// With `invalid_promise_value`: the JSON Schema of the value.
    #[schema(value_type = Option<serde_json::Value>, nullable = false)]
    schema: Option<String>,
    /// With `not_ready`: each part of each context.
    #[schema(nullable = false)]
    parts: Option<Vec<super::health::Part>>,
}
