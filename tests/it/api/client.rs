//! A server for a test, and what its clients ask.

use std::sync::Arc;

use sapwood_api::{ContextApi, HealthPart};
use sapwood_engine::{Engine, EngineOptions, SystemEnvironment};
use sapwood_tests::http::{self, Reply};
use sapwood_tests::store::TestStore;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::context::ParcelsApp;

/// One process of the context, as clients see it.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) app: Arc<ParcelsApp>,
    address: String,
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
        let address = listener.local_addr().expect("an address").to_string();
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
        http::send(&self.address, method, path, headers, body).await
    }

    pub(crate) async fn send_raw(&self, request: &[u8]) -> Reply {
        http::send_raw(&self.address, request).await
    }
}
