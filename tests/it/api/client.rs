//! A server for a test, and a client that reads what goes over the wire: no library between it and the socket.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use sapwood_api::{ContextApi, HealthPart};
use sapwood_engine::{Engine, EngineOptions, SystemEnvironment};
use sapwood_tests::store::TestStore;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::context::ParcelsApp;

/// One process of the context, as clients see it.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) app: Arc<ParcelsApp>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Server {
    /// A process on the test's store.
    pub(crate) async fn on(test: &TestStore) -> Self {
        Self::with_health(test, Vec::new).await
    }

    /// A process whose health has more parts.
    pub(crate) async fn with_health(
        test: &TestStore,
        parts: impl Fn() -> Vec<HealthPart> + Send + Sync + 'static,
    ) -> Self {
        let app = Arc::new(ParcelsApp::default());
        let options = EngineOptions {
            name: "api-test".to_owned(),
            environment: std::sync::Arc::new(SystemEnvironment::with_clock(test.clock())),
            ..EngineOptions::default()
        };
        let engine = Engine::launch(Arc::clone(&app), test.another().await, options).await.expect("an engine");
        let router = sapwood_api::router(vec![ContextApi::new(engine.clone()).health(parts)]);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("serves") });
        Self { engine, app, address, serving }
    }

    /// Shuts down as a process does.
    pub(crate) async fn end(self) {
        self.engine.drain().await.expect("drains");
        self.serving.abort();
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, &[], b"").await
    }

    /// Starts a function with a JSON body.
    pub(crate) async fn start(&self, function: &str, id: Option<&str>, input: Value) -> Reply {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(id.map(|id| ("idempotency-key", id)));
        let path = format!("/v1/parcels/functions/{function}");
        self.send("POST", &path, &headers, input.to_string().as_bytes()).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if method != "GET" {
            request.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.send_raw(&[request.as_bytes(), body].concat()).await
    }

    /// Sends these bytes and reads until the server closes the connection.
    pub(crate) async fn send_raw(&self, request: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(self.address).await.expect("connects");
        // A server that refuses a body closes without reading it; what matters is what it answered.
        let _ = stream.write_all(request).await;
        let mut response = Vec::new();
        let _ = stream.read_to_end(&mut response).await;
        Reply::read(&response)
    }
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Reply {
    fn read(response: &[u8]) -> Self {
        let response = String::from_utf8_lossy(response);
        let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {response:?}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { status: status.expect("a status"), headers: headers.collect(), body: body.to_owned() }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The body of an answer with this status.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.json()
    }

    /// The body of a problem with this status and code.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let body = self.expect(status);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("/problems/{code}"));
        assert!(["title", "detail", "instance"].iter().all(|member| body[member].is_string()), "{body}");
        body
    }
}
