//! The baseline: a Pingora pass-through and nothing else, from the same Pingora as the edge.

use std::time::Duration;

use async_trait::async_trait;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

struct Bare {
    upstream: String,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let mut peer = HttpPeer::new(self.upstream.as_str(), false, String::new());
        peer.options.idle_timeout = Some(Duration::from_secs(50));
        Ok(Box::new(peer))
    }
}

/// Serves `listen` → `upstream` on `threads` threads until the process ends.
pub fn serve(listen: &str, upstream: &str, threads: usize) -> ! {
    let conf = ServerConf { threads, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Bare { upstream: upstream.to_owned() });
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}

/// `bare LISTEN UPSTREAM`.
pub fn main_from_args() {
    let mut args = std::env::args().skip(1);
    match (args.next(), args.next()) {
        (Some(listen), Some(upstream)) => serve(&listen, &upstream, 1),
        _ => eprintln!("usage: bare LISTEN UPSTREAM   (both host:port)"),
    }
}
