//! From a config to a policy: which parts are made anew at a reload, and which are handed on.

use std::sync::Arc;

use super::Policy;
use super::authn::{Authn, HomeserverTokens, Registry, Rules, UserHasher, Verifier, VerifierState};
use super::guard::{PeerGuard, Peers};
use super::issuers::Issuers;
use super::keyring::issuer_of;
use super::limits::{route_limit, route_limits};
use super::lockout::Lockouts;
use super::rate_limit::{Engine, Limiter, Policies};
use super::route::RouteTable;
use super::validate::Validator;
use super::whoami::{MAX_OPEN, MatrixTokens};
use crate::clock::Clock;
use crate::config::Config;
use crate::model::rows::limit;
use crate::store::Backend;
use crate::store::oauth::Devices;
use crate::upstream::egress::Egress;
use crate::upstream::homeserver::Homeserver;
use crate::upstream::identity::UserRules;
use crate::upstream::pools::HOMESERVER;

/// What a policy is made of.
pub struct Ingredients<'a> {
    /// The config.
    pub config: &'a Config,
    /// The time.
    pub clock: &'a Clock,
    /// Where limit buckets live.
    pub limits: &'a Arc<dyn Engine>,
    /// What is known of addresses.
    pub peers: &'a Arc<Peers>,
    /// What is remembered.
    pub store: &'a Arc<dyn Backend>,
    /// Keys, verified tokens, revocations.
    pub tokens: &'a VerifierState,
    /// The client for issuers' keys.
    pub egress: &'a Arc<Egress>,
    /// Who knows Matrix access tokens, when the config names a homeserver.
    pub homeserver: Option<Homeserver>,
    /// The revision before.
    pub previous: Option<(&'a Config, &'a Policy)>,
}

impl Policy {
    /// Builds everything, or says what is wrong.
    pub fn build(from: Ingredients<'_>) -> Result<Policy, String> {
        let config = from.config;
        let table = RouteTable::build(config);
        let policies = Policies::new(&config.rate_limits, &config.rate_limit_overrides).map_err(|e| e.to_string())?;
        let limiter = Limiter::new(policies, from.limits.clone());
        let introspection = route_limit(limit::INTROSPECTION, &limiter, &from.tokens.metrics).into_iter().collect();
        let limits = route_limits(&table, &limiter, &from.tokens.metrics);
        let lockouts = Lockouts::new(&config.lockouts, from.limits, &from.tokens.metrics).map_err(|e| e.to_string())?;
        let guard = PeerGuard::new(&config.server.limits, from.peers.clone()).map_err(|error| error.to_string())?;
        let validator = Validator::new(&config.validation).map_err(|error| error.to_string())?;
        let authn = authn(&from)?;
        Ok(Policy {
            table,
            authn,
            limiter,
            lockouts,
            validator: Arc::new(validator),
            guard,
            clock: from.clock.clone(),
            metrics: from.tokens.metrics.clone(),
            limits,
            introspection,
            devices: Devices::new(from.store.clone()),
        })
    }
}

fn authn(from: &Ingredients<'_>) -> Result<Authn, String> {
    let config = from.config;
    let hasher = UserHasher::new(from.tokens.keyring.log_salt().as_slice());
    let none = Issuers::default();
    let known = from.previous.map_or(&none, |(_, policy)| policy.authn.verifier().issuers());
    let rules = Rules {
        issuer: issuer_of(&config.public_url),
        server_name: config.server_name.clone(),
        registry: Registry::new(config.miniapps.clone(), from.tokens.apps.clone()),
        issuers: Issuers::new(&config.tokens.issuers, known, from.egress, from.clock, &from.tokens.generation),
        user_hasher: hasher.clone(),
    };
    let verifier = Verifier::new(from.tokens.clone(), rules);
    Ok(Authn::new(verifier, matrix_tokens(from, hasher)?, HomeserverTokens::new(config.appservice.as_ref()))
        .with_resource_servers(config.oauth.resource_servers.clone()))
}

/// What the homeserver said stays known as long as it is the same homeserver under the same rules.
fn matrix_tokens(from: &Ingredients<'_>, hasher: UserHasher) -> Result<Option<Arc<MatrixTokens>>, String> {
    let Some(homeserver) = &from.homeserver else { return Ok(None) };
    if let Some((config, policy)) = from.previous
        && config.server_name == from.config.server_name
        && config.appservice == from.config.appservice
        && config.upstreams.get(HOMESERVER) == from.config.upstreams.get(HOMESERVER)
        && let Some(known) = policy.authn.matrix_tokens()
    {
        return Ok(Some(known.clone()));
    }
    let rules = UserRules::new(&from.config.server_name, from.config.appservice.as_ref())?;
    Ok(Some(Arc::new(MatrixTokens::new(Arc::new(homeserver.clone()), rules, hasher, MAX_OPEN))))
}
