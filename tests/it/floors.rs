//! The floors of the workspace: a crate names only what is below it, and some foreign crates stay in their rooms.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::Package;
use sapwood_tests::workspace;

/// Each crate's floor. A crate depends only on crates of lower floors.
const FLOORS: &[(&str, u32)] = &[
    ("sapwood-core", 0),
    ("sapwood-macros", 0),
    ("sapwood-postgres", 1),
    ("sapwood-sqlite", 1),
    ("sapwood-memory", 1),
    ("sapwood-kafka", 1),
    ("sapwood-engine", 2),
    ("sapwood-events", 3),
    ("sapwood-api", 3),
    ("sapwood", 4),
    ("sapwood-bench", 5),
    ("sapwood-tests", 6),
];

/// The floor of everything under `examples/`: authors' code. Examples may name each other.
const EXAMPLES: u32 = 5;

/// The one name between neighbours: the core re-exports the derives of a contract crate.
const NEIGHBOURS: (&str, &str) = ("sapwood-core", "sapwood-macros");

/// The crates that may name a foreign one.
const ROOMS: &[(&str, &[&str])] = &[
    ("rdkafka", &["sapwood-kafka", "sapwood-tests"]),
    ("rdkafka-sys", &["sapwood-kafka"]),
    ("axum", &["sapwood-api", "sapwood", "sapwood-tests"]),
    ("sqlx", &["sapwood-postgres", "sapwood-sqlite", "sapwood-bench", "sapwood-tests"]),
    ("opentelemetry", &["sapwood"]),
    ("syn", &["sapwood-macros"]),
];

/// Crates that never name a foreign one, in their own tests neither.
const CLOSED: &[(&str, &str)] = &[("sapwood-core", "tokio"), ("sapwood-memory", "tokio")];

fn is_example(package: &Package) -> bool {
    package.manifest_path.components().any(|part| part.as_str() == "examples")
}

/// The crate of an example that other contexts depend on.
fn is_contract(package: &Package) -> bool {
    is_example(package) && package.name.ends_with("-contract")
}

fn floor_of(package: &Package) -> u32 {
    let floor = FLOORS.iter().find(|(name, _)| *name == package.name.as_str()).map(|(_, floor)| *floor);
    let floor = floor.or(is_example(package).then_some(EXAMPLES));
    floor.unwrap_or_else(|| panic!("{} is on no floor", package.name))
}

/// All that a package names: to build, to test, optional or not.
fn named(package: &Package) -> BTreeSet<&str> {
    package.dependencies.iter().map(|dependency| dependency.name.as_str()).collect()
}

/// Floors only name what is below them.
#[test]
fn a_crate_depends_only_on_lower_floors() {
    let workspace = workspace::metadata();
    let packages: BTreeMap<&str, &Package> = workspace.packages.iter().map(|p| (p.name.as_str(), p)).collect();
    let mut wrong = Vec::new();
    for package in packages.values() {
        for below in named(package).into_iter().filter_map(|name| packages.get(name)) {
            let allowed = floor_of(below) < floor_of(package)
                || (package.name.as_str(), below.name.as_str()) == NEIGHBOURS
                || (is_example(package) && is_example(below));
            if !allowed {
                wrong.push(format!("{} names {}", package.name, below.name));
            }
        }
    }
    assert!(wrong.is_empty(), "not on a lower floor: {wrong:#?}");
}

/// Every crate of the table is there, so that none slips out of it under a new name.
#[test]
fn every_crate_of_the_table_exists() {
    let workspace = workspace::metadata();
    let names: BTreeSet<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
    let table = FLOORS.iter().map(|(name, _)| *name);
    let rooms = ROOMS.iter().flat_map(|(_, rooms)| *rooms).copied();
    let missing: Vec<&str> = table.chain(rooms).filter(|name| !names.contains(name)).collect();
    assert!(missing.is_empty(), "not in the workspace: {missing:?}");
}

/// E7: a consumer depends on the producer's contract alone, and that pulls in no server.
#[test]
fn a_contract_depends_on_the_core_alone() {
    let workspace = workspace::metadata();
    let ours: BTreeSet<&str> = workspace.packages.iter().map(|package| package.name.as_str()).collect();
    for contract in workspace.packages.iter().filter(|package| is_contract(package)) {
        let names: Vec<&str> = named(contract).into_iter().filter(|name| ours.contains(name)).collect();
        assert_eq!(names, ["sapwood-core"], "{}", contract.name);
    }
}

/// Some foreign crates have rooms of their own, so that a driver's types stay behind their port.
#[test]
fn foreign_crates_stay_in_their_rooms() {
    let workspace = workspace::metadata();
    let mut wrong = Vec::new();
    for package in &workspace.packages {
        let (name, names) = (package.name.as_str(), named(package));
        let outside = ROOMS.iter().filter(|(foreign, rooms)| names.contains(foreign) && !rooms.contains(&name));
        let closed = CLOSED.iter().filter(|(closed, foreign)| *closed == name && names.contains(foreign));
        let found = outside.map(|(foreign, _)| foreign).chain(closed.map(|(_, foreign)| foreign));
        wrong.extend(found.map(|foreign| format!("{name} names {foreign}")));
    }
    assert!(wrong.is_empty(), "outside their rooms: {wrong:#?}");
}
