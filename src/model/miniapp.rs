//! What a mini-app is registered as: how far it is trusted, what kind of OAuth client it is, where codes may be sent.

use std::fmt;

use url::Url;

/// How far a mini-app has been looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Classification {
    /// Not finished; for people who try it out.
    Beta,
    /// Anybody's.
    Community,
    /// Its developer is known.
    Verified,
    /// The platform's own: it alone may hold official scopes, pre-approved scopes and privileged tokens.
    Official,
}

impl Classification {
    /// Every classification.
    pub const ALL: [Classification; 4] =
        [Classification::Official, Classification::Verified, Classification::Community, Classification::Beta];

    /// The name in configs and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Classification::Beta => "beta",
            Classification::Community => "community",
            Classification::Verified => "verified",
            Classification::Official => "official",
        }
    }

    /// The classification of that name.
    pub fn parse(text: &str) -> Option<Classification> {
        Classification::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

impl fmt::Display for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What kind of OAuth client a mini-app is (RFC 6749 section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientType {
    /// Keeps no secret: it runs on its users' devices.
    Public,
    /// Proves who it is with a secret.
    Confidential,
    /// A public front end and a back end with a secret, which may also call itself `<id>_backend`.
    Hybrid,
}

impl ClientType {
    /// Every type.
    pub const ALL: [ClientType; 3] = [ClientType::Public, ClientType::Confidential, ClientType::Hybrid];

    /// The name in configs and answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            ClientType::Public => "public",
            ClientType::Confidential => "confidential",
            ClientType::Hybrid => "hybrid",
        }
    }

    /// The type of that name.
    pub fn parse(text: &str) -> Option<ClientType> {
        ClientType::ALL.into_iter().find(|one| one.as_str() == text)
    }

    /// Whether a part of it runs where no secret can be kept, and may therefore come without one.
    pub const fn has_public_part(self) -> bool {
        matches!(self, ClientType::Public | ClientType::Hybrid)
    }

    /// Whether a part of it keeps a secret.
    pub const fn has_secret(self) -> bool {
        matches!(self, ClientType::Confidential | ClientType::Hybrid)
    }
}

impl fmt::Display for ClientType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Longest redirect URI, bytes.
const MAX_URI: usize = 2048;
/// The loopback literals of RFC 8252 section 7.3. `localhost` is not among them (section 8.3): it may be another host.
const LOOPBACK: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];

/// Where a client's codes may be sent (RFC 6749 section 3.1.2, RFC 8252 section 7).
#[derive(Clone, PartialEq, Eq)]
pub struct RedirectUri {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Web,
    Loopback,
    PrivateUse,
}

impl RedirectUri {
    /// Takes a URI that a client registers: https, a loopback literal, or a private-use scheme.
    ///
    /// # Errors
    /// What is wrong with it, in words for whoever registers it.
    pub fn parse(text: &str) -> Result<RedirectUri, &'static str> {
        if text.len() > MAX_URI {
            return Err("longer than 2048 bytes");
        }
        // `url` would mend these silently, and what is compared later is the text.
        if !text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'\\' | b'*' | b'"' | b'<' | b'>' | b'`')) {
            return Err("a redirect URI is printable ASCII without spaces, wildcards and backslashes");
        }
        if text.contains('#') {
            return Err("a redirect URI has no fragment (RFC 6749 section 3.1.2)");
        }
        let url = Url::parse(text).map_err(|_| "not an absolute URI")?;
        // Nor an empty one, which `url` drops without a word.
        let authority = text.split_once("//").and_then(|(_, rest)| rest.split(['/', '?']).next());
        if !url.username().is_empty() || url.password().is_some() || authority.is_some_and(|name| name.contains('@')) {
            return Err("a redirect URI names no user");
        }
        let kind = match url.scheme() {
            // `url` would take the first segment for a host that is missing.
            "https" if text.strip_prefix("https://").is_some_and(|rest| !rest.starts_with('/')) => Kind::Web,
            "https" => return Err("not https:// and a host"),
            "http" if loopback(text).is_some() => Kind::Loopback,
            "http" => {
                return Err("http is for the loopback literals 127.0.0.1 and [::1] only (RFC 8252 section 7.3)");
            }
            // A name with a dot is somebody's domain turned round; one without could be any app's, or the browser's.
            scheme if scheme.contains('.') => Kind::PrivateUse,
            _ => {
                return Err(
                    "a private-use scheme is a domain name turned round, such as com.example.app (RFC 8252 7.1)",
                );
            }
        };
        Ok(RedirectUri { text: text.to_owned(), kind })
    }

    /// As it was registered.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether only clients with a public part may have it: whoever listens there is on the user's own device.
    pub fn is_native(&self) -> bool {
        self.kind != Kind::Web
    }

    /// Whether `sent` is this URI: the same bytes, and on a loopback literal any port.
    pub fn matches(&self, sent: &str) -> bool {
        match self.kind {
            Kind::Web | Kind::PrivateUse => self.text == sent,
            Kind::Loopback => loopback(&self.text).is_some_and(|own| loopback(sent) == Some(own)),
        }
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedirectUri({})", self.text)
    }
}

