//! A network that falls silent: a proxy before a server that forwards nothing, and closes nothing.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A proxy before a server. While it is silent, what is sent arrives nowhere, and nobody is told. Connections that met the
/// silence stay silent for ever, as those do whose state a firewall has forgotten.
pub struct SilentProxy {
    address: SocketAddr,
    is_silent: watch::Sender<bool>,
    opened: watch::Sender<usize>,
    accepting: JoinHandle<()>,
}

impl SilentProxy {
    /// A proxy before the server at `HOST:PORT`.
    ///
    /// # Panics
    /// If there is no port to listen on.
    pub async fn before(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it listens");
        let (is_silent, opened) = (watch::Sender::new(false), watch::Sender::new(0));
        let accepting = accept(listener, server.to_owned(), is_silent.subscribe(), opened.clone());
        Self { address, is_silent, opened, accepting: tokio::spawn(accepting) }
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

    /// Connections that were opened so far.
    #[must_use]
    pub fn opened(&self) -> usize {
        *self.opened.borrow()
    }
}

impl Drop for SilentProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: String, is_silent: watch::Receiver<bool>, opened: watch::Sender<usize>) {
    // Dropped, and so aborted, with the task itself.
    let mut forwarding = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        opened.send_modify(|opened| *opened += 1);
        forwarding.spawn(forward(client, server.clone(), is_silent.clone()));
    }
}

/// Forwards until one side closes, or silence falls; then it holds both sides open.
async fn forward(mut client: TcpStream, server: String, mut is_silent: watch::Receiver<bool>) {
    let forwarding = async {
        // A server that cannot be reached closes the client's connection, which is no silence.
        let mut server = TcpStream::connect(server).await?;
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
    }
}
