//! The external promises of a run: what the world does to them, what it is told, and what every look at them has shown.

use std::collections::BTreeMap;

use bytes::Bytes;
use sapwood_core::journal::EntryKind;
use sapwood_core::store::Settling;
use sapwood_core::tree::{PromiseState, Settlement, TreeRecord};
use sapwood_core::{Path, PromiseId, TreeId};
use sapwood_engine::{Engine, PromiseName, PromiseView, Settle, SettleError};
use serde::{Deserialize, Serialize};

/// How a promise is settled, as journal.md says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Resolved(String),
    Rejected { message: String },
    TimedOut,
}

impl Outcome {
    const fn state(&self) -> PromiseState {
        match self {
            Self::Resolved(_) => PromiseState::Resolved,
            Self::Rejected { .. } => PromiseState::Rejected,
            Self::TimedOut => PromiseState::TimedOut,
        }
    }

    fn stored(&self) -> Bytes {
        serde_json::to_vec(self).expect("an outcome is JSON").into()
    }
}

/// What who settles a promise is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Stored,
    /// It has this outcome already.
    Settled(Bytes),
    /// Nobody awaits it.
    Closed,
    /// It is not there.
    Unknown,
}

/// All that is known of the promises of a run from outside.
#[derive(Default)]
pub(super) struct Promises {
    settles: Vec<(PromiseId, Outcome, Answer)>,
    /// What every look has shown last.
    seen: BTreeMap<String, (PromiseState, Option<Bytes>)>,
}

impl Promises {
    /// Settles a promise as a client of the engine does, or as a program that has no more than the store, without a hint.
    pub(super) async fn settle(
        &mut self,
        engine: &Engine,
        id: PromiseId,
        outcome: Outcome,
        by_engine: bool,
    ) -> Result<Answer, String> {
        let answer = if by_engine { by(engine, &id, &outcome).await? } else { by_store(engine, &id, &outcome).await? };
        self.settles.push((id, outcome, answer.clone()));
        Ok(answer)
    }

    /// How a promise was to be settled last.
    pub(super) fn last(&self, id: &PromiseId) -> Option<&Outcome> {
        self.settles.iter().rfind(|(of, _, _)| of == id).map(|(_, outcome, _)| outcome)
    }

    /// P2, D3: a promise that is pending no longer stays as it is, for every observer; none is pending past its deadline.
    pub(super) fn sees(&mut self, view: &PromiseView, now: jiff::Timestamp) -> Result<(), String> {
        let late = view.state == PromiseState::Pending && view.deadline.is_some_and(|deadline| deadline <= now);
        ensure(!late, || format!("at {now} it is pending: {view:?}"))?;
        let shown = (view.state, view.outcome.clone());
        let before = self.seen.insert(view.id.to_string(), shown.clone());
        let stays = before.as_ref().is_none_or(|before| before.0 == PromiseState::Pending || *before == shown);
        ensure(stays, || format!("it was {before:?}, and is {shown:?}: {view:?}"))
    }

    /// P2, P3, P4: what is stored is what the one was told who settled it, and what all others were told; what nobody settled
    /// timed out; and what nobody awaited has no outcome.
    pub(super) fn judge(&self, record: &TreeRecord) -> Result<(), String> {
        for (id, outcome, answer) in self.settles.iter().filter(|(id, _, _)| id.tree == record.row.id) {
            let stored = record.settled.iter().find(|settled| settled.path == id.path && settled.name == id.name);
            let stored = stored.map(|settled| (settled.state, &settled.outcome));
            let told = match answer {
                Answer::Stored => stored == Some((outcome.state(), &outcome.stored())),
                Answer::Settled(told) => stored.is_some_and(|(_, stored)| stored == told),
                // What a request reaches that is still to be carried out may time out before that.
                Answer::Closed => stored.is_none_or(|(state, _)| state == PromiseState::TimedOut),
                Answer::Unknown => true,
            };
            ensure(told, || {
                format!("{id} was settled with {outcome:?}, the answer was {answer:?}, stored is {stored:?}")
            })?;
        }
        for settled in &record.settled {
            let of_it = |id: &PromiseId| id.tree == record.row.id && id.path == settled.path && id.name == settled.name;
            let won = self.settles.iter().filter(|(id, _, answer)| of_it(id) && *answer == Answer::Stored).count();
            let expected = usize::from(settled.state != PromiseState::TimedOut);
            ensure(won == expected, || format!("{won} were told that they settled {settled:?}"))?;
        }
        Ok(())
    }
}

/// The promises that a tree has made.
pub(super) fn made(record: &TreeRecord) -> Vec<PromiseId> {
    let made = record.entries.iter().filter(|(_, _, entry)| entry.kind == EntryKind::PromiseMade);
    made.map(|(path, _, entry)| promise_id(record.row.id, path, &entry.name)).collect()
}

fn promise_id(tree: TreeId, path: &Path, name: &str) -> PromiseId {
    PromiseId { tree, path: path.clone(), name: name.to_owned() }
}

async fn by(engine: &Engine, id: &PromiseId, outcome: &Outcome) -> Result<Answer, String> {
    let name = PromiseName::from(id.clone());
    let settled = match outcome {
        Outcome::Resolved(value) => {
            engine.promise_resolve(&name, &serde_json::to_vec(value).expect("a text is JSON")).await
        }
        Outcome::Rejected { message } => engine.promise_reject(&name, message.clone()).await,
        Outcome::TimedOut => return Err("only the engine times a promise out".to_owned()),
    };
    match settled {
        Ok((_, Settle::Stored)) => Ok(Answer::Stored),
        Ok((_, Settle::Already)) => Ok(Answer::Settled(outcome.stored())),
        Err(SettleError::Settled(view)) => {
            view.outcome.map(Answer::Settled).ok_or_else(|| "it has no outcome".to_owned())
        }
        Err(SettleError::Closed(_)) => Ok(Answer::Closed),
        Err(error) => Err(format!("{id} was not settled: {error}")),
    }
}

async fn by_store(engine: &Engine, id: &PromiseId, outcome: &Outcome) -> Result<Answer, String> {
    let settlement = Settlement { state: outcome.state(), outcome: outcome.stored() };
    let settling = engine.store().promise_settle(id.tree, &id.path, &id.name, &settlement).await;
    let settling = settling.map_err(|error| error.to_string())?.ok_or("its tree is gone")?;
    Ok(match settling {
        Settling::Stored { .. } => Answer::Stored,
        Settling::Settled(settled) => Answer::Settled(settled.outcome),
        Settling::Closed => Answer::Closed,
        Settling::Unknown => Answer::Unknown,
    })
}

fn ensure(is_so: bool, wrong: impl FnOnce() -> String) -> Result<(), String> {
    if is_so { Ok(()) } else { Err(wrong()) }
}
