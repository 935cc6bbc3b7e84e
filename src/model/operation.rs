//! The operations of the protocol by name: what `X-Protocol-Operation`, metrics, logs and limits speak of.

macro_rules! operations {
    ($($variant:ident $name:literal,)*) => {
        /// One operation of protocol section 1. The name is the value of `X-Protocol-Operation`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[expect(missing_docs, reason = "each variant is named after its operation, protocol section 1")]
        pub enum Operation { $($variant,)* }

        impl Operation {
            /// Every operation, in the protocol's order.
            pub const ALL: &'static [Operation] = &[$(Operation::$variant,)*];

            /// The protocol's name, such as `wallet_balance`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Operation::$variant => $name,)* }
            }

            /// The operation of that name, if there is one.
            pub fn parse(text: &str) -> Option<Operation> {
                match text { $($name => Some(Operation::$variant),)* _ => None }
            }
        }
    };
}

operations! {
    OauthMetadata "oauth_metadata",
    OauthJwks "oauth_jwks",
    OauthAuthorize "oauth_authorize",
    OauthConsent "oauth_consent",
    OauthToken "oauth_token",
    OauthDevice "oauth_device",
    OauthApps "oauth_apps",
    OauthRevoke "oauth_revoke",
    OauthIntrospect "oauth_introspect",
    AuthRevoke "auth_revoke",
    WalletBalance "wallet_balance",
    WalletHistory "wallet_history",
    WalletResolve "wallet_resolve",
    WalletResolveBatch "wallet_resolve_batch",
    WalletRegister "wallet_register",
    WalletDeviceRegister "wallet_device_register",
    WalletVerification "wallet_verification",
    WalletActivate "wallet_activate",
    P2pInitiate "p2p_initiate",
    P2pConfirm "p2p_confirm",
    P2pAccept "p2p_accept",
    P2pReject "p2p_reject",
    P2pStatus "p2p_status",
    GiftCreate "gift_create",
    GiftOpen "gift_open",
    PaymentInitiate "payment_initiate",
    PaymentAuthorize "payment_authorize",
    PaymentMfaChallenge "payment_mfa_challenge",
    PaymentMfaVerify "payment_mfa_verify",
    PaymentRefund "payment_refund",
    PaymentStatus "payment_status",
    WalletCallback "wallet_callback",
    StorageList "storage_list",
    StorageGet "storage_get",
    StorageSet "storage_set",
    StorageDelete "storage_delete",
    StorageBatchGet "storage_batch_get",
    StorageBatchSet "storage_batch_set",
    MiniappRegister "miniapp_register",
    MiniappGet "miniapp_get",
    MiniappUpdate "miniapp_update",
    MiniappSubmit "miniapp_submit",
    MiniappAppeal "miniapp_appeal",
    WebhookSubscriptions "webhook_subscriptions",
    StoreCategories "store_categories",
    StoreApps "store_apps",
    StoreInstall "store_install",
    StoreUninstall "store_uninstall",
    Capabilities "capabilities",
    ClientBootstrap "client_bootstrap",
    ClientCheckUpdates "client_check_updates",
    Rpc "rpc",
    MatrixTransaction "matrix_transaction",
    MatrixUserQuery "matrix_user_query",
    MatrixRoomQuery "matrix_room_query",
    MatrixPing "matrix_ping",
    MatrixThirdparty "matrix_thirdparty",
    MatrixClient "matrix_client",
    // Not rows of the protocol: what a config adds, and what no row matched.
    Custom "custom",
    Unmatched "unmatched",
}

impl Operation {
    /// How many operations there are: the length of a table indexed by [`Operation::index`].
    pub const COUNT: usize = Operation::ALL.len();

    /// A dense number for tables.
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
