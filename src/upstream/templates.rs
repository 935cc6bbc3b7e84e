//! The upstream's path for an operation.
//!
//! The protocol fixes what clients call; a wallet may lay its own paths out differently. A preset or a table of the
//! config says how, and is compiled once: what has no parameter becomes a finished path, shared by every request; the
//! rest is put together in one string. Parameters are copied in the client's own encoding, so that what was authorised
//! is what is forwarded, and the query goes along as it was sent.
//!
//! The preset `tween` follows the wallet service of that name. Its public sources show balance, history, resolving,
//! registration, transfers, payment requests and their authorisation; the other rows continue its habits (plural
//! nouns, the protocol's own names below them).

use bytes::Bytes;
use http::uri::PathAndQuery;

use crate::config::Paths;
use crate::model::Operation;
use crate::model::rows::{Answer, ROWS, Row};

/// Paths of one upstream, by operation.
#[derive(Clone, Debug)]
pub struct Templates {
    by_operation: Vec<Template>,
}

/// The upstream's path for one operation.
#[derive(Clone, Debug)]
pub enum Template {
    /// The client's own.
    AsSent,
    /// Always the same.
    Fixed(PathAndQuery),
    /// Literals and parameters.
    Pattern(Pattern),
}

/// A path with parameters: a literal, then parameters each followed by a literal.
#[derive(Clone, Debug)]
pub struct Pattern {
    first: String,
    rest: Vec<(usize, String)>,
}

/// A path that cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenderError {
    /// The route gave fewer parameters than its row has.
    MissingParameter,
    /// The result is no path and query.
    NotAPath,
}

impl std::fmt::Display for RenderError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            RenderError::MissingParameter => "a path parameter of the template is missing",
            RenderError::NotAPath => "the rendered path is not one that can be sent",
        })
    }
}

impl std::error::Error for RenderError {}

/// The preset `tween`.
const TWEEN: &[(Operation, &str)] = &[
    (Operation::WalletBalance, "/api/v1/tmcp/wallets/balance"),
    (Operation::WalletHistory, "/api/v1/tmcp/wallet/transactions"),
    (Operation::WalletResolve, "/api/v1/tmcp/users/resolve/{user_id}"),
    (Operation::WalletResolveBatch, "/api/v1/tmcp/users/resolve/batch"),
    (Operation::WalletRegister, "/api/v1/tmcp/wallets/register"),
    (Operation::WalletDeviceRegister, "/api/v1/tmcp/wallets/devices/register"),
    (Operation::WalletVerification, "/api/v1/tmcp/wallets/verification"),
    (Operation::WalletActivate, "/api/v1/tmcp/wallets/activate"),
    (Operation::P2pInitiate, "/api/v1/tmcp/transfers/p2p/initiate"),
    (Operation::P2pConfirm, "/api/v1/tmcp/transfers/p2p/{transfer_id}/confirm"),
    (Operation::P2pAccept, "/api/v1/tmcp/transfers/p2p/{transfer_id}/accept"),
    (Operation::P2pReject, "/api/v1/tmcp/transfers/p2p/{transfer_id}/reject"),
    (Operation::P2pStatus, "/api/v1/tmcp/transfers/p2p/{transfer_id}"),
    (Operation::GiftCreate, "/api/v1/tmcp/gifts/create"),
    (Operation::GiftOpen, "/api/v1/tmcp/gifts/{gift_id}/open"),
    (Operation::PaymentInitiate, "/api/v1/tmcp/payments/request"),
    (Operation::PaymentAuthorize, "/api/v1/tmcp/payments/{payment_id}/authorize"),
    (Operation::PaymentMfaChallenge, "/api/v1/tmcp/payments/{payment_id}/mfa/challenge"),
    (Operation::PaymentMfaVerify, "/api/v1/tmcp/payments/{payment_id}/mfa/verify"),
    (Operation::PaymentRefund, "/api/v1/tmcp/payments/{payment_id}/refund"),
    (Operation::PaymentStatus, "/api/v1/tmcp/payments/{payment_id}"),
];

impl Templates {
    /// Compiles a preset or a table. The error names the operation and what was expected.
    pub fn compile(paths: &Paths) -> Result<Templates, String> {
        let mut by_operation = Vec::with_capacity(Operation::COUNT);
        for operation in Operation::ALL {
            let row = ROWS.iter().find(|row| row.operation == *operation);
            let template = match (row, source(paths, *operation, row)) {
                (Some(row), Some(text)) => {
                    Template::compile(&text, row).map_err(|error| format!("paths.{operation} {text:?}: {error}"))?
                }
                (None, Some(text)) => {
                    return Err(format!(
                        "paths.{operation} {text:?}: only an operation of the protocol can have a template"
                    ));
                }
                (_, None) => Template::AsSent,
            };
            by_operation.push(template);
        }
        Ok(Templates { by_operation })
    }

