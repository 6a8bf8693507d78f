//! The fleet test: four processes on one PostgreSQL under load, which are killed, stopped and cut off at random while their
//! database is restarted.
//!
//! | room | what is there |
//! |---|---|
//! | [`faults`] | what happens and when, drawn from a seed |
//! | [`processes`] | the processes and their PostgreSQL, and what was done to them |
//! | [`clients`] | the load, and what each client knows of its tree in the end |
//! | [`watch`] | a reader of trees all the while, and what always holds |
//! | [`record`] | what the database and the file of effects say in the end |
//! | [`trees`], [`workers`] | what must be so of each tree, and of the workers |
//!
//! The processes are `tests/src/bin/fleet.rs`. Leases and machines' time cannot be moved, so this takes the time that it
//! takes: a few faults in every run of the tests, and `./test --fleet SECONDS [SEED]` for as long as is wished. A seed repeats
//! what is asked and what is done to the processes, and when; not how they are scheduled.

mod clients;
mod faults;
mod processes;
mod record;
mod trees;
mod watch;
mod workers;

use std::time::Duration;

use sapwood_core::TreeId;
use sapwood_core::store::Store as _;
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_tests::fleet::Effects;
use sapwood_tests::sqlite::TestFile;
use sapwood_tests::wait::within;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval};
use uuid::Uuid;

use self::clients::{Client, Known, Wish};
use self::processes::{Addresses, Fleet};
use self::record::Record;
use self::watch::Watched;
use crate::model::chance::Chance;

/// Processes of the fleet.
const PROCESSES: usize = 4;

/// How long the fleet is under load if nothing else is asked for.
const SECONDS: u64 = 15;

/// The time between two starts of trees.
const EVERY: Duration = Duration::from_millis(50);

/// Trees that each process starts and ends by itself when all is over.
const LAST_WAVE: u32 = 10;

/// A number that the environment gives.
fn given(name: &str) -> Option<u64> {
    let given = std::env::var(name).ok()?;
    Some(given.parse().unwrap_or_else(|_| panic!("{name} is no number: {given}")))
}

/// C1, C2, C5, R3, S6, P3, P5, K1, K2, K3, K7, K8, D2, E2, H4: whatever happens to its processes and to its database, every
/// tree comes to what its plan allows, what was recorded is not done again, who is dead commits nothing, nobody is buried who
/// was well, and all processes work again by themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[cfg_attr(not(sapwood_services), ignore = "needs PostgreSQL: ./test provides it")]
async fn a_fleet_that_is_killed_stopped_and_cut_off_settles_every_tree() {
    let length = Duration::from_secs(given("SAPWOOD_TEST_FLEET").unwrap_or(SECONDS));
    let seed = given("SAPWOOD_TEST_FLEET_SEED").unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    println!("seed {seed}; again: ./test --fleet {} {seed}", length.as_secs());
    let mut chance = Chance::of(seed);
    let place = TestFile::fresh();
    let effects = place.directory().join("effects");
    std::fs::create_dir(&effects).expect("a directory is made");
    let mut fleet = Fleet::launch(place.directory(), &effects).await;

    let faults = faults::draw(&mut chance, length);
    let (stop, stopped) = oneshot::channel::<()>();
    let watching = tokio::spawn(watch_until(fleet.server.url(), stopped));
    let load = tokio::spawn(load(Addresses::clone(&fleet.addresses), chance, length));
    fleet.suffer(&faults).await;
    let known = load.await.expect("every client is answered");
    println!("{} trees, all faults are over", known.len());
    all_are_closed(&fleet).await;
    println!("every tree is closed");
    let waves = last_wave(&mut fleet, small(known.len())).await;
    drop(stop);
    let watched = watching.await.expect("the watcher watches");
    println!("{} trees were read meanwhile, {} times the database did not answer", watched.reads, watched.outages);

    let record = Record::read(&fleet.server.url(), &Effects::in_directory(&effects)).await;
    let mut wrong = trees::judge(&known, &record);
    wrong.extend(watched.wrong);
    wrong.extend(workers::judge(&mut fleet, &record));
    wrong.extend(workers::judge_last_wave(&waves, &record));
    println!("{}", record.summary(&fleet.troubles));
    assert!(wrong.is_empty(), "seed {seed}: {} things are wrong:\n{}", wrong.len(), wrong.join("\n\n"));
    fleet.end();
}

/// Starts trees for so long; what each client knows in the end, in the order of the numbers.
async fn load(addresses: Addresses, mut chance: Chance, length: Duration) -> Vec<Known> {
    let (begun, mut ticks, mut clients) = (Instant::now(), interval(EVERY), JoinSet::new());
    for number in 0.. {
        ticks.tick().await;
        if begun.elapsed() >= length {
            break;
        }
        let wish = Wish::draw(number, &mut chance);
        clients.spawn(Client::of_any(&addresses, Chance::of(chance.next())).carries_out(wish));
    }
    let mut known = within("an answer to every client", clients.join_all()).await;
    known.sort_by_key(|known| known.wish.plan.number);
    known
}

async fn watch_until(url: String, stopped: oneshot::Receiver<()>) -> Watched {
    let store = PostgresStore::connect(PostgresOptions::new(url, "fleet")).await.expect("PostgreSQL answers");
    let watched = watch::watch(&store, async { drop(stopped.await) }).await;
    store.close().await;
    watched
}

async fn all_are_closed(fleet: &Fleet) {
    within("the end of every tree", record::open_trees(&fleet.server.url())).await;
}

/// Each process starts trees; where they ran, the record says. Returns the trees by process.
async fn last_wave(fleet: &mut Fleet, first: u32) -> Vec<(u32, Vec<TreeId>)> {
    let mut waves = Vec::new();
    for (at, process) in fleet.ids().into_iter().enumerate() {
        let mut client = Client::of(&fleet.addresses, at);
        let numbers = (0..LAST_WAVE).map(|n| first + small(at) * LAST_WAVE + n);
        let wave = async {
            client.is_ready().await;
            let mut trees = Vec::new();
            for number in numbers {
                let tree = client.start(&Wish::works(number)).await;
                assert_eq!(client.outcome(tree).await["state"], "resolved");
                trees.push(tree);
            }
            trees
        };
        waves.push((process, within("a process that works again", wave).await));
    }
    within("the end of what the last trees led to", record::open_trees(&fleet.server.url())).await;
    waves
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("a small number")
}
