//! Opening connections: addresses, TLS, users.

use std::path::Path;
use std::time::Duration;

use redis::aio::{MultiplexedConnection, PubSub};
use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::TcpKeepalive;
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisResult, TlsCertificates,
};
use tokio::time::timeout;

use super::fault::Fault;
use crate::config::{RedisNode, RedisStore, RedisTls, Secret};
use crate::metrics::RedisFault;

/// Whom a connection is for: servers and sentinels have users of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Server,
    Sentinel,
}

/// Opens connections as the config says.
#[derive(Debug)]
pub(super) struct Connector {
    pub store: RedisStore,
}

impl Connector {
    /// Connects and authenticates.
    pub async fn connect(&self, node: &RedisNode, peer: Peer) -> Result<MultiplexedConnection, Fault> {
        // Every exchange has its own deadline; the library's would count from another moment.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.store.timeouts.connect))
            .set_response_timeout(None);
        self.within(node, async {
            self.client(node, peer).await?.get_multiplexed_async_connection_with_config(&config).await
        })
        .await
    }

    /// Opens a connection to listen on.
    pub async fn listen(&self, node: &RedisNode) -> Result<PubSub, Fault> {
        self.within(node, async { self.client(node, Peer::Server).await?.get_async_pubsub().await }).await
    }

    async fn within<T>(&self, node: &RedisNode, opening: impl Future<Output = RedisResult<T>>) -> Result<T, Fault> {
        let limit = self.store.timeouts.connect;
        let fault = match timeout(limit, opening).await {
            Ok(Ok(open)) => return Ok(open),
            Ok(Err(error)) => Fault::opening(&error),
            Err(_) => Fault::new(RedisFault::Connect, format!("no connection within {} ms", limit.as_millis())),
        };
        Err(Fault { message: format!("{node}: {}", fault.message), ..fault })
    }

    async fn client(&self, node: &RedisNode, peer: Peer) -> RedisResult<Client> {
        let RedisNode { host, port } = node.clone();
        let address = match self.store.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        };
        let (user, password) = match peer {
            Peer::Server => (&self.store.username, &self.store.password),
            Peer::Sentinel => (&self.store.sentinel_username, &self.store.sentinel_password),
        };
        let info = address.into_connection_info()?.set_tcp_settings(tcp()).set_redis_settings(hello(user, password));
        match &self.store.tls {
            // Read anew for every connection: certificates are renewed while we run.
            Some(tls) => Client::build_with_tls(info, certificates(tls).await?),
            None => Client::open(info),
        }
    }
}

fn hello(user: &Option<String>, password: &Option<Secret>) -> RedisConnectionInfo {
    let mut hello = RedisConnectionInfo::default().set_lib_name("tmcp-edge", env!("CARGO_PKG_VERSION"));
    if let Some(user) = user {
        hello = hello.set_username(user);
    }
    if let Some(password) = password {
        hello = hello.set_password(password.expose());
    }
    hello
}

fn tcp() -> TcpSettings {
    // A server that vanished without a word is noticed on idle connections too.
    let probes = TcpKeepalive::new().with_time(Duration::from_secs(15)).with_interval(Duration::from_secs(5));
    TcpSettings::default().set_nodelay(true).set_keepalive(probes)
}

async fn certificates(tls: &RedisTls) -> RedisResult<TlsCertificates> {
    let client_tls = match &tls.client {
        Some(pair) => {
            Some(ClientTlsConfig { client_cert: read(&pair.certificate).await?, client_key: read(&pair.key).await? })
        }
        None => None,
    };
    let root_cert = match &tls.ca {
        Some(path) => Some(read(path).await?),
        None => None,
    };
    Ok(TlsCertificates { client_tls, root_cert })
}

async fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let named = |error: std::io::Error| std::io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    tokio::fs::read(path).await.map_err(named)
}
