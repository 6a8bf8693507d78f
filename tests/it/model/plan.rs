//! What a tree of a run is to do: drawn from a seed, small, given to its root as input and printed if the run fails.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::chance::Chance;

/// A step that never succeeds fails so often.
pub(super) const ALWAYS: u32 = u32::MAX;

/// Attempts of each step.
pub(super) const STEP_ATTEMPTS: u32 = 3;

/// Attempts of a function that waits for an operator after them.
pub(super) const PAUSES: u32 = 2;

/// The body of one invocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Plan {
    /// Unique in its tree.
    pub(super) name: String,
    /// Attempts of its function: 1, 3, or [`PAUSES`].
    pub(super) attempts: u32,
    /// What it does, one after the other.
    pub(super) ops: Vec<Op>,
    /// Whether it goes on after what failed; else it ends with that.
    pub(super) catches: bool,
    /// How it ends if it comes to its end.
    pub(super) end: End,
    /// Whether its call has an undo.
    pub(super) undo: bool,
    /// The deadline of its call, in milliseconds.
    pub(super) deadline_ms: Option<u64>,
}

/// One operation of a body, or a few that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Op {
    Step(Work),
    /// Two steps at once, which do not fail.
    Steps(Work, Work),
    /// A step that does not fail, or a sleep in milliseconds, whichever ends first.
    Hurry(Work, u64),
    /// In milliseconds.
    Sleep(u64),
    /// A sleep of so many milliseconds, whose handle it keeps.
    Nap(u64),
    /// Calls and awaits.
    Call(Plan),
    /// Calls, and keeps the handle.
    Hold(Plan),
    /// Awaits the handle that was kept first, if there is one.
    Await,
    /// Drops the handle that was kept first, if there is one.
    Drop,
    /// Waits so many milliseconds, or until the handle that was kept first is ready, if there is one; it is kept otherwise.
    Glance(u64),
    /// Calls, and takes what comes first of that and a sleep, in milliseconds, or another call.
    Race {
        plan: Plan,
        rival: Rival,
        is_biased: bool,
    },
    /// Calls all, and awaits all.
    Join(Vec<Plan>),
    /// Makes an external promise.
    Promise(Asked, Then),
    Emit,
    Draw,
    /// Declares what undoes the next operation.
    Compensate,
}

/// An external promise that a body makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Asked {
    /// Its own deadline, in milliseconds.
    pub(super) until_ms: Option<u64>,
}

/// How often the undo of what has this name fails, or of a result that begins with it.
pub(super) fn fails_to_undo(name: &str) -> u32 {
    match name.as_bytes() {
        [b'!', ..] => ALWAYS,
        [b'?', ..] => 2,
        _ => 0,
    }
}

/// The name of the promise that the operation at this place of a plan makes.
pub(super) fn promise_name(at: usize) -> String {
    format!("asked-{at}")
}

/// What a body does with a promise that it has made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Then {
    Awaits,
    /// Keeps the handle.
    Holds,
    Drops,
    /// Takes what comes first of it and a sleep, in milliseconds.
    Races {
        ms: u64,
        is_biased: bool,
    },
}

/// What a call races against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum Rival {
    Sleep(u64),
    Call(Plan),
    Promise(Asked),
}

/// What the closure of a step does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Work {
    /// How long it works, in milliseconds.
    pub(super) ms: u64,
    /// How often it fails before it succeeds.
    pub(super) fails: u32,
    pub(super) how: How,
    pub(super) is_interruptible: bool,
}

/// How a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum How {
    /// For good; then it always does.
    Terminal,
    Transient,
    /// It takes longer than it may, which is transient too.
    Slow,
    /// It takes the body with it.
    Panic,
}

/// How a body ends that comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum End {
    Returns,
    Fails,
    /// With an error that another attempt may mend, and never does.
    Busy,
}

impl Plan {
    /// A plan of at most so many invocations.
    pub(super) fn draw(chance: &mut Chance, most: usize) -> Self {
        let mut left = most;
        let mut drawing = Drawing { chance, left: &mut left, names: 0 };
        let mut root = drawing.plan(0);
        root.undo = false;
        root
    }
}

struct Drawing<'d> {
    chance: &'d mut Chance,
    /// Invocations that may still be drawn.
    left: &'d mut usize,
    names: usize,
}

#[derive(Clone, Copy)]
enum Kind {
    Step,
    Steps,
    Hurry,
    Sleep,
    Nap,
    Call,
    Hold,
    Await,
    Drop,
    Glance,
    Race,
    Join,
    Promise,
    Emit,
    Draw,
    Compensate,
}

