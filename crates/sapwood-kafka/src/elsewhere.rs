//! Dropping what waits when it is dropped.

use std::thread;

/// Drops `value` on a thread of its own.
///
/// librdkafka's clients wait for their threads, and a consumer for the broker, when they are dropped; the thread that
/// lets go of one may be a worker of the async runtime, which must not wait. Nobody joins the thread: it ends with the
/// client, or with the process.
pub(crate) fn drop_elsewhere<T: Send + 'static>(value: T) {
    // Without a thread the closure, and the value with it, is dropped here.
    _ = thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(value));
}
