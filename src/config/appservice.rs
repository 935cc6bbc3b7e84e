//! `appservice`: the Application Service registration that we share with the homeserver (brief 5.2).
//!
//! The registration is the homeserver's file, so its tokens stand in it as they are, and keys that only the homeserver
//! understands pass: those that the Matrix specification names, and any with a vendor's prefix.

use super::map::Map;
use super::reader::Value;
use super::types::{AppService, Namespace};

/// Reads `appservice`.
pub(super) fn read(value: &Value<'_>) -> Option<AppService> {
    value.map("a map with registration", |m| {
        let registration = m.required("registration", "the homeserver's registration file", |v| v.yaml());
        let previous = m.optional("previous_hs_token_file", |v| v.secret_file());
        let query_token = m.or("query_token", false, |v| v.flag());
        let (path, node) = registration?;
        let root = Value::root(value.load, &path, &node);
        let mut appservice =
            root.map("a registration: a map with id, url, as_token …", |m| self::registration(m, &path))??;
        appservice.hs_tokens.extend(previous);
        appservice.query_token = query_token;
        Some(appservice)
    })?
}

fn registration(m: &mut Map<'_>, path: &std::path::Path) -> Option<AppService> {
    let id = m.required("id", "the service's id", |v| v.text("the service's id"));
    let url = m.required("url", "where the homeserver reaches this edge", |v| {
        v.parsed("where the homeserver reaches this edge, an http or https URL", |text| {
            let url = url::Url::parse(text).ok()?;
            (matches!(url.scheme(), "http" | "https") && url.has_host()).then(|| text.to_owned())
        })
    });
    let as_token = m.required("as_token", "the token that we show the homeserver", |v| Some(v.shared_secret()));
    let hs_token = m.required("hs_token", "the token that the homeserver shows us", |v| Some(v.shared_secret()));
    let sender_localpart = m.required("sender_localpart", "the localpart of the service's own user", |v| {
        v.parsed("a localpart, without @ and server", |text| {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._=-/+".contains(&b);
            (!text.is_empty() && text.bytes().all(plain)).then(|| text.to_owned())
        })
    });
    let (users, aliases) = m.section("namespaces", |m| {
        let read = |m: &mut Map<'_>, key| m.or(key, Vec::new(), |v| v.list("a list of namespaces", namespace));
        let both = (read(m, "users"), read(m, "aliases"));
        read(m, "rooms");
        both
    });
    // The homeserver's business alone; read so that a slip is noticed here too.
    m.optional("rate_limited", |v| v.flag());
    m.optional("receive_ephemeral", |v| v.flag());
    m.optional("protocols", |v| v.list("a list of protocol names", |v| v.text("a protocol's name")));
    m.ignore(|key| key.contains('.'));
    let (as_token, hs_token) = (as_token?, hs_token?);
    if let (Some(ours), Some(theirs)) = (&as_token, &hs_token)
        && ours == theirs
    {
        m.whole()
            .refuse::<()>("as_token and hs_token are the same", "two tokens: each side proves itself with its own");
    }
    Some(AppService {
        id: id?,
        url: url?,
        as_token,
        hs_tokens: hs_token.into_iter().collect(),
        sender_localpart: sender_localpart?,
        users,
        aliases,
        query_token: false,
        file: path.to_owned(),
    })
}

fn namespace(value: &Value<'_>) -> Option<Namespace> {
    value.map("a map with exclusive and regex", |m| {
        let exclusive = m.required("exclusive", "true or false", |v| v.flag());
        let regex = m.required("regex", "a regular expression", |v| {
            let text = v.text("a regular expression")?;
            match fancy_regex::Regex::new(&text) {
                Ok(_) => Some(text),
                Err(error) => {
                    v.refuse(format!("the pattern {} does not compile: {error}", v.found()), "a regular expression")
                }
            }
        });
        m.optional("group_id", |v| v.text("a group's id"));
        Some(Namespace { exclusive: exclusive?, regex: regex? })
    })?
}
