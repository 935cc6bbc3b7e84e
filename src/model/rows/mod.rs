//! The built-in route table (protocol section 1): each operation is data.
//!
//! One row says everything about an operation: its methods and paths, who may call it, what it costs, what its body
//! must be and who answers. The router, `tmcp-edge routes`, the config check and the tests all read these rows,
//! so nothing about an operation is said twice.

mod table;

use super::operation::Operation as Op;
use super::scope::ScopeSet;

pub use table::{ROWS, SLASH_SEGMENTS};

/// An HTTP method that a row may list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the methods of RFC 9110 and RFC 5789 by name")]
pub enum Verb {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Verb {
    /// Every method that a row may list.
    pub const ALL: &'static [Verb] =
        &[Verb::Get, Verb::Head, Verb::Post, Verb::Put, Verb::Patch, Verb::Delete, Verb::Options];

    /// The method's name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Head => "HEAD",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
            Verb::Options => "OPTIONS",
        }
    }

    /// The method of that name; names are case-sensitive (RFC 9110 section 9.1).
    pub fn parse(text: &str) -> Option<Verb> {
        Verb::ALL.iter().copied().find(|verb| verb.as_str() == text)
    }
}

/// How a caller proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Auth {
    /// Nobody in particular; limited per IP.
    Public,
    /// A TEP token (protocol section 2).
    Tep,
    /// A Matrix access token, asked about at the homeserver.
    Matrix,
    /// A TEP token or a Matrix access token; a bearer that parses as a JWT is the former.
    MatrixOrTep,
    /// A Matrix access token, or the TEP token of an official mini-app.
    MatrixOrOfficialTep,
    /// The homeserver's `hs_token`.
    Homeserver,
    /// A mini-app's confidential client by HTTP Basic.
    Client,
    /// A TEP token, or a mini-app's confidential client by HTTP Basic.
    TepOrClient,
    /// An OAuth client by HTTP Basic or in the form, or a public one by its name (RFC 6749 section 2.3).
    OauthClient,
    /// Proof inside the request body (a signed wallet callback).
    InBody,
    /// A developer by Matrix access token, or an administrator.
    Developer,
    /// The upstream's own business; the edge only limits per IP.
    Upstream,
}

impl Auth {
    /// How `tmcp-edge routes` and the documentation write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Auth::Public => "none",
            Auth::Tep => "TEP",
            Auth::Matrix => "Matrix",
            Auth::MatrixOrTep => "Matrix or TEP",
            Auth::MatrixOrOfficialTep => "Matrix or official TEP",
            Auth::Homeserver => "hs_token",
            Auth::Client => "client",
            Auth::TepOrClient => "TEP or client",
            Auth::OauthClient => "OAuth client",
            Auth::InBody => "in the body",
            Auth::Developer => "developer",
            Auth::Upstream => "the upstream's",
        }
    }
}

/// What may come as a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// None: a body is refused.
    None,
    /// JSON that satisfies the operation's schema, `conf/schemas/<name>.json`.
    Json(&'static str),
    /// JSON of any structure, well formed (rows that a config adds).
    AnyJson,
    /// `application/x-www-form-urlencoded` (OAuth).
    Form,
    /// What a config's `allowed_content_types` admit, JSON among them checked for structure (rows that a config adds).
    Any,
    /// A homeserver's transaction: JSON, up to 64 MiB, never refused for its content (protocol section 11).
    Homeserver,
    /// Streamed through as it comes, unlooked at.
    Raw,
}

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The edge itself.
    Edge,
    /// The wallet service, through the proxy.
    Wallet,
    /// The wallet service, asked by the edge, which checks and caches around it.
    WalletChecked,
    /// The homeserver, through the proxy, untouched.
    Homeserver,
    /// An operation of the edge that is not built yet: 501.
    NotImplemented,
}

/// What a circuit breaker counts together: trouble with one class must not close another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Looking at wallets: balance, history, status.
    Read,
    /// Resolving users to wallets.
    Resolve,
    /// Moving money.
    Payment,
    /// Registering wallets and devices.
    Account,
    /// Everything else.
    Other,
}

impl Class {
    /// Every class.
    pub const ALL: &'static [Class] = &[Class::Read, Class::Resolve, Class::Payment, Class::Account, Class::Other];

    /// The name in metrics and at the admin address.
    pub const fn as_str(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::Resolve => "resolve",
            Class::Payment => "payment",
            Class::Account => "account",
            Class::Other => "other",
        }
    }
}

/// The names of the built-in limit policies (protocol section 8).
pub mod limit {
    #![expect(missing_docs, reason = "each constant is the policy's name in the config")]
    pub const DEFAULT: &str = "default";
    pub const OAUTH: &str = "oauth_endpoints";
    /// Of each resource server that looks at tokens; a mini-app that does is held to [`OAUTH`].
    pub const INTROSPECTION: &str = "introspection";
    pub const PAYMENT: &str = "payment_operations";
    pub const RESOLUTION: &str = "wallet_resolution";
    pub const STORAGE: &str = "storage";
    pub const REGISTRY: &str = "registry";
    pub const REGISTRATION: &str = "registration";
    /// No limit: the homeserver's own traffic.
    pub const NONE: &str = "none";
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The operation's name.
    pub operation: Op,
    /// Methods it takes. `HEAD` is added wherever `GET` stands.
    pub methods: &'static [Verb],
    /// Path patterns, all of them one route: literals, `{name}` for one segment, `{name...}` for the rest.
    pub paths: &'static [&'static str],
    /// How the caller proves who it is.
    pub auth: Auth,
    /// Any one of these suffices; empty means no scope is asked for.
    pub scopes: ScopeSet,
    /// The rate policy's name, see [`limit`].
    pub limit: &'static str,
    /// What may come as a body.
    pub body: Body,
    /// Body fields, as dotted paths with `[]` for array elements, that hold text for people: only these are sanitised.
    pub text_fields: &'static [&'static str],
    /// Who answers.
    pub answer: Answer,
    /// The breaker class.
    pub class: Class,
}
