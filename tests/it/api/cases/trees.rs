//! Trees: whole, and in lists.

use std::collections::BTreeSet;

use sapwood_tests::store::TestStore;
use sapwood_tests::wait::within;
use serde_json::{Value, json};

use super::{ids, outcome, parcel, started};
use crate::api::client::Server;

async fn shown(server: &Server, tree: &str) -> Value {
    server.get(&format!("/v1/parcels/trees/{tree}")).await.expect(200)
}

/// What a node waits on, once it is of this kind.
async fn waits_on(test: &TestStore, server: &Server, tree: &str, node: usize, kind: &str) -> Value {
    let look = async || {
        let waits = &shown(server, tree).await["nodes"][node]["waits_on"];
        (waits[0]["kind"] == kind).then(|| waits[0].clone())
    };
    within(&format!("node {node} of {tree} that waits on a {kind}"), test.changes().seen(look)).await
}

/// G1: one query by id returns the whole tree.
pub(crate) async fn one_query_shows_the_whole_tree(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "send", parcel("book")).await;
    outcome(&server, &tree).await;
    let shown = shown(&server, &tree).await;
    assert_eq!(
        (&shown["id"], &shown["state"], &shown["correlation"]),
        (&json!(tree), &json!("resolved"), &json!(tree))
    );
    assert!(shown["created_at"].is_string() && shown["settled_at"].is_string() && shown["causation"].is_null());

    let [root, child] = shown["nodes"].as_array().expect("nodes").as_slice() else { panic!("two nodes: {shown}") };
    assert_eq!((&root["path"], &root["parent"]), (&json!("/"), &Value::Null));
    assert_eq!((&root["function"], &root["version"], &root["attempt"]), (&json!("send"), &json!(1), &json!(1)));
    assert_eq!((&root["state"], &root["closing"]), (&json!("resolved"), &json!("none")));
    assert_eq!(root["input"], json!({"parcel": {"name": "book", "contents": []}}), "with the defaults filled in");
    assert_eq!(root["value"], json!({"parcel": "book", "grams": 420}));
    assert_eq!(root["events"].as_array().map(Vec::len), Some(1));
    assert_eq!(root["events"][0]["type"], "parcels.parcel-sent.v1");
    assert_eq!((&child["path"], &child["parent"]), (&json!("/0"), &json!("/")));
    assert_eq!((&child["function"], &child["value"]), (&json!("weigh"), &json!(420)));
    for node in [root, child] {
        assert_eq!(node["waits_on"], json!([]));
        assert!(node["settled_at"].is_string() && node.get("error").is_none() && node.get("timeline").is_none());
    }

    let tree = started(&server, "weigh", json!({"parcel": "lost"})).await;
    outcome(&server, &tree).await;
    let failed = &self::shown(&server, &tree).await["nodes"][0];
    assert_eq!((&failed["state"], &failed["error"]["kind"]), (&json!("rejected"), &json!("failed")));
    assert_eq!(failed["error"]["error"], json!({"Lost": {"parcel": "lost"}}));
    server.end().await;
}

/// G2: "what is it waiting on?" is answered for every tree that is not closed.
pub(crate) async fn every_node_that_is_not_settled_says_what_it_waits_on(test: &TestStore) {
    let server = Server::on(test).await;

    let tree = started(&server, "store", json!({"hours": 1})).await;
    let sleep = waits_on(test, &server, &tree, 1, "sleep").await;
    assert!(sleep["until"].is_string());
    let call = waits_on(test, &server, &tree, 0, "call").await;
    assert_eq!((&call["path"], &call["function"], &call["version"]), (&json!("/0"), &json!("keep"), &json!(1)));

    let tree = started(&server, "retry", json!({})).await;
    let retry = waits_on(test, &server, &tree, 0, "step_retry").await;
    assert_eq!((&retry["name"], &retry["attempt"]), (&json!("busy"), &json!(1)));
    assert!(
        retry["until"].is_string() && retry["error"].as_str().is_some_and(|error| error.contains("busy")),
        "{retry}"
    );

    let tree = started(&server, "scan", json!({})).await;
    let running = waits_on(test, &server, &tree, 0, "running").await;
    assert_eq!(running["worker"], server.engine.worker().0);
    server.app.probe.open("scanner", 1);
    outcome(&server, &tree).await;
    server.end().await;
}

pub(crate) async fn the_timeline_is_there_on_request(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "send", parcel("book")).await;
    outcome(&server, &tree).await;
    let shown = server.get(&format!("/v1/parcels/trees/{tree}?timeline=true")).await.expect(200);
    let step = &shown["nodes"][1]["timeline"][0];
    assert_eq!(
        (&step["kind"], &step["name"], &step["payload"]),
        (&json!("step_resolved"), &json!("scale"), &json!(420))
    );
    assert!(step["at"].is_string() && step["number"].is_number(), "{step}");
    let emitted = shown["nodes"][0]["timeline"].as_array().expect("a timeline");
    assert!(
        emitted.iter().any(|entry| entry["kind"] == "emitted" && entry["payload"] == json!({"parcel": "book"})),
        "{shown}"
    );
    server.get(&format!("/v1/parcels/trees/{tree}?timeline=yes")).await.problem(400, "invalid_query");
    server.end().await;
}

