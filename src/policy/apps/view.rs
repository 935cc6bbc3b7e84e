//! A mini-app as `app list`, `app show` and the admin address tell of it.

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::clock::rfc3339;
use crate::config::{MiniApp, Registration};
use crate::model::MiniAppId;
use crate::policy::authn::MiniApps;
use crate::store::StoreError;
use crate::store::apps::{AppRecord, AppStore, RecordError};

/// A mini-app, with times as text.
#[derive(Debug, Serialize)]
pub struct View {
    /// What it is registered as.
    #[serde(flatten)]
    pub registration: Registration,
    /// `config` or `store`.
    pub source: &'static str,
    /// `active`, `suspended`, `removed`, `overridden` by the config, or `unreadable`.
    pub state: &'static str,
    client_secrets: Vec<Secret>,
    suspended: Option<Suspended>,
    created: Option<String>,
    changed: Option<String>,
    fault: Option<String>,
}

#[derive(Debug, Serialize)]
struct Secret {
    created: Option<String>,
    valid_until: Option<String>,
}

#[derive(Debug, Serialize)]
struct Suspended {
    since: String,
    reason: Option<String>,
}

/// The config's mini-apps (`named`) and the store's, by id; where both know one the config's comes first. `now` is in seconds
/// since the Unix epoch.
///
/// # Errors
/// When the store fails.
pub async fn views(named: &MiniApps, apps: &AppStore, now: u64) -> Result<Vec<View>, StoreError> {
    let stored = apps.all().await?;
    let mut views: Vec<View> = named.values().map(|app| View::named(app)).collect();
    views.extend(stored.iter().map(|(id, record)| View::stored(id, record, named.contains_key(id), now)));
    views.sort_by(|one, other| one.registration.id.cmp(&other.registration.id));
    Ok(views)
}

impl View {
    fn new(registration: Registration, source: &'static str, state: &'static str) -> View {
        View {
            registration,
            source,
            state,
            client_secrets: Vec::new(),
            suspended: None,
            created: None,
            changed: None,
            fault: None,
        }
    }

    fn named(app: &MiniApp) -> View {
        let secrets = app.secret_hashes.iter().map(|_| Secret { created: None, valid_until: None });
        let state = if app.suspended { "suspended" } else { "active" };
        View { client_secrets: secrets.collect(), ..View::new(Registration::of(app), "config", state) }
    }

    fn stored(id: &MiniAppId, record: &Result<AppRecord, RecordError>, named: bool, now: u64) -> View {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let registration = Registration { id: id.to_string(), ..Registration::default() };
                return View { fault: Some(error.to_string()), ..View::new(registration, "store", "unreadable") };
            }
        };
        let state = match (&record.removed, named, &record.suspended) {
            (Some(_), ..) => "removed",
            (None, true, _) => "overridden",
            (None, false, Some(_)) => "suspended",
            (None, false, None) => "active",
        };
        let secrets = record.secrets.iter().filter(|secret| secret.is_valid(now)).map(|secret| Secret {
            created: Some(rfc3339(secret.created)),
            valid_until: secret.valid_until.map(rfc3339),
        });
        let suspended = record.suspended.as_ref();
        View {
            client_secrets: secrets.collect(),
            suspended: suspended.map(|off| Suspended { since: rfc3339(off.since), reason: off.reason.clone() }),
            created: Some(rfc3339(record.created)),
            changed: Some(rfc3339(record.changed)),
            ..View::new(record.registration.clone(), "store", state)
        }
    }

    /// For people, a line for each thing. `file`: where the config's mini-apps stand.
    pub fn described(&self, file: Option<&Path>) -> String {
        let Registration {
            id,
            name,
            developer,
            icon_url,
            classification,
            client_type,
            redirect_uris,
            scopes,
            preapproved_scopes,
            webhook_url,
        } = &self.registration;
        let source = match file {
            Some(file) if self.source == "config" => format!("config, {}", file.display()),
            _ => self.source.to_owned(),
        };
        let suspended = self.suspended.as_ref().map(|off| match &off.reason {
            Some(reason) => format!("since {}: {reason}", off.since),
            None => format!("since {}", off.since),
        });
        let listed = |scopes: &[String]| (!scopes.is_empty()).then(|| scopes.join(" "));
        let mut lines = vec![
            ("id", Some(id.clone())),
            ("name", Some(name.clone()).filter(|name| !name.is_empty())),
            ("developer", developer.clone()),
            ("icon", icon_url.clone()),
            ("source", Some(source)),
            ("state", Some(self.state.to_owned())),
            ("suspended", suspended),
            ("fault", self.fault.clone()),
            ("classification", classification.clone()),
            ("type", client_type.clone()),
            ("scopes", listed(scopes)),
            ("pre-approved", listed(preapproved_scopes)),
            ("webhooks to", webhook_url.clone()),
            ("registered", self.created.clone()),
            ("changed", self.changed.clone()),
        ];
        lines.extend(redirect_uris.iter().map(|uri| ("redirect URI", Some(uri.clone()))));
        lines.extend(self.client_secrets.iter().map(|secret| ("client secret", Some(secret.described()))));
        let mut text = String::new();
        for (name, value) in lines {
            let Some(value) = value else { continue };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<14}  {value}");
        }
        text
    }
}

impl Secret {
    fn described(&self) -> String {
        match (&self.created, &self.valid_until) {
            (Some(created), Some(until)) => format!("made {created}, good until {until}"),
            (Some(created), None) => format!("made {created}"),
            (None, _) => "its hash is in the config".to_owned(),
        }
    }
}
