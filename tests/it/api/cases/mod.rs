//! The cases, each for any store.

pub(crate) mod control;
pub(crate) mod edge;
pub(crate) mod outcomes;
pub(crate) mod promises;
pub(crate) mod starts;
pub(crate) mod trees;

use serde_json::{Value, json};

use super::client::Server;

/// An input of `send`.
fn parcel(name: &str) -> Value {
    json!({"parcel": {"name": name}})
}

/// Starts `function` and gives the tree.
async fn started(server: &Server, function: &str, input: Value) -> String {
    let reply = server.start(function, None, input).await.expect(201);
    reply["tree"].as_str().expect("a tree").to_owned()
}

/// The outcome of a tree, waited for.
async fn outcome(server: &Server, tree: &str) -> Value {
    server.get(&format!("/v1/parcels/trees/{tree}/result?wait=30s")).await.expect(200)
}

/// The ids of a page.
fn ids(page: &Value) -> Vec<String> {
    let trees = page["trees"].as_array().expect("a list");
    trees.iter().map(|tree| tree["id"].as_str().expect("an id").to_owned()).collect()
}