impl Drawing<'_> {
    fn plan(&mut self, depth: usize) -> Plan {
        *self.left = self.left.saturating_sub(1);
        let number = self.names;
        self.names += 1;
        let (catches, attempts) = (self.chance.percent(60), self.chance.weighted(&[(6, 3), (2, 1), (3, PAUSES)]));
        // One step at most makes trouble that is tried again, so that no body runs out of attempts by two of them.
        let mut may_fail = true;
        let ops = 1 + self.chance.index(if depth == 0 { 5 } else { 3 });
        let ops = (0..ops).map(|_| self.op(depth, attempts, catches, &mut may_fail)).collect();
        // One that pauses and is busy for ever would never end.
        let busy = if attempts == PAUSES { End::Fails } else { End::Busy };
        let end = self.chance.weighted(&[(8, End::Returns), (3, End::Fails), (1, busy)]);
        let undo = self.chance.percent(40);
        let mark = if undo { self.chance.weighted(&[(7, ""), (1, "!"), (1, "?")]) } else { "" };
        let most = self.chance.weighted(&[(2, 20_000), (1, 1_500)]);
        let deadline_ms = self.chance.percent(14).then(|| 500 + self.chance.below(most));
        Plan { name: format!("{mark}n{number}"), attempts, ops, catches, end, undo, deadline_ms }
    }

    fn op(&mut self, depth: usize, attempts: u32, catches: bool, may_fail: &mut bool) -> Op {
        use Kind::{
            Await, Call, Compensate, Draw, Drop, Emit, Glance, Hold, Hurry, Join, Nap, Promise, Race, Sleep, Step,
            Steps,
        };
        let kind = self.chance.weighted(&[
            (6, Step),
            (2, Steps),
            (2, Hurry),
            (3, Sleep),
            (2, Nap),
            (4, Call),
            (4, Hold),
            (3, Await),
            (2, Drop),
            (3, Glance),
            (3, Race),
            (2, Join),
            (4, Promise),
            (2, Emit),
            (2, Draw),
            (2, Compensate),
        ]);
        if matches!(kind, Call | Hold | Race | Join) && (*self.left == 0 || depth > 3) {
            return Op::Step(self.work(attempts, catches, may_fail));
        }
        match kind {
            Step => Op::Step(self.work(attempts, catches, may_fail)),
            Steps => Op::Steps(self.work(attempts, catches, &mut false), self.work(attempts, catches, &mut false)),
            Hurry => Op::Hurry(self.work(attempts, catches, &mut false), self.time()),
            Sleep => Op::Sleep(self.time()),
            Nap => Op::Nap(self.time()),
            Call => Op::Call(self.plan(depth + 1)),
            Hold => Op::Hold(self.plan(depth + 1)),
            Await => Op::Await,
            Drop => Op::Drop,
            Glance => Op::Glance(self.time()),
            Race => {
                let plan = self.plan(depth + 1);
                let rival = match self.chance.below(10) {
                    0..4 if *self.left > 0 => Rival::Call(self.plan(depth + 1)),
                    4..6 => Rival::Promise(self.asked()),
                    _ => Rival::Sleep(self.time()),
                };
                Op::Race { plan, rival, is_biased: self.chance.percent(70) }
            }
            Join => {
                let many = 1 + self.chance.index(3.min(*self.left));
                Op::Join((0..many).map(|_| self.plan(depth + 1)).collect())
            }
            Promise => {
                let asked = self.asked();
                let races = Then::Races { ms: self.time(), is_biased: self.chance.percent(70) };
                Op::Promise(
                    asked,
                    match self.chance.below(10) {
                        0..4 => Then::Awaits,
                        4..6 => Then::Holds,
                        6..9 => races,
                        _ => Then::Drops,
                    },
                )
            }
            Emit => Op::Emit,
            Draw => Op::Draw,
            Compensate => Op::Compensate,
        }
    }

    fn asked(&mut self) -> Asked {
        Asked { until_ms: self.chance.percent(40).then(|| self.time()) }
    }

    fn work(&mut self, attempts: u32, catches: bool, may_fail: &mut bool) -> Work {
        let fails = *may_fail && self.chance.percent(45);
        let how = self.chance.weighted(&[(3, How::Terminal), (4, How::Transient), (2, How::Panic), (2, How::Slow)]);
        // What a crash loses may count as a failure or not: so often it fails that this makes no difference.
        // What parks fails on until an operator has let it go on a few times.
        let budgets = if attempts == PAUSES || self.chance.percent(50) { 3 } else { 1 };
        let most = match how {
            How::Transient | How::Slow if catches => STEP_ATTEMPTS,
            How::Transient | How::Slow if attempts == PAUSES => STEP_ATTEMPTS * attempts * budgets,
            How::Transient | How::Slow => STEP_ATTEMPTS * attempts,
            How::Panic => attempts * budgets,
            How::Terminal => 1,
        };
        let fails = match how {
            _ if !fails => 0,
            How::Terminal => ALWAYS,
            How::Transient | How::Slow if (catches || attempts != PAUSES) && self.chance.percent(30) => ALWAYS,
            How::Transient | How::Slow | How::Panic => u32::try_from(self.chance.below(u64::from(most))).unwrap_or(0),
        };
        *may_fail &= fails == 0;
        // Some take longer than a lease.
        let most = self.chance.weighted(&[(10, 1), (9, 3_000), (1, 30_000)]);
        let ms = if how == How::Slow { 0 } else { self.chance.below(most) };
        Work { ms, fails, how, is_interruptible: self.chance.percent(15) }
    }

    /// In milliseconds.
    fn time(&mut self) -> u64 {
        match self.chance.below(4) {
            0 => 0,
            1 => 1 + self.chance.below(1_000),
            2 => 1_000 * self.chance.below(20),
            _ => self.chance.below(30_000),
        }
    }
}
