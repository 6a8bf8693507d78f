//! What happens to the fleet, and when: drawn from a seed before anything runs.

use std::time::Duration;

use super::PROCESSES;
use crate::model::chance::Chance;

/// The lease of every worker, which no setting of an app changes.
pub(super) const LEASE: Duration = Duration::from_secs(3);

/// How long the network of one process is silent in a long run.
const SILENCE: Duration = Duration::from_secs(20);

/// A run that is as long has every fault; a shorter one has one of each kind that takes little time.
const LONG: Duration = Duration::from_secs(60);

/// The process whose way to the database leads through a proxy.
pub(super) const BEHIND_PROXY: usize = 0;

/// One fault, or the end of one. Processes are named by their place in the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is killed.
    Kill(usize),
    /// Another one takes the place of one that was killed.
    Launch(usize),
    /// It stands still.
    Stop(usize),
    /// It goes on.
    GoOn(usize),
    /// PostgreSQL ends without a word, and starts again.
    Restart,
    /// Nothing that is sent between [`BEHIND_PROXY`] and PostgreSQL arrives.
    Silence,
    /// New connections of [`BEHIND_PROXY`] work again.
    Heal,
}

/// The faults of a run, each with its time from the start, in order.
pub(super) fn draw(chance: &mut Chance, length: Duration) -> Vec<(Duration, Fault)> {
    let mut faults = if length < LONG { few(chance) } else { many(chance, length) };
    faults.sort_by_key(|(at, _)| *at);
    faults
}

/// One kill, one restart, one process that stands still for longer than its lease.
fn few(chance: &mut Chance) -> Vec<(Duration, Fault)> {
    let (killed, stopped) = (chance.index(PROCESSES), chance.index(PROCESSES));
    let ms = Duration::from_millis;
    vec![
        (ms(1_000), Fault::Kill(killed)),
        (ms(1_500 + chance.below(1_000)), Fault::Launch(killed)),
        (ms(3_000), Fault::Restart),
        (ms(5_000), Fault::Stop(stopped)),
        // Long enough for a watcher that begins to count anew, because it was itself not served for a moment.
        (ms(14_500), Fault::GoOn(stopped)),
    ]
}

/// Two restarts, a silence, and kills and stops all the time. One process is always well.
fn many(chance: &mut Chance, length: Duration) -> Vec<(Duration, Fault)> {
    let ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
    let at = Duration::from_millis;
    let mut faults: Vec<(Duration, Fault)> =
        [30, 70].map(|percent| (at(ms * percent / 100 + chance.below(ms / 10)), Fault::Restart)).into();
    let silence = at(ms / 10 + chance.below(ms / 4));
    faults.extend([(silence, Fault::Silence), (silence + SILENCE, Fault::Heal)]);
    // When each is well again, with what its new worker needs to join.
    let settles = LEASE;
    let mut well_at = [Duration::ZERO; PROCESSES];
    let mut now = at(2_000);
    while now + settles < length {
        let is_well = |process: &usize| {
            let is_cut = *process == BEHIND_PROXY && now + LEASE > silence && now < silence + SILENCE + settles;
            well_at[*process] <= now && !is_cut
        };
        let well: Vec<usize> = (0..PROCESSES).filter(is_well).collect();
        let process = well.get(chance.index(well.len())).copied();
        // Whoever may be cut off meanwhile does not count as well.
        let stays = well.iter().any(|well| *well != BEHIND_PROXY && Some(*well) != process);
        if let Some(process) = process.filter(|_| stays) {
            let (fault, end, lasts) = if chance.percent(35) {
                (Fault::Kill(process), Fault::Launch(process), at(chance.below(3_000)))
            } else {
                let (least, most) = chance.weighted(&[(3, (1_000, 2_500)), (6, (5_000, 9_000)), (1, (12_000, 30_000))]);
                (Fault::Stop(process), Fault::GoOn(process), at(least + chance.below(most - least)))
            };
            // It is well again before the silence comes.
            let before_silence = (silence - LEASE / 2).saturating_sub(now);
            let lasts = if process == BEHIND_PROXY && now < silence { lasts.min(before_silence) } else { lasts };
            faults.extend([(now, fault), (now + lasts, end)]);
            well_at[process] = now + lasts + settles;
        }
        now += at(1_000 + chance.below(4_000));
    }
    faults
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BEHIND_PROXY, Fault, draw};
    use crate::model::chance::Chance;

    /// Every fault ends, and nothing happens to a process to which something happens already.
    #[test]
    fn every_fault_that_is_drawn_ends_and_none_meets_another_of_its_process() {
        for seed in 0..200 {
            let length = Duration::from_secs(if seed % 2 == 0 { 20 } else { 120 });
            let faults = draw(&mut Chance::of(seed), length);
            let mut is_down = [false; super::PROCESSES];
            for (_, fault) in &faults {
                let (process, goes_down) = match *fault {
                    Fault::Kill(process) | Fault::Stop(process) => (process, true),
                    Fault::Launch(process) | Fault::GoOn(process) => (process, false),
                    Fault::Silence => (BEHIND_PROXY, true),
                    Fault::Heal => (BEHIND_PROXY, false),
                    Fault::Restart => continue,
                };
                assert_ne!(is_down[process], goes_down, "seed {seed}: {faults:?}");
                is_down[process] = goes_down;
                assert!(
                    is_down.iter().filter(|is_down| **is_down).count() < super::PROCESSES,
                    "seed {seed}: {faults:?}"
                );
            }
            assert!(!is_down.contains(&true), "seed {seed}: {faults:?}");
            let restarts = faults.iter().filter(|(_, fault)| *fault == Fault::Restart).count();
            assert_eq!(restarts, if seed % 2 == 0 { 1 } else { 2 });
        }
    }
}
