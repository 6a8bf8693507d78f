//! What the code under test logs, for the tests that a warning or an error is there, and there once.

use std::fmt::Write;
use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// What was logged in this process since the first call of [`begin`]: warnings and errors, each with all its fields.
static LOGGED: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Keeping;

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}

impl<S: Subscriber> Layer<S> for Keeping {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::WARN {
            return;
        }
        let mut text = Text(format!("{} ", event.metadata().level()));
        event.record(&mut text);
        LOGGED.lock().push(text.0);
    }
}

/// Keeps what is logged from now on.
pub fn begin() {
    static BEGUN: OnceLock<()> = OnceLock::new();
    BEGUN.get_or_init(|| {
        // Another subscriber of this process would be a mistake of the tests.
        let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Keeping));
    });
}

/// What was logged of this, such as a tree's id: other tests log too.
#[must_use]
pub fn of(what: &str) -> Vec<String> {
    LOGGED.lock().iter().filter(|line| line.contains(what)).cloned().collect()
}
