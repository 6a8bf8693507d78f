//! Faults of a store: commits that a test counts, reads, holds, loses, or lets the process die of; claims that are
//! lost, and loads that are refused.
//!
//! What carries them out is [`front`](crate::front).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use sapwood_core::store::{Turn, Verdict};
use sapwood_core::{Path, TreeId};
use sapwood_engine::Engine;
use tokio::sync::{Semaphore, watch};

use crate::wait::within;

/// What happens at a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The connection is lost before the commit: nothing is applied, and the caller does not know.
    LostBefore,
    /// The connection is lost after the commit: all is applied, and the caller does not know (C5).
    LostAfter,
    /// The process dies before the commit.
    DiesBefore,
    /// The process dies after the commit, before it hears of it.
    DiesAfter,
    /// The commit waits for [`StoreFaults::release`].
    Held,
    /// The data of the commit is refused for good: nothing is applied.
    Refused,
}

/// Whether burials wait, and how many did.
#[derive(Debug, Clone, Copy, Default)]
struct Burials {
    are_held: bool,
    held: usize,
}

/// Which faults happen when, and what was seen.
pub struct StoreFaults {
    commits: AtomicUsize,
    /// By the number of the commit, counted from 1.
    planned: Mutex<HashMap<usize, Fault>>,
    /// What holds from some commit on.
    holds_from: Mutex<Option<usize>>,
    released: Semaphore,
    held: watch::Sender<usize>,
    /// Those that wait now.
    waiting: AtomicUsize,
    dies: Mutex<Option<Engine>>,
    turns: Mutex<Vec<Turn>>,
    lost: Mutex<Vec<Turn>>,
    loads: Mutex<Vec<Path>>,
    /// Closed while burials are held.
    burials: watch::Sender<Burials>,
    /// Whether the answer of the next claim that takes a tree is lost.
    loses_claim: AtomicBool,
    claims: Mutex<Vec<TreeId>>,
    /// Whether no renewal of a lease begins.
    stands_still: watch::Sender<bool>,
    /// Whether hints go nowhere.
    loses_hints: AtomicBool,
    /// Invocations whose next load is refused for good.
    unreadable: Mutex<HashSet<Path>>,
    /// Whether calls of the events' roles are never answered.
    hangs: AtomicBool,
}

impl StoreFaults {
    /// None is planned, nothing was seen.
    pub(crate) fn none() -> Self {
        Self {
            commits: AtomicUsize::new(0),
            planned: Mutex::default(),
            holds_from: Mutex::default(),
            released: Semaphore::new(0),
            held: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            dies: Mutex::default(),
            turns: Mutex::default(),
            lost: Mutex::default(),
            loads: Mutex::default(),
            burials: watch::Sender::new(Burials::default()),
            loses_claim: AtomicBool::new(false),
            claims: Mutex::default(),
            stands_still: watch::Sender::new(false),
            loses_hints: AtomicBool::new(false),
            unreadable: Mutex::default(),
            hangs: AtomicBool::new(false),
        }
    }

    /// Plans a fault at a commit, counted from 1 since the store began.
    pub fn plan(&self, commit: usize, fault: Fault) {
        self.planned.lock().insert(commit, fault);
    }

    /// Plans a fault at the next commit.
    pub fn plan_next(&self, fault: Fault) {
        self.plan(self.commits() + 1, fault);
    }

    /// Holds every commit from the next one on, until each is released.
    pub fn hold_all(&self) {
        *self.holds_from.lock() = Some(self.commits() + 1);
    }

    /// Holds no more, and lets those go on that are held.
    pub fn hold_none(&self) {
        *self.holds_from.lock() = None;
        self.waiting.store(0, Ordering::SeqCst);
        self.released.add_permits(Semaphore::MAX_PERMITS >> 4);
    }

    /// As [`Self::hold_none`], and commits that a later plan holds are held again.
    pub fn let_go(&self) {
        *self.holds_from.lock() = None;
        self.released.add_permits(self.waiting.swap(0, Ordering::SeqCst));
    }

    /// Commits that have been held so far.
    #[must_use]
    pub fn holds(&self) -> usize {
        *self.held.borrow()
    }

    /// Which engine dies of [`Fault::DiesBefore`] and [`Fault::DiesAfter`].
    pub fn kills(&self, engine: &Engine) {
        *self.dies.lock() = Some(engine.clone());
    }

