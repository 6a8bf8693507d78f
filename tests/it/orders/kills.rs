//! The 1,000 orders, while their process is killed again and again.

use std::collections::BTreeSet;
use std::path::Path;

use super::ledger::Ledger;
use super::place::Place;
use super::{EFFECTS, TOTALS, noted, program, totals};

const KILLS: usize = 10;

/// Effects from a multiple of the first number to a kill: at least the second. The last kill is before the 900th order,
/// which comes after about 4,600 effects, with a good second to spare.
const APART: (usize, usize) = (380, 120);

/// Orders under way at once, and the steps that one can have in flight: a reservation for each line.
const STEPS_IN_FLIGHT_MOST: usize = 64 * 4;

/// R3, C2, C3, E2, H4: on SQLite with the store's own log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_change_no_total_and_repeat_no_recorded_step_on_sqlite() {
    kill_and_compare(&Place::sqlite()).await;
}

/// R3, C2, C3, E2, H4: on PostgreSQL with Kafka.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL and Kafka: ./test provides them")]
async fn kills_change_no_total_and_repeat_no_recorded_step_on_postgres_and_kafka() {
    kill_and_compare(&Place::services().await).await;
}

async fn kill_and_compare(place: &Place) {
    let effects = place.directory().join(EFFECTS);
    let mut ledger = Ledger::default();
    for (kill, line) in kill_points().into_iter().enumerate() {
        let mut process = program(place).start();
        // What an earlier kill let through may be more than this one waits for: then it waits for the next effect.
        noted(&effects, line.max(ledger.lines() + 1), &mut process).await;
        let _ = process.kill();
        place.is_quiet().await;

        let now = read(place, &effects).await;
        let in_flight = now.in_flight_since(&ledger);
        println!(
            "kill {kill} after line {line}: {} lines, {} settled, {in_flight} in flight",
            now.lines(),
            now.settled
        );
        assert!(in_flight <= STEPS_IN_FLIGHT_MOST, "{in_flight} steps were in flight");
        assert!(now.settled < 900, "killed too late: {} orders are settled", now.settled);
        ledger = now;
    }

    let out = program(place).run().well();
    assert_eq!(totals(&out), TOTALS, "{out}");
    let end = read(place, &effects).await;
    assert_eq!(end.in_flight_since(&ledger), 0, "a process that ended by itself has recorded all it did");
    assert_each_event_is_taken_in_once(place).await;
}

/// H4: no event has two trees in a group, and each has one in every group.
async fn assert_each_event_is_taken_in_once(place: &Place) {
    let published = place.events().await;
    assert_eq!(published.len(), 877);
    for (context, consumer) in [("shipping", "book_courier"), ("loyalty", "add_points")] {
        let taken_in = place.taken_in(context).await;
        let events: BTreeSet<_> = taken_in.iter().map(|(event, _)| event.clone()).collect();
        let trees: BTreeSet<_> = taken_in.iter().map(|(_, tree)| *tree).collect();
        assert_eq!((taken_in.len(), &events), (published.len(), &published), "{context}");
        let begun: BTreeSet<_> = place.trees(context, consumer).await.into_iter().collect();
        assert_eq!(begun, trees, "{consumer}");
    }
}

async fn read(place: &Place, effects: &Path) -> Ledger {
    let effects = std::fs::read_to_string(effects).expect("effects were noted");
    assert!(effects.ends_with('\n'), "half a line: {:?}", effects.lines().last());
    Ledger::read(place, &effects).await
}

/// After which line of the file of effects each kill comes, ascending, from a seed that is printed.
fn kill_points() -> Vec<usize> {
    let seed = match std::env::var("SAPWOOD_TEST_SEED") {
        Ok(seed) => seed.parse().expect("SAPWOOD_TEST_SEED is a number"),
        Err(_) => uuid::Uuid::new_v4().as_u64_pair().0,
    };
    println!("SAPWOOD_TEST_SEED={seed}");
    let (most, least) = APART;
    let mut state = seed;
    let mut random = || {
        // xorshift64*; zero is its one fixed point.
        state = state.max(1);
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        usize::try_from(state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).expect("31 bits")
    };
    (0..KILLS).map(|kill| kill * most + least + random() % (most - least)).collect()
}
