//! Which addresses of the internet are somebody else's, and may therefore be called on a stranger's word.
//!
//! A list of what is refused, from IANA's special-purpose registries and the addresses that cloud providers keep for
//! their metadata. Of IPv6 only global unicast is taken at all; addresses that carry an IPv4 address inside are refused
//! whatever it is, because somebody translates them on the way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use crate::config::IpNet;

const V4: [(Ipv4Addr, u8, &str); 16] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8, "unspecified"),
    (Ipv4Addr::new(10, 0, 0, 0), 8, "private"),
    (Ipv4Addr::new(100, 64, 0, 0), 10, "carrier-grade NAT"),
    (Ipv4Addr::new(127, 0, 0, 0), 8, "loopback"),
    (Ipv4Addr::new(168, 63, 129, 16), 32, "cloud metadata"),
    (Ipv4Addr::new(169, 254, 0, 0), 16, "link-local"),
    (Ipv4Addr::new(172, 16, 0, 0), 12, "private"),
    (Ipv4Addr::new(192, 0, 0, 0), 24, "protocol assignments"),
    (Ipv4Addr::new(192, 0, 2, 0), 24, "documentation"),
    (Ipv4Addr::new(192, 88, 99, 0), 24, "6to4 relay"),
    (Ipv4Addr::new(192, 168, 0, 0), 16, "private"),
    (Ipv4Addr::new(198, 18, 0, 0), 15, "benchmarking"),
    (Ipv4Addr::new(198, 51, 100, 0), 24, "documentation"),
    (Ipv4Addr::new(203, 0, 113, 0), 24, "documentation"),
    (Ipv4Addr::new(224, 0, 0, 0), 4, "multicast"),
    (Ipv4Addr::new(240, 0, 0, 0), 4, "reserved"),
];

const V6: [(Ipv6Addr, u8, &str); 13] = [
    (Ipv6Addr::UNSPECIFIED, 128, "unspecified"),
    (Ipv6Addr::LOCALHOST, 128, "loopback"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96, "IPv4-mapped"),
    (Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0), 96, "IPv4-compatible"),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, "NAT64"),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, "NAT64"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, "Teredo"),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, "protocol assignments"),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, "documentation"),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, "6to4"),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, "documentation"),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, "link-local"),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, "multicast"),
];

/// Why an address is not called; `None`: it is global and may be.
pub fn refused(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => {
            let bits = u32::from(v4);
            V4.iter()
                .find(|(net, prefix, _)| (u32::from(*net) ^ bits).leading_zeros() >= u32::from(*prefix))
                .map(|n| n.2)
        }
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            let class =
                V6.iter().find(|(net, prefix, _)| (u128::from(*net) ^ bits).leading_zeros() >= u32::from(*prefix));
            // 2000::/3 is all that has been given out; unique local addresses, for one, are outside.
            class.map(|n| n.2).or_else(|| (v6.segments()[0] >> 13 != 1).then_some("not global unicast"))
        }
    }
}

/// Whether `net` holds `address`. An IPv4-mapped address is in no network: it is refused before anybody asks.
pub fn contains(net: &IpNet, address: IpAddr) -> bool {
    let common = match (net.address, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => (u32::from(net) ^ u32::from(address)).leading_zeros(),
        (IpAddr::V6(net), IpAddr::V6(address)) => (u128::from(net) ^ u128::from(address)).leading_zeros(),
        _ => return false,
    };
    common >= u32::from(net.prefix)
}

