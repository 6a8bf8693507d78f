//! A process a context, on PostgreSQL and Kafka, and a foreign client on the same topic.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use sapwood_tests::process::{Process, Program, environment_file};

use super::place::Place;
use super::rest::Client;
use super::{TOTALS, totals};

const CONTEXTS: [&str; 3] = ["orders", "shipping", "loyalty"];

/// The settings of `deploy/CONTEXT.env`, with the places of this test in the place of those in the file.
fn settings(place: &Place, context: &str) -> Vec<(OsString, OsString)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../deploy/{context}.env"));
    let mut ours: BTreeMap<&str, String> = place.settings().into_iter().collect();
    ours.insert("SAPWOOD_LISTEN", "127.0.0.1:0".to_owned());
    let mut settings = environment_file(&file);
    for (name, value) in &mut settings {
        let name = name.to_str().expect("the name of a setting");
        *value = ours.remove(name).unwrap_or_else(|| panic!("{} sets {name}", file.display())).into();
    }
    assert!(ours.is_empty(), "{} does not set {ours:?}", file.display());
    settings
}

fn start(place: &Place, context: &str) -> Process {
    let program = Program::new("orders", place.directory()).arguments(["--only", context]);
    program.environment(settings(place, context)).start()
}

/// E1, E7, H1, H2: three processes have the totals of one; any Kafka client reads their events and adds some.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL and Kafka: ./test provides them")]
async fn three_processes_have_the_totals_of_one_and_kcat_takes_part() {
    let place = Place::services().await;
    let processes = CONTEXTS.map(|context| start(&place, context));
    let [orders, shipping, loyalty] = &processes;
    let (orders, shipping, loyalty) = (Client::of(orders), Client::of(shipping), Client::of(loyalty));

    let _ = processes[0].prints("your own order");
    let states = BTreeMap::from([("rejected".to_owned(), 123), ("resolved".to_owned(), 877)]);
    assert_eq!(orders.trees("orders", "place_order").await, states);
    shipping.has_resolved("shipping", "book_courier", 877).await;
    shipping.has_resolved("shipping", "track_parcel", 877).await;
    loyalty.has_resolved("loyalty", "add_points", 877).await;

    assert_events_are_cloud_events(&place);
    produce_one(&place);
    shipping.has_resolved("shipping", "book_courier", 878).await;
    shipping.has_resolved("shipping", "track_parcel", 878).await;
    loyalty.has_resolved("loyalty", "add_points", 878).await;
    assert_eq!(shipping.get("/v1/orders/trees").await.status, 404, "a process serves its own context");

    let [orders, shipping, loyalty] = processes.map(|process| {
        process.terminate();
        totals(&process.ended().well())
    });
    // What is handled elsewhere this process cannot know.
    assert_eq!(orders, TOTALS[..6]);
    assert_eq!(shipping, ["events handled 878 by book_courier"]);
    assert_eq!(loyalty, ["events handled 878 by add_points"]);
}

/// E7: what a foreign client sees are CloudEvents in the binary mode, one for each completed order.
fn assert_events_are_cloud_events(place: &Place) {
    let records = place.kafka().records("orders.events");
    let mut ids = BTreeSet::new();
    for [headers, key, content] in &records {
        let headers: BTreeMap<_, _> = headers.split(',').filter_map(|header| header.split_once('=')).collect();
        let content: serde_json::Value = serde_json::from_str(content).expect("JSON");
        let expected = [
            ("content-type", "application/json"),
            ("ce_specversion", "1.0"),
            ("ce_type", "orders.order-completed.v1"),
            ("ce_source", "/sapwood/orders"),
        ];
        assert!(expected.iter().all(|(name, value)| headers[name] == *value), "{headers:?}");
        let present = ["ce_time", "ce_correlationid", "ce_causationid", "ce_sapwoodtree"];
        assert!(present.iter().all(|name| headers.contains_key(name)), "{headers:?}");
        assert_eq!(content["order_id"], **key);
        ids.insert(headers["ce_id"].to_owned());
    }
    assert_eq!((records.len(), ids.len()), (877, 877));
}

/// An event of a producer that knows CloudEvents and nothing of us.
fn produce_one(place: &Place) {
    let headers = [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        ("ce_id", "legacy-1"),
        ("ce_source", "/legacy/shop"),
        ("ce_type", "orders.order-completed.v1"),
    ];
    let content = r#"{"order_id": "legacy-1", "customer": "somebody", "total_cents": 1999}"#;
    place.kafka().produce("orders.events", "legacy-1", &headers, content);
}
