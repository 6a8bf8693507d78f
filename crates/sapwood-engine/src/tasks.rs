//! The tasks of an engine: run by its environment, counted, and awaited at the end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::task::TaskTracker;

use crate::activation::panic_message;
use crate::environment::Environment;
use crate::life::{Life, Stopped};

/// The pause before a task that panicked is begun again: what made it panic may still be there.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The tasks of one engine. A task that has ended leaves nothing behind.
pub(crate) struct Tasks {
    environment: Arc<dyn Environment>,
    /// Its end drops the tasks that do not end by themselves.
    life: Arc<Life>,
    /// Counts the tasks, so that the end can be awaited.
    tracker: TaskTracker,
}

impl Tasks {
    pub(crate) fn new(environment: Arc<dyn Environment>, life: Arc<Life>) -> Self {
        Self { environment, life, tracker: TaskTracker::new() }
    }

    /// Runs a task that ends by itself when the engine has ended.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.environment.spawn(Box::pin(self.tracker.track_future(task)));
    }

    /// Runs a task that is dropped when the engine has ended.
    pub(crate) fn spawn_until_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        let life = Arc::clone(&self.life);
        self.spawn(async move {
            tokio::select! {
                biased;

                () = life.ends() => {}
                () = task => {}
            }
        });
    }

    /// Runs a service of the engine until it ends by itself or the engine has ended. A service that panics is begun again:
    /// it keeps nothing between two rounds.
    pub(crate) fn spawn_service<S>(&self, name: &'static str, begin: impl Fn() -> S + Send + 'static)
    where
        S: Future<Output = ()> + Send + 'static,
    {
        self.spawn_until_end(async move {
            while let Err(panic) = AssertUnwindSafe(begin()).catch_unwind().await {
                tracing::error!(task = name, "a task panicked and is begun again: {}", panic_message(panic));
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
    }

    /// Runs a service of the engine that cannot be begun again: if it panics, the engine ends, because nothing that it
    /// promised would come.
    pub(crate) fn spawn_vital(&self, name: String, task: impl Future<Output = ()> + Send + 'static) {
        let life = Arc::clone(&self.life);
        self.spawn_until_end(async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let why = panic_message(panic);
                tracing::error!(task = name, "a task panicked and the engine ends: {why}");
                life.end_because(Stopped::Broken { task: name, why });
            }
        });
    }

    /// Waits until every task has ended.
    pub(crate) async fn join(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::environment::SystemEnvironment;

    fn tasks() -> (Tasks, Arc<Life>) {
        let life = Arc::<Life>::default();
        (Tasks::new(Arc::new(SystemEnvironment::default()), Arc::clone(&life)), life)
    }

    /// No task ends unseen: one that keeps nothing is begun again.
    #[tokio::test(start_paused = true)]
    async fn a_service_that_panics_is_begun_again() {
        let (tasks, life) = tasks();
        let begun = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&begun);
        tasks.spawn_service("claims", move || {
            let round = count.fetch_add(1, Ordering::SeqCst);
            async move { assert!(round >= 2, "panics on purpose") }
        });
        tasks.join().await;
        assert_eq!((begun.load(Ordering::SeqCst), life.has_ended()), (3, false));
    }

    /// And one that cannot be begun again ends its engine, which says why.
    #[tokio::test]
    async fn a_vital_task_that_panics_ends_the_engine() {
        let (tasks, life) = tasks();
        tasks.spawn_vital("commits 1".to_owned(), async { panic!("on purpose") });
        life.ends().await;
        let (task, why) = ("commits 1".to_owned(), "on purpose".to_owned());
        assert_eq!(life.reason(), Some(Stopped::Broken { task, why }));
    }
}