/// Whether the address is one of this machine's own. No packet is sent.
pub fn is_ours(address: IpAddr) -> bool {
    // Only an own address can be bound, except where the system lets anything be bound (as some load balancers have it
    // do). There the kernel is asked which source it would use: for an interface's first address, that very address.
    let binds = |address: IpAddr| UdpSocket::bind((address, 0)).is_ok();
    let (any, nobodys): (IpAddr, IpAddr) = match address {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    if !binds(nobodys) {
        return binds(address);
    }
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, 9))?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let table = [
            ("0.0.0.0", Some("unspecified")),
            ("0.1.2.3", Some("unspecified")),
            ("9.255.255.255", None),
            ("10.0.0.1", Some("private")),
            ("11.0.0.0", None),
            ("100.63.255.255", None),
            ("100.64.0.1", Some("carrier-grade NAT")),
            ("100.100.100.200", Some("carrier-grade NAT")),
            ("100.128.0.0", None),
            ("127.0.0.1", Some("loopback")),
            ("127.255.255.254", Some("loopback")),
            ("168.63.129.16", Some("cloud metadata")),
            ("168.63.129.17", None),
            ("169.254.169.254", Some("link-local")),
            ("172.15.255.255", None),
            ("172.16.0.1", Some("private")),
            ("172.31.255.255", Some("private")),
            ("172.32.0.0", None),
            ("192.0.0.192", Some("protocol assignments")),
            ("192.0.2.1", Some("documentation")),
            ("192.88.99.1", Some("6to4 relay")),
            ("192.168.1.1", Some("private")),
            ("192.169.0.0", None),
            ("198.17.255.255", None),
            ("198.18.0.1", Some("benchmarking")),
            ("198.19.255.255", Some("benchmarking")),
            ("198.51.100.7", Some("documentation")),
            ("203.0.113.9", Some("documentation")),
            ("224.0.0.1", Some("multicast")),
            ("239.255.255.250", Some("multicast")),
            ("240.0.0.1", Some("reserved")),
            ("255.255.255.255", Some("reserved")),
            ("1.1.1.1", None),
            ("8.8.8.8", None),
            ("::", Some("unspecified")),
            ("::1", Some("loopback")),
            ("::ffff:127.0.0.1", Some("IPv4-mapped")),
            ("::ffff:8.8.8.8", Some("IPv4-mapped")),
            ("::7f00:1", Some("IPv4-compatible")),
            ("64:ff9b::7f00:1", Some("NAT64")),
            ("64:ff9b::808:808", Some("NAT64")),
            ("64:ff9b:1::1", Some("NAT64")),
            ("100::1", Some("not global unicast")),
            ("2001::1", Some("Teredo")),
            ("2001:0:53aa:64c:0:0:0:1", Some("Teredo")),
            ("2001:20::1", Some("protocol assignments")),
            ("2001:db8::1", Some("documentation")),
            ("2001:200::1", None),
            ("2002:7f00:1::1", Some("6to4")),
            ("2003::1", None),
            ("2606:4700:4700::1111", None),
            ("3fff::1", Some("documentation")),
            ("4000::1", Some("not global unicast")),
            ("fc00::1", Some("not global unicast")),
            ("fd00:ec2::254", Some("not global unicast")),
            ("fe80::1", Some("link-local")),
            ("fec0::1", Some("not global unicast")),
            ("ff02::1", Some("multicast")),
        ];
        for (address, class) in table {
            assert_eq!(refused(address.parse().unwrap()), class, "{address}");
        }
    }

    #[test]
    fn networks() {
        let net = IpNet { address: "10.1.0.0".parse().unwrap(), prefix: 16 };
        assert!(contains(&net, "10.1.2.3".parse().unwrap()) && !contains(&net, "10.2.0.0".parse().unwrap()));
        assert!(!contains(&net, "::ffff:10.1.2.3".parse().unwrap()));
        let all = IpNet { address: "::".parse().unwrap(), prefix: 0 };
        assert!(contains(&all, "2003::1".parse().unwrap()) && !contains(&all, "10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn our_own_addresses_are_known() {
        assert!(is_ours("127.0.0.1".parse().unwrap()) && is_ours("127.9.9.9".parse().unwrap()));
        assert!(!is_ours("203.0.113.1".parse().unwrap()));
    }
}