    /// Lets one held commit go on.
    pub fn release(&self) {
        let _ = self.waiting.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |waiting| waiting.checked_sub(1));
        self.released.add_permits(1);
    }

    /// Waits until so many commits have been held in all.
    ///
    /// # Panics
    /// If they never are.
    pub async fn held(&self, many: usize) {
        let mut held = self.held.subscribe();
        let waiting = held.wait_for(|held| *held >= many);
        within("a held commit", waiting).await.expect("the faults are kept");
    }

    /// Commits begun so far.
    #[must_use]
    pub fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    /// The turns that were committed, in order.
    #[must_use]
    pub fn turns(&self) -> Vec<Turn> {
        self.turns.lock().clone()
    }

    /// The turns that a dying process took with it.
    #[must_use]
    pub fn lost(&self) -> Vec<Turn> {
        self.lost.lock().clone()
    }

    /// The invocations that were loaded for an activation, in order.
    #[must_use]
    pub fn loads(&self) -> Vec<Path> {
        self.loads.lock().clone()
    }

    /// Holds burials, as a commit of the dead that hangs does.
    pub fn hold_burials(&self) {
        self.burials.send_modify(|burials| burials.are_held = true);
    }

    /// Lets burials go on.
    pub fn release_burials(&self) {
        self.burials.send_modify(|burials| burials.are_held = false);
    }

    /// Waits until a burial is held.
    ///
    /// # Panics
    /// If none ever is.
    pub async fn burial_held(&self) {
        let mut burials = self.burials.subscribe();
        let held = burials.wait_for(|burials| burials.held > 0);
        within("a held burial", held).await.expect("the faults are kept");
    }

    /// A burial begins.
    pub(crate) async fn buries(&self) {
        self.burials.send_modify(|burials| burials.held += usize::from(burials.are_held));
        let mut burials = self.burials.subscribe();
        burials.wait_for(|burials| !burials.are_held).await.expect("the faults are kept");
    }

    /// Loses the answer of the next claim that takes a tree; the claim is made all the same.
    pub fn lose_claim(&self) {
        self.loses_claim.store(true, Ordering::SeqCst);
    }

    /// Whether an answer is still to be lost.
    #[must_use]
    pub fn has_claim_to_lose(&self) -> bool {
        self.loses_claim.load(Ordering::SeqCst)
    }

    /// From now on no renewal of its lease begins, as in a process that stands still.
    pub fn stand_still(&self) {
        self.stands_still.send_replace(true);
    }

    /// Renewals begin again, also those that waited.
    pub fn go_on(&self) {
        self.stands_still.send_replace(false);
    }

    /// A renewal begins.
    pub(crate) async fn renews(&self) {
        let mut stands_still = self.stands_still.subscribe();
        stands_still.wait_for(|still| !*still).await.expect("the faults are kept");
    }

    /// Whether hints go nowhere from now on.
    pub fn lose_hints(&self, lost: bool) {
        self.loses_hints.store(lost, Ordering::SeqCst);
    }

    /// Whether a hint that is given now goes nowhere.
    pub(crate) fn loses_hint(&self) -> bool {
        self.loses_hints.load(Ordering::SeqCst)
    }

    /// The trees that were claimed, one by one, in order.
    #[must_use]
    pub fn claims(&self) -> Vec<TreeId> {
        self.claims.lock().clone()
    }

    /// Refuses for good the next load of the invocation at a path, as `/0/1`.
    ///
    /// # Panics
    /// If it is no path.
    pub fn refuse_load(&self, path: &str) {
        self.unreadable.lock().insert(path.parse().expect("a path"));
    }

    /// From now on no call about lanes, offsets or the log is answered, nor any intake, as in a network that loses
    /// everything without a word.
    pub fn hang(&self) {
        self.hangs.store(true, Ordering::SeqCst);
    }

    /// Calls are answered again; those that hang already never are.
    pub fn hang_no_more(&self) {
        self.hangs.store(false, Ordering::SeqCst);
    }

    /// Never comes back if calls hang.
    pub(crate) async fn pass(&self) {
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    /// What happens at the commit that begins now.
    pub(crate) fn next(&self) -> Option<Fault> {
        let commit = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        let holds = self.holds_from.lock().is_some_and(|from| commit >= from);
        self.planned.lock().remove(&commit).or(holds.then_some(Fault::Held))
    }

    /// Lets the process die.
    pub(crate) fn die(&self) {
        let dies = self.dies.lock().clone();
        dies.expect("an engine that dies is named").kill();
    }

    /// Holds a commit until it is released.
    pub(crate) async fn hold(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.held.send_modify(|held| *held += 1);
        self.released.acquire().await.expect("the faults are kept").forget();
    }

    /// These were sent, with this answer.
    pub(crate) fn committed(&self, turns: &[Turn], verdicts: &[Verdict]) {
        let committed = turns.iter().zip(verdicts).filter(|(_, verdict)| **verdict == Verdict::Committed);
        self.turns.lock().extend(committed.map(|(turn, _)| turn.clone()));
    }

    /// These go with the process.
    pub(crate) fn lose(&self, turns: &[Turn]) {
        self.lost.lock().extend_from_slice(turns);
    }

    /// These were claimed. Whether the answer is lost.
    pub(crate) fn claimed(&self, trees: impl Iterator<Item = TreeId>) -> bool {
        let mut claims = self.claims.lock();
        let before = claims.len();
        claims.extend(trees);
        claims.len() > before && self.loses_claim.swap(false, Ordering::SeqCst)
    }

    /// This one is loaded. Whether that is refused.
    pub(crate) fn loaded(&self, path: &Path) -> bool {
        self.loads.lock().push(path.clone());
        self.unreadable.lock().remove(path)
    }
}
