//! Waits that give up.

use std::time::Duration;

/// How long a test waits for what must happen: far longer than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Awaits `what`, but not for ever.
///
/// # Panics
/// If it never comes.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("this never came: {what}"))
}
