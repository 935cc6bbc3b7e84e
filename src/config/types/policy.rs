//! What a request has to pass: limits, rows of the config, and what it may look like.

use std::time::Duration;

use crate::model::rows::Verb;
use crate::model::{MiniAppId, ScopeSet};

/// One limit policy (protocol section 8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitPolicy {
    /// Refill rate, tokens a minute. Policies written per day or hour keep their exact rate in `per`.
    pub requests: u32,
    /// The time in which `requests` are refilled; a minute except where the policy says otherwise.
    pub per: Duration,
    /// Tokens on top of `requests` that a full bucket holds.
    pub burst: u32,
    /// How it counts.
    pub algorithm: LimitAlgorithm,
    /// What holds when a distributed store does not answer.
    pub on_store_failure: OnStoreFailure,
    /// Count and log, refuse nothing.
    pub report_only: bool,
}

/// How a policy counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitAlgorithm {
    /// A bucket of `requests + burst` tokens.
    TokenBucket,
    /// Two counters, the older weighted by how much of it the window still covers.
    SlidingWindow,
}

/// What a policy does when a distributed store does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStoreFailure {
    /// Limit in process.
    Local,
    /// Refuse.
    Closed,
    /// Let through.
    Open,
}

/// The limit of one mini-app under one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitOverride {
    /// Whose.
    pub app: MiniAppId,
    /// Which policy.
    pub policy: String,
    /// Instead of the policy's rate.
    pub requests: u32,
    /// Instead of the policy's burst.
    pub burst: u32,
}

/// Who is kept out for having gone too far (protocol sections 8 and 9); both are off unless a config turns them on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lockouts {
    /// Callers that keep calling over their limits: `ACCOUNT_SUSPENDED`.
    pub account_suspension: Option<Lockout>,
    /// Users whose payments keep failing: `PAYMENT_LOCKED`.
    pub payment_lock: Option<Lockout>,
}

/// How much is too much, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lockout {
    /// Strikes after which somebody is kept out.
    pub strikes: u32,
    /// The time in which those strikes have to fall.
    pub within: Duration,
    /// How long it lasts; not less than `within`, so that nobody comes out with strikes left.
    pub lasts: Duration,
}

/// A row of `tmcp_endpoints`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Path pattern: literals, `{name}` and a `*` at the end for the rest.
    pub path: String,
    /// Methods; empty: all, which only a row over built-in rows may say.
    pub methods: Vec<Verb>,
    /// A label for people.
    pub label: Option<String>,
    /// Whether a TEP token is needed. Over a built-in row this opens nothing.
    pub auth_required: bool,
    /// Any one of these suffices, on top of a built-in row's own; empty: none asked for.
    pub scopes: ScopeSet,
    /// The limit policy; `None` keeps the built-in row's, or `default`.
    pub rate_limit: Option<String>,
    /// Upstream that answers; `None` over built-in rows.
    pub upstream: Option<String>,
    /// Whether answers may be cached; `None` keeps the built-in row's (no).
    pub cacheable: Option<bool>,
    /// Where the row stands, for messages: `file:line`.
    pub place: String,
}

/// What a request may look like (brief 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// Largest body, bytes.
    pub max_request_size: usize,
    /// Largest header section, bytes.
    pub max_header_size: usize,
    /// Content types accepted, in lower case and without parameters.
    pub allowed_content_types: Vec<String>,
    /// What is done to text for people.
    pub sanitization: Sanitization,
}

/// What is done to text for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sanitization {
    /// Take HTML tags and comments out.
    pub remove_html: bool,
    /// Take white space off both ends.
    pub trim_strings: bool,
    /// Unicode normalisation form C.
    pub normalize_unicode: bool,
}
