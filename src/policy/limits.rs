//! What each route's limits are asked, and for whom.

use std::net::IpAddr;
use std::sync::Arc;

use smallvec::SmallVec;

use super::authn::Caller;
use super::rate_limit::{Claim, Decision, LimitKey, Limiter, PolicyId};
use super::route::RouteTable;
use super::{Policy, Trail, count};
use crate::error::{Code, Refusal};
use crate::metrics::{Metrics, PolicyMetrics};
use crate::model::MiniAppId;
use crate::model::rows::limit;

/// One limit of a route.
#[derive(Clone, Debug)]
pub struct RouteLimit {
    /// The policy.
    pub policy: PolicyId,
    /// Whether a user's calls through all mini-apps share one bucket.
    pub per_user: bool,
    /// What came of it.
    pub metrics: Arc<PolicyMetrics>,
}

impl Policy {
    /// Takes what every limit of the route asks for, or nothing (protocol section 8).
    pub(super) async fn limit(&self, client: IpAddr, trail: &mut Trail, cost: u32) -> Result<(), Refusal> {
        // Now, not when the request came: reading and authenticating it may have outlived a lease or a refusal.
        let (now, unix) = (self.clock.tick(), self.clock.unix_secs());
        let Some((_, index)) = trail.route else { return Ok(()) };
        let limits = match trail.caller {
            // It asks about every call that reaches it.
            Caller::ResourceServer(_) => self.introspection.as_slice(),
            _ => self.limits.get(index).map(SmallVec::as_slice).unwrap_or_default(),
        };
        let claims: SmallVec<[Claim; 2]> = limits
            .iter()
            .map(|limit| {
                let (key, app) = bucket_of(&trail.caller, client, limit.per_user);
                let policy = app.map_or(limit.policy, |app| self.limiter.policies().for_app(limit.policy, Some(app)));
                Claim { policy, key, cost }
            })
            .collect();
        let decision = self.limiter.take(now, unix, &claims).await;
        count::limits(limits, &decision);
        match decision {
            Decision::Unlimited => Ok(()),
            Decision::Admitted(report) => {
                trail.limit = Some(report);
                Ok(())
            }
            Decision::Unknown => Err(Refusal::new(
                Code::ServiceUnavailable,
                "Whether this call is within its limits cannot be told now. Try again shortly.",
            )
            .inside("limits: the store does not answer, and a policy of this route is closed then")
            .retry_after(1)),
            Decision::Refused(report) => {
                trail.limit = Some(report);
                let refusal = report.refusal();
                Err(match &self.lockouts {
                    Some(lockouts) => Box::pin(lockouts.violated(&trail.caller, refusal, (now, unix))).await,
                    None => refusal,
                })
            }
        }
    }
}

/// Whose bucket a call draws on: (mini-app, user) with a token, the client once it has authenticated, else the address;
/// the user alone where a policy guards the user's money, so that several mini-apps are no way around it.
fn bucket_of(caller: &Caller, client: IpAddr, per_user: bool) -> (LimitKey, Option<&MiniAppId>) {
    match caller {
        Caller::Tep(token) if per_user => (token.user_key, None),
        Caller::Tep(token) => (token.app_user_key, Some(&token.claims.app)),
        Caller::Matrix(user) => (user.user_key, None),
        Caller::Client(client) => (LimitKey::app(&client.app.id), Some(&client.app.id)),
        // Anybody can name a public client; what it may use is not for strangers to use up.
        Caller::Anonymous | Caller::Homeserver | Caller::Named(_) => (LimitKey::ip(client), None),
        Caller::ResourceServer(key) => (*key, None),
    }
}

/// The limits of every route, with names looked up. A name that no policy has is an error of the config, which has
/// been checked; it would limit nothing here.
pub(super) fn route_limits(table: &RouteTable, limiter: &Limiter, metrics: &Metrics) -> Vec<SmallVec<[RouteLimit; 2]>> {
    let compile = |name: &String| route_limit(name, limiter, metrics);
    table.routes().iter().map(|route| route.limits.iter().filter_map(compile).collect()).collect()
}

pub(super) fn route_limit(name: &str, limiter: &Limiter, metrics: &Metrics) -> Option<RouteLimit> {
    let per_user = matches!(name, limit::PAYMENT | limit::RESOLUTION);
    limiter.policies().id(name).map(|policy| RouteLimit { policy, per_user, metrics: metrics.policy(name) })
}

/// How many users a batch names. The body has passed its schema, so the list is there.
pub(super) fn batch_size(body: &[u8]) -> u32 {
    #[derive(serde::Deserialize)]
    struct Batch {
        user_ids: Vec<serde::de::IgnoredAny>,
    }
    let size = serde_json::from_slice::<Batch>(body).map_or(1, |batch| batch.user_ids.len());
    u32::try_from(size).unwrap_or(u32::MAX)
}
