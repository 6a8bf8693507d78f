//! Lanes: the outbox read in commit order, by one publisher a lane.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sapwood_core::store::{LaneAdvance, LaneLease, OutboxEvent, OutboxRow, Store, Turn};
use sapwood_core::{EventId, TreeId};
use tokio::sync::watch;

use super::fixture::{Worker, event, event_keyed, turn};
use crate::store::{TestStore, outbox};

/// E4: rows of a lane come in the order of their commits, and of their emits within one commit.
pub async fn a_lane_is_read_in_commit_order(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(2).await;
    let emit = |tree: TreeId, revision: u64, positions: [u32; 2]| Turn {
        events: positions.iter().map(|position| event_keyed(tree, *position, "same")).collect(),
        ..turn(tree, revision)
    };
    worker.commit_all(&[emit(trees[1], 1, [0, 1]), emit(trees[0], 1, [0, 1])]).await;
    worker.commit_all(&[emit(trees[0], 2, [9, 2])]).await;
    worker.commit_all(&[emit(trees[1], 2, [3, 4])]).await;

    let rows = outbox(store.as_ref()).await;
    assert!(rows.windows(2).all(|pair| pair[0].seq < pair[1].seq), "one key is one lane, and ascends");
    let of = |tree: TreeId| {
        rows.iter().filter(|row| row.event.tree == tree).map(|row| row.event.id.clone()).collect::<Vec<_>>()
    };
    let ids =
        |tree: TreeId, positions: [u32; 4]| positions.map(|position| event_keyed(tree, position, "same").id).to_vec();
    assert_eq!(of(trees[0]), ids(trees[0], [0, 1, 9, 2]));
    assert_eq!(of(trees[1]), ids(trees[1], [0, 1, 3, 4]));
    let (third, last) = (&rows[4].event.tree, &rows[6].event.tree);
    assert_eq!((*third, *last), (trees[0], trees[1]), "commit after commit");

    let lane = rows[0].event.lane;
    let page = store.outbox_read(lane, rows[2].seq, 3).await.expect("read").rows;
    assert_eq!(page, rows[3..6], "after the cursor, at most the limit");
    assert_eq!(store.outbox_read((lane + 1) % 16, 0, 10).await.expect("read").rows, []);
}

/// When a commit with an event began and ended, by a counter all tasks share.
struct Emitted {
    event: EventId,
    began: u64,
    ended: u64,
}

async fn emit_many(
    store: Arc<dyn Store>,
    keys: &'static [&'static str],
    ticks: Arc<AtomicU64>,
    under_way: watch::Sender<()>,
) -> Vec<Emitted> {
    const COMMITS: u64 = 60;
    let mut worker = Worker::join(&store).await;
    let trees = worker.trees(4).await;
    let mut emitted = Vec::new();
    for commit in 0..COMMITS {
        let turns: Vec<Turn> = trees
            .iter()
            .enumerate()
            .map(|(place, tree)| {
                let key = keys[(place + usize::try_from(commit).expect("small")) % keys.len()];
                let position = u32::try_from(commit).expect("small");
                Turn { events: vec![event_keyed(*tree, position, key)], ..turn(*tree, commit + 1) }
            })
            .collect();
        let began = ticks.fetch_add(1, Ordering::SeqCst);
        under_way.send_replace(());
        worker.commit_all(&turns).await;
        let ended = ticks.fetch_add(1, Ordering::SeqCst);
        emitted.extend(turns.iter().map(|turn| Emitted { event: turn.events[0].id.clone(), began, ended }));
    }
    emitted
}

/// Follows every lane's cursor while commits are under way, and once more to the end when nothing more comes.
async fn follow(store: Arc<dyn Store>, mut under_way: watch::Receiver<()>) -> Vec<OutboxRow> {
    let mut cursors = HashMap::<u16, i64>::new();
    let mut seen = Vec::new();
    loop {
        let last_round = under_way.changed().await.is_err();
        for lane in 0..16 {
            let cursor = cursors.entry(lane).or_default();
            loop {
                let rows = store.outbox_read(lane, *cursor, 50).await.expect("a lane is read").rows;
                let Some(last) = rows.last() else { break };
                *cursor = last.seq;
                seen.extend(rows);
            }
        }
        if last_round {
            return seen;
        }
    }
}

