//! Starting: once for each id.

use futures::future::join_all;
use sapwood_tests::store::TestStore;
use serde_json::json;

use super::{ids, outcome, parcel};
use crate::api::client::Server;

/// P6: starting and awaiting are separate.
pub(crate) async fn a_start_answers_with_its_tree_and_the_outcome_is_fetched_apart(test: &TestStore) {
    let server = Server::on(test).await;
    let reply = server.start("send", Some("order-42"), parcel("book")).await;
    let body = reply.expect(201);
    let tree = body["tree"].as_str().expect("a tree");
    assert_eq!(body["created"], true);
    assert_eq!(reply.header("location"), format!("/v1/parcels/trees/{tree}"));
    assert_eq!(body["urls"]["tree"], reply.header("location"));

    let url = body["urls"]["result"].as_str().expect("a path");
    let outcome = server.get(&format!("{url}?wait=30s")).await.expect(200);
    assert_eq!(outcome["state"], "resolved");
    assert_eq!(outcome["value"], json!({"parcel": "book", "grams": 420}));
    assert_eq!((&outcome["function"], &outcome["version"]), (&json!("send"), &json!(1)));
    assert!(outcome.get("error").is_none());
    server.end().await;
}

/// P5: the same id and input, however it is written, give one tree and the same promise.
pub(crate) async fn the_same_start_again_gives_the_same_tree(test: &TestStore) {
    let server = Server::on(test).await;
    let first =
        server.start("send", Some("one"), json!({"parcel": {"name": "book", "contents": ["a"]}})).await.expect(201);
    let path = "/v1/parcels/functions/send";
    let headers = [("content-type", "application/json"), ("idempotency-key", "one")];
    let body = br#" { "parcel" : {"contents":["a"], "name":"book"}}"#;
    for _ in 0..2 {
        let reply = server.send("POST", path, &headers, body).await;
        let again = reply.expect(200);
        assert_eq!((&again["tree"], &again["created"]), (&first["tree"], &json!(false)));
        assert_eq!(reply.header("location"), format!("/v1/parcels/trees/{}", first["tree"].as_str().expect("a tree")));
        outcome(&server, first["tree"].as_str().expect("a tree")).await;
    }
    assert_eq!(ids(&server.get("/v1/parcels/trees").await.expect(200)).len(), 1);
    server.end().await;
}

/// P5: with a different function or input it is a conflict, never silent.
pub(crate) async fn an_id_with_another_input_or_function_is_a_conflict(test: &TestStore) {
    let server = Server::on(test).await;
    let first = server.start("send", Some("one"), parcel("book")).await.expect(201);
    for (function, input) in [("send", parcel("vase")), ("weigh", json!({"parcel": "book"}))] {
        let problem = server.start(function, Some("one"), input).await.problem(409, "id_conflict");
        assert_eq!(problem["tree"], first["tree"]);
        assert_eq!(problem["url"], first["urls"]["tree"]);
    }
    assert_eq!(ids(&server.get("/v1/parcels/trees").await.expect(200)).len(), 1);
    server.end().await;
}

/// P5: also from two processes at once.
pub(crate) async fn starts_of_one_id_at_once_at_two_processes_give_one_tree(test: &TestStore) {
    let servers = [Server::on(test).await, Server::on(test).await];
    let starts = (0..20).map(|n| servers[n % 2].start("send", Some("one"), parcel("book")));
    let replies = join_all(starts).await;
    let created = replies.iter().filter(|reply| reply.status == 201).count();
    assert_eq!(created, 1, "{replies:?}");
    let tree = replies[0].json()["tree"].clone();
    assert!(replies.iter().all(|reply| reply.json()["tree"] == tree), "{replies:?}");
    for server in &servers {
        assert_eq!(outcome(server, tree.as_str().expect("a tree")).await["state"], "resolved");
    }
    for server in servers {
        server.end().await;
    }
}

pub(crate) async fn starts_without_an_id_are_trees_of_their_own(test: &TestStore) {
    let server = Server::on(test).await;
    for _ in 0..3 {
        server.start("send", None, parcel("book")).await.expect(201);
    }
    assert_eq!(ids(&server.get("/v1/parcels/trees").await.expect(200)).len(), 3);
    server.end().await;
}

pub(crate) async fn what_is_no_start_is_refused_and_starts_nothing(test: &TestStore) {
    let server = Server::on(test).await;
    let path = "/v1/parcels/functions/send";
    let json = [("content-type", "application/json")];

    let problem = server.start("sent", None, parcel("book")).await.problem(404, "unknown_function");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`send`")), "{problem}");
    let problem = server.send("POST", "/v1/parcel/functions/send", &json, b"{}").await.problem(404, "unknown_context");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("`parcels`")), "{problem}");
    server.start("archive", None, json!({})).await.problem(422, "not_startable");

    for body in ["", "{", "{\"parcel\": }", "nonsense", &"[".repeat(10_000)] {
        server.send("POST", path, &json, body.as_bytes()).await.problem(400, "malformed_json");
    }
    server.send("POST", path, &json, b"\xff\xfe").await.problem(400, "malformed_json");
    for input in
        [json!({}), json!([{"name": "book"}]), json!(null), json!({"parcel": 17}), json!({"parcel": {"name": 17}})]
    {
        server.start("send", None, input).await.problem(422, "invalid_input");
    }
    let problem = server.start("send", None, json!({"parcel": {"name": 17}})).await.problem(422, "invalid_input");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("expected a string")), "{problem}");

    let long = "x".repeat(201);
    for id in ["", "two words", &long, "ümlaut"] {
        server.start("send", Some(id), parcel("book")).await.problem(400, "invalid_id");
    }
    let twice = [json[0], ("idempotency-key", "a"), ("idempotency-key", "b")];
    server.send("POST", path, &twice, b"{}").await.problem(400, "invalid_id");

    assert!(ids(&server.get("/v1/parcels/trees").await.expect(200)).is_empty());
    server.end().await;
}
