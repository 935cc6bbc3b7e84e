//! One access-log line: a JSON object written field by field, without a tree and without allocating.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::telemetry::escape::{string, string_cut};
use crate::telemetry::outcome::Outcome;
use crate::telemetry::time::Rfc3339;

/// Longest method that is written, bytes: it is the client's word, and no method we take is longer.
const METHOD: usize = 16;
/// Longest inside reason that is written, bytes.
const INSIDE: usize = 512;

/// Appends the line for `outcome`, with its newline. Fields without a value are left out.
pub(super) fn write(to: &mut Vec<u8>, time: &mut Rfc3339, outcome: &Outcome<'_>) {
    // Values that we chose ourselves need no escaping and are copied as they are.
    to.extend_from_slice(b"{\"time\":\"");
    to.extend_from_slice(time.write(outcome.time));
    to.extend_from_slice(b"\",\"trace_id\":\"");
    to.extend_from_slice(outcome.trace.id.as_bytes());
    to.extend_from_slice(b"\",\"request_id\":\"");
    to.extend_from_slice(outcome.request_id.as_str().as_bytes());
    to.extend_from_slice(b"\",\"operation\":\"");
    to.extend_from_slice(outcome.operation_name().as_bytes());
    to.extend_from_slice(b"\",\"method\":");
    string_cut(to, outcome.method, METHOD);
    text(to, b",\"path\":", outcome.path);
    to.extend_from_slice(b",\"http\":\"");
    to.extend_from_slice(outcome.http.as_bytes());
    to.push(b'"');
    text(to, b",\"tls\":", outcome.tls);
    number(to, b",\"status\":", u64::from(outcome.status));
    if let Some(user) = &outcome.user {
        to.extend_from_slice(b",\"user\":\"");
        to.extend_from_slice(user.as_str().as_bytes());
        to.push(b'"');
    }
    text(to, b",\"app\":", outcome.app);
    if let Some(address) = outcome.client {
        client(to, address);
    }
    number(to, b",\"bytes_in\":", outcome.bytes_in);
    number(to, b",\"bytes_out\":", outcome.bytes_out);
    stage(to, b",\"total_us\":", Some(outcome.stages.total));
    stage(to, b",\"admit_us\":", outcome.stages.admit);
    stage(to, b",\"body_us\":", outcome.stages.body);
    stage(to, b",\"connect_us\":", outcome.stages.connect);
    stage(to, b",\"first_byte_us\":", outcome.stages.first_byte);
    if let Some(upstream) = outcome.upstream {
        text(to, b",\"upstream\":", Some(upstream));
        if let Some(address) = outcome.address {
            to.extend_from_slice(b",\"address\":\"");
            ip(to, address.ip(), true);
            number(to, b":", u64::from(address.port()));
            to.push(b'"');
        }
        number(to, b",\"tries\":", u64::from(outcome.tries));
    }
    if let Some(cache) = outcome.cache {
        to.extend_from_slice(b",\"cache\":\"");
        to.extend_from_slice(cache.as_str().as_bytes());
        to.push(b'"');
    }
    text(to, b",\"limit\":", outcome.limit);
    if let Some(code) = outcome.error {
        to.extend_from_slice(b",\"error\":\"");
        to.extend_from_slice(code.as_str().as_bytes());
        to.push(b'"');
    }
    if let Some(inside) = outcome.inside {
        to.extend_from_slice(b",\"inside\":");
        string_cut(to, inside, INSIDE);
    }
    to.extend_from_slice(b"}\n");
}

fn text(to: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        to.extend_from_slice(name);
        string(to, value);
    }
}

fn number(to: &mut Vec<u8>, name: &[u8], value: u64) {
    to.extend_from_slice(name);
    to.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn stage(to: &mut Vec<u8>, name: &[u8], took: Option<Duration>) {
    if let Some(took) = took {
        number(to, name, u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }
}

/// The client's address. Of an IPv6 address only the /64 is written: the rest names a device rather than a customer,
/// changes daily, and no limit counts by it.
fn client(to: &mut Vec<u8>, address: IpAddr) {
    to.extend_from_slice(b",\"client\":\"");
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            ip(to, IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)), false);
            to.extend_from_slice(b"/64");
        }
        v4 => ip(to, v4, false),
    }
    to.push(b'"');
}

/// The general formatter costs a third of the line; four numbers do not need it.
fn ip(to: &mut Vec<u8>, address: IpAddr, brackets: bool) {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            number(to, b"", u64::from(a));
            for part in [b, c, d] {
                number(to, b".", u64::from(part));
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(v6) if brackets => {
            let _ = write!(to, "[{v6}]");
        }
        IpAddr::V6(v6) => {
            let _ = write!(to, "{v6}");
        }
    }
}
