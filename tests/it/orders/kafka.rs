//! The example's turn on Kafka, and kcat: a client of it that is not ours.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use sapwood_tests::process::{PATIENCE, Program};
use sapwood_tests::sqlite::TestFile;
use tokio::sync::{Mutex, MutexGuard};

/// The example names its topics and groups itself, so one test at a time has them.
static TURN: Mutex<()> = Mutex::const_new(());

const TOPICS: [&str; 3] = ["orders.events", "shipping.events", "loyalty.events"];

const ASK_EVERY: Duration = Duration::from_millis(50);

/// A broker without the example's topics, for one test.
pub(super) struct Kafka {
    url: String,
    _turn: MutexGuard<'static, ()>,
}

impl Kafka {
    /// Waits for its turn and removes what the test before left.
    pub(super) async fn turn() -> Self {
        let turn = TURN.lock().await;
        let url = std::env::var("SAPWOOD_TEST_KAFKA_URL").expect("SAPWOOD_TEST_KAFKA_URL names a Kafka");
        let kafka = Self { url, _turn: turn };
        kafka.topics_delete().await;
        kafka
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn bootstrap(&self) -> &str {
        self.url.trim_start_matches("kafka://")
    }

    async fn topics_delete(&self) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.bootstrap()).create().expect("the settings are good");
        // Those that are not there need not be deleted.
        admin.delete_topics(&TOPICS, &AdminOptions::new()).await.expect("the broker answers");
        let gone = async {
            loop {
                let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10)).expect("the broker answers");
                if !metadata.topics().iter().any(|topic| TOPICS.contains(&topic.name())) {
                    return;
                }
                tokio::time::sleep(ASK_EVERY).await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.expect("the topics are deleted");
    }

    /// All records of a topic as kcat reads them: headers, key and content, between tabs.
    pub(super) fn records(&self, topic: &str) -> Vec<[String; 3]> {
        let arguments = ["-q", "-C", "-e", "-o", "beginning", "-f", "%h\t%k\t%s\n", "-t", topic];
        let out = self.kcat().arguments(arguments).run().well();
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
        let kcat = self.kcat().arguments(["-P", "-t", topic, "-k", key]).arguments(headers);
        let _ = kcat.arguments([file.path()]).run().well();
    }

    fn kcat(&self) -> Program {
        Program::foreign("kcat", std::path::Path::new("/")).arguments(["-b", self.bootstrap()])
    }
}
