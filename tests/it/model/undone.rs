//! What an invocation must have undone: which operations, in which order, and in how many rounds.

use sapwood_core::Position;
use sapwood_core::journal::EntryKind;
use sapwood_core::tree::{Closing, InvocationRow, PromiseState};

use super::oracle::{Walk, ensure, path};
use super::plan::{ALWAYS, fails_to_undo};

impl Walk<'_> {
    /// K1, K2, K5, K7: what it did is undone in reverse, one after the other, after all below it is closed; and nothing if it
    /// resolved.
    pub(super) fn undone(&self, row: &InvocationRow) -> Result<(), String> {
        let of_calls = self.calls().filter(|(position, plan)| {
            let child = self.oracle.row(&self.path.child(*position));
            plan.undo && child.is_some_and(|child| child.invocation.state.promise == PromiseState::Resolved)
        });
        let declared = self.entries.iter().filter(|entry| entry.kind == EntryKind::UndoDeclared);
        let declared: Vec<Position> = declared.map(|entry| entry.position).collect();
        if self.is_whole && declared != self.undos {
            return Err(format!("it declared {declared:?}, the plan says {:?}", self.undos));
        }
        let mut due: Vec<Position> = of_calls.map(|(position, _)| position).chain(declared).collect();
        due.sort_unstable_by(|one, other| other.cmp(one));
        if row.invocation.state.promise == PromiseState::Resolved {
            due.clear();
        }
        let children = || self.oracle.rows.iter().filter(|(path, _)| path.parent().as_ref() == Some(self.path));
        let mut begun: Vec<_> = children().filter_map(|(path, row)| Some((path.undoes()?, *row))).collect();
        begun.sort_by_key(|(_, row)| row.invocation.state.number);
        let is_first = |row: &InvocationRow| path(row).undo_round() == Some(1);
        let positions = begun.iter().filter(|(_, row)| is_first(row)).map(|(position, _)| *position);
        let positions: Vec<Position> = positions.collect();
        let is_killed = self.is_killed(self.path);
        let fits = match (is_killed, self.oracle.is_retried(self.path)) {
            (false, _) => due == positions,
            (true, false) => due.starts_with(&positions),
            // What a kill left out comes after what had failed before it.
            (true, true) => positions.iter().all(|position| due.contains(position)),
        };
        ensure(fits, || format!("it undid {positions:?} in this order, the plan says {due:?}"))?;
        let mut before =
            children().filter(|(path, _)| path.undoes().is_none()).filter_map(|(_, row)| row.settled_at).max();
        for (position, undo) in &begun {
            ensure(self.oracle.known.was_set_back || before.is_none_or(|before| before <= undo.created_at), || {
                format!("the undo of {position} began before all was closed that comes before it")
            })?;
            before = undo.settled_at;
        }
        let mut have_failed = false;
        for position in positions {
            let rounds = begun.iter().filter(|(of, _)| *of == position).map(|(_, row)| *row).collect::<Vec<_>>();
            have_failed |= self.rounds(position, &rounds)?;
        }
        let closing = match (due.is_empty(), have_failed) {
            _ if is_killed => return Ok(()),
            (true, _) => Closing::None,
            (false, true) => Closing::CompensationFailed,
            (false, false) => Closing::Compensated,
        };
        let found = row.invocation.state.closing;
        ensure(found == closing, || format!("its closing is {found:?}, not {closing:?}"))
    }

    /// K2: one position is undone once, and again only if that failed and an operator asked for it. Whether the last
    /// round has failed.
    fn rounds(&self, position: Position, rounds: &[&InvocationRow]) -> Result<bool, String> {
        let fails = self.fails_to_undo(position);
        let asked = self.oracle.retries(self.path, position);
        ensure(rounds.len() <= 1 + asked, || format!("{position} was undone {} times, asked {asked}", rounds.len()))?;
        let mut has_failed = false;
        for (round, undo) in (1..).zip(rounds) {
            let promise = undo.invocation.state.promise;
            ensure(round == 1 || has_failed, || format!("{position} was undone again, and had not failed"))?;
            ensure(path(undo).undo_round() == Some(round), || format!("round {round} is {}", path(undo)))?;
            has_failed = promise != PromiseState::Resolved;
            let may_fail = self.is_asked(path(undo)) || self.has_deadline;
            // What a crash loses counts as a failure.
            let may_succeed = fails != ALWAYS && !self.oracle.known.is_undisturbed;
            let is_right = if round <= fails { has_failed || may_succeed } else { !has_failed || may_fail };
            ensure(is_right, || {
                format!("round {round} of the undo of {position} is {promise:?}, it fails {fails} times")
            })?;
        }
        Ok(has_failed)
    }

    /// How often the undo of what was done here fails.
    fn fails_to_undo(&self, position: Position) -> u32 {
        let call = self.calls().find(|(of_call, _)| *of_call == position);
        fails_to_undo(call.map_or(&self.plan.name, |(_, plan)| &plan.name))
    }
}
