//! Starts of roots, with and without a key, and waiting for their outcomes.

use std::sync::Arc;

use bytes::Bytes;
use sapwood_core::store::{KeyScope, NewTree, Outcome, Start, StartKey, Started};
use sapwood_core::tree::Cause;
use sapwood_core::{Path, TreeId, canonical};
use tokio::sync::oneshot;

use super::{Inner, StartReply};
use crate::error::{MAX_ID_CHARS, ReadError, StartError};
use crate::registry::Definition;
use crate::starter::Request;
use crate::tree::Tree;

impl Inner {
    pub(super) fn unknown(&self, name: &str) -> StartError {
        let mut names: Vec<&str> = self.registry.functions().map(|definition| definition.name).collect();
        names.dedup();
        let nearest = crate::nearest::nearest(name, names).map(ToOwned::to_owned);
        StartError::UnknownFunction { name: name.to_owned(), nearest }
    }

    pub(super) async fn start(
        self: &Arc<Self>,
        definition: &Definition,
        input: Bytes,
        id: Option<String>,
        cause: Option<Cause>,
    ) -> Result<StartReply, StartError> {
        let limit = self.options.limits.payload_bytes;
        if input.len() > limit {
            return Err(StartError::TooLarge { bytes: input.len(), limit });
        }
        if self.is_draining() || self.is_killed() {
            return Err(StartError::Draining);
        }
        match id {
            Some(id) if !is_id(&id) => Err(StartError::InvalidId),
            Some(id) => self.start_keyed(definition, input, KeyScope::Caller, id, cause.unwrap_or_default()).await,
            None => self.start_free(definition, input, cause.unwrap_or_default()).await,
        }
    }

    /// A start that nobody contests: the tree is born in its first turn.
    pub(super) async fn start_free(
        self: &Arc<Self>,
        definition: &Definition,
        input: Bytes,
        cause: Cause,
    ) -> Result<StartReply, StartError> {
        let new = new_tree(definition, input, cause);
        let id = new.id;
        let facts = self.facts(id, &new.cause);
        let (born, is_born) = oneshot::channel();
        self.drive(Box::new(Tree::begun(new, facts, &self.registry, true)), Some(born), false);
        match is_born.await {
            Ok(()) => Ok(StartReply { tree: id, created: true }),
            Err(_) => Err(StartError::Draining),
        }
    }

    pub(super) async fn start_keyed(
        &self,
        definition: &Definition,
        input: Bytes,
        scope: KeyScope,
        key: String,
        cause: Cause,
    ) -> Result<StartReply, StartError> {
        let value = serde_json::from_slice(&input).unwrap_or_default();
        let new = new_tree(definition, input.clone(), cause);
        let id = new.id;
        let start = Start { tree: new, key: StartKey { scope, key, digest: canonical::digest(&value) } };
        let (reply, answer) = oneshot::channel();
        self.starter.send(Request::Start { start, reply }).await.map_err(|_| StartError::Draining)?;
        match answer.await.map_err(|_| StartError::Draining)?.map_err(StartError::Store)? {
            Started::Created => Ok(StartReply { tree: id, created: true }),
            Started::Existing { tree, .. } if tree == id => Ok(StartReply { tree, created: true }),
            Started::Existing { tree, function, same_digest } => {
                self.check_same(tree, &function, same_digest, definition, &input).await?;
                Ok(StartReply { tree, created: false })
            }
        }
    }

    /// Whether the tree that holds a key is the one that was to be started; unequal digests are decided by comparing
    /// with the recorded input.
    pub(super) async fn check_same(
        &self,
        tree: TreeId,
        function: &str,
        same_digest: bool,
        definition: &Definition,
        input: &[u8],
    ) -> Result<(), StartError> {
        let conflict = |message: String| Err(StartError::Conflict { tree, message });
        if function != definition.name {
            return conflict(format!("whose function is `{function}`"));
        }
        if same_digest {
            return Ok(());
        }
        let image = self.store.invocation_load(tree, &Path::root()).await.map_err(StartError::Store)?;
        match image {
            Some(image) if canonical::covers_bytes(&image.invocation.input, input) => Ok(()),
            _ => conflict("which was started with another input".to_owned()),
        }
    }

    /// Waits for a tree's outcome.
    pub(super) async fn outcome(&self, tree: TreeId) -> Result<Outcome, ReadError> {
        loop {
            // First the seat, then the look: a tree that settles in between finds the waiter.
            let seat = self.waiters.seat(tree);
            if !self.owned.lock().contains_key(&tree) {
                match self.store.outcome_read(tree).await? {
                    None => return Err(ReadError::Unknown(tree)),
                    Some(outcome) if outcome.state.is_settled() => return Ok(outcome),
                    Some(_) => {}
                }
            }
            // Being told across processes is a hint; the pause bounds what a lost one costs.
            if let Ok(Some(outcome)) = tokio::time::timeout(self.options.poll, seat.wait()).await {
                return Ok(outcome);
            }
        }
    }

    /// Somebody on this store settled something: those who wait for trees of other workers look again.
    pub(crate) fn look_again(&self) {
        let owned = self.owned.lock();
        self.waiters.look_again(|tree| !owned.contains_key(tree));
    }
}

fn new_tree(definition: &Definition, input: Bytes, cause: Cause) -> NewTree {
    let id = TreeId::fresh();
    let correlation = if cause.correlation.is_empty() { id.to_string() } else { cause.correlation };
    NewTree {
        id,
        function: definition.name.to_owned(),
        version: definition.version,
        input,
        cause: Cause { correlation, ..cause },
    }
}

pub(super) fn is_id(id: &str) -> bool {
    (1..=MAX_ID_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}
