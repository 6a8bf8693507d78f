//! Waits: for what is signalled, and never for ever.
//!
//! Inside a test's own process something always tells: a [`Probe`](crate::probe::Probe) of what functions do,
//! [`Changes`](crate::changes::Changes) of what its stores hold, a `watch` channel of the code under test.
//! [`until_asked`] is for the rest, and says there what that is.

use std::fmt::Debug;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long a test waits for one thing that must happen: far longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long a whole case or a program may take: a case with a crash at every commit is many runs.
pub const RUN: Duration = Duration::from_secs(180);

/// Awaits `what`, but not for ever.
///
/// # Panics
/// If it never comes.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("this never came: {what}"))
}

/// Runs a case, but not for ever.
///
/// # Panics
/// If it does not end.
pub async fn in_time(case: impl Future<Output = ()>) {
    timeout(RUN, case).await.expect("the case ends in time");
}

/// Waits until a watched value is as it should be.
///
/// # Panics
/// If it never is, saying how it is instead.
pub async fn until<T: Debug>(mut watched: watch::Receiver<T>, what: &str, is_so: impl FnMut(&T) -> bool) {
    let waited = timeout(PATIENCE, watched.wait_for(is_so)).await.map(|value| value.map(drop));
    match waited {
        Ok(Ok(())) => {}
        Ok(Err(_)) => panic!("{what}: its sender is gone: {:?}", watched.borrow()),
        Err(_) => panic!("{what}: not in time: {:?}", watched.borrow()),
    }
}

/// Asks every so often until it is so. This is for what only another process knows and does not tell by itself: the state
/// of a database's sessions or of a broker's topics, what a program has written, or what it shows over HTTP. The answer
/// is `Ok`, or how it is instead.
///
/// # Panics
/// If it never is, saying how it is instead.
pub async fn until_asked<E: Debug>(what: &str, every: Duration, mut ask: impl AsyncFnMut() -> Result<(), E>) {
    let mut last = None;
    let asking = async {
        while let Err(how) = ask().await {
            last = Some(how);
            tokio::time::sleep(every).await;
        }
    };
    if timeout(RUN, asking).await.is_err() {
        panic!("{what}: never so: {last:?}");
    }
}