    /// The template of an operation.
    pub fn get(&self, operation: Operation) -> &Template {
        self.by_operation.get(operation.index()).unwrap_or(&Template::AsSent)
    }
}

/// The template's text: `None` is "as sent".
fn source(paths: &Paths, operation: Operation, row: Option<&Row>) -> Option<String> {
    let forwarded = |row: &&Row| matches!(row.answer, Answer::Wallet | Answer::WalletChecked);
    let protocol = || {
        let paths = row.filter(forwarded)?.paths;
        let path = paths.iter().find(|path| path.starts_with("/wallet/v1/")).or(paths.first())?;
        Some((*path).to_owned())
    };
    match paths {
        Paths::AsSent => None,
        Paths::Protocol => protocol(),
        Paths::Tween => {
            TWEEN.iter().find(|(name, _)| *name == operation).map(|(_, path)| (*path).to_owned()).or_else(protocol)
        }
        Paths::Table(table) => table.get(&operation).cloned().or_else(protocol),
    }
}

/// Parameter names of a row's pattern in their order: `{name}` and `{name...}`.
fn parameters(pattern: &str) -> Vec<&str> {
    pattern
        .split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}'))
        .map(|(name, _)| name.trim_end_matches("..."))
        .collect()
}

impl Template {
    fn compile(text: &str, row: &Row) -> Result<Template, String> {
        if !text.starts_with('/') {
            return Err("expected a path that starts with /".into());
        }
        let known = parameters(row.paths.first().copied().unwrap_or_default());
        let mut pieces = text.split('{');
        let first = literal(pieces.next().unwrap_or_default())?;
        let mut rest = Vec::new();
        for piece in pieces {
            let (name, after) = piece.split_once('}').ok_or("expected } after {")?;
            let index = known.iter().position(|parameter| *parameter == name.trim_end_matches("..."));
            let index = index.ok_or_else(|| match known.as_slice() {
                [] => format!("{{{name}}} is not a parameter of this operation, which has none"),
                known => {
                    format!("{{{name}}} is not a parameter of this operation, which has {{{}}}", known.join("}, {"))
                }
            })?;
            rest.push((index, literal(after)?));
        }
        if rest.is_empty() {
            let path = PathAndQuery::from_maybe_shared(Bytes::from(first)).map_err(|error| error.to_string())?;
            return Ok(Template::Fixed(path));
        }
        Ok(Template::Pattern(Pattern { first, rest }))
    }

    /// The path and query to send. `sent` is what the client wrote; `parameters` are the raw (still encoded) texts of
    /// the row's path parameters in their order.
    pub fn render(&self, sent: &PathAndQuery, parameters: &[&str]) -> Result<PathAndQuery, RenderError> {
        let query = sent.query();
        let mut text = match (self, query) {
            (Template::AsSent, _) => return Ok(sent.clone()),
            (Template::Fixed(path), None) => return Ok(path.clone()),
            (Template::Fixed(path), Some(query)) => {
                let mut text = String::with_capacity(path.as_str().len() + 1 + query.len());
                text.push_str(path.as_str());
                text
            }
            (Template::Pattern(pattern), query) => {
                pattern.fill(parameters, query.map_or(0, |query| query.len() + 1))?
            }
        };
        if let Some(query) = query {
            text.push('?');
            text.push_str(query);
        }
        PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| RenderError::NotAPath)
    }
}

impl Pattern {
    fn fill(&self, parameters: &[&str], spare: usize) -> Result<String, RenderError> {
        let literals: usize = self.rest.iter().map(|(_, literal)| literal.len()).sum();
        let filled: usize = parameters.iter().map(|parameter| parameter.len()).sum();
        let mut text = String::with_capacity(self.first.len() + literals + filled + spare);
        text.push_str(&self.first);
        for (index, literal) in &self.rest {
            text.push_str(parameters.get(*index).ok_or(RenderError::MissingParameter)?);
            text.push_str(literal);
        }
        Ok(text)
    }
}

fn literal(text: &str) -> Result<String, String> {
    match text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '}' | '?' | '#' | '\\')) {
        Some('?') => Err("? cannot stand in a template: the query is forwarded as it was sent".into()),
        Some(wrong) => Err(format!("{wrong:?} cannot stand in a path")),
        None => Ok(text.to_owned()),
    }
}

