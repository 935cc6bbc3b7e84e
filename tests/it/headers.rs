//! Headers that stand on every answer, and what of a client's headers reaches the wallet.

use crate::wire::Answer;

const SECURITY: [(&str, &str); 5] = [
    ("strict-transport-security", "max-age=31536000; includeSubDomains"),
    ("content-security-policy", "default-src 'self'; frame-ancestors 'none'"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "strict-origin-when-cross-origin"),
];

/// What protocol section 10 puts on every answer, each header once.
pub fn check_standing(answer: &Answer) {
    for (name, value) in SECURITY {
        assert_eq!(answer.all(name), [value], "{name} of {answer:?}");
    }
    assert_eq!(answer.all("x-tmcp-version"), ["v1.2.0"]);
    let trace = answer.header("x-trace-id").unwrap();
    assert!(trace.len() >= 16 && trace.bytes().all(|byte| byte.is_ascii_hexdigit()), "{trace}");
    assert!(answer.header("x-protocol-operation").is_some());
    for leak in ["server", "x-powered-by", "via"] {
        assert_eq!(answer.header(leak), None);
    }
}
