//! Waits for a signal to end: Ctrl-C or SIGTERM. A second signal ends the process at once.

/// The exit code of a process that got a second signal: what a shell reports for one that Ctrl-C killed.
const TOLD_TWICE: i32 = 130;

/// The exit code of a process in which a context cannot go on, though nobody told it to end: what starts it again helps.
pub const EXIT_LOST: u8 = 75;

/// Waits for the first signal; from then on, the next one ends the process.
pub async fn asked() {
    signal().await;
    tokio::spawn(async {
        signal().await;
        std::process::exit(TOLD_TWICE);
    });
}

async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}
