//! A network that falls silent, or leads to another server.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy before a server. While it is silent, what is sent arrives nowhere, and nobody is told. Connections that met the
/// silence stay silent for ever, as those do whose state a firewall has forgotten.
pub struct Proxy {
    address: SocketAddr,
    server: watch::Sender<String>,
    is_silent: watch::Sender<bool>,
    opened: watch::Sender<usize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy before the server at `HOST:PORT`.
    ///
    /// # Panics
    /// If there is no port to listen on.
    pub async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let server = watch::Sender::new(server.to_owned());
        let (is_silent, opened) = (watch::Sender::new(false), watch::Sender::new(0));
        let accepting = accept(listener, server.subscribe(), is_silent.subscribe(), opened.clone());
        Self { address, server, is_silent, opened, accepting: tokio::spawn(accepting) }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards nothing from now on.
    pub fn fall_silent(&self) {
        self.is_silent.send_replace(true);
    }

    /// Forwards what comes on new connections.
    pub fn heal(&self) {
        self.is_silent.send_replace(false);
    }

    /// Leads to another server from now on; connections to the present one are closed.
    pub fn lead_to(&self, server: &str) {
        self.server.send_replace(server.to_owned());
    }

    /// Connections that were opened so far.
    #[must_use]
    pub fn opened(&self) -> usize {
        *self.opened.borrow()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: watch::Receiver<String>,
    is_silent: watch::Receiver<bool>,
    opened: watch::Sender<usize>,
) {
    // Dropped, and so aborted, with the task itself.
    let mut forwarding = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        opened.send_modify(|opened| *opened += 1);
        forwarding.spawn(forward(client, server.clone(), is_silent.clone()));
    }
}

/// Forwards until one side closes or another server takes over, or silence falls; then it holds both sides open.
async fn forward(mut client: TcpStream, mut server: watch::Receiver<String>, mut is_silent: watch::Receiver<bool>) {
    let address = server.borrow_and_update().clone();
    let forwarding = async {
        // A server that cannot be reached closes the client's connection, which is no silence.
        let mut server = TcpStream::connect(address).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    let silence = async {
        if is_silent.wait_for(|silent| *silent).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let mut forwarding = Box::pin(forwarding);
    tokio::select! {
        biased;
        () = silence => std::future::pending().await,
        _ = &mut forwarding => {}
        _ = server.changed() => {}
    }
}