/// E4: with committers that write the same keys at once, a reader that follows its cursor misses nothing, and what
/// was committed before another commit began is before it.
pub async fn a_reader_that_follows_its_cursor_misses_no_row_of_concurrent_committers(test: &TestStore) {
    let stores = [test.store(), test.another().await];
    let ticks = Arc::new(AtomicU64::new(0));
    let (begins, under_way) = watch::channel(());
    let reader = tokio::spawn(follow(test.store(), under_way));
    let orders: [&'static [&'static str]; 3] = [&["a", "b", "c"], &["c", "b", "a"], &["b", "a", "c"]];
    let writers: Vec<_> = (0..3)
        .map(|who| (Arc::clone(&stores[who % 2]), orders[who], Arc::clone(&ticks), begins.clone()))
        .map(|(store, order, ticks, begins)| tokio::spawn(emit_many(store, order, ticks, begins)))
        .collect();
    drop(begins);
    let mut emitted = Vec::new();
    for writer in writers {
        emitted.extend(writer.await.expect("a writer ends"));
    }
    let seen = reader.await.expect("the reader ends");

    assert_eq!(seen.len(), emitted.len(), "no row is missed");
    let distinct: HashSet<&EventId> = seen.iter().map(|row| &row.event.id).collect();
    assert_eq!(distinct.len(), emitted.len(), "no row is seen twice");
    let times: HashMap<&EventId, (u64, u64)> = emitted.iter().map(|one| (&one.event, (one.began, one.ended))).collect();
    for lane in 0..16 {
        let mut latest_began = 0;
        for row in seen.iter().filter(|row| row.event.lane == lane) {
            let (began, ended) = times[&row.event.id];
            assert!(ended > latest_began, "{} was committed before one that precedes it began", row.event.id);
            latest_began = latest_began.max(began);
        }
    }
}

/// E4: each lane has one publisher; who comes later gets what is free.
pub async fn a_lane_has_one_publisher(test: &TestStore) {
    let store = test.store();
    let (first, second) = (Worker::join(&store).await, Worker::join(&store).await);
    let lanes = store.info().lanes;
    let held = store.lane_claim(first.id, 5).await.expect("a claim");
    assert_eq!(held.len(), 5);
    let rest = store.lane_claim(second.id, lanes).await.expect("a claim");
    assert_eq!(rest.len(), usize::from(lanes) - 5);
    let all: HashSet<u16> = held.iter().chain(&rest).map(|lease| lease.lane).collect();
    assert_eq!(all, (0..lanes).collect());
    assert!(held.iter().chain(&rest).all(|lease| lease.published == 0));
    let again = store.lane_claim(first.id, lanes).await.expect("a claim");
    let lanes_of = |leases: &[sapwood_core::store::LaneLease]| leases.iter().map(|l| l.lane).collect::<HashSet<_>>();
    assert_eq!(lanes_of(&again), lanes_of(&held), "a claim returns what is held");
}

/// E4: two workers that claim at once never hold the same lane.
pub async fn lanes_claimed_at_once_are_apart(test: &TestStore) {
    let stores = [test.store(), test.another().await];
    let workers = [Worker::join(&stores[0]).await, Worker::join(&stores[1]).await];
    for _ in 0..10 {
        let (one, two) = tokio::join!(stores[0].lane_claim(workers[0].id, 16), stores[1].lane_claim(workers[1].id, 16));
        let (one, two) = (one.expect("a claim"), two.expect("a claim"));
        let held: HashSet<u16> = one.iter().chain(&two).map(|lease| lease.lane).collect();
        assert_eq!(held.len(), one.len() + two.len());
        stores[0].lane_release(workers[0].id).await.expect("given back");
        stores[1].lane_release(workers[1].id).await.expect("given back");
    }
}

/// A row in each of the 16 lanes; the `seq` of each, by lane.
async fn a_row_in_each_lane(store: &Arc<dyn Store>, worker: &mut Worker) -> Vec<i64> {
    let tree = worker.tree().await;
    let events = (0..16).map(|lane| OutboxEvent { lane, ..event(tree, u32::from(lane)) }).collect();
    worker.commit_all(&[Turn { events, ..turn(tree, 1) }]).await;
    let mut seqs = Vec::new();
    for lane in 0..16 {
        seqs.push(store.outbox_read(lane, 0, 10).await.expect("rows").rows.last().expect("a row").seq);
    }
    seqs
}

/// E4: a cursor names a row that is there: one that was on its way when the store went back would pass over what is committed
/// next.
pub async fn a_lane_does_not_move_to_where_no_row_is(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let seqs = a_row_in_each_lane(&store, &mut worker).await;
    let held = store.lane_claim(worker.id, 16).await.expect("a claim");
    let beyond = |lease: &LaneLease| i64::from(lease.lane == 3) * 1_000;
    let advances: Vec<LaneAdvance> = held
        .iter()
        .map(|lease| LaneAdvance {
            lane: lease.lane,
            epoch: lease.epoch,
            published: seqs[usize::from(lease.lane)] + beyond(lease),
        })
        .collect();
    assert_eq!(store.lane_advance(worker.id, &advances).await.expect("answered"), [3]);
    for lease in store.lane_claim(worker.id, 16).await.expect("a claim") {
        assert_eq!(lease.published, if lease.lane == 3 { 0 } else { seqs[usize::from(lease.lane)] });
    }
}

