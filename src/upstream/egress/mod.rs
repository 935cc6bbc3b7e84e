//! The one guarded client for every URL that we call on somebody's word: key sets, webhooks, callbacks.
//!
//! What a name resolves to is checked where it is resolved, and the connection goes to the very address that was
//! checked, so a name that answers differently the second time gains nothing. Redirects are not followed, proxies from
//! the environment are not used (they would resolve names themselves), answers are cut off at a size and a time.

pub mod address;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, redirect};
use url::{Host, Url};

use crate::config::IpNet;

/// Addresses that may be called although they are not global.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Networks that may be called; addresses in them may be called without TLS too.
    pub allow: Vec<IpNet>,
}

impl EgressPolicy {
    /// Global addresses with TLS, nothing else.
    pub fn strict() -> EgressPolicy {
        EgressPolicy::default()
    }

    /// Also this machine's loopback: for development and tests.
    pub fn with_loopback() -> EgressPolicy {
        let v4 = IpNet { address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 };
        let v6 = IpNet { address: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix: 128 };
        EgressPolicy { allow: vec![v4, v6] }
    }

    fn allows(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|net| address::contains(net, address))
    }

    /// Why this address is not called.
    fn refusal(&self, address: IpAddr) -> Option<&'static str> {
        if self.allows(address) {
            return None;
        }
        address::refused(address).or_else(|| address::is_ours(address).then_some("this machine's own"))
    }
}

/// How long a call may take and how much may come back.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From looking up the name to the last byte of the answer.
    pub total: Duration,
    /// Bytes of the answer's body.
    pub answer: usize,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// Status; redirects come back as they are.
    pub status: StatusCode,
    /// Header.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Why there is no answer. The text is for the log: it may name addresses.
#[derive(Debug)]
pub enum EgressError {
    /// The URL may not be called.
    Refused(String),
    /// The answer is larger than the limit.
    TooLarge(usize),
    /// Not in time.
    TimedOut(Duration),
    /// The connection or the exchange failed.
    Failed(String),
}

impl fmt::Display for EgressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EgressError::Refused(why) => write!(f, "not called: {why}"),
            EgressError::TooLarge(limit) => write!(f, "the answer is larger than {limit} bytes"),
            EgressError::TimedOut(limit) => write!(f, "no answer within {} ms", limit.as_millis()),
            EgressError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for EgressError {}

/// The client. Share one: it keeps connections.
#[derive(Clone, Debug)]
pub struct Egress {
    client: Client,
    policy: Arc<ArcSwap<EgressPolicy>>,
}

impl Egress {
    /// A client under `policy`.
    ///
    /// # Errors
    /// [`EgressError::Failed`] when TLS cannot be set up.
    pub fn new(policy: EgressPolicy) -> Result<Egress, EgressError> {
        let policy = Arc::new(ArcSwap::from_pointee(policy));
        let client = Client::builder()
            .dns_resolver(CheckedResolver { policy: policy.clone() })
            .no_proxy()
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .tls_version_min(reqwest::tls::Version::TLS_1_2)
            .connect_timeout(Duration::from_secs(5))
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(8)
            .user_agent(concat!("tmcp-edge/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|e| EgressError::Failed(chain(&e)))?;
        Ok(Egress { client, policy })
    }

    /// Puts another policy in force. Connections that are kept from before end within half a minute of idleness.
    pub fn set_policy(&self, policy: EgressPolicy) {
        self.policy.store(Arc::new(policy));
    }

    /// `GET url`.
    ///
    /// # Errors
    /// See [`EgressError`]; an answer with any status is not an error.
    pub async fn get(&self, url: &Url, limits: Limits) -> Result<Answer, EgressError> {
        self.send(Method::GET, url, HeaderMap::new(), Bytes::new(), limits).await
    }

    /// Sends one request, once.
    ///
    /// # Errors
    /// See [`EgressError`]; an answer with any status is not an error.
    pub async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
        limits: Limits,
    ) -> Result<Answer, EgressError> {
        self.check(url)?;
        let mut request = self.client.request(method, url.clone()).headers(headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        let exchange = async {
            let mut response = request.send().await.map_err(|e| EgressError::Failed(chain(&e)))?;
            let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
            let mut body = BytesMut::new();
            while let Some(chunk) = response.chunk().await.map_err(|e| EgressError::Failed(chain(&e)))? {
                if body.len() + chunk.len() > limits.answer {
                    return Err(EgressError::TooLarge(limits.answer));
                }
                body.extend_from_slice(&chunk);
            }
            Ok(Answer { status, headers, body: body.freeze() })
        };
        tokio::time::timeout(limits.total, exchange).await.map_err(|_| EgressError::TimedOut(limits.total))?
    }

    /// Whether `url` may be called as far as can be told without resolving its name. Worth asking when a URL is
    /// configured or registered; calls ask again.
    ///
    /// # Errors
    /// [`EgressError::Refused`], saying why.
    pub fn check(&self, url: &Url) -> Result<(), EgressError> {
        let refused = |why: String| Err(EgressError::Refused(why));
        let policy = self.policy.load();
        if !url.username().is_empty() || url.password().is_some() {
            return refused("a URL with credentials in it".to_owned());
        }
        // A literal never reaches the resolver. `url` has already turned spellings such as 0x7f.1 into addresses.
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) => None,
            None => return refused("a URL without a host".to_owned()),
        };
        if let Some(address) = literal
            && let Some(class) = policy.refusal(address)
        {
            return refused(format!("{address} is {class}"));
        }
        let plain_allowed = match (literal, url.host_str()) {
            (Some(address), _) => policy.allows(address),
            // The one name that RFC 6761 ties to loopback; what it resolves to is checked all the same.
            (None, name) => name == Some("localhost") && policy.allows(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        };
        match url.scheme() {
            "https" => Ok(()),
            "http" if plain_allowed => Ok(()),
            scheme => refused(format!("scheme {scheme}, where https is asked for")),
        }
    }
}

/// Looks names up and keeps the addresses that may be called.
struct CheckedResolver {
    policy: Arc<ArcSwap<EgressPolicy>>,
}

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = self.policy.load_full();
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let called = callable(&policy, &name, found)?;
            Ok(Box::new(called.into_iter()) as Addrs)
        })
    }
}

