//! R6, P5: whatever is recorded can be read back as it was, and whatever cannot is refused at the call, by name.

use std::collections::HashSet;
use std::time::Duration;

use sapwood::prelude::*;
use sapwood_core::tree::TreeState;
use sapwood_engine::{StartError, StartOptions};
use sapwood_tests::engine::{World, node};
use sapwood_tests::probe::Probe;
use sapwood_tests::wait::within;
use serde_json::{Value, json};

use super::{HOUR, Probed, Trouble, dozes, one};

sapwood_tests::on_every_engine!(crate::engine::recording {
    what_cannot_be_read_back_is_refused_before_anything_is_recorded,
    a_start_whose_input_cannot_be_read_back_is_refused,
    numbers_come_back_as_they_were,
    a_sleep_for_ever_disturbs_no_one,
    inputs_that_differ_anywhere_are_different_inputs,
    a_start_records_what_the_type_makes_of_it,
    a_value_is_never_taken_for_another_because_of_its_keys,
});

/// A list of lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Lists(Vec<Lists>);

impl Lists {
    fn of(depth: usize) -> Self {
        (1..depth).fold(Self(Vec::new()), |inside, _| Self(vec![inside]))
    }
}

#[sapwood::function]
async fn weighs(cx: &mut Cx<Probe>, weight: f64, lists: Lists, names: HashSet<String>) -> Result<f64, Trouble> {
    cx.dependencies().mark(format!("weighs {} {}", lists.0.len(), names.len()));
    Ok(weight)
}

#[sapwood::function]
async fn returns_infinity(_: &mut Cx<Probe>) -> Result<Option<f64>, Trouble> {
    Ok(Some(f64::INFINITY))
}

fn names(many: usize) -> HashSet<String> {
    (0..many).map(|n| format!("name {n}")).collect()
}

/// Records what cannot be read back, in the way that `how` says.
#[sapwood::function]
async fn records(cx: &mut Cx<Probe>, how: String) -> Result<(), Trouble> {
    let app = cx.dependencies();
    match how.as_str() {
        "step nan" => drop(cx.step("weigh", async || Ok::<_, Trouble>(Some(f64::NAN))).await?),
        "step deep" => drop(cx.step("dig", async || Ok::<_, Trouble>(Lists::of(2_000))).await?),
        "step set" => drop(cx.step("ask", async || Ok::<_, Trouble>(names(20))).await?),
        "step name" => drop(cx.step("a\0b", async || one(&app, "runs")).await?),
        "call nan" => drop(cx.call(weighs(f64::NAN, Lists::of(1), names(1))).await?),
        "call deep" => drop(cx.call(weighs(1.0, Lists::of(2_000), names(1))).await?),
        "call set" => drop(cx.call(weighs(1.0, Lists::of(1), names(20))).await?),
        "event key" => cx.emit(Probed { key: "a\0b".to_owned() }),
        other => unreachable!("{other}"),
    }
    cx.sleep(HOUR).await;
    app.mark("goes on");
    Ok(())
}

/// R6, R8: nothing of the operation is recorded, its function is parked with the reason and the line, and a replay of
/// what is recorded is not needed to find out.
async fn what_cannot_be_read_back_is_refused_before_anything_is_recorded(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let mut cases = vec![
        ("step nan", "step weigh"),
        ("step deep", "step dig"),
        ("step name", r"a\0b"),
        ("call nan", "`weight`"),
        ("call deep", "levels deep"),
        ("event key", r"a\0b"),
    ];
    if cfg!(debug_assertions) {
        cases.extend([("step set", "HashSet"), ("call set", "without an order")]);
    }
    for (how, named) in cases {
        let tree = engine.start(records(how.to_owned())).await.expect("a tree").id();
        let view = world.tree_until(&engine, tree, |view| view.row.state == TreeState::Parked).await;
        let parked: Value = serde_json::from_slice(node(&view, "/").parked.as_ref().expect("parked")).expect("JSON");
        let text = |field: &str| parked[field].as_str().unwrap_or_default().to_owned();
        assert_eq!(text("code"), "not_recordable", "{how}: {parked}");
        assert!(text("message").contains(named), "{how}: {parked}");
        assert!(text("location").contains("engine/recording.rs:"), "{how}: {parked}");
        assert_eq!(view.nodes.len(), 1, "{how}: no child");
        assert!(node(&view, "/").timeline.is_empty(), "{how}: {:?}", node(&view, "/").timeline);
    }
    let tree = engine.start(returns_infinity()).await.expect("a tree").id();
    let view = world.tree_until(&engine, tree, |view| view.row.state == TreeState::Parked).await;
    let why = String::from_utf8_lossy(node(&view, "/").parked.as_ref().expect("parked")).into_owned();
    assert!(why.contains("not_recordable") && why.contains("inf"), "{why}");
    assert_eq!((app.marks("weighs").len(), app.count("runs"), app.count("goes on")), (0, 0, 0));
}

