//! The built-in route table (protocol section 1): each operation is data.
//!
//! One row says everything about an operation: its methods and paths, who may call it, what it costs, what its body
//! must be and who answers. The router, `tmcp-edge routes`, the config check and the tests all read these rows,
//! so nothing about an operation is said twice.

use super::operation::Operation as Op;
use super::scope::{Scope, ScopeSet};

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

const NO: ScopeSet = ScopeSet::EMPTY;
const BALANCE: ScopeSet = ScopeSet::of(&[Scope::WalletBalance]);
const HISTORY: ScopeSet = ScopeSet::of(&[Scope::WalletHistory]);
const PAY: ScopeSet = ScopeSet::of(&[Scope::WalletPay]);
const RESOLVE: ScopeSet = ScopeSet::of(&[Scope::WalletBalance, Scope::WalletPay]);
const STORE_READ: ScopeSet = ScopeSet::of(&[Scope::StorageRead]);
const STORE_WRITE: ScopeSet = ScopeSet::of(&[Scope::StorageWrite]);

/// A row with the commonest values; the table below overrides what differs.
const BASE: Row = Row {
    operation: Op::Unmatched,
    methods: &[Verb::Get],
    paths: &[],
    auth: Auth::Tep,
    scopes: NO,
    limit: limit::DEFAULT,
    body: Body::None,
    text_fields: &[],
    answer: Answer::NotImplemented,
    class: Class::Other,
};

const POST: &[Verb] = &[Verb::Post];
const PUT: &[Verb] = &[Verb::Put];

/// A wallet read through the proxy.
const READ: Row = Row { answer: Answer::Wallet, class: Class::Read, ..BASE };
/// A wallet call that moves money.
const MONEY: Row =
    Row { methods: POST, scopes: PAY, limit: limit::PAYMENT, answer: Answer::Wallet, class: Class::Payment, ..BASE };
/// A call that changes a wallet account.
const ACCOUNT: Row = Row {
    methods: POST,
    auth: Auth::Matrix,
    limit: limit::PAYMENT,
    answer: Answer::Wallet,
    class: Class::Account,
    ..BASE
};
const OAUTH: Row = Row { auth: Auth::Public, limit: limit::OAUTH, ..BASE };
const STORAGE: Row = Row { scopes: STORE_READ, limit: limit::STORAGE, ..BASE };
const REGISTRY: Row = Row { auth: Auth::Developer, limit: limit::REGISTRY, ..BASE };
const MATRIX: Row = Row { auth: Auth::Homeserver, limit: limit::NONE, ..BASE };

