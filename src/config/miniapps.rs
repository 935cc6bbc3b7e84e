//! `miniapps`: the mini-apps that the config names, in a file of their own, and the reader of a mini-app's entry wherever
//! it stands.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::endpoints::scopes;
use super::map::Map;
use super::miniapp::{MAX_NAME, MiniApp, Mismatch, is_name, namesake};
use super::problem::did_you_mean;
use super::reader::Value;
use crate::model::miniapp::{Classification, ClientType, RedirectUri};
use crate::model::{MiniAppId, ScopeSet};

/// Mini-apps by id.
pub(super) type MiniApps = BTreeMap<MiniAppId, Arc<MiniApp>>;

/// Reads the file that `miniapps: { file: … }` names, and says which it is.
pub(super) fn file(value: &Value<'_>) -> Option<(PathBuf, MiniApps)> {
    let (path, node) =
        value.map("a map with file", |m| m.required("file", "the file that lists them", |v| v.yaml()))??;
    let apps = document(&Value::root(value.load, &path, &node), &mut |_| {})?;
    Some((path, apps))
}

/// Reads a whole file of mini-apps. `complete` may add to each what its entry leaves out, before it is looked at whether
/// its parts go together.
pub(super) fn document(root: &Value<'_>, complete: &mut dyn FnMut(&mut MiniApp)) -> Option<MiniApps> {
    root.map("a map with the key miniapps", |m| m.required("miniapps", "a list of mini-apps", |v| list(v, complete)))?
}

fn list(value: &Value<'_>, complete: &mut dyn FnMut(&mut MiniApp)) -> Option<MiniApps> {
    let mut apps = MiniApps::new();
    value.list("a list of mini-apps", |v| {
        let app = entry(v, complete)?;
        if apps.contains_key(&app.id) {
            return v.refuse::<()>(format!("{} stands twice", app.id), "each mini-app once");
        }
        let others = apps.values().map(|other| (&other.id, other.client_type));
        if let Some(other) = namesake((&app.id, app.client_type), others) {
            let message = format!("{} cannot be told from {other}, one being the name of the other's back end", app.id);
            return v.refuse::<()>(message, "another id");
        }
        apps.insert(app.id.clone(), Arc::new(app));
        Some(())
    })?;
    Some(apps)
}

/// Reads one mini-app's entry; `complete` as for [`document`].
pub(super) fn entry(value: &Value<'_>, complete: &mut dyn FnMut(&mut MiniApp)) -> Option<MiniApp> {
    value.map("a map with id, name, scopes …", |m| app(m, complete))?
}

fn app(m: &mut Map<'_>, complete: &mut dyn FnMut(&mut MiniApp)) -> Option<MiniApp> {
    let faults = m.whole().load.faults();
    let id = m.required("id", "a mini-app's id", id);
    let name = m.required("name", "a name for people", |v| shown(v, "a name for people"));
    let developer = m.optional("developer", |v| shown(v, "who makes it, for people"));
    let icon_url = m.optional("icon_url", |v| v.url("the https URL of its picture"));
    let classifications = Classification::ALL.map(|one| (one.as_str(), one));
    let classification = m.or("classification", Classification::Community, |v| v.choice(&classifications));
    let scopes = m.or("scopes", ScopeSet::EMPTY, scopes);
    let preapproved_scopes = m.or("preapproved_scopes", ScopeSet::EMPTY, super::endpoints::scopes);
    let types = ClientType::ALL.map(|one| (one.as_str(), one));
    let client_type = m.optional("type", |v| v.choice(&types));
    let redirect_uris = m.or("redirect_uris", Vec::new(), |v| v.list("a list of redirect URIs", redirect_uri));
    let secret_hashes = m.or("client_secret_hashes", Vec::new(), |v| v.list("a list of SHA-256 hashes in hex", hash));
    let webhook_url = m.optional("webhook_url", |v| v.url("the https URL that its webhooks go to"));
    let webhook_secret = m.secret("webhook_secret", "webhook_secret_file");
    if webhook_secret.as_ref().is_some_and(|secret| !is_webhook_secret(secret.expose())) {
        m.whole().refuse::<()>("the webhook secret is malformed", "whsec_ and then base64 of 24 bytes or more");
    }
    let suspended = m.or("suspended", false, |v| v.flag());
    // Who has a secret to show is a confidential client unless the file says more.
    let with_secret = if secret_hashes.is_empty() { ClientType::Public } else { ClientType::Confidential };
    let mut app = MiniApp {
        id: id?,
        name: name?,
        developer,
        icon_url,
        classification,
        client_type: client_type.unwrap_or(with_secret),
        redirect_uris,
        scopes,
        preapproved_scopes,
        secret_hashes,
        webhook_url,
        webhook_secret,
        suspended,
    };
    complete(&mut app);
    // What failed to read left its default behind, which need not fit the rest.
    if m.whole().load.faults() == faults {
        for Mismatch { key, message, expected } in app.mismatches() {
            m.get(key).as_ref().unwrap_or(m.whole()).refuse::<()>(message, expected);
        }
    }
    Some(app)
}

fn shown(value: &Value<'_>, expected: &str) -> Option<String> {
    let text = value.text(expected)?;
    if is_name(&text) {
        Some(text)
    } else {
        value.refuse("too long, or not one line of plain text", format!("{expected}, at most {MAX_NAME} characters"))
    }
}

fn redirect_uri(value: &Value<'_>) -> Option<RedirectUri> {
    let expected = "a redirect URI such as https://shop.example.com/callback";
    let text = value.text(expected)?;
    RedirectUri::parse(&text).map_err(|fault| value.refuse::<()>(fault, expected)).ok()
}

pub(super) fn hash(value: &Value<'_>) -> Option<[u8; 32]> {
    let expected = "the SHA-256 of a client secret, 64 hex digits (printf %s SECRET | sha256sum), in quotes";
    // The text is not repeated: whoever wrote the secret itself here must not find it in a log.
    let word = match &value.node.kind {
        super::tree::Kind::Scalar { text, .. } => text,
        _ => return value.wrong(expected),
    };
    let mut bytes = [0; 32];
    let digits = word.as_bytes().chunks_exact(2);
    let fits = word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    for (byte, pair) in bytes.iter_mut().zip(digits) {
        *byte = std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()).unwrap_or_default();
    }
    if fits { Some(bytes) } else { value.refuse("not a hash", expected) }
}

fn is_webhook_secret(text: &str) -> bool {
    text.strip_prefix("whsec_").and_then(|rest| STANDARD.decode(rest).ok()).is_some_and(|bytes| bytes.len() >= 24)
}

fn id(value: &Value<'_>) -> Option<MiniAppId> {
    value.parsed("a mini-app id such as ma_shop_001", |text| MiniAppId::parse(text).ok())
}

/// Reads the id of a mini-app. Where the config lists mini-apps and this is none of them it has to be one of the store's,
/// which is noted: it cannot be known here.
pub(super) fn known_app(value: &Value<'_>, apps: Option<&MiniApps>) -> Option<MiniAppId> {
    let id = id(value)?;
    if let Some(apps) = apps.filter(|apps| !apps.contains_key(&id)) {
        let hint = did_you_mean(id.as_str(), apps.keys().map(MiniAppId::as_str));
        value.unlisted(id.clone(), format!("the file under `miniapps` lists no {id}{hint}"));
    }
    Some(id)
}