/// E4: the next publisher goes on at the cursor that was written back, under an epoch of its own.
pub async fn a_released_lane_goes_on_where_it_was(test: &TestStore) {
    let store = test.store();
    let (mut first, second) = (Worker::join(&store).await, Worker::join(&store).await);
    let seqs = a_row_in_each_lane(&store, &mut first).await;
    let held = store.lane_claim(first.id, 16).await.expect("a claim");
    let advances: Vec<LaneAdvance> = held
        .iter()
        .map(|lease| LaneAdvance { lane: lease.lane, epoch: lease.epoch, published: seqs[usize::from(lease.lane)] })
        .collect();
    assert_eq!(store.lane_advance(first.id, &advances).await.expect("written back"), Vec::<u16>::new());
    store.lane_release(first.id).await.expect("given back");

    let taken = store.lane_claim(second.id, 16).await.expect("a claim");
    assert_eq!(taken.len(), 16);
    for lease in &taken {
        let before = held.iter().find(|one| one.lane == lease.lane).expect("all were held");
        assert_eq!(lease.published, seqs[usize::from(lease.lane)]);
        assert!(lease.epoch > before.epoch);
    }
    let stale = store.lane_advance(first.id, &advances).await.expect("answered");
    assert_eq!(stale.len(), 16, "a lane given back is lost");
}

/// E4: a publisher that was taken for dead loses its lanes, and its cursors count no more.
pub async fn lanes_of_a_buried_worker_are_taken_and_its_cursors_refused(test: &TestStore) {
    let store = test.store();
    let dead = Worker::join(&store).await;
    let held = store.lane_claim(dead.id, 16).await.expect("a claim");
    let worker = Worker::join(&store).await;
    worker.bury(dead.id).await;
    let taken = store.lane_claim(worker.id, 16).await.expect("a claim");
    assert_eq!(taken.len(), 16);

    let stale: Vec<LaneAdvance> =
        held.iter().map(|lease| LaneAdvance { lane: lease.lane, epoch: lease.epoch, published: 77 }).collect();
    let mut lost = store.lane_advance(dead.id, &stale).await.expect("answered");
    lost.sort_unstable();
    assert_eq!(lost, (0..16).collect::<Vec<u16>>());
    let kept = store.lane_claim(worker.id, 16).await.expect("a claim");
    assert!(kept.iter().all(|lease| lease.published == 0), "a refused cursor did not move");
}

/// E4: of several cursors written back the stale one is named and the others move.
pub async fn a_stale_epoch_is_refused_and_the_others_move(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let seqs = a_row_in_each_lane(&store, &mut worker).await;
    let held = store.lane_claim(worker.id, 16).await.expect("a claim");
    let advances: Vec<LaneAdvance> = held
        .iter()
        .map(|lease| {
            let epoch = if lease.lane == 3 { lease.epoch - 1 } else { lease.epoch };
            LaneAdvance { lane: lease.lane, epoch, published: seqs[usize::from(lease.lane)] }
        })
        .collect();
    assert_eq!(store.lane_advance(worker.id, &advances).await.expect("answered"), [3]);
    for lease in store.lane_claim(worker.id, 16).await.expect("a claim") {
        assert_eq!(lease.published, if lease.lane == 3 { 0 } else { seqs[usize::from(lease.lane)] });
    }
}

/// E4: the former publisher of a lane that was given back cannot move it, even before another takes it.
pub async fn a_lane_given_back_does_not_move(test: &TestStore) {
    let store = test.store();
    let worker = Worker::join(&store).await;
    let held = store.lane_claim(worker.id, 16).await.expect("a claim");
    store.lane_release(worker.id).await.expect("given back");
    let late: Vec<LaneAdvance> =
        held.iter().map(|lease| LaneAdvance { lane: lease.lane, epoch: lease.epoch, published: 7 }).collect();
    assert_eq!(store.lane_advance(worker.id, &late).await.expect("answered").len(), 16);
    let again = store.lane_claim(worker.id, 16).await.expect("a claim");
    assert!(again.iter().all(|lease| lease.published == 0), "{again:?}");
}

/// E4: a cursor never goes back, whatever its publisher says.
pub async fn a_cursor_never_goes_back(test: &TestStore) {
    let store = test.store();
    let mut worker = Worker::join(&store).await;
    let earlier = a_row_in_each_lane(&store, &mut worker).await[0];
    let later = a_row_in_each_lane(&store, &mut worker).await[0];
    let held = store.lane_claim(worker.id, 1).await.expect("a claim");
    assert_eq!(held[0].lane, 0);
    let to = |published: i64| [LaneAdvance { lane: 0, epoch: held[0].epoch, published }];
    assert_eq!(store.lane_advance(worker.id, &to(later)).await.expect("answered"), Vec::<u16>::new());
    assert_eq!(store.lane_advance(worker.id, &to(earlier)).await.expect("answered"), Vec::<u16>::new());
    store.lane_release(worker.id).await.expect("given back");
    let again = store.lane_claim(worker.id, 16).await.expect("a claim");
    assert_eq!(again.iter().find(|lease| lease.lane == held[0].lane).expect("held again").published, later);
}

/// E4: lanes of a worker that left are free at once.
pub async fn lanes_of_a_worker_that_left_are_free(test: &TestStore) {
    let store = test.store();
    let (gone, worker) = (Worker::join(&store).await, Worker::join(&store).await);
    assert_eq!(store.lane_claim(gone.id, 16).await.expect("a claim").len(), 16);
    assert_eq!(store.lane_claim(worker.id, 16).await.expect("a claim"), []);
    store.worker_leave(gone.id).await.expect("it leaves");
    assert_eq!(store.lane_claim(worker.id, 16).await.expect("a claim").len(), 16);
}