/// Encodes one path segment (RFC 3986 section 3.3): everything but unreserved characters.
pub fn encode_segment(text: &str) -> String {
    use std::fmt::Write as _;
    let mut encoded = String::with_capacity(text.len() + 8);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn path(text: &str) -> PathAndQuery {
        PathAndQuery::from_maybe_shared(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn rendered(paths: &Paths, operation: Operation, sent: &str, parameters: &[&str]) -> String {
        let templates = Templates::compile(paths).unwrap();
        templates.get(operation).render(&path(sent), parameters).unwrap().to_string()
    }

    #[test]
    fn presets() {
        use Operation as Op;
        let table: &[(Op, &str, &[&str], &str, &str)] = &[
            (Op::WalletBalance, "/api/v1/wallet/balance", &[], "/wallet/v1/balance", "/api/v1/tmcp/wallets/balance"),
            (
                Op::WalletHistory,
                "/wallet/v1/transactions?limit=2&offset=%31",
                &[],
                "/wallet/v1/transactions?limit=2&offset=%31",
                "/api/v1/tmcp/wallet/transactions?limit=2&offset=%31",
            ),
            (
                Op::WalletResolve,
                "/api/v1/wallet/resolve/%40a%2Fb:x?room_id=!r",
                &["%40a%2Fb:x"],
                "/wallet/v1/resolve/%40a%2Fb:x?room_id=!r",
                "/api/v1/tmcp/users/resolve/%40a%2Fb:x?room_id=!r",
            ),
            (
                Op::P2pAccept,
                "/api/v1/wallet/p2p/t_1/accept",
                &["t_1"],
                "/wallet/v1/p2p/t_1/accept",
                "/api/v1/tmcp/transfers/p2p/t_1/accept",
            ),
            (
                Op::PaymentMfaVerify,
                "/api/v1/payments/pay_1/mfa/verify",
                &["pay_1"],
                "/api/v1/payments/pay_1/mfa/verify",
                "/api/v1/tmcp/payments/pay_1/mfa/verify",
            ),
            (
                Op::MatrixClient,
                "/_matrix/client/v3/sync?since=1",
                &["v3/sync"],
                "/_matrix/client/v3/sync?since=1",
                "/_matrix/client/v3/sync?since=1",
            ),
            (Op::Custom, "/partner/v1/x?y", &["x"], "/partner/v1/x?y", "/partner/v1/x?y"),
        ];
        for (operation, sent, parameters, protocol, tween) in table {
            assert_eq!(rendered(&Paths::Protocol, *operation, sent, parameters), *protocol);
            assert_eq!(rendered(&Paths::Tween, *operation, sent, parameters), *tween);
            assert_eq!(rendered(&Paths::AsSent, *operation, sent, parameters), *sent);
        }
    }

    #[test]
    fn every_wallet_row_has_a_tween_path_with_its_parameters() {
        let templates = Templates::compile(&Paths::Tween).unwrap();
        for row in ROWS.iter().filter(|row| matches!(row.answer, Answer::Wallet | Answer::WalletChecked)) {
            let parameters = vec!["x"; parameters(row.paths[0]).len()];
            let path = templates.get(row.operation).render(&path("/"), &parameters).unwrap().to_string();
            assert!(path.starts_with("/api/v1/tmcp/"), "{}: {path}", row.operation);
            assert_eq!(path.contains('x') && path.split('/').any(|part| part == "x"), !parameters.is_empty());
        }
    }

    #[test]
    fn a_table_lies_over_the_protocol() {
        let table = BTreeMap::from([(Operation::GiftOpen, "/g/{gift_id}".to_owned())]);
        let paths = Paths::Table(table);
        assert_eq!(rendered(&paths, Operation::GiftOpen, "/wallet/v1/gift/7/open", &["7"]), "/g/7");
        assert_eq!(rendered(&paths, Operation::WalletBalance, "/x", &[]), "/wallet/v1/balance");
    }

    #[test]
    fn what_a_table_may_not_say() {
        for (operation, text, expected) in [
            (Operation::GiftOpen, "/g/{transfer_id}", "which has {gift_id}"),
            (Operation::WalletBalance, "/b/{user_id}", "which has none"),
            (Operation::GiftOpen, "/g/{gift_id", "expected }"),
            (Operation::GiftOpen, "g", "starts with /"),
            (Operation::GiftOpen, "/g?x=1", "query"),
            (Operation::GiftOpen, "/g x", "cannot stand"),
            (Operation::GiftOpen, "/g#x", "cannot stand"),
            (Operation::Custom, "/g", "only an operation"),
        ] {
            let error = Templates::compile(&Paths::Table(BTreeMap::from([(operation, text.to_owned())]))).unwrap_err();
            assert!(error.contains(expected) && error.contains(operation.as_str()), "{error}");
        }
    }

    #[test]
    fn a_missing_parameter_is_an_error() {
        let templates = Templates::compile(&Paths::Protocol).unwrap();
        let error = templates.get(Operation::GiftOpen).render(&path("/"), &[]).unwrap_err();
        assert_eq!(error, RenderError::MissingParameter);
    }

    #[test]
    fn segments_are_encoded_whole() {
        assert_eq!(encode_segment("@a/b=c:é ?#%"), "%40a%2Fb%3Dc%3A%C3%A9%20%3F%23%25");
        assert_eq!(encode_segment("a-Z.0_~"), "a-Z.0_~");
    }
}
