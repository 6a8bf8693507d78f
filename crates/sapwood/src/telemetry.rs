//! Logs to standard error: warnings and errors, or what `RUST_LOG` selects.

use tracing_subscriber::EnvFilter;

/// Installs the subscriber, unless the process has one already.
pub fn init() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An error means that the app has installed its own, which it keeps.
    let _ = subscriber.try_init();
}