/// R6: the caller is told, with the field, and there is no tree.
async fn a_start_whose_input_cannot_be_read_back_is_refused(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let mut cases = vec![
        (weighs(f64::INFINITY, Lists::of(1), names(1)), "`weight`"),
        (weighs(1.0, Lists::of(101), names(1)), "levels deep"),
        (weighs(1.0, Lists::of(2_000), names(1)), "levels deep"),
    ];
    if cfg!(debug_assertions) {
        cases.push((weighs(1.0, Lists::of(1), names(20)), "without an order"));
    }
    for (n, (call, named)) in cases.into_iter().enumerate() {
        let refused = engine.start(call.id(format!("bad {n}").replace(' ', "-"))).await.err();
        let Some(StartError::InvalidInput { message, .. }) = &refused else { panic!("{named}: {refused:?}") };
        assert!(message.contains(named), "{message}");
    }
    assert_eq!(app.marks("weighs").len(), 0);
    let tree = engine.start(weighs(1.5, Lists::of(90), names(1)).id("good")).await.expect("a tree");
    assert_eq!(within("a weight", tree.result()).await.expect("a result"), 1.5);
}

/// What JSON numbers can be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Numbers {
    signed: i128,
    unsigned: u128,
    floats: Vec<f64>,
    short: f32,
}

#[sapwood::function]
async fn gives_back(_: &mut Cx<Probe>, numbers: Numbers) -> Result<Numbers, Trouble> {
    Ok(numbers)
}

#[sapwood::function]
async fn carries(cx: &mut Cx<Probe>, numbers: Numbers) -> Result<Numbers, Trouble> {
    let stepped = cx.step("carry", async || Ok::<_, Trouble>(numbers.clone())).await?;
    cx.sleep(HOUR).await;
    Ok(cx.call(gives_back(stepped)).await?)
}

/// R6: through an input, a step, a replay, a child and a result.
async fn numbers_come_back_as_they_were(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let floats = vec![0.1 + 0.2, 1e23, 5e-324, f64::MAX, -0.0, 2.0_f64.powi(60), 1.0 / 3.0, 7.205_759_403_792_794e16];
    let numbers = Numbers { signed: i128::MIN, unsigned: u128::MAX, floats, short: 0.1 };
    let tree = first.start(carries(numbers.clone())).await.expect("a tree");
    world.tree_suspended(&first, tree.id()).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    let back = within("the numbers", second.attach::<carries>(tree.id()).result()).await.expect("a result");
    assert_eq!(back, numbers);
    let bits = |numbers: &Numbers| numbers.floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&back), bits(&numbers));
}

#[sapwood::function]
async fn sleeps_for(cx: &mut Cx<Probe>, length: Duration) -> Result<(), Trouble> {
    cx.sleep(length).await;
    Ok(())
}

/// S6: the idiom for "for ever" is a sleep like others: it is claimed, read and listed with them, and survives.
async fn a_sleep_for_ever_disturbs_no_one(world: &World) {
    let app = Probe::new();
    let first = world.launch(&app).await;
    let mut sleepers = Vec::new();
    for length in [Duration::MAX, Duration::from_millis(u64::MAX), Duration::from_secs(300_000_000_000)] {
        let tree = first.start(sleeps_for(length)).await.expect("a tree").id();
        world.tree_suspended(&first, tree).await;
        sleepers.push(tree);
    }
    let beside = first.start(dozes("beside".to_owned(), 1)).await.expect("a tree");
    world.tree_suspended(&first, beside.id()).await;
    let second = world.take_over(&first, &app).await;
    world.advance(HOUR).await;
    within("a tree beside them", second.attach::<dozes>(beside.id()).result()).await.expect("a result");
    for tree in sleepers {
        let view = world.tree_suspended(&second, tree).await;
        assert_eq!(view.row.ready_at.expect("due, some day").to_string(), "9999-01-01T00:00:00Z");
    }
}

