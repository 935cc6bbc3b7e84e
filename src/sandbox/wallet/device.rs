//! Devices and what they sign (protocol sections 4 and 5).
//!
//! A device signs `<what>:<amount>:<currency>:<timestamp>` with its registered key: ES256 (DER, or r‖s) or RS256.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::ledger::{Device, Ledger, Refused};
use super::super::money::Money;
use super::super::time::Millis;
use super::Wallet;
use super::desk::Caller;

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// POST devices/register
pub async fn register(State(wallet): State<Wallet>, headers: HeaderMap, body: Bytes) -> Response {
    #[derive(Deserialize)]
    struct Registration {
        device_id: String,
        device_name: Option<String>,
        platform: Option<String>,
        public_key: PublicKey,
    }
    #[derive(Deserialize)]
    struct PublicKey {
        algorithm: String,
        format: Option<String>,
        key_data: String,
    }
    wallet.act(&["device_register"], &headers, &body, |ledger, caller, request: Registration, now| {
        let PublicKey { algorithm, format, key_data } = request.public_key;
        let invalid = |message: &str| Refused::Invalid(format!("public_key: {message}"));
        if format.is_some_and(|format| format != "SPKI") {
            return Err(invalid("format must be SPKI."));
        }
        let schemes = schemes(&algorithm).ok_or_else(|| invalid("algorithm must be ECDSA_P256 or RSA_2048 and up."))?;
        let armor_free: String = key_data.lines().filter(|line| !line.starts_with("-----")).collect();
        let spki = unbase64(&armor_free).ok_or_else(|| invalid("key_data must be base64."))?;
        if schemes.iter().any(|scheme| ParsedPublicKey::new(*scheme, spki.as_slice()).is_err()) {
            return Err(invalid("key_data is no such key as SubjectPublicKeyInfo."));
        }
        let account = ledger.active_account(caller.user()?, now)?;
        let answer = json!({
            "device_id": request.device_id,
            "device_name": request.device_name,
            "platform": request.platform,
            "algorithm": algorithm,
            "status": "registered",
            "registered_at": now,
        });
        account.devices.insert(request.device_id, Device { algorithm, spki, registered_at: now });
        Ok(answer)
    })
}

/// A signature as a request carries it.
#[derive(Deserialize)]
pub struct Signed<'a> {
    device_id: String,
    signature: String,
    /// Text or number; what was signed is what stands here.
    #[serde(borrow)]
    timestamp: &'a RawValue,
}

impl<'a> Signed<'a> {
    /// The parts of a signature that a request names otherwise.
    pub fn new(device_id: &str, signature: &str, timestamp: &'a RawValue) -> Signed<'a> {
        Signed { device_id: device_id.to_owned(), signature: signature.to_owned(), timestamp }
    }

    /// Checks that a device of the caller's signed `<what>:<amount>:<currency>:<timestamp>` no longer than five
    /// minutes ago, the amount in the wallet's digits or as the shortest decimal.
    pub fn check_amount(
        &self,
        ledger: &mut Ledger,
        caller: &Caller,
        what: &str,
        (amount, currency): (Money, &str),
        now: Millis,
    ) -> Result<(), Refused> {
        let digits = amount.to_string();
        let shortest = digits.trim_end_matches('0').trim_end_matches('.');
        let messages = [&digits, shortest].map(|amount| format!("{what}:{amount}:{currency}"));
        self.check(ledger, caller, &messages, 300, now)
    }

    /// Checks that a device of the caller's signed one of `messages` followed by `:<timestamp>`, within that many
    /// seconds of now.
    pub fn check(
        &self,
        ledger: &mut Ledger,
        caller: &Caller,
        messages: &[String],
        within_secs: u64,
        now: Millis,
    ) -> Result<(), Refused> {
        let account = ledger.active_account(caller.user()?, now)?;
        let device =
            account.devices.get(&self.device_id).ok_or_else(|| Refused::DeviceNotRegistered(self.device_id.clone()))?;
        let timestamp = self.timestamp.get().trim_matches('"');
        let signed_at = Millis::parse(timestamp).ok_or(Refused::InvalidSignature("The timestamp is not a time."))?;
        if signed_at.distance_secs(now) > within_secs {
            return Err(Refused::InvalidSignature("The timestamp is too far from now."));
        }
        let signature = unbase64(&self.signature).unwrap_or_default();
        let verifies = |message: &String| {
            let message = format!("{message}:{timestamp}");
            schemes(&device.algorithm).unwrap_or_default().iter().any(|scheme| {
                ParsedPublicKey::new(*scheme, device.spki.as_slice())
                    .is_ok_and(|key| key.verify_sig(message.as_bytes(), &signature).is_ok())
            })
        };
        if messages.iter().any(verifies) {
            Ok(())
        } else {
            Err(Refused::InvalidSignature("The signature does not verify."))
        }
    }
}

/// How a key of that algorithm may have signed.
fn schemes(algorithm: &str) -> Option<&'static [&'static dyn VerificationAlgorithm]> {
    match algorithm {
        "ECDSA_P256" => Some(&[&ECDSA_P256_SHA256_ASN1, &ECDSA_P256_SHA256_FIXED]),
        "RSA_2048" | "RSA_3072" | "RSA_4096" => Some(&[&RSA_PKCS1_2048_8192_SHA256]),
        _ => None,
    }
}

/// Base64 in either alphabet, padded or not: clients do all four.
fn unbase64(text: &str) -> Option<Vec<u8>> {
    LENIENT.decode(text.replace('-', "+").replace('_', "/")).ok()
}