/// The literal and what follows the port, when `text` is an http URI on a loopback literal.
fn loopback(text: &str) -> Option<(&'static str, &str)> {
    LOOPBACK.into_iter().find_map(|literal| {
        let rest = text.strip_prefix(literal)?;
        let rest = match rest.strip_prefix(':') {
            None => rest,
            Some(port) => {
                let end = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
                let (port, rest) = port.split_at_checked(end)?;
                port.parse::<u16>().ok().filter(|port| *port != 0)?;
                rest
            }
        };
        // Anything else would go on with the host's name or the port.
        (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((literal, rest))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::oauth::consent::address;

    #[test]
    fn names_read_back() {
        for one in Classification::ALL {
            assert_eq!(Classification::parse(one.as_str()), Some(one));
        }
        for one in ClientType::ALL {
            assert_eq!(ClientType::parse(one.as_str()), Some(one));
            assert!(one.has_public_part() || one.has_secret());
        }
        assert_eq!((Classification::parse("Official"), ClientType::parse("")), (None, None));
    }

    #[test]
    fn uris_that_nobody_may_register() {
        for bad in [
            "",
            "/callback",
            "http://shop.example/cb",
            "http://localhost/cb",
            "http://127.0.0.1.evil.example/cb",
            "http://127.0.0.1:0/cb",
            "http://127.0.0.1:99999/cb",
            "http://127.0.0.1@evil.example/cb",
            "http://2130706433/cb",
            "https:///cb",
            "https://shop.example/cb#x",
            "https://shop.example/*",
            "https://*.example/cb",
            "https://user@shop.example/cb",
            "https://@shop.example/cb",
            "com.example.app://@",
            "https://shop.example\\@evil.example/cb",
            "https://shop.example/a b",
            "https://shop.example/é",
            "javascript:alert(1)",
            "data:text/html,x",
            "myapp:/cb",
            "file:///etc/passwd",
            &format!("https://shop.example/{}", "a".repeat(2048)),
        ] {
            assert!(RedirectUri::parse(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn the_same_bytes_and_any_loopback_port() {
        let web = RedirectUri::parse("https://shop.example/cb?x=1").unwrap();
        assert!(!web.is_native() && web.matches("https://shop.example/cb?x=1"));
        for other in [
            "https://shop.example/cb",
            "https://shop.example/cb?x=1&y=2",
            "https://SHOP.example/cb?x=1",
            "https://shop.example:443/cb?x=1",
            "https://shop.example/a/../cb?x=1",
        ] {
            assert!(!web.matches(other), "{other}");
        }
        let app = RedirectUri::parse("com.example.shop:/cb").unwrap();
        assert!(app.is_native() && app.matches("com.example.shop:/cb") && !app.matches("com.example.shop:/cb/"));
        let loopback = RedirectUri::parse("http://127.0.0.1/cb").unwrap();
        assert!(loopback.is_native());
        for same in ["http://127.0.0.1/cb", "http://127.0.0.1:1/cb", "http://127.0.0.1:65535/cb"] {
            assert!(loopback.matches(same), "{same}");
        }
        for other in [
            "http://[::1]:8000/cb",
            "http://localhost:8000/cb",
            "https://127.0.0.1:8000/cb",
            "http://127.0.0.1:8000/cb/",
            "http://127.0.0.1:8000/cb?x",
            "http://127.0.0.1:/cb",
            "http://127.0.0.1:0/cb",
            "http://127.0.0.1:+80/cb",
            "http://127.0.0.1:8000@evil.example/cb",
            "http://127.0.0.1.evil.example/cb",
        ] {
            assert!(!loopback.matches(other), "{other}");
        }
        assert!(RedirectUri::parse("http://[::1]:8000/cb").unwrap().matches("http://[::1]/cb"));
    }

    /// Pieces that redirect URIs are attacked with.
    fn uri() -> impl Strategy<Value = String> {
        let pieces = [
            "https://",
            "http://",
            "com.example:",
            "127.0.0.1",
            "[::1]",
            "shop.example",
            "evil.example",
            ":",
            "80",
            "/",
            "//",
            "@",
            "\\",
            "?",
            "#",
            ".",
            "cb",
            "%2f",
            "*",
            " ",
            "\u{e9}",
            "\t",
        ];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_registered_is_itself_and_leads_where_it_seems_to(text in uri()) {
            if let Ok(uri) = RedirectUri::parse(&text) {
                prop_assert!(uri.as_str() == text && uri.matches(&text));
                let url = Url::parse(&text).unwrap();
                prop_assert!(url.fragment().is_none() && url.username().is_empty(), "{}", text);
                let answered = Url::parse(&address(&text, Some("s"), "https://edge.example", &[("code", "c")])).unwrap();
                prop_assert_eq!((url.scheme(), url.host(), url.port()), (answered.scheme(), answered.host(), answered.port()));
            }
        }

        #[test]
        fn what_matches_leads_to_the_same_place(registered in uri(), sent in uri()) {
            if let Ok(uri) = RedirectUri::parse(&registered)
                && uri.matches(&sent)
            {
                let [own, other] = [&registered, &sent].map(|text| Url::parse(text).unwrap());
                prop_assert_eq!((own.scheme(), own.host(), own.path()), (other.scheme(), other.host(), other.path()));
                prop_assert!(own.scheme() == "http" || registered == sent);
            }
        }

        #[test]
        fn a_loopback_port_is_free(port in 1u16.., path in "(/[a-z]{0,5}){0,2}") {
            let uri = RedirectUri::parse(&format!("http://127.0.0.1{path}")).unwrap();
            let sent = format!("http://127.0.0.1:{port}{path}");
            prop_assert!(uri.matches(&sent));
        }
    }
}
