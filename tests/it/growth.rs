//! What a tree does costs what it touches: twice the size is about twice the cost, whatever the shape.
//!
//! The program that measures is run as a process of its own, because other tests run in this one, and compares its own
//! processor time, so that a busy machine does not matter.

use sapwood_tests::postgres::TestDatabase;
use sapwood_tests::process::Program;
use sapwood_tests::workspace;

/// More than twice, by the cost of tables that grow out of the caches; less than the four times of a walk over the whole.
const MOST: &str = "2.6";

/// The shapes with their sizes: large enough that what is quadratic outweighs what is not. A step after another is a
/// commit after another, so there are fewer of those.
const SHAPES: [(&[&str], &str); 2] = [
    (
        &[
            "children-unordered",
            "children-together",
            "children-in-order",
            "children-with-steps",
            "children-asleep",
            "children-asleep-again",
            "children-waking-in-turn",
            "children-taken-over",
            "children-retried",
            "children-with-steps-retried",
            "sleeps",
            "steps-at-once",
            "events",
            "view",
        ],
        "1500,3000",
    ),
    (&["steps-in-order", "races"], "250,500"),
];

#[test]
fn twice_the_size_is_about_twice_the_cost() {
    let measured = SHAPES.map(|(shapes, sizes)| growth(shapes, sizes, &[]).start());
    for (process, (shapes, _)) in measured.into_iter().zip(SHAPES) {
        all_are_measured(&process.ended().well(), shapes);
    }
}

/// What a worker does differently on PostgreSQL. The time of the database is not compared, because other tests use it.
#[tokio::test]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn twice_the_size_is_about_twice_the_cost_on_postgres() {
    let shapes = ["children-with-steps", "children-asleep-again", "children-taken-over", "events", "view"];
    let database = TestDatabase::create().await;
    let url = database.url();
    let process = growth(&shapes, "2500,5000", &["--worker-only", "--store", &url]);
    let ended = tokio::task::spawn_blocking(move || process.run()).await.expect("the process is waited for");
    all_are_measured(&ended.well(), &shapes);
}

fn growth(shapes: &[&str], sizes: &str, more: &[&str]) -> Program {
    let shapes = shapes.join(",");
    let arguments = ["growth", "--sizes", sizes, "--runs", "2", "--most", MOST, "--shapes", &shapes];
    Program::new("sapwood-bench", workspace::root()).arguments(arguments).arguments(more)
}

fn all_are_measured(table: &str, shapes: &[&str]) {
    println!("{table}");
    for shape in shapes {
        let lines = table.lines().filter(|line| line.split_whitespace().next() == Some(shape));
        assert_eq!(lines.count(), 2, "{shape} is measured at both sizes: {table}");
    }
}

/// A shape that is added is measured here too.
#[test]
fn every_shape_is_measured() {
    let help = Program::new("sapwood-bench", workspace::root()).arguments(["growth", "--help"]).run().well();
    let known = help.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(':').next());
    let mut known: Vec<_> = known.collect();
    let mut measured: Vec<_> = SHAPES.iter().flat_map(|(shapes, _)| shapes.iter().copied()).collect();
    known.sort_unstable();
    measured.sort_unstable();
    assert_eq!(measured, known, "{help}");
}
