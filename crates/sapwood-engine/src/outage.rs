//! A store that does not answer: what health shows of it, and the pauses between attempts.
//!
//! Each user of the store has a cell of its own. They have connections of their own, and permissions may be lacking for
//! one table only; so the success of one says nothing of another.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sapwood_core::retry::Backoff;
use sapwood_core::store::{StoreError, StoreResult};
use tokio::sync::Notify;

use crate::environment::Environment;
use crate::life::{Life, Stopped};

/// The first pause: a lost connection can often be opened again at once.
const FIRST: Duration = Duration::from_millis(10);

/// The longest pause: the end of an outage is noticed at most this much later.
const LONGEST: Duration = Duration::from_secs(1);

/// Who uses the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum User {
    /// The renewals of the lease.
    Lease,
    /// The burials of other workers.
    Burials,
    /// Claims.
    Claims,
    /// The committer of this number.
    Commits(u16),
    /// Starts that others may contest, and intake.
    Starts,
    /// The transactions of authors.
    Transactions,
    /// What drivers read of their trees.
    Loads,
    /// What callers and readers ask.
    Reads,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease => f.write_str("lease"),
            Self::Burials => f.write_str("burials"),
            Self::Claims => f.write_str("claims"),
            Self::Commits(number) => write!(f, "commits {number}"),
            Self::Starts => f.write_str("starts"),
            Self::Transactions => f.write_str("transactions"),
            Self::Loads => f.write_str("loads"),
            Self::Reads => f.write_str("reads"),
        }
    }
}

/// Whether the store answers, as far as this engine knows.
pub(crate) struct Outage {
    /// Once it has ended, the store is no longer asked.
    life: Arc<Life>,
    /// Gives the jitter of the pauses.
    environment: Arc<dyn Environment>,
    /// The last passing error of each user, until the store answers it again.
    errors: Mutex<BTreeMap<User, String>>,
    /// Raised when the store answers a user again: meanwhile it may have gone back, or have taken what was not answered.
    over: Notify,
}

impl Outage {
    pub(crate) fn new(life: Arc<Life>, environment: Arc<dyn Environment>) -> Self {
        Self { life, environment, errors: Mutex::default(), over: Notify::new() }
    }

    /// The last error of each user that the store does not answer.
    pub(crate) fn errors(&self) -> Vec<(String, String)> {
        self.errors.lock().iter().map(|(user, error)| (user.to_string(), error.clone())).collect()
    }

    /// The store as this user finds it.
    pub(crate) const fn of(&self, user: User) -> Use<'_> {
        Use { outage: self, user }
    }

    /// Something of this worker's may be owned and not driven.
    pub(crate) fn look_for_strays(&self) {
        self.over.notify_one();
    }

    /// Waits until the store answers a user again.
    pub(crate) async fn over(&self) {
        self.over.notified().await;
    }
}

/// The store as one of its users finds it.
#[derive(Clone, Copy)]
pub(crate) struct Use<'o> {
    outage: &'o Outage,
    user: User,
}

impl<'o> Use<'o> {
    /// Whether nobody needs an answer any longer. Callers here read on while the worker that was declared dead joins again as
    /// another: what they ask for is the store's, not the worker's.
    fn is_over(&self) -> bool {
        let life = &self.outage.life;
        life.has_ended() && !(self.user == User::Reads && life.reason() == Some(Stopped::DeclaredDead))
    }

    /// The store failed with a passing error; health shows it until the store answers.
    pub(crate) fn failed(&self, error: &StoreError) {
        let known = self.outage.errors.lock().insert(self.user, error.to_string());
        if known.is_none() {
            tracing::warn!(user = %self.user, "the store does not answer: {error}");
        }
    }

    /// The store answered.
    pub(crate) fn answered(&self) {
        if self.outage.errors.lock().remove(&self.user).is_some() {
            tracing::info!(user = %self.user, "the store answers again");
            self.outage.over.notify_one();
        }
    }

    /// Takes what an answer says of the store; an error that does not pass is an answer too.
    pub(crate) fn heard<T>(&self, answer: &StoreResult<T>) {
        match answer {
            Err(error) if error.is_passing() => self.failed(error),
            _ => self.answered(),
        }
    }

    /// The pauses of one call that is repeated until it succeeds.
    pub(crate) fn pause(self) -> Pause<'o> {
        Pause { used: self, backoff: Backoff::new(FIRST, LONGEST) }
    }

    /// Asks until the store answers, or its error does not pass, or the engine has ended.
    pub(crate) async fn outlast<T, A>(self, mut ask: impl FnMut() -> A) -> StoreResult<T>
    where
        A: Future<Output = StoreResult<T>>,
    {
        let mut pause = self.pause();
        loop {
            match ask().await {
                Err(error) if pause.after(&error).await => {}
                answer => {
                    self.heard(&answer);
                    return answer;
                }
            }
        }
    }
}

/// The pauses between attempts of one call.
pub(crate) struct Pause<'o> {
    used: Use<'o>,
    backoff: Backoff,
}

impl Pause<'_> {
    /// Waits because of `error`, which health shows meanwhile. Returns whether to send the call again: not if the error
    /// does not pass, or the engine has ended.
    pub(crate) async fn after(&mut self, error: &StoreError) -> bool {
        let outage = self.used.outage;
        if !error.is_passing() || self.used.is_over() {
            return false;
        }
        self.used.failed(error);
        tokio::time::sleep(self.backoff.failed(outage.environment.jitter())).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use sapwood_core::store::StoreErrorKind;

    use super::*;
    use crate::environment::SystemEnvironment;

    /// C2: a caller's read that fails as its worker is declared dead is no answer to the caller.
    #[tokio::test(start_paused = true)]
    async fn a_caller_reads_on_when_its_worker_was_declared_dead() {
        let asks = async |user, reason| {
            let life = Arc::<Life>::default();
            let outage = Outage::new(Arc::clone(&life), Arc::new(SystemEnvironment::default()));
            life.end_because(reason);
            let mut asked = 0;
            let answer = outage.of(user).outlast(|| {
                asked += 1;
                std::future::ready(match asked {
                    1 => Err(StoreError::new(StoreErrorKind::Transient, "all connections are busy")),
                    _ => Ok(7),
                })
            });
            answer.await.ok()
        };
        assert_eq!(asks(User::Reads, Stopped::DeclaredDead).await, Some(7));
        assert_eq!(asks(User::Reads, Stopped::Killed).await, None);
        assert_eq!(asks(User::Loads, Stopped::DeclaredDead).await, None);
    }

    /// G6: the success of one user does not hide the failure of another, nor one committer's another's.
    #[tokio::test]
    async fn each_user_of_the_store_has_a_cell_of_its_own() {
        let outage = Outage::new(Arc::default(), Arc::new(SystemEnvironment::default()));
        let error = StoreError::new(StoreErrorKind::Transient, "permission denied for table journal");
        outage.of(User::Commits(0)).failed(&error);
        for user in [User::Lease, User::Claims, User::Commits(1), User::Reads] {
            outage.of(user).answered();
        }
        assert_eq!(outage.errors(), [("commits 0".to_owned(), error.to_string())]);
        outage.of(User::Commits(0)).heard::<()>(&Err(StoreError::new(StoreErrorKind::Permanent, "bad data")));
        assert!(outage.errors().is_empty(), "it answered");
        outage.over().await;
    }
}
