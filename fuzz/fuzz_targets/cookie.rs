//! Whatever a browser sends as its cookies and as a form's proof: it is known by a cookie of ours or gets a new one, and
//! no proof counts but the one that follows from the cookie.
#![no_main]

use http::{HeaderMap, HeaderValue, header};
use tmcp_edge::operations::pages::browser::Browser;
use url::Url;

libfuzzer_sys::fuzz_target!(|sent: (&[u8], &str)| {
    let (cookies, proof) = sent;
    let url = Url::parse("https://edge.example").unwrap();
    let Ok(value) = HeaderValue::from_bytes(cookies) else { return };
    let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
    let browser = Browser::of(&headers, &url).unwrap();
    assert_eq!(browser.cookie().len(), 43);
    let known = browser.set_cookie().unwrap().is_none();
    assert!(!known || cookies.windows(43).any(|window| window == browser.cookie().as_bytes()));
    let path = "/oauth2/consent";
    assert_eq!(browser.check(&headers, &url, path, proof).is_ok(), proof == browser.proof(path));
});