pub(crate) async fn lists_are_filtered(test: &TestStore) {
    let server = Server::on(test).await;
    let sent = started(&server, "send", parcel("book")).await;
    let lost = started(&server, "send", parcel("lost")).await;
    let weighed = started(&server, "weigh", json!({"parcel": "book"})).await;
    for tree in [&sent, &lost, &weighed] {
        outcome(&server, tree).await;
    }
    let list = async |query: &str| ids(&server.get(&format!("/v1/parcels/trees{query}")).await.expect(200));
    assert_eq!(list("").await, [weighed.as_str(), &lost, &sent], "newest first");
    assert_eq!(list("?function=send").await, [lost.as_str(), &sent]);
    assert_eq!(list("?state=resolved").await, [weighed.as_str(), &sent]);
    assert_eq!(list("?function=send&state=rejected").await, [lost.as_str()]);
    assert!(list("?function=gone").await.is_empty());
    server.end().await;
}

pub(crate) async fn pages_hold_every_tree_once_while_others_start(test: &TestStore) {
    let server = Server::on(test).await;
    let mut trees = BTreeSet::new();
    for _ in 0..7 {
        trees.insert(started(&server, "weigh", json!({"parcel": "book"})).await);
    }
    let mut seen = Vec::new();
    let mut query = "?limit=3".to_owned();
    loop {
        let page = server.get(&format!("/v1/parcels/trees{query}")).await.expect(200);
        seen.extend(ids(&page));
        started(&server, "weigh", json!({"parcel": "vase"})).await;
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), trees);

    let whole = server.get("/v1/parcels/trees?limit=10").await.expect(200);
    assert_eq!((ids(&whole).len(), &whole["next_cursor"]), (10, &Value::Null), "a page that is just full is the last");
    server.end().await;
}

pub(crate) async fn a_cursor_is_refused_by_another_list(test: &TestStore) {
    let server = Server::on(test).await;
    for _ in 0..2 {
        started(&server, "weigh", json!({"parcel": "book"})).await;
    }
    let page = server.get("/v1/parcels/trees?limit=1").await.expect(200);
    let cursor = page["next_cursor"].as_str().expect("a cursor");
    for query in
        [format!("?function=weigh&cursor={cursor}"), format!("?cursor={}", &cursor[1..]), "?cursor=x".to_owned()]
    {
        server.get(&format!("/v1/parcels/trees{query}")).await.problem(400, "invalid_cursor");
    }
    server.end().await;
}

pub(crate) async fn unknown_trees_and_parameters_are_refused(test: &TestStore) {
    let server = Server::on(test).await;
    let none = "/v1/parcels/trees/01980000-0000-7000-8000-000000000001";
    server.get(none).await.problem(404, "unknown_tree");
    server.get(&format!("{none}/result")).await.problem(404, "unknown_tree");
    server.get(&format!("{none}/result?wait=50ms")).await.problem(404, "unknown_tree");
    server.get("/v1/parcels/trees/order-42").await.problem(400, "invalid_id");
    for query in [
        "?limit=0",
        "?limit=201",
        "?limit=x",
        "?limit=-1",
        "?stat=running",
        "?state=done",
        "?limit=1&limit=2",
        "?function=",
    ] {
        server.get(&format!("/v1/parcels/trees{query}")).await.problem(400, "invalid_query");
    }
    let problem = server.get("/v1/parcels/trees?state=resolve").await.problem(400, "invalid_query");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("did you mean `resolved`")), "{problem}");
    server.get("/v1/parcels/trees?id=two%20words").await.problem(400, "invalid_id");
    server.end().await;
}

/// G1, G2: a row that cannot be read is named in its list and concerns nothing else there.
pub(crate) async fn a_tree_that_cannot_be_read_is_named_and_the_others_are_listed(test: &TestStore) {
    let server = Server::on(test).await;
    let mut trees = Vec::new();
    for _ in 0..3 {
        let tree = started(&server, "send", parcel("book")).await;
        outcome(&server, &tree).await;
        trees.push(tree);
    }
    let damaged = test.literal(trees[1].parse().expect("an id"));
    let far = if test.schema().is_some() { "'infinity'" } else { "9223372036854775807" };
    test.execute(&format!("update tree set settled_at = {far} where id = {damaged}")).await;

    let page = server.get("/v1/parcels/trees").await.expect(200);
    assert_eq!(ids(&page), [trees[2].clone(), trees[0].clone()]);
    let [unreadable] = page["unreadable"].as_array().expect("a list").as_slice() else { panic!("one: {page}") };
    assert_eq!((&unreadable["id"], &unreadable["state"]), (&json!(trees[1]), &json!("unreadable")));
    assert!(unreadable["reason"].as_str().expect("words").contains("settled_at"), "{unreadable}");
    let first = server.get("/v1/parcels/trees?limit=2").await.expect(200);
    assert_eq!((ids(&first), first["unreadable"].as_array().map(Vec::len)), (vec![trees[2].clone()], Some(1)));
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let second = server.get(&format!("/v1/parcels/trees?limit=2&cursor={cursor}")).await.expect(200);
    assert_eq!(ids(&second), [trees[0].clone()]);

    let problem = server.get(&format!("/v1/parcels/trees/{}", trees[1])).await.problem(500, "unreadable_tree");
    assert!(problem["detail"].as_str().expect("words").contains("settled_at"), "{problem}");
    server.get(&format!("/v1/parcels/trees/{}", trees[0])).await.expect(200);
    server.end().await;
}
