//! The rows themselves, in the order of the protocol's chapters.

use super::{Answer, Auth, Body, Class, Row, Verb, limit};
use crate::model::operation::Operation as Op;
use crate::model::scope::{Scope, ScopeSet};

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
