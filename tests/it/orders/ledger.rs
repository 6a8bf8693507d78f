//! What the gateways of orders did beside what the journal says they did.

use std::collections::{BTreeMap, BTreeSet};

use sapwood_core::{Path, TreeId};
use uuid::Uuid;

use super::place::{Place, Query};

/// A step: the tree, the path and the position in it, as the idempotency key has them.
type Step = String;

/// The attempts that the journal records, one entry per attempt, and whether the step is done: with a result, or with an error
/// that is final. A step whose attempts are used up is not: the retry of its function gives it new ones (F5). That happens
/// here, because a gateway that was killed has forgotten how often it had been unavailable.
const TRIES: Query = Query {
    sqlite: "select tree_id, path, position,
                 kind = 1 or kind = 2 and json_extract(cast(payload as text), '$.kind') = 'failed'
             from journal where kind in (1, 2, 3)",
    postgres: "select tree_id, path, position::bigint,
                   kind = 1 or kind = 2 and convert_from(payload, 'utf8')::json ->> 'kind' = 'failed'
               from journal where kind in (1, 2, 3)",
};

const SETTLED: Query = Query {
    sqlite: "select count(*) from tree where function = 'place_order' and settled_at is not null",
    postgres: "select count(*) from tree where function = 'place_order' and settled_at is not null",
};

/// Both, while no process runs.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// Lines that each step appended.
    effects: BTreeMap<Step, usize>,
    /// Tries of each step that the journal tells of.
    recorded: BTreeMap<Step, usize>,
    /// Steps whose outcome the journal has.
    done: BTreeSet<Step>,
    /// Orders that are settled.
    pub(super) settled: i64,
}

impl Ledger {
    /// Reads the file of effects and the journal.
    pub(super) async fn read(place: &Place, effects: &str) -> Self {
        let mut ledger = Self::default();
        for line in effects.lines() {
            let (step, _) = line.split_once(' ').unwrap_or_else(|| panic!("no effect: {line}"));
            *ledger.effects.entry(step.to_owned()).or_default() += 1;
        }
        for (tree, path, position, done) in place.rows::<(Uuid, Vec<u8>, i64, bool)>("orders", &TRIES).await {
            let path = Path::from_bytes(&path).expect("a path");
            let position = u32::try_from(position).expect("the position of a step");
            let step = format!("{}:{}", TreeId::from(tree), path.child(position));
            *ledger.recorded.entry(step.clone()).or_default() += 1;
            if done {
                ledger.done.insert(step);
            }
        }
        let settled = place.rows::<(i64,)>("orders", &SETTLED).await;
        ledger.settled = settled[0].0;
        ledger
    }

    /// Lines of the file.
    pub(super) fn lines(&self) -> usize {
        self.effects.values().sum()
    }

    /// Compares with the ledger before the life of the process that has just ended, and gives the steps that were in
    /// flight at its end: those of which it noted one effect that it did not record.
    ///
    /// Each line is an attempt that is recorded or was in flight at a kill, so this accounts for every line there is.
    pub(super) fn in_flight_since(&self, before: &Self) -> usize {
        for step in &before.done {
            assert_eq!(self.effects[step], before.effects[step], "{step} was recorded, and ran again");
        }
        let mut in_flight = 0;
        for step in self.effects.keys().chain(self.recorded.keys()).collect::<BTreeSet<_>>() {
            let unrecorded = self.unrecorded(step).expect("an effect is noted before its try is recorded");
            let earlier = before.unrecorded(step).expect("as before");
            let now =
                unrecorded.checked_sub(earlier).unwrap_or_else(|| panic!("{step}: a try in flight is in no journal"));
            assert!(now <= 1, "{step} ran {now} times without a record within the life of one process");
            in_flight += now;
        }
        in_flight
    }

    fn unrecorded(&self, step: &Step) -> Option<usize> {
        let of = |counts: &BTreeMap<Step, usize>| counts.get(step).copied().unwrap_or_default();
        of(&self.effects).checked_sub(of(&self.recorded))
    }
}