fn callable(policy: &EgressPolicy, name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, EgressError> {
    let refusal = found.iter().find_map(|at| Some((at.ip(), policy.refusal(at.ip())?)));
    let called: Vec<SocketAddr> = found.into_iter().filter(|at| policy.refusal(at.ip()).is_none()).collect();
    match refusal {
        Some((address, class)) if called.is_empty() => {
            Err(EgressError::Refused(format!("{name} resolves to {address}, which is {class}")))
        }
        _ => Ok(called),
    }
}

/// An error with its causes: the outermost alone says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::header;
    use axum::routing::get;
    use tokio::net::TcpListener;

    use super::*;

    const LIMITS: Limits = Limits { total: Duration::from_secs(5), answer: 1000 };

    async fn server() -> SocketAddr {
        let router = Router::new()
            .route("/ok", get(|| async { "fine" }))
            .route("/large", get(|| async { "x".repeat(1001) }))
            .route("/redirect", get(|| async { (StatusCode::FOUND, [(header::LOCATION, "/ok")]) }))
            .route("/never", get(std::future::pending::<()>));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    fn refused(policy: EgressPolicy, url: &str) -> Option<String> {
        match Egress::new(policy).unwrap().check(&Url::parse(url).unwrap()) {
            Err(EgressError::Refused(why)) => Some(why),
            Err(other) => panic!("{other}"),
            Ok(()) => None,
        }
    }

    #[test]
    fn urls_are_looked_at_before_anything_is_called() {
        assert_eq!(refused(EgressPolicy::strict(), "https://hooks.example/x"), None);
        assert_eq!(refused(EgressPolicy::strict(), "https://1.1.1.1/"), None);
        for bad in [
            "http://hooks.example/x",
            "http://1.1.1.1/",
            "ftp://hooks.example/",
            "https://user@hooks.example/",
            "https://:pass@hooks.example/",
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://2130706433/",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[64:ff9b::7f00:1]/",
            "https://169.254.169.254/latest/meta-data",
            "http://localhost/",
        ] {
            assert!(refused(EgressPolicy::strict(), bad).is_some(), "{bad} may be called");
        }
        for good in ["http://127.0.0.1:8/", "http://[::1]:8/", "https://127.0.0.1/", "http://localhost:8/"] {
            assert_eq!(refused(EgressPolicy::with_loopback(), good), None);
        }
        for bad in ["http://1.1.1.1/", "https://10.0.0.1/", "https://[::ffff:127.0.0.1]/", "http://hooks.example/"] {
            assert!(refused(EgressPolicy::with_loopback(), bad).is_some(), "{bad} may be called");
        }
    }

    #[test]
    fn names_lead_only_to_addresses_that_may_be_called() {
        let at = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let found = vec![at("10.0.0.1"), at("1.1.1.1"), at("::1")];
        assert_eq!(callable(&EgressPolicy::strict(), "mixed.example", found).unwrap(), [at("1.1.1.1")]);
        let refused = callable(&EgressPolicy::strict(), "inside.example", vec![at("10.0.0.1")]).unwrap_err();
        assert_eq!(refused.to_string(), "not called: inside.example resolves to 10.0.0.1, which is private");
    }

    #[tokio::test]
    async fn a_name_for_loopback_is_not_followed() {
        let port = server().await.port();
        let url = Url::parse(&format!("https://localhost:{port}/ok")).unwrap();
        let error = Egress::new(EgressPolicy::strict()).unwrap().get(&url, LIMITS).await.unwrap_err();
        assert!(error.to_string().contains("loopback"), "{error}");
    }

    #[tokio::test]
    async fn a_network_is_opened_and_closed_while_it_runs() {
        let address = server().await;
        let url = Url::parse(&format!("http://{address}/ok")).unwrap();
        let egress = Egress::new(EgressPolicy::strict()).unwrap();
        assert!(matches!(egress.get(&url, LIMITS).await, Err(EgressError::Refused(_))));
        egress.set_policy(EgressPolicy { allow: vec![IpNet::parse("127.0.0.0/8").unwrap()] });
        assert_eq!(egress.get(&url, LIMITS).await.unwrap().status, StatusCode::OK);
        egress.set_policy(EgressPolicy::strict());
        assert!(matches!(egress.get(&url, LIMITS).await, Err(EgressError::Refused(_))), "by a kept connection");
    }

    #[tokio::test]
    async fn answers_come_whole_or_not_at_all() {
        let address = server().await;
        let egress = Egress::new(EgressPolicy::with_loopback()).unwrap();
        let url = |path: &str| Url::parse(&format!("http://{address}{path}")).unwrap();
        let answer = egress.get(&url("/ok"), LIMITS).await.unwrap();
        assert_eq!((answer.status, answer.body.as_ref()), (StatusCode::OK, b"fine".as_slice()));
        let redirect = egress.get(&url("/redirect"), LIMITS).await.unwrap();
        assert_eq!(redirect.status, StatusCode::FOUND);
        assert!(matches!(egress.get(&url("/large"), LIMITS).await, Err(EgressError::TooLarge(1000))));
        let short = Limits { total: Duration::from_millis(50), ..LIMITS };
        assert!(matches!(egress.get(&url("/never"), short).await, Err(EgressError::TimedOut(_))));
    }
}
