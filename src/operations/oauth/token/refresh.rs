//! `grant_type=refresh_token` (RFC 6749 section 6, RFC 9700 section 4.14; protocol section 11, "Refresh token used twice").
//!
//! A repeat within its time gets the very answer that was lost, to the letter: its `expires_in` counts from then, and its
//! access token may have been revoked since. The protocol grants that to clients that authenticate. Those that have no secret
//! get ten seconds: without any, two windows of a single-page app that refresh at once would end their own grant. Whoever has
//! stolen such a token can use those seconds, too; after them its second use ends the grant.

use bytes::Bytes;

use super::{invalid_grant, issue, wallet};
use crate::error::{OauthError, Refusal};
use crate::metrics::Reused;
use crate::model::ScopeSet;
use crate::model::oauth::{Digest, Grant, GrantId, Presented};
use crate::operations::Services;
use crate::operations::oauth::{Moment, end, required, scopes_of};
use crate::policy::Form;
use crate::policy::authn::Client;
use crate::store::oauth::{Credential, Grants, Kind};
use crate::upstream::forward::Trace;

const REFUSED: &str = "The refresh token is not valid: expired, revoked, used before, or another client's.";
/// What a kept answer is sealed as.
const ANSWER: &str = "token answer";

/// Puts another refresh token in the place of the one that was shown.
pub async fn rotate(services: &Services, client: &Client, form: &Form, trace: &Trace) -> Result<String, Refusal> {
    let shown = Credential::parse(Kind::Refresh, required(form, "refresh_token")?)
        .ok_or_else(|| invalid_grant(REFUSED, "malformed"))?;
    let (id, grants) = (shown.grant(), Grants::new(services.store.clone()));
    loop {
        let moment = Moment::of(services);
        let Some(held) = grants.get(id).await? else { return Err(invalid_grant(REFUSED, "no such grant")) };
        let grant = &held.value;
        if !client.id.may_use(&grant.client) {
            return Err(invalid_grant(REFUSED, "another client's"));
        }
        if grant.ended {
            // Whoever ended it may not have come to its access tokens.
            end(services, id).await?;
        }
        let grant = services.left_of(id, grant).ok_or_else(|| invalid_grant(REFUSED, "withdrawn"))?;
        let family = grant.family.as_ref().ok_or_else(|| invalid_grant(REFUSED, "no refresh token yet"))?;
        match family.presented(shown.hash(), client.has_authenticated(), moment.now) {
            Presented::Current => {
                let scopes = narrowed(form, client, &grant)?;
                let grant = wallet::named(services, trace, grant).await;
                let next = Credential::another(Kind::Refresh, id)?;
                // What was fetched with a secret is worth nothing without it from now on.
                let rotated = Grant { client: client.id.clone(), ..grant.clone() }.rotated(next.hash(), moment.now);
                let answer = issue::answer(services, &client.app, (id, &rotated), &next, scopes, moment)?;
                let kept = seal(services, id, shown.hash(), &answer)?;
                let ttl = services.life(&rotated, moment.now);
                if grants.rotate(id, &held, &rotated, shown.hash(), kept, ttl).await? {
                    return Ok(answer);
                }
                // Somebody was faster: what was in force is now the one before.
            }
            Presented::Repeated => {
                if !grants.confirm(id, &held).await? {
                    continue;
                }
                let kept = grants.last_answer(id).await?;
                let opened = kept.and_then(|kept| open(services, id, shown.hash(), &kept));
                let kept = opened.ok_or_else(|| invalid_grant(REFUSED, "its answer is no longer kept"))?;
                // The same answer to the same question, and to no other.
                let asked = form.get("scope").map(|list| scopes_of(list, &client.app)).transpose()?;
                if asked.is_some() && asked != Some(issue::scopes_of_answer(&kept)?) {
                    return Err(invalid_grant(REFUSED, "used before, and for other scopes"));
                }
                return Ok(kept);
            }
            Presented::Other if grants.was_spent(&shown).await? => {
                log::warn!("grant {id} of {}: a spent refresh token was used again, so it ends", client.id);
                services.metrics.oauth_reuse.inc(Reused::RefreshToken);
                end(services, id).await?;
                return Err(invalid_grant(REFUSED, "spent: the grant has ended"));
            }
            Presented::Other => return Err(invalid_grant(REFUSED, "none of this grant's")),
        }
    }
}

/// The scopes that the access token is to have: all of the grant's, or fewer when `scope` says so.
fn narrowed(form: &Form, client: &Client, grant: &Grant) -> Result<ScopeSet, Refusal> {
    let Some(list) = form.get("scope") else { return Ok(grant.scopes) };
    let asked = scopes_of(list, &client.app)?;
    if grant.scopes.is_superset(asked) {
        Ok(asked)
    } else {
        Err(Refusal::oauth(OauthError::InvalidScope, "scope has to be within what the user permitted."))
    }
}

fn whose(id: GrantId, shown: Digest) -> String {
    format!("{id}/{shown}")
}

fn seal(services: &Services, id: GrantId, shown: Digest, answer: &str) -> Result<Bytes, Refusal> {
    let sealed = services.keyring.sealer().seal(ANSWER, &whose(id, shown), answer.as_bytes());
    sealed.map(Bytes::from).map_err(|error| Refusal::internal(error.to_string()))
}

fn open(services: &Services, id: GrantId, shown: Digest, kept: &[u8]) -> Option<String> {
    let kept = std::str::from_utf8(kept).ok()?;
    let opened = services.keyring.sealer().open(ANSWER, &whose(id, shown), kept).ok()?;
    std::str::from_utf8(&opened).ok().map(str::to_owned)
}
