use proptest::prelude::*;

use super::*;

const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    map
}

#[test]
fn a_trusted_proxy_goes_on_with_its_trace() {
    let context = TraceContext::of(&headers(&[("traceparent", GOOD)]), true, false);
    assert_eq!(context.id.as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(context.parent, Some(0x00f067aa0ba902b7));
    assert!(context.own.sampled && context.own.span != 0x00f067aa0ba902b7);
    let onward = context.own.header();
    assert!(onward.to_str().unwrap().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{onward:?}");
}

#[test]
fn nobody_else_chooses_a_trace() {
    let sent = headers(&[("traceparent", GOOD), ("x-trace-id", "mine")]);
    let context = TraceContext::of(&sent, false, false);
    assert_ne!(context.id.as_str(), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_ne!(context.id.as_str(), "mine");
    assert_eq!(context.parent, None);
    assert!(!context.own.sampled);
}

#[test]
fn a_named_trace_is_shown_by_its_name() {
    let context = TraceContext::of(&headers(&[("x-trace-id", "order-77_a")]), true, true);
    assert_eq!(context.id.as_str(), "order-77_a");
    assert!(context.own.trace != 0 && context.own.sampled);
    let hex = "0af7651916cd43dd8448eb211c80319c";
    let context = TraceContext::of(&headers(&[("x-trace-id", hex)]), true, true);
    assert_eq!(context.own.trace, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c);
}

#[test]
fn what_is_malformed_or_stands_twice_is_not_taken() {
    let long = "a".repeat(65);
    for id in ["", "a b", "a/b", "é", "a\"b", &long] {
        assert!(TraceId::parse(id.as_bytes()).is_none(), "{id:?}");
    }
    for bad in [
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "",
    ] {
        assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad:?}");
    }
    assert!(TraceParent::parse(b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-later").is_some());
    let twice = headers(&[("x-trace-id", "one"), ("x-trace-id", "two"), ("traceparent", GOOD), ("traceparent", GOOD)]);
    let context = TraceContext::of(&twice, true, false);
    assert!(context.parent.is_none() && context.id.as_str().len() == 32);
}

#[test]
fn request_ids_differ() {
    let (one, two) = (RequestId::new(), RequestId::new());
    assert_ne!(one, two);
    assert!(one.as_str().starts_with("req_") && one.as_str().len() == 28);
    assert_eq!(one.header().to_str().unwrap(), one.as_str());
}

proptest! {
    #[test]
    fn a_written_traceparent_reads_back(trace in 1u128.., span in 1u64.., sampled: bool) {
        let parent = TraceParent { trace, span, sampled };
        prop_assert_eq!(TraceParent::parse(parent.header().as_bytes()), Some(parent));
    }

    #[test]
    fn no_bytes_make_the_parser_stumble(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = TraceParent::parse(&bytes);
        if let Some(id) = TraceId::parse(&bytes) {
            prop_assert_eq!(id.as_str().as_bytes(), &bytes[..]);
        }
    }

    #[test]
    fn one_changed_byte_is_noticed_or_harmless(at in 0usize..55, byte: u8) {
        let mut text = GOOD.as_bytes().to_vec();
        text[at] = byte;
        if let Some(parent) = TraceParent::parse(&text) {
            prop_assert!(parent.trace != 0 && parent.span != 0);
            prop_assert!(text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f' | b'-')));
        }
    }
}
