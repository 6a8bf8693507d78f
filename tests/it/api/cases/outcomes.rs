//! Outcomes: attached to, waited for.

use std::time::Duration;

use sapwood_tests::store::TestStore;
use serde_json::json;

use super::{ids, outcome, parcel, started};
use crate::api::client::Server;
use crate::api::context::HOUR;

/// P6: any client may attach to a promise by id, later, from another process.
pub(crate) async fn any_client_attaches_by_id_later_and_at_another_process(test: &TestStore) {
    let first = Server::on(test).await;
    let tree = first.start("send", Some("order-42"), parcel("book")).await.expect(201)["tree"].clone();
    let tree = tree.as_str().expect("a tree");
    let told = outcome(&first, tree).await;
    first.end().await;

    let other = Server::on(test).await;
    assert_eq!(outcome(&other, tree).await, told);
    let found = other.get("/v1/parcels/trees?id=order-42").await.expect(200);
    assert_eq!(ids(&found), [tree]);
    assert!(ids(&other.get("/v1/parcels/trees?id=order-43").await.expect(200)).is_empty());
    assert!(ids(&other.get("/v1/parcels/trees?id=order-42&state=rejected").await.expect(200)).is_empty());
    other.end().await;
}

/// F4, as a client sees it: the error is typed and attributable, and no error of the API.
pub(crate) async fn a_rejection_is_an_answer_with_the_function_s_own_error(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "weigh", json!({"parcel": "lost"})).await;
    let outcome = outcome(&server, &tree).await;
    assert_eq!(outcome["state"], "rejected");
    assert!(outcome.get("value").is_none());
    let error = json!({
        "kind": "failed", "message": "parcel lost is lost", "error": {"Lost": {"parcel": "lost"}}, "attempts": 1,
    });
    assert_eq!(outcome["error"], error);
    server.end().await;
}

pub(crate) async fn a_pending_tree_says_so_and_the_wait_is_bounded(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "keep", json!({"hours": 1})).await;
    for query in ["", "?wait=0s", "?wait=20ms"] {
        let reply = server.get(&format!("/v1/parcels/trees/{tree}/result{query}")).await;
        let body = reply.expect(202);
        assert_eq!(body["tree"], tree);
        assert!(["running", "suspended"].contains(&body["state"].as_str().expect("a state")), "{body}");
        assert_eq!(reply.header("retry-after"), "1");
    }
    for wait in ["61s", "-1s", "soon", "30", ""] {
        let path = format!("/v1/parcels/trees/{tree}/result?wait={wait}");
        server.get(&path).await.problem(400, "invalid_query");
    }
    server.end().await;
}

pub(crate) async fn who_waits_is_told_when_the_tree_settles(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "scan", json!({})).await;
    let (outcome, ()) = tokio::join!(outcome(&server, &tree), async { server.app.probe.open("scanner", 1) });
    assert_eq!((&outcome["state"], &outcome["value"]), (&json!("resolved"), &json!(null)));
    assert!(outcome.get("value").is_some(), "a result that is null is shown");

    let tree = started(&server, "keep", json!({"hours": 1})).await;
    let (outcome, ()) = tokio::join!(super::outcome(&server, &tree), async {
        test.advance(HOUR).await;
        server.engine.poke().await;
    });
    assert_eq!(outcome["value"], 1);
    server.end().await;
}

pub(crate) async fn a_process_that_drains_lets_waiting_clients_go(test: &TestStore) {
    let server = Server::on(test).await;
    let tree = started(&server, "keep", json!({"hours": 1})).await;
    let path = format!("/v1/parcels/trees/{tree}/result?wait=1m");
    let began = std::time::Instant::now();
    let (reply, drained) = tokio::join!(server.get(&path), server.engine.drain());
    drained.expect("drains");
    assert_eq!(reply.expect(202)["tree"], tree);
    assert!(began.elapsed() < Duration::from_secs(30), "long before the wait was over");
}
