//! What a client registers, and what it sends later: only the same bytes match, and on a loopback literal any port. An
//! answer goes nowhere else, and brings `state` back as it was.
#![no_main]

use tmcp_edge::model::miniapp::RedirectUri;
use tmcp_edge::model::oauth::consent::address;
use url::Url;

libfuzzer_sys::fuzz_target!(|pair: (&str, &str)| {
    let (registered, sent) = pair;
    let Ok(uri) = RedirectUri::parse(registered) else { return };
    assert!(uri.as_str() == registered && uri.matches(registered));
    let url = Url::parse(registered).unwrap();
    assert!(url.fragment().is_none() && url.username().is_empty() && url.scheme() != "javascript");
    if uri.matches(sent) {
        // On the way to the match everything but a port has been compared.
        let other = Url::parse(sent).unwrap();
        assert_eq!((other.scheme(), other.host(), other.path()), (url.scheme(), url.host(), url.path()));
        assert!(sent == registered || url.scheme() == "http");
    }
    let back = address(registered, Some(sent), "https://edge.example", &[("code", "c")]);
    assert!(back.starts_with(registered));
    let back = Url::parse(&back).unwrap();
    assert_eq!((back.scheme(), back.host(), back.port()), (url.scheme(), url.host(), url.port()));
    let last: Vec<_> = back.query_pairs().collect();
    assert!(last.iter().any(|(name, value)| name == "state" && value == sent));
});