/// Every built-in row.
pub const ROWS: &[Row] = &[
    Row {
        operation: Op::OauthMetadata,
        paths: &["/.well-known/oauth-authorization-server"],
        answer: Answer::Edge,
        ..OAUTH
    },
    Row {
        operation: Op::OauthJwks,
        paths: &["/oauth2/jwks.json"],
        limit: limit::DEFAULT,
        answer: Answer::Edge,
        ..OAUTH
    },
    Row { operation: Op::OauthAuthorize, paths: &["/oauth2/authorize"], answer: Answer::Edge, ..OAUTH },
    Row {
        operation: Op::OauthConsent,
        methods: &[Verb::Get, Verb::Post],
        paths: &["/oauth2/consent"],
        body: Body::Form,
        answer: Answer::Edge,
        ..OAUTH
    },
    Row {
        operation: Op::OauthToken,
        methods: POST,
        paths: &["/oauth2/token"],
        auth: Auth::OauthClient,
        body: Body::Form,
        answer: Answer::Edge,
        ..OAUTH
    },
    Row {
        operation: Op::OauthDevice,
        methods: POST,
        paths: &["/oauth2/device/authorization"],
        auth: Auth::OauthClient,
        body: Body::Form,
        answer: Answer::Edge,
        ..OAUTH
    },
    Row {
        operation: Op::OauthDevice,
        methods: &[Verb::Get, Verb::Post],
        paths: &["/oauth2/device"],
        body: Body::Form,
        answer: Answer::Edge,
        ..OAUTH
    },
    Row {
        operation: Op::OauthApps,
        methods: &[Verb::Get, Verb::Post],
        paths: &["/oauth2/apps"],
        body: Body::Form,
        answer: Answer::Edge,
        ..OAUTH
    },
    Row {
        operation: Op::OauthRevoke,
        methods: POST,
        paths: &["/oauth2/revoke"],
        auth: Auth::OauthClient,
        body: Body::Form,
        answer: Answer::Edge,
        ..OAUTH
    },
    Row {
        operation: Op::OauthIntrospect,
        methods: POST,
        paths: &["/oauth2/introspect"],
        auth: Auth::OauthClient,
        body: Body::Form,
        answer: Answer::Edge,
        ..OAUTH
    },
    Row {
        operation: Op::AuthRevoke,
        methods: POST,
        paths: &["/api/v1/auth/revoke"],
        auth: Auth::MatrixOrTep,
        body: Body::Json("auth_revoke"),
        answer: Answer::Edge,
        ..OAUTH
    },
    Row {
        operation: Op::WalletBalance,
        paths: &["/api/v1/wallet/balance", "/wallet/v1/balance"],
        scopes: BALANCE,
        ..READ
    },
    Row {
        operation: Op::WalletHistory,
        paths: &["/api/v1/wallet/transactions", "/wallet/v1/transactions"],
        scopes: HISTORY,
        ..READ
    },
    Row {
        operation: Op::WalletResolve,
        paths: &["/api/v1/wallet/resolve/{user_id}", "/wallet/v1/resolve/{user_id}"],
        scopes: RESOLVE,
        limit: limit::RESOLUTION,
        answer: Answer::WalletChecked,
        class: Class::Resolve,
        ..BASE
    },
    Row {
        operation: Op::WalletResolveBatch,
        methods: POST,
        paths: &["/api/v1/wallet/resolve/batch", "/wallet/v1/resolve/batch"],
        scopes: RESOLVE,
        limit: limit::RESOLUTION,
        body: Body::Json("wallet_resolve_batch"),
        answer: Answer::WalletChecked,
        class: Class::Resolve,
        ..BASE
    },
    Row {
        operation: Op::WalletRegister,
        paths: &["/api/v1/wallet/register", "/wallet/v1/register"],
        body: Body::Json("wallet_register"),
        text_fields: &["display_name"],
        ..ACCOUNT
    },
    Row {
        operation: Op::WalletDeviceRegister,
        paths: &["/api/v1/wallet/devices/register", "/wallet/v1/devices/register"],
        auth: Auth::MatrixOrOfficialTep,
        scopes: PAY,
        body: Body::Json("wallet_device_register"),
        text_fields: &["device_name"],
        ..ACCOUNT
    },
    Row {
        operation: Op::WalletVerification,
        paths: &["/api/v1/wallet/verification", "/wallet/v1/verification"],
        scopes: BALANCE,
        ..READ
    },
    Row {
        operation: Op::WalletActivate,
        paths: &["/api/v1/wallet/activate", "/wallet/v1/activate"],
        body: Body::Json("wallet_activate"),
        ..ACCOUNT
    },
    Row {
        operation: Op::P2pInitiate,
        paths: &["/api/v1/wallet/p2p/initiate", "/wallet/v1/p2p/initiate"],
        body: Body::Json("p2p_initiate"),
        text_fields: &["note"],
        ..MONEY
    },
    Row {
        operation: Op::P2pConfirm,
        paths: &["/api/v1/wallet/p2p/{transfer_id}/confirm", "/wallet/v1/p2p/{transfer_id}/confirm"],
        body: Body::Json("p2p_confirm"),
        ..MONEY
    },
    Row {
        operation: Op::P2pAccept,
        paths: &["/api/v1/wallet/p2p/{transfer_id}/accept", "/wallet/v1/p2p/{transfer_id}/accept"],
        body: Body::Json("p2p_accept"),
        ..MONEY
    },
    Row {
        operation: Op::P2pReject,
        paths: &["/api/v1/wallet/p2p/{transfer_id}/reject", "/wallet/v1/p2p/{transfer_id}/reject"],
        body: Body::Json("p2p_reject"),
        text_fields: &["reason", "message"],
        ..MONEY
    },
    Row {
        operation: Op::P2pStatus,
        paths: &["/api/v1/wallet/p2p/{transfer_id}", "/wallet/v1/p2p/{transfer_id}"],
        scopes: HISTORY,
        ..READ
    },
    Row {
        operation: Op::GiftCreate,
        paths: &["/api/v1/wallet/gift/create", "/wallet/v1/gift/create"],
        body: Body::Json("gift_create"),
        text_fields: &["message", "note"],
        ..MONEY
    },
    Row {
        operation: Op::GiftOpen,
        paths: &["/api/v1/wallet/gift/{gift_id}/open", "/wallet/v1/gift/{gift_id}/open"],
        body: Body::Json("gift_open"),
        ..MONEY
    },
    Row {
        operation: Op::PaymentInitiate,
        paths: &["/api/v1/payments/request"],
        body: Body::Json("payment_initiate"),
        text_fields: &["description", "items[].name"],
        ..MONEY
    },
    Row {
        operation: Op::PaymentAuthorize,
        paths: &["/api/v1/payments/{payment_id}/authorize"],
        body: Body::Json("payment_authorize"),
        ..MONEY
    },
    Row {
        operation: Op::PaymentMfaChallenge,
        paths: &["/api/v1/payments/{payment_id}/mfa/challenge"],
        body: Body::Json("payment_mfa_challenge"),
        ..MONEY
    },
    Row {
        operation: Op::PaymentMfaVerify,
        paths: &["/api/v1/payments/{payment_id}/mfa/verify"],
        body: Body::Json("payment_mfa_verify"),
        ..MONEY
    },
    Row {
        operation: Op::PaymentRefund,
        paths: &["/api/v1/payments/{payment_id}/refund"],
        auth: Auth::Client,
        scopes: NO,
        body: Body::Json("payment_refund"),
        text_fields: &["reason", "note"],
        ..MONEY
    },
    Row {
        operation: Op::PaymentStatus,
        paths: &["/api/v1/payments/{payment_id}"],
        auth: Auth::TepOrClient,
        scopes: HISTORY,
        ..READ
    },
    Row {
        operation: Op::WalletCallback,
        methods: POST,
        paths: &["/api/v1/wallet/callback", "/wallet/v1/callback"],
        auth: Auth::InBody,
        body: Body::Json("wallet_callback"),
        ..BASE
    },
    Row { operation: Op::StorageList, paths: &["/api/v1/storage"], ..STORAGE },
    Row { operation: Op::StorageGet, paths: &["/api/v1/storage/{key}"], ..STORAGE },
    Row {
        operation: Op::StorageSet,
        methods: PUT,
        paths: &["/api/v1/storage/{key}"],
        scopes: STORE_WRITE,
        body: Body::Json("storage_set"),
        ..STORAGE
    },
    Row {
        operation: Op::StorageDelete,
        methods: &[Verb::Delete],
        paths: &["/api/v1/storage/{key}"],
        scopes: STORE_WRITE,
        ..STORAGE
    },
    Row {
        operation: Op::StorageBatchGet,
        methods: POST,
        paths: &["/api/v1/storage/batch/get"],
        body: Body::Json("storage_batch_get"),
        ..STORAGE
    },
    Row {
        operation: Op::StorageBatchSet,
        methods: POST,
        paths: &["/api/v1/storage/batch/set"],
        scopes: STORE_WRITE,
        body: Body::Json("storage_batch_set"),
        ..STORAGE
    },
    Row {
        operation: Op::MiniappRegister,
        methods: POST,
        paths: &["/mini-apps/v1/register"],
        limit: limit::REGISTRATION,
        body: Body::Json("miniapp_register"),
        text_fields: &["name", "description"],
        ..REGISTRY
    },
    Row { operation: Op::MiniappGet, paths: &["/mini-apps/v1/{miniapp_id}"], ..REGISTRY },
    Row {
        operation: Op::MiniappUpdate,
        methods: &[Verb::Patch],
        paths: &["/mini-apps/v1/{miniapp_id}"],
        body: Body::Json("miniapp_update"),
        text_fields: &["name", "description"],
        ..REGISTRY
    },
    Row {
        operation: Op::MiniappSubmit,
        methods: POST,
        paths: &["/mini-apps/v1/{miniapp_id}/submit"],
        body: Body::Json("miniapp_submit"),
        text_fields: &["notes"],
        ..REGISTRY
    },
    Row {
        operation: Op::MiniappAppeal,
        methods: POST,
        paths: &["/mini-apps/v1/{miniapp_id}/appeal"],
        body: Body::Json("miniapp_appeal"),
        text_fields: &["reason"],
        ..REGISTRY
    },
    Row {
        operation: Op::WebhookSubscriptions,
        methods: &[Verb::Get, Verb::Put, Verb::Delete],
        paths: &["/mini-apps/v1/{miniapp_id}/webhooks"],
        auth: Auth::Client,
        body: Body::Json("webhook_subscriptions"),
        ..REGISTRY
    },
    Row {
        operation: Op::WebhookSubscriptions,
        methods: POST,
        paths: &["/mini-apps/v1/{miniapp_id}/webhooks/test"],
        auth: Auth::Client,
        body: Body::Json("webhook_test"),
        ..REGISTRY
    },
    Row {
        operation: Op::WebhookSubscriptions,
        paths: &["/mini-apps/v1/{miniapp_id}/webhooks/deliveries"],
        auth: Auth::Client,
        ..REGISTRY
    },
    Row {
        operation: Op::WebhookSubscriptions,
        methods: POST,
        paths: &["/mini-apps/v1/{miniapp_id}/webhooks/deliveries/{delivery_id}/redeliver"],
        auth: Auth::Client,
        body: Body::Json("webhook_redeliver"),
        ..REGISTRY
    },
    Row { operation: Op::StoreCategories, paths: &["/api/v1/store/categories"], ..BASE },
    Row { operation: Op::StoreApps, paths: &["/api/v1/store/apps", "/api/v1/store/apps/{miniapp_id}"], ..BASE },
    Row {
        operation: Op::StoreInstall,
        methods: POST,
        paths: &["/api/v1/store/apps/{miniapp_id}/install"],
        body: Body::Json("store_install"),
        ..BASE
    },
    Row {
        operation: Op::StoreUninstall,
        methods: &[Verb::Delete],
        paths: &["/api/v1/store/apps/{miniapp_id}/install"],
        ..BASE
    },
    Row { operation: Op::Capabilities, paths: &["/api/v1/capabilities"], ..BASE },
    Row {
        operation: Op::ClientBootstrap,
        methods: POST,
        paths: &["/api/v1/client/bootstrap"],
        auth: Auth::MatrixOrTep,
        body: Body::Json("client_bootstrap"),
        ..BASE
    },
    Row {
        operation: Op::ClientCheckUpdates,
        methods: POST,
        paths: &["/api/v1/client/check-updates"],
        auth: Auth::MatrixOrTep,
        body: Body::Json("client_check_updates"),
        ..BASE
    },
    Row { operation: Op::Rpc, methods: POST, paths: &["/api/v1/rpc"], body: Body::Json("rpc"), ..BASE },
    Row {
        operation: Op::MatrixTransaction,
        methods: PUT,
        paths: &["/_matrix/app/v1/transactions/{txn_id}", "/transactions/{txn_id}"],
        body: Body::Homeserver,
        ..MATRIX
    },
    Row {
        operation: Op::MatrixUserQuery,
        paths: &["/_matrix/app/v1/users/{user_id...}", "/users/{user_id...}"],
        ..MATRIX
    },
    Row { operation: Op::MatrixRoomQuery, paths: &["/_matrix/app/v1/rooms/{alias...}", "/rooms/{alias...}"], ..MATRIX },
    Row {
        operation: Op::MatrixPing,
        methods: POST,
        paths: &["/_matrix/app/v1/ping"],
        body: Body::Homeserver,
        ..MATRIX
    },
    Row {
        operation: Op::MatrixThirdparty,
        paths: &["/_matrix/app/v1/thirdparty/{rest...}", "/_matrix/app/unstable/thirdparty/{rest...}"],
        ..MATRIX
    },
    Row {
        operation: Op::MatrixClient,
        methods: Verb::ALL,
        paths: &["/_matrix/client/{rest...}", "/_matrix/media/{rest...}"],
        auth: Auth::Upstream,
        body: Body::Raw,
        answer: Answer::Homeserver,
        ..BASE
    },
];

/// Segments that may hold encoded slashes (protocol section 1, "Precedence").
pub const SLASH_SEGMENTS: &[&str] = &["key", "user_id", "alias", "rest"];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_operation_of_the_protocol_has_a_row() {
        let named: HashSet<Op> = ROWS.iter().map(|row| row.operation).collect();
        for operation in Op::ALL {
            let outside = matches!(operation, Op::Custom | Op::Unmatched);
            assert_eq!(named.contains(operation), !outside, "{operation}");
        }
    }

    #[test]
    fn no_method_and_path_stands_twice() {
        let mut seen = HashSet::new();
        for row in ROWS {
            for path in row.paths {
                for method in row.methods {
                    assert!(seen.insert((*path, *method)), "{} {path} stands twice", method.as_str());
                }
            }
        }
    }
}
