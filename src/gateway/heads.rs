//! What an upstream is told about a request, and the client about an answer: the same for whole requests and streams.

use std::borrow::Cow;
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use super::{Gateway, Passage};
use crate::context::{Forwarding, Progress, RequestContext};
use crate::model::rows::Auth;
use crate::policy::authn::Caller;
use crate::response;
use crate::upstream::forward::{self, Credential, Manner, Origin, Proof};
use crate::upstream::pools;

impl Gateway {
    /// The head of a request whose body is at hand. `shared`: the connection speaks HTTP/2.
    pub(super) fn whole_request(
        &self,
        session: &Session,
        context: &RequestContext,
        body: &Bytes,
        shared: bool,
    ) -> Result<Box<RequestHeader>> {
        let way = forwarding(context)?;
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = session.req_header().method.clone();
        parts.headers = with_passage(session, context, way, |passage| {
            forward::whole_request(&session.req_header().headers, passage)
        })?;
        if !body.is_empty() {
            parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        if shared {
            // HTTP/2 has no `Host`, but an authority (RFC 9113 section 8.3.1).
            parts.version = Version::HTTP_2;
            parts.uri = with_authority(&mut parts.headers, way.target.is_tls(), way.path.clone())?;
        } else {
            parts.version = Version::HTTP_11;
            parts.uri = Uri::from(way.path.clone());
        }
        Ok(Box::new(RequestHeader::from(parts)))
    }

    /// Rewrites the head of a request that Pingora streams.
    pub(super) fn shape_request(
        &self,
        session: &Session,
        head: &mut RequestHeader,
        context: &RequestContext,
    ) -> Result<()> {
        let way = forwarding(context)?;
        with_passage(session, context, way, |passage| forward::request(head, passage))?;
        head.set_uri(Uri::from(way.path.clone()));
        Ok(())
    }

    /// What the client is told of an upstream's head; asks whether the cache takes the answer.
    pub(super) fn shape_answer(&self, head: &ResponseHeader, passage: &mut Passage) -> Result<ResponseHeader> {
        let (route, _) = passage.context.trail.route.as_ref().ok_or_else(unpermitted)?;
        let manner = manner(route.auth);
        if let Some(fill) = &mut passage.fill
            && fill.head(head.status, &head.headers).is_err()
        {
            passage.fill = None;
        }
        let mut headers = forward::answer_headers(&head.headers, head.status, manner);
        if let Some(fill) = &mut passage.fill {
            fill.passed_on(&headers);
        }
        let mut facts = passage.facts();
        facts.keep_upstream_security = manner == Manner::Raw;
        response::decorate(&mut headers, &facts);
        Ok(response::head(head.status, headers))
    }
}

/// Whether an answer is a wallet's error. Nothing that clients ask of a wallet lies elsewhere, so a redirection is one.
pub(super) fn is_wallet_error(way: &Forwarding, status: StatusCode) -> bool {
    way.backend.name() == pools::WALLET && !status.is_success() && status != StatusCode::NOT_MODIFIED
}

pub(super) fn forwarding(context: &RequestContext) -> Result<&Forwarding> {
    match &context.progress {
        Progress::Forwarding(way) => Ok(way),
        Progress::Arrived | Progress::Answered => Err(unpermitted()),
    }
}

pub(super) fn unpermitted() -> Box<Error> {
    Error::explain(ErrorType::InternalError, "forwarding without a permit")
}

/// Runs `then` with everything that shapes a request on its way to an upstream.
fn with_passage<T>(
    session: &Session,
    context: &RequestContext,
    way: &Forwarding,
    then: impl FnOnce(&forward::Passage<'_>) -> T,
) -> Result<T> {
    let (route, _) = context.trail.route.as_ref().ok_or_else(unpermitted)?;
    Ok(then(&forward::Passage {
        manner: manner(route.auth),
        credential: Credential::rule(
            context.snapshot.role(way.backend.name()),
            route.auth,
            proof(&context.trail.caller),
        ),
        identity: context.trail.caller.identity(),
        trace: &context.upstream_trace(),
        origin: &Origin {
            client: context.client_header(),
            https: over_tls(session, context),
            host: asked_host(session.req_header()),
        },
        host: way.target.host(),
    }))
}

fn with_authority(headers: &mut HeaderMap, tls: bool, path: PathAndQuery) -> Result<Uri> {
    let host = headers.remove(HOST);
    let host = host.as_ref().map_or(Cow::Borrowed(""), |host| String::from_utf8_lossy(host.as_bytes()));
    let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(host.as_ref()).path_and_query(path).build();
    uri.map_err(|error| Error::because(ErrorType::InvalidHTTPHeader, "no authority for the upstream", error))
}

/// Whether the client spoke TLS: to us, or to the trusted proxy that says so.
fn over_tls(session: &Session, context: &RequestContext) -> bool {
    let forwarded = || session.req_header().headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    session.digest().is_some_and(|digest| digest.ssl_digest.is_some()) || (context.via_trusted_proxy && forwarded())
}

/// The host that the client asked for: `Host`, or what HTTP/2 says in its place.
fn asked_host(head: &RequestHeader) -> Option<HeaderValue> {
    let authority = || HeaderValue::from_str(head.uri.authority()?.as_str()).ok();
    head.headers.get(HOST).cloned().or_else(authority)
}

fn manner(auth: Auth) -> Manner {
    if auth == Auth::Upstream { Manner::Raw } else { Manner::Guarded }
}

fn proof(caller: &Caller) -> Proof {
    match caller {
        Caller::Anonymous | Caller::Homeserver | Caller::Named(_) | Caller::ResourceServer(_) => Proof::None,
        Caller::Tep(_) => Proof::Tep,
        Caller::Matrix(_) => Proof::Matrix,
        Caller::Client(_) => Proof::ClientSecret,
    }
}

impl RequestContext {
    /// The client's address as `X-Forwarded-For` says it.
    fn client_header(&self) -> HeaderValue {
        let mut text = smallvec::SmallVec::<[u8; 48]>::new();
        match self.client {
            // The general formatter takes its time, and every request has an address.
            Some(IpAddr::V4(v4)) => {
                for (at, part) in v4.octets().iter().enumerate() {
                    if at > 0 {
                        text.push(b'.');
                    }
                    text.extend_from_slice(itoa::Buffer::new().format(*part).as_bytes());
                }
            }
            Some(ip) => text.extend_from_slice(ip.to_string().as_bytes()),
            None => {}
        }
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("unknown"))
    }
}
