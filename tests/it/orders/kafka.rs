//! The example's turn on Kafka, and what a client that is not ours reads and writes there.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use sapwood_tests::kafka::{bootstrap, kcat};
use sapwood_tests::sqlite::TestFile;
use sapwood_tests::wait::until_asked;
use tokio::sync::{Mutex, MutexGuard};

/// The example names its topics and groups itself, so one test at a time has them.
static TURN: Mutex<()> = Mutex::const_new(());

const TOPICS: [&str; 3] = ["orders.events", "shipping.events", "loyalty.events"];

/// How often the broker is asked for its topics.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// A broker without the example's topics, for one test.
pub(super) struct Kafka {
    _turn: MutexGuard<'static, ()>,
}

impl Kafka {
    /// Waits for its turn and removes what the test before left.
    pub(super) async fn turn() -> Self {
        let turn = TURN.lock().await;
        topics_delete().await;
        Self { _turn: turn }
    }

    /// All records of a topic as kcat reads them: headers, key and content, between tabs.
    pub(super) fn records(&self, topic: &str) -> Vec<[String; 3]> {
        let out = kcat(&["-q", "-C", "-e", "-o", "beginning", "-f", "%h\t%k\t%s\n", "-t", topic]).run().well();
        let fields = |line: &str| {
            let fields: Vec<_> = line.splitn(3, '\t').map(str::to_owned).collect();
            fields.try_into().unwrap_or_else(|_| panic!("{line}"))
        };
        out.lines().map(fields).collect()
    }

    /// Lets kcat produce one record.
    pub(super) fn produce(&self, topic: &str, key: &str, headers: &[(&str, &str)], content: &str) {
        let file = TestFile::fresh();
        std::fs::write(file.path(), content).expect("a file is written");
        let headers = headers.iter().flat_map(|(name, value)| ["-H".to_owned(), format!("{name}={value}")]);
        let produce = kcat(&["-P", "-t", topic, "-k", key]).arguments(headers);
        let _ = produce.arguments([file.path()]).run().well();
    }
}

async fn topics_delete() {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap()).create().expect("the settings are good");
    // Those that are not there need not be deleted.
    admin.delete_topics(&TOPICS, &AdminOptions::new()).await.expect("the broker answers");
    let are_gone = async || {
        let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10)).expect("the broker answers");
        let left = metadata.topics().iter().map(|topic| topic.name().to_owned());
        let left: Vec<_> = left.filter(|topic| TOPICS.contains(&topic.as_str())).collect();
        if left.is_empty() { Ok(()) } else { Err(left) }
    };
    until_asked("a broker that has forgotten the topics", ASK_EVERY, are_gone).await;
}
