//! Webhook signatures as a mini-app checks them (protocol sections 6 and 11): the protocol's own over the body, and
//! Standard Webhooks' over id, timestamp and body.

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use serde::Serialize;

/// What a signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Worth {
    /// It verifies.
    Valid,
    /// It does not.
    Invalid,
    /// There is none.
    Absent,
}

/// What both signatures of one request are worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// `X-Webhook-Signature`.
    pub protocol: Worth,
    /// `webhook-signature`.
    pub standard: Worth,
}

impl Verdict {
    /// Whether a receiver turns the request down.
    pub fn is_refused(self) -> bool {
        self.protocol == Worth::Invalid || self.standard == Worth::Invalid
    }
}

/// Looks at a request's signatures.
pub fn inspect(secret: &str, headers: &HeaderMap, body: &[u8]) -> Verdict {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let worth = |valid: bool| if valid { Worth::Valid } else { Worth::Invalid };
    let protocol = header("x-webhook-signature").map_or(Worth::Absent, |value| {
        let tag = value.strip_prefix("sha256=").and_then(unhex);
        worth(tag.is_some_and(|tag| verify(secret.as_bytes(), &[body], &tag)))
    });
    let standard = header("webhook-signature").map_or(Worth::Absent, |signatures| {
        let signed = header("webhook-id").zip(header("webhook-timestamp"));
        let key = secret.strip_prefix("whsec_").and_then(|encoded| STANDARD.decode(encoded).ok());
        worth(signed.zip(key).is_some_and(|((id, timestamp), key)| {
            let parts = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
            // Several signatures stand side by side while a secret rotates.
            let tags = signatures.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
            tags.into_iter().any(|tag| verify(&key, &parts, &tag))
        }))
    });
    Verdict { protocol, standard }
}

fn verify(key: &[u8], parts: &[&[u8]], tag: &[u8]) -> bool {
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), &parts.concat(), tag).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| if let [high, low] = pair { Some(digit(*high)? << 4 | digit(*low)?) } else { None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const BODY: &[u8] = br#"{"event":"payment.completed"}"#;

    fn signed(secret: &str) -> HeaderMap {
        let sign = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data);
        let hex: String = sign(secret.as_bytes(), BODY).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let tag = sign(&key, &[b"evt_1.1700000000.".as_slice(), BODY].concat());
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-webhook-signature", format!("sha256={hex}")),
            ("webhook-id", "evt_1".to_owned()),
            ("webhook-timestamp", "1700000000".to_owned()),
            ("webhook-signature", format!("v1,bm90IHRoaXM= v1,{}", STANDARD.encode(tag))),
        ] {
            headers.insert(name, HeaderValue::from_str(&value).unwrap());
        }
        headers
    }

    #[test]
    fn both_signatures_are_told_apart_from_wrong_and_missing_ones() {
        let (secret, other) =
            (super::super::random::webhook_secret().unwrap(), super::super::random::webhook_secret().unwrap());
        let verdict = |protocol, standard| Verdict { protocol, standard };
        assert_eq!(inspect(&secret, &signed(&secret), BODY), verdict(Worth::Valid, Worth::Valid));
        assert_eq!(inspect(&secret, &signed(&other), BODY), verdict(Worth::Invalid, Worth::Invalid));
        assert_eq!(inspect(&secret, &signed(&secret), b"changed"), verdict(Worth::Invalid, Worth::Invalid));
        assert_eq!(inspect(&secret, &HeaderMap::new(), BODY), verdict(Worth::Absent, Worth::Absent));
        let mut later = signed(&secret);
        later.insert("webhook-timestamp", HeaderValue::from_static("1700000001"));
        assert_eq!(inspect(&secret, &later, BODY), verdict(Worth::Valid, Worth::Invalid));
    }
}
