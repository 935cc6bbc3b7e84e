//! The secrets that are handed out: a prefix that says what it is (so that scanners find leaked ones), and then, in
//! base64url, the id of its grant and 256 random bits. Only the hash of the whole is stored.

use std::fmt;

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::model::oauth::{Digest, GrantId};
use crate::store::StoreError;
use crate::store::seal::sha256;

const ID: usize = 16;
const SECRET: usize = 32;

/// What a credential is for. One kind is never taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A question to a user, in the address of the consent page.
    Consent,
    /// An authorization code.
    Code,
    /// A refresh token.
    Refresh,
    /// A device code.
    Device,
}

impl Kind {
    /// How its credentials begin.
    pub const fn prefix(self) -> &'static str {
        match self {
            Kind::Consent => "tmcp_cs_",
            Kind::Code => "tmcp_code_",
            Kind::Refresh => "tmcp_rt_",
            Kind::Device => "tmcp_dc_",
        }
    }
}

/// A credential: whose it is, and what is stored of it.
#[derive(Clone)]
pub struct Credential {
    grant: GrantId,
    hash: Digest,
    text: Zeroizing<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?}, …)", self.grant)
    }
}

impl Credential {
    /// A new one, of a grant of its own.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn first(kind: Kind) -> Result<Credential, StoreError> {
        let mut id = [0; ID];
        random(&mut id)?;
        Credential::another(kind, GrantId(id))
    }

    /// Another one of a grant.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn another(kind: Kind, grant: GrantId) -> Result<Credential, StoreError> {
        let mut bytes = Zeroizing::new([0; ID + SECRET]);
        random(bytes.as_mut_slice())?;
        bytes.iter_mut().zip(grant.0).for_each(|(to, from)| *to = from);
        Ok(Credential::of(grant, format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(bytes.as_slice()))))
    }

    /// Reads one that was shown; `None` when it cannot be one of that kind.
    pub fn parse(kind: Kind, text: &str) -> Option<Credential> {
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text.strip_prefix(kind.prefix())?).ok()?);
        let (id, secret) = bytes.split_first_chunk::<ID>()?;
        (secret.len() == SECRET).then(|| Credential::of(GrantId(*id), text.to_owned()))
    }

    fn of(grant: GrantId, text: String) -> Credential {
        Credential { grant, hash: Digest(sha256(text.as_bytes())), text: Zeroizing::new(text) }
    }

    /// Whose it is.
    pub fn grant(&self) -> GrantId {
        self.grant
    }

    /// What is stored of it.
    pub fn hash(&self) -> Digest {
        self.hash
    }

    /// As it is handed out.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

/// Fills `bytes` from the system.
pub(super) fn random(bytes: &mut [u8]) -> Result<(), StoreError> {
    rand::fill(bytes).map_err(|_| StoreError::Internal("the system gives no random numbers".to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_kind_is_not_another() {
        let code = Credential::first(Kind::Code).unwrap();
        let read = Credential::parse(Kind::Code, code.expose()).unwrap();
        assert_eq!((read.grant(), read.hash()), (code.grant(), code.hash()));
        assert!(Credential::parse(Kind::Refresh, code.expose()).is_none());
        assert!(Credential::parse(Kind::Code, &code.expose()[..code.expose().len() - 1]).is_none());
        let next = Credential::another(Kind::Refresh, code.grant()).unwrap();
        assert!(next.grant() == code.grant() && next.hash() != code.hash());
        assert!(!format!("{code:?}").contains(code.expose()));
    }

    proptest! {
        #[test]
        fn nothing_shown_is_too_much(text in ".*") {
            for kind in [Kind::Consent, Kind::Code, Kind::Refresh, Kind::Device] {
                let _ = Credential::parse(kind, &format!("{}{text}", kind.prefix()));
            }
        }

        #[test]
        fn a_credential_has_one_kind_and_one_spelling(bytes: [u8; ID + SECRET], changed in 0usize..64, to in 0usize..64) {
            const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let coded = URL_SAFE_NO_PAD.encode(bytes);
            let mut other = coded.clone().into_bytes();
            other[changed] = DIGITS[to];
            let other = String::from_utf8(other).unwrap();
            for kind in [Kind::Consent, Kind::Code, Kind::Refresh, Kind::Device] {
                let text = format!("{}{coded}", kind.prefix());
                let read = Credential::parse(kind, &text).unwrap();
                prop_assert_eq!(&read.grant().0, &bytes[..ID]);
                prop_assert_eq!(read.expose(), text.as_str());
                let changed = Credential::parse(kind, &format!("{}{other}", kind.prefix())).unwrap();
                prop_assert_eq!(changed.hash() == read.hash(), other == coded);
                for another in [Kind::Consent, Kind::Code, Kind::Refresh, Kind::Device] {
                    prop_assert_eq!(Credential::parse(another, &text).is_some(), another == kind);
                }
            }
        }
    }
}
