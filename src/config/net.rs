//! Address ranges and `host:port` texts.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::types::IpNet;

impl IpNet {
    /// Reads `10.0.0.0/8`, `fd00::/8` or a single address. Bits beyond the prefix have to be zero: whoever writes
    /// `10.0.0.5/8` may have meant one address.
    pub fn parse(text: &str) -> Option<IpNet> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, Some(prefix)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u8>().ok()?,
            Some(_) => return None,
            None => width,
        };
        let net = IpNet { address, prefix };
        (prefix <= width && net.network() == address).then_some(net)
    }

    /// Whether `address` lies in the range. An IPv4 address in IPv6 dress (`::ffff:10.0.0.1`) is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => mask(u32::from(ip).into(), self.prefix, 32) == u32::from(net).into(),
            (IpAddr::V6(net), IpAddr::V6(ip)) => mask(u128::from(ip), self.prefix, 128) == u128::from(net),
            // A range of mapped addresses, `::ffff:10.0.0.0/104`, means the IPv4 ones.
            (IpAddr::V6(net), IpAddr::V4(ip)) => {
                mask(u128::from(ip.to_ipv6_mapped()), self.prefix, 128) == u128::from(net)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
    }

    fn network(&self) -> IpAddr {
        match self.address {
            IpAddr::V4(ip) => {
                let bits = mask(u32::from(ip).into(), self.prefix, 32);
                IpAddr::V4(u32::try_from(bits).unwrap_or_default().into())
            }
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from(mask(u128::from(ip), self.prefix, 128))),
        }
    }
}

fn mask(bits: u128, prefix: u8, width: u32) -> u128 {
    let host = width.saturating_sub(u32::from(prefix));
    bits.checked_shr(host).and_then(|bits| bits.checked_shl(host)).unwrap_or(0)
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Splits `host:port`. The host is a DNS name, an IPv4 or a bracketed IPv6 address (returned without brackets); the
/// port is not 0.
pub fn split_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<Ipv6Addr>().ok().map(|_| (v6, port)),
        None => is_host_name(host).then_some((host, port)),
    }
}

/// Whether `text` is a DNS name or an IPv4 address.
pub fn is_host_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges() {
        let net = IpNet::parse("10.0.0.0/8").unwrap();
        assert!(net.contains("10.255.0.1".parse().unwrap()) && net.contains("::ffff:10.0.0.1".parse().unwrap()));
        assert!(!net.contains("11.0.0.1".parse().unwrap()) && !net.contains("::1".parse().unwrap()));
        assert!(IpNet::parse("::ffff:10.0.0.0/104").unwrap().contains("10.1.2.3".parse().unwrap()));
        assert!(IpNet::parse("0.0.0.0/0").unwrap().contains("1.2.3.4".parse().unwrap()));
        assert!(IpNet::parse("fd00::/8").unwrap().contains("fdff::1".parse().unwrap()));
        assert_eq!(IpNet::parse("::1").unwrap().to_string(), "::1/128");
        for bad in ["", "10.0.0.0/33", "10.0.0.5/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "fd00::/129", "localhost"]
        {
            assert_eq!(IpNet::parse(bad), None, "{bad} was taken");
        }
    }

    #[test]
    fn host_and_port() {
        assert_eq!(split_host_port("wallet.internal:443"), Some(("wallet.internal", 443)));
        assert_eq!(split_host_port("[::1]:8080"), Some(("::1", 8080)));
        for bad in
            ["wallet", "wallet:", "wallet:0", "wallet:65536", "wallet:+1", ":80", "a b:80", "::1:80", "-a:80", "a..b:1"]
        {
            assert_eq!(split_host_port(bad), None, "{bad} was taken");
        }
    }

    proptest! {
        #[test]
        fn a_range_holds_its_own_address_and_reads_back(address: u128, v4: bool, prefix in 0u8..=128) {
            let (address, prefix) = if v4 {
                (IpAddr::V4(std::net::Ipv4Addr::from(address as u32)), prefix.min(32))
            } else {
                (IpAddr::V6(Ipv6Addr::from(address)), prefix)
            };
            let net = IpNet { address: IpNet { address, prefix }.network(), prefix };
            prop_assert!(net.contains(address));
            prop_assert_eq!(IpNet::parse(&net.to_string()), Some(net));
        }

        #[test]
        fn no_text_is_too_much(text in ".*") {
            let _ = (IpNet::parse(&text), split_host_port(&text));
        }
    }
}
