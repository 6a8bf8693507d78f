//! The store's own log: topics whose offsets follow commit order.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use sapwood_core::store::{LogRecord, Store};
use tokio::sync::watch;

use crate::store::TestStore;

fn record(topic: &str, n: u32) -> LogRecord {
    LogRecord {
        topic: topic.to_owned(),
        key: format!("key-{}", n % 3),
        headers: vec![("ce_id".to_owned(), n.to_string()), ("ce_note".to_owned(), "\"é\\\u{1}".to_owned())],
        content: Bytes::from(n.to_string()),
    }
}

/// E4: records are read as they were appended, each topic counted from 0.
pub async fn records_are_read_in_the_order_they_were_appended(test: &TestStore) {
    let store = test.store();
    let mixed: Vec<LogRecord> = (0..10).map(|n| record(if n % 2 == 0 { "even" } else { "odd" }, n)).collect();
    store.log_append(&mixed[..5]).await.expect("appended");
    store.log_append(&mixed[5..]).await.expect("appended");

    let even = store.log_read("even", 0, 100).await.expect("read").rows;
    let records: Vec<LogRecord> = even.iter().map(|logged| logged.record.clone()).collect();
    assert_eq!(records, mixed.iter().filter(|one| one.topic == "even").cloned().collect::<Vec<_>>());
    assert_eq!(even[0].offset, 0);
    assert!(even.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    assert_eq!(store.log_read("odd", 0, 100).await.expect("read").rows.len(), 5);
    assert_eq!(store.log_read("none", 0, 100).await.expect("read").rows, []);

    assert_eq!(store.log_read("even", even[2].offset, 2).await.expect("read").rows, even[2..4], "from the offset on");
    assert_eq!(store.log_read("even", even[4].offset + 1, 2).await.expect("read").rows, []);
    store.log_append(&[]).await.expect("nothing is appended");
}

/// H3: content is bytes, empty too.
pub async fn awkward_contents_survive(test: &TestStore) {
    let store = test.store();
    let mut one = record("t", 1);
    one.content = Bytes::from((0..=255).collect::<Vec<u8>>());
    let two = LogRecord { headers: Vec::new(), content: Bytes::new(), key: String::new(), ..record("t", 2) };
    store.log_append(&[one.clone(), two.clone()]).await.expect("appended");
    let read: Vec<_> = store.log_read("t", 0, 9).await.expect("read").rows.into_iter().map(|l| l.record).collect();
    assert_eq!(read, [one, two]);
}

/// Reads on while something is appended, and once more to the end when nothing more comes.
async fn follow(store: Arc<dyn Store>, mut under_way: watch::Receiver<()>) -> Vec<String> {
    let (mut next, mut seen) = (0, Vec::new());
    loop {
        let last_round = under_way.changed().await.is_err();
        loop {
            let page = store.log_read("t", next, 64).await.expect("read").rows;
            let Some(last) = page.last() else { break };
            next = last.offset + 1;
            seen.extend(page.into_iter().map(|logged| logged.record.headers[0].1.clone()));
        }
        if last_round {
            return seen;
        }
    }
}

/// E4: a reader that follows its offset misses nothing of appenders at work at once, and keeps each one's order.
pub async fn a_reader_misses_nothing_of_concurrent_appenders(test: &TestStore) {
    const EACH: u32 = 300;
    let (begins, under_way) = watch::channel(());
    let reader = tokio::spawn(follow(test.store(), under_way));
    let stores = [test.store(), test.another().await, test.store()];
    let appenders: Vec<_> = (0..3_u32)
        .zip(stores)
        .map(|(who, store)| {
            let begins = begins.clone();
            tokio::spawn(async move {
                let records: Vec<LogRecord> = (0..EACH).map(|n| record("t", who * EACH + n)).collect();
                for some in records.chunks(7) {
                    begins.send_replace(());
                    store.log_append(some).await.expect("appended");
                }
            })
        })
        .collect();
    drop(begins);
    for appender in appenders {
        appender.await.expect("an appender ends");
    }
    let seen: Vec<u32> = reader.await.expect("the reader ends").iter().map(|n| n.parse().expect("a number")).collect();
    assert_eq!(seen.len(), 3 * EACH as usize);
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len());
    for who in 0..3 {
        let own: Vec<_> = seen.iter().filter(|n| **n / EACH == who).collect();
        assert!(own.windows(2).all(|pair| pair[0] < pair[1]), "the order of appender {who} is kept");
    }
}
