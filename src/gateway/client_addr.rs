//! Who is calling, by address: the socket's, unless the socket is a proxy that we trust.
//!
//! `X-Forwarded-For` is walked from the right, because each trusted hop appended what it saw; the first address that
//! is not a trusted hop is the client. Anything left of it was written by the client itself and proves nothing.

use std::net::IpAddr;

use http::HeaderMap;

use crate::config::IpNet;

/// The client's address as far as it can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr {
    /// The address that limits count and logs name. IPv4-mapped addresses are IPv4 here.
    pub ip: IpAddr,
    /// Whether the peer of the socket is a trusted proxy, so that its trace headers are believed too.
    pub via_trusted_proxy: bool,
}

/// Derives the client's address. `peer` is the socket's, or the PROXY protocol header's.
pub fn derive(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> ClientAddr {
    let peer = peer.to_canonical();
    let is_trusted = |ip: IpAddr| trusted.iter().any(|net| net.contains(ip));
    if trusted.is_empty() || !is_trusted(peer) {
        return ClientAddr { ip: peer, via_trusted_proxy: false };
    }
    let mut client = peer;
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().map(|value| value.to_str().unwrap_or("invalid")).collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')).map(str::trim) {
        // A hop that is no address cannot be trusted further: the last address known stands.
        let Some(ip) = parse_hop(hop) else { break };
        client = ip;
        if !is_trusted(ip) {
            break;
        }
    }
    ClientAddr { ip: client, via_trusted_proxy: true }
}

/// An address as proxies write it: bare, or with a port.
fn parse_hop(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|addr| addr.ip()));
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok();
    ip.or_else(bracketed).map(|ip| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn derived(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted = [IpNet { address: "10.0.0.0".parse().unwrap(), prefix: 8 }];
        derive(peer.parse().unwrap(), &headers, &trusted).ip.to_string()
    }

    #[test]
    fn only_trusted_hops_are_believed() {
        assert_eq!(derived("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(derived("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(derived("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(derived("10.0.0.1", &["1.1.1.1, 198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(derived("10.0.0.1", &["1.1.1.1", "198.51.100.1:4711"]), "198.51.100.1");
        assert_eq!(derived("10.0.0.1", &["198.51.100.1, nonsense, 10.0.0.2"]), "10.0.0.2");
        assert_eq!(derived("::ffff:10.0.0.1", &["[2001:db8::1]:80"]), "2001:db8::1");
    }
}
