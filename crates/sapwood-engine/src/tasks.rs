//! The tasks of an engine: run by its environment, counted, and awaited at the end.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::environment::Environment;
use crate::life::Life;

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
                () = life.ends() => {}
                () = task => {}
            }
        });
    }

    /// Waits until every task has ended.
    pub(crate) async fn join(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
