//! The broker's id of a topic, which distinguishes a topic that was created again from the old one of the same name.
//!
//! `DescribeTopics` is in librdkafka but not in rdkafka's safe API, so this module calls librdkafka itself. It asks
//! without blocking, so that the thread that owns a consumer can go on polling until the broker answers.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::marker::PhantomData;
use std::time::Duration;
use std::{ptr, slice};

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka_sys as sys;

/// What the broker reports of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TopicFound {
    /// It exists; with its id, if the broker is new enough to have ids (3.1).
    Exists(Option<String>),
    /// The broker knows no such topic.
    Missing,
    /// The broker does not report whether it exists.
    Unclear(Code),
}

/// An answer: what is known of each topic asked about, or why the broker gave no answer.
pub(crate) type Answer = Result<HashMap<String, TopicFound>, Code>;

/// A question that the broker has not answered yet.
pub(crate) struct Question<'client> {
    /// Where the answer arrives. Owned, never null.
    queue: *mut sys::rd_kafka_queue_t,
    /// The client must outlive the queue.
    client: PhantomData<&'client ()>,
}

impl<'client> Question<'client> {
    /// Asks about `topics`, which must not be empty. The answer comes within the timeout, even if it is only an error.
    ///
    /// # Errors
    /// A name contains a zero byte.
    pub(crate) fn ask<C: ClientContext>(
        client: &'client Client<C>,
        topics: &[String],
        timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let names = topics.iter().map(|topic| CString::new(topic.as_str())).collect::<Result<Vec<_>, _>>()?;
        let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let rk = client.native_ptr();
        // SAFETY: `rk` is alive for as long as `client`. librdkafka copies the names and the options, so both may be
        // freed here; the queue stays, owned by `Self`. The three constructors return null only if memory runs out, and
        // then librdkafka aborts; if the timeout is refused, the default stays.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_new(rk);
            let options =
                sys::rd_kafka_AdminOptions_new(rk, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
            let collection = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            sys::rd_kafka_DescribeTopics(rk, collection, options, queue);
            sys::rd_kafka_TopicCollection_destroy(collection);
            sys::rd_kafka_AdminOptions_destroy(options);
            queue
        };
        Ok(Self { queue, client: PhantomData })
    }

    /// The answer, if it comes within `wait`.
    pub(crate) fn answer(&self, wait: Duration) -> Option<Answer> {
        let millis = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the queue is owned by `self`, and polled only here.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue, millis) };
        if event.is_null() {
            return None;
        }
        // SAFETY: `event` is not null and ours until it is destroyed; `read` copies everything out of it.
        let answer = unsafe { read(event) };
        // SAFETY: the event is no longer used.
        unsafe { sys::rd_kafka_event_destroy(event) };
        Some(answer)
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        // SAFETY: owned and no longer used. librdkafka counts references: an answer still under way keeps its own.
        unsafe { sys::rd_kafka_queue_destroy(self.queue) };
    }
}

/// Copies the answer out of an event.
///
/// # Safety
/// `event` is a live event that is used only here meanwhile.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Answer {
    // SAFETY: the event is live (the caller's promise).
    let code = Code::from(unsafe { sys::rd_kafka_event_error(event) });
    if code != Code::NoError {
        return Err(code);
    }
    // SAFETY: as above; null is returned for an event of another type.
    let result = unsafe { sys::rd_kafka_event_DescribeTopics_result(event) };
    if result.is_null() {
        return Err(Code::Fail);
    }
    let mut count = 0;
    // SAFETY: the result is a part of the live event; the array holds `count` descriptions, parts of it as well.
    let topics = unsafe { sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count) };
    if count == 0 || topics.is_null() {
        return Ok(HashMap::new());
    }
    // SAFETY: see above; the slice does not leave this function, and the event outlives it.
    let topics = unsafe { slice::from_raw_parts(topics, count) };
    // SAFETY: each element is a live description.
    Ok(topics.iter().map(|topic| unsafe { read_topic(*topic) }).collect())
}

/// Copies the name and what is known of the topic out of a description.
///
/// # Safety
/// `topic` is a live description that is used only here meanwhile.
unsafe fn read_topic(topic: *const sys::rd_kafka_TopicDescription_t) -> (String, TopicFound) {
    // SAFETY: the description is live (the caller's promise) and so are its parts. The name is a C string; an absent
    // error is null, for which `rd_kafka_error_code` gives "no error".
    let (name, code, id) = unsafe {
        let name = CStr::from_ptr(sys::rd_kafka_TopicDescription_name(topic));
        let code = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(topic));
        (name.to_string_lossy().into_owned(), Code::from(code), sys::rd_kafka_TopicDescription_topic_id(topic))
    };
    let found = match code {
        // SAFETY: the id is null or a part of the live description.
        Code::NoError => TopicFound::Exists(unsafe { read_id(id) }),
        Code::UnknownTopicOrPartition | Code::UnknownTopic => TopicFound::Missing,
        code => TopicFound::Unclear(code),
    };
    (name, found)
}

/// The id as Kafka's own tools write it; `None` for the zero that a broker without ids leaves.
///
/// # Safety
/// `id` is null, or live and used only here meanwhile.
unsafe fn read_id(id: *const sys::rd_kafka_Uuid_t) -> Option<String> {
    if id.is_null() {
        return None;
    }
    // SAFETY: `id` is live (the caller's promise); the text is a part of it, or null.
    let text = unsafe {
        if sys::rd_kafka_Uuid_most_significant_bits(id) == 0 && sys::rd_kafka_Uuid_least_significant_bits(id) == 0 {
            return None;
        }
        sys::rd_kafka_Uuid_base64str(id)
    };
    if text.is_null() {
        return None;
    }
    // SAFETY: a C string that lives as long as the id.
    let text = unsafe { CStr::from_ptr(text) };
    // librdkafka writes standard base64, Kafka's tools the form for URLs.
    Some(text.to_string_lossy().replace('+', "-").replace('/', "_"))
}
