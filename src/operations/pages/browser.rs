//! A browser: its cookie, and the proof that a form comes from a page of ours.
//!
//! Three things stand against forms that another site submits: the cookie is `SameSite=Lax` and so not sent with them, the
//! browser's own `Origin` has to be ours, and the form has to bear a value that follows from the cookie, which another
//! site cannot read. A browser gets its cookie before anybody has signed in, so the sign-in form is guarded as well;
//! signing in changes the cookie, so one that somebody planted before is worth nothing.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, header};
use url::Url;

use crate::error::{Code, Refusal};
use crate::store::seal::sha256;

/// Random bytes of a cookie.
const COOKIE_BYTES: usize = 32;

/// A browser, known by its cookie.
pub struct Browser {
    cookie: String,
    new: bool,
    secure: bool,
}

impl Browser {
    /// The browser that sent these headers; one without a cookie of ours gets a new one. `public_url` says whether the
    /// cookie may travel without TLS.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn of(headers: &HeaderMap, public_url: &Url) -> Result<Browser, Refusal> {
        let secure = public_url.scheme() == "https";
        let sent = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let ours = sent
            .flat_map(Cookie::split_parse)
            .filter_map(Result::ok)
            .find(|cookie| cookie.name() == name(secure) && well_formed(cookie.value()));
        match ours {
            Some(cookie) => Ok(Browser { cookie: cookie.value().to_owned(), new: false, secure }),
            None => Browser::renewed(secure),
        }
    }

    /// The same browser with another cookie.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn renew(&self) -> Result<Browser, Refusal> {
        Browser::renewed(self.secure)
    }

    fn renewed(secure: bool) -> Result<Browser, Refusal> {
        let mut bytes = [0; COOKIE_BYTES];
        rand::fill(&mut bytes).map_err(|_| Refusal::internal("the system gives no random numbers"))?;
        Ok(Browser { cookie: URL_SAFE_NO_PAD.encode(bytes), new: true, secure })
    }

    /// The cookie's value.
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// The `Set-Cookie` that tells the browser, when it does not know yet.
    ///
    /// # Errors
    /// Never for the values made here.
    pub fn set_cookie(&self) -> Result<Option<HeaderValue>, Refusal> {
        if !self.new {
            return Ok(None);
        }
        let cookie = Cookie::build((name(self.secure), self.cookie.as_str()))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Lax)
            .secure(self.secure);
        HeaderValue::from_str(&cookie.to_string()).map(Some).map_err(|error| Refusal::internal(error.to_string()))
    }

    /// What forms of the page at `path` bear.
    pub fn proof(&self, path: &str) -> String {
        URL_SAFE_NO_PAD.encode(sha256(format!("tmcp form\n{path}\n{}", self.cookie).as_bytes()))
    }

    /// Whether a form that was sent to `path` comes from a page of ours.
    ///
    /// # Errors
    /// 403 when it does not.
    pub fn check(&self, headers: &HeaderMap, public_url: &Url, path: &str, proof: &str) -> Result<(), Refusal> {
        let origin = headers.get(header::ORIGIN).map(HeaderValue::as_bytes);
        let same_origin = match origin {
            Some(origin) => origin == public_url.origin().ascii_serialization().as_bytes(),
            // Browsers that leave Origin away say this in its place.
            None => headers.get("sec-fetch-site").is_none_or(|site| site == "same-origin"),
        };
        if !same_origin {
            return Err(foreign("the Origin is not ours"));
        }
        verify_slices_are_equal(self.proof(path).as_bytes(), proof.as_bytes())
            .map_err(|_| foreign("the form's csrf value is not this browser's"))
    }
}

/// A cookie with the prefix can be set by this very host over TLS and by nobody else (RFC 6265bis section 4.1.3.2).
fn name(secure: bool) -> &'static str {
    if secure { "__Host-tmcp" } else { "tmcp" }
}

fn well_formed(value: &str) -> bool {
    URL_SAFE_NO_PAD.decode(value).is_ok_and(|bytes| bytes.len() == COOKIE_BYTES)
}

fn foreign(inside: &'static str) -> Refusal {
    Refusal::new(Code::Forbidden, "This form was not sent from our own page, or the page was open for too long.")
        .inside(inside)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_form_counts_only_from_our_own_page_in_the_same_browser() {
        let url = Url::parse("https://tmcp.example").unwrap();
        let first = Browser::of(&headers(&[]), &url).unwrap();
        let set = first.set_cookie().unwrap().unwrap();
        let set = set.to_str().unwrap();
        assert!(set.starts_with("__Host-tmcp=") && !set.contains("Domain"), "{set}");
        for attribute in ["HttpOnly", "Secure", "SameSite=Lax", "Path=/"] {
            assert!(set.contains(attribute), "{set}");
        }
        let cookie = format!("a=b; __Host-tmcp={}", first.cookie());
        let again = Browser::of(&headers(&[("cookie", &cookie)]), &url).unwrap();
        assert!(again.set_cookie().unwrap().is_none());
        let proof = first.proof("/oauth2/consent");
        let ours = headers(&[("origin", "https://tmcp.example")]);
        assert!(again.check(&ours, &url, "/oauth2/consent", &proof).is_ok());
        assert!(again.check(&headers(&[]), &url, "/oauth2/consent", &proof).is_ok(), "the proof alone holds");
        for (sent, path, proof) in [
            (headers(&[("origin", "https://evil.example")]), "/oauth2/consent", proof.as_str()),
            (headers(&[("origin", "null")]), "/oauth2/consent", &proof),
            (headers(&[("sec-fetch-site", "cross-site")]), "/oauth2/consent", &proof),
            (ours.clone(), "/oauth2/apps", &proof),
            (ours.clone(), "/oauth2/consent", ""),
            (ours.clone(), "/oauth2/consent", &first.renew().unwrap().proof("/oauth2/consent")),
        ] {
            assert_eq!(again.check(&sent, &url, path, proof).unwrap_err().code(), Code::Forbidden, "{sent:?} {path}");
        }
        for odd in ["__Host-tmcp=short", "tmcp=AAAA", "__Host-tmcp="] {
            assert!(Browser::of(&headers(&[("cookie", odd)]), &url).unwrap().set_cookie().unwrap().is_some(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn cookies_are_ours_or_nothing(cookies in "(__Host-tmcp|tmcp|a)?=?[A-Za-z0-9_ ;=\\-]{0,60}", proof in "\\PC{0,50}") {
            let url = Url::parse("https://tmcp.example").unwrap();
            let sent = headers(&[("cookie", &cookies)]);
            let browser = Browser::of(&sent, &url).unwrap();
            prop_assert!(well_formed(browser.cookie()));
            prop_assert!(browser.new || cookies.contains(browser.cookie()));
            prop_assert!(browser.check(&sent, &url, "/oauth2/apps", &proof).is_err());
            prop_assert!(browser.check(&sent, &url, "/oauth2/apps", &browser.proof("/oauth2/apps")).is_ok());
        }
    }
}
