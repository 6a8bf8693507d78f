//! Drops a librdkafka client on another thread, because its drop blocks.

use std::thread;

/// Drops `value` on a thread of its own.
///
/// When it is dropped, a client of librdkafka waits for its threads, and a consumer for the broker as well. The caller
/// may be a thread of the async runtime, which must not block. The new thread is not joined: it ends with the client,
/// or with the process.
pub(crate) fn drop_elsewhere<T: Send + 'static>(value: T) {
    // If no thread can be started, the closure, and the value with it, is dropped here.
    _ = thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(value));
}
