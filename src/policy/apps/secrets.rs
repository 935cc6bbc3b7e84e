//! The secrets that mini-apps are given: 256 random bits each, shown once.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::store::StoreError;

/// How client secrets begin, so that scanners find leaked ones.
const CLIENT: &str = "tmcp_secret_";
/// How webhook secrets begin (protocol section 6).
const WEBHOOK: &str = "whsec_";

/// A new client secret.
///
/// # Errors
/// When the system gives no random numbers.
pub(super) fn client_secret() -> Result<Secret, StoreError> {
    Ok(Secret::new(format!("{CLIENT}{}", URL_SAFE_NO_PAD.encode(random()?.as_slice()))))
}

/// A new webhook secret.
///
/// # Errors
/// As [`client_secret`].
pub(super) fn webhook_secret() -> Result<Secret, StoreError> {
    Ok(Secret::new(format!("{WEBHOOK}{}", STANDARD.encode(random()?.as_slice()))))
}

fn random() -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::fill(bytes.as_mut_slice())
        .map_err(|_| StoreError::Internal("the system gives no random numbers".to_owned()))?;
    Ok(bytes)
}
