//! `egress`: whom the edge may call on somebody's word (key sets, webhooks, callbacks).

use super::map::Map;
use super::reader::Value;
use super::types::IpNet;

/// Reads `egress`.
pub(super) fn read(m: &mut Map<'_>) -> Vec<IpNet> {
    m.or("allow", Vec::new(), |v| v.list("a list of address ranges", range))
}

fn range(value: &Value<'_>) -> Option<IpNet> {
    let expected = "an address range such as 10.0.0.0/8 (no bits set behind the prefix), or one address";
    let net = value.parsed(expected, IpNet::parse)?;
    if net.prefix == 0 {
        return value.refuse(format!("{net} would let mini-apps have us call anything"), "the networks that are meant");
    }
    // Addresses are checked as they are called, and a mapped one is never called.
    if net.address.to_canonical() != net.address {
        return value.refuse(format!("{net} is IPv4 in IPv6 dress"), "the range as IPv4");
    }
    Some(net)
}
