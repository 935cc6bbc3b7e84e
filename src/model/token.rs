//! What a verified TEP token says (protocol section 2).

use super::{MiniAppId, RoomId, ScopeSet, UserId};

/// The claims of a TEP token that has been verified. Only `policy::authn` makes one from a client's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TepClaims {
    /// `sub`: the user on whose behalf the mini-app calls.
    pub user: UserId,
    /// The mini-app: `app_id`, `client_id`, `azp` or an `aud` starting `ma_`, which must agree.
    pub app: MiniAppId,
    /// What the token allows and the registry still allows.
    pub scopes: ScopeSet,
    /// `session_id`, if any.
    pub session_id: Option<String>,
    /// `wallet_id`, if any.
    pub wallet_id: Option<String>,
    /// `jti`: what a revocation names.
    pub jti: Option<String>,
    /// `grant_id` (ours): what the withdrawal of a permission names.
    pub grant_id: Option<String>,
    /// `miniapp_context.room_id`, checked for membership when the token was issued.
    pub room: Option<RoomId>,
    /// Whether the token belongs to an official mini-app with preapproved scopes that is still privileged.
    pub privileged: bool,
    /// `iss`: our public URL or a trusted issuer's.
    pub issuer: String,
    /// `kid` of the key that signed it.
    pub kid: String,
    /// `rev` of our own tokens: the last revocation that their issuer knew of.
    pub revocation: Option<u64>,
    /// `iat`, seconds since the Unix epoch.
    pub issued_at: u64,
    /// `exp`, seconds since the Unix epoch; never used after this.
    pub expires_at: u64,
}

/// Whether a bearer token is meant as a TEP token: it bears the prefix, or has a JWT's three parts. Matrix access
/// tokens have neither.
pub fn looks_like_tep(token: &str) -> bool {
    token.starts_with("tep.") || token.bytes().filter(|b| *b == b'.').count() == 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tep_tokens_are_told_from_matrix_ones() {
        assert!(looks_like_tep("tep.eyJ.e30.x") && looks_like_tep("eyJ.e30.x"));
        assert!(!looks_like_tep("syt_YWxpY2U_abc") && !looks_like_tep("a.b") && !looks_like_tep("a.b.c.d"));
    }
}