/// P5: in a digit, or deep inside; two different inputs under one id never count as the same.
async fn inputs_that_differ_anywhere_are_different_inputs(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let numbers = |signed, float| Numbers { signed, unsigned: 0, floats: vec![float], short: 0.0 };
    let id = "numbers";
    let tree = engine.start(gives_back(numbers(1 << 100, 0.3)).id(id)).await.expect("a tree").id();
    assert_eq!(engine.start(gives_back(numbers(1 << 100, 0.3)).id(id)).await.expect("the same").id(), tree);
    for other in [numbers((1 << 100) + 1, 0.3), numbers(1 << 100, 0.1 + 0.2)] {
        let refused = engine.start(gives_back(other).id(id)).await.err();
        assert!(matches!(refused, Some(StartError::Conflict { .. })), "{refused:?}");
    }
    let nested = |leaf: usize| weighs(leaf as f64, Lists::of(90), names(1)).id("nested");
    engine.start(nested(1)).await.expect("a tree");
    engine.start(nested(1)).await.expect("the same tree");
    let refused = engine.start(nested(2)).await.err();
    assert!(matches!(refused, Some(StartError::Conflict { .. })), "{refused:?}");
}

#[sapwood::function]
async fn orders(_: &mut Cx<Probe>, order: Order, #[serde(default)] gift: Option<bool>) -> Result<Value, Trouble> {
    Ok(json!({"order": order, "gift": gift}))
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Order {
    sku: String,
    #[serde(default = "single")]
    count: u64,
}

const fn single() -> u64 {
    1
}

/// P5: a default that is left out is the default that is sent, and a field that no type has is refused by name.
async fn a_start_records_what_the_type_makes_of_it(world: &World) {
    let app = Probe::new();
    let engine = world.launch(&app).await;
    let start = async |input: Value, id: &str| {
        let id = id.parse().expect("an id");
        engine
            .start_json(
                "orders",
                input.to_string().as_bytes(),
                StartOptions { id: Some(id), ..StartOptions::default() },
            )
            .await
    };
    let short = start(json!({"order": {"sku": "a"}}), "o").await.expect("a tree");
    for same in [
        json!({"gift": null, "order": {"count": 1, "sku": "a"}}),
        json!({"order": {"sku": "a", "count": 1}}),
        json!({"order": {"sku": "a"}, "gift": null}),
    ] {
        let again = start(same.clone(), "o").await.unwrap_or_else(|error| panic!("{same}: {error}"));
        assert_eq!((again.tree, again.created), (short.tree, false), "{same}");
    }
    for other in [
        json!({"order": {"sku": "a", "count": 2}}),
        json!({"order": {"sku": "a"}, "gift": false}),
        json!({"order": {"sku": "b"}}),
    ] {
        let refused = start(other.clone(), "o").await.err();
        assert!(matches!(refused, Some(StartError::Conflict { .. })), "{other}: {refused:?}");
    }
    for (misspelt, field) in [
        (json!({"order": {"sku": "a", "cuont": 2}}), "`order.cuont`"),
        (json!({"order": {"sku": "a"}, "gfit": true}), "`gfit`"),
        (json!({"order": {"sku": "a", "count": "2"}}), "`order.count`"),
        (json!({"order": {}}), "`order`"),
    ] {
        let refused = start(misspelt, "p").await.err();
        let Some(StartError::InvalidInput { message, .. }) = &refused else { panic!("{field}: {refused:?}") };
        assert!(message.contains(field), "{message}");
    }
    let view = engine.tree(short.tree).await.expect("the store answers").expect("the tree");
    let recorded: Value = serde_json::from_slice(&node(&view, "/").input).expect("JSON");
    assert_eq!(recorded, json!({"order": {"sku": "a", "count": 1}, "gift": null}));
}

/// Takes any JSON, and steps with it.
#[sapwood::function]
async fn takes_any(cx: &mut Cx<Probe>, value: Value) -> Result<Value, Trouble> {
    let stepped = cx.step("take", async || Ok::<_, Trouble>(value.clone())).await?;
    Ok(stepped)
}

/// R6, P5: a key that the reader of JSON takes for something else would make a text of a map, and one input of two.
async fn a_value_is_never_taken_for_another_because_of_its_keys(world: &World) {
    const KEY: &str = "$serde_json::private::RawValue";
    let app = Probe::new();
    let engine = world.launch(&app).await;
    for value in [json!({KEY: "12"}), json!([{"inside": {KEY: "{}"}}])] {
        let refused = engine
            .start_json("takes_any", json!({ "value": value }).to_string().as_bytes(), StartOptions::default())
            .await;
        let Err(StartError::InvalidInput { message, .. }) = &refused else { panic!("{refused:?}") };
        assert!(message.contains(KEY), "{message}");
        let refused = engine.start(takes_any(value)).await.err();
        assert!(matches!(refused, Some(StartError::InvalidInput { .. })), "{refused:?}");
    }
    let value = json!({"$serde_json::private::Number": "12", "key": KEY});
    let tree = engine.start(takes_any(value.clone())).await.expect("a tree");
    assert_eq!(within("the value", tree.result()).await.expect("a result"), value);
}
