//! Every endpoint of the admin address, and who may ask it. The router is made from this table, so that there is none
//! without a role.

use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, post, put};

use super::{Admin, api, apps, audit, cache, grants, limits, lockouts, page, payments, revocations};
use crate::model::Role;
use crate::model::audit::AuditAction;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody who reaches the listener: load balancers and orchestrators, which cannot be given a token.
    Anybody,
    /// Everybody on a loopback listener, elsewhere the holder of any token: how the edge itself stands.
    Look,
    /// The holder of a token with at least this role, wherever the listener is.
    Role(Role),
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// The method. `GET` stands for `HEAD` too.
    pub method: Method,
    /// The path; `{name}` stands for one segment.
    pub path: &'static str,
    /// Who may ask.
    pub access: Access,
    /// What is asked for, when it changes something: for the audit line of whoever may not.
    pub action: Option<AuditAction>,
    /// Its code.
    pub(super) route: Route,
}

type Route = fn() -> MethodRouter<Admin>;

const fn probe(path: &'static str, route: Route) -> Endpoint {
    Endpoint { method: Method::GET, path, access: Access::Anybody, action: None, route }
}

const fn look(path: &'static str, route: Route) -> Endpoint {
    Endpoint { method: Method::GET, path, access: Access::Look, action: None, route }
}

const fn view(path: &'static str, route: Route) -> Endpoint {
    Endpoint { method: Method::GET, path, access: Access::Role(Role::Viewer), action: None, route }
}

const fn change(method: Method, path: &'static str, role: Role, action: AuditAction, route: Route) -> Endpoint {
    Endpoint { method, path, access: Access::Role(role), action: Some(action), route }
}

/// Every endpoint, in the order of the documentation.
pub static ENDPOINTS: &[Endpoint] = &[
    probe("/healthz", || get(api::health)),
    probe("/readyz", || get(api::ready)),
    look("/", || get(page::page)),
    look("/metrics", || get(api::metrics)),
    look("/api/v1/status", || get(api::status)),
    look("/api/v1/routes", || get(api::routes)),
    look("/api/v1/upstreams", || get(api::upstreams)),
    look("/api/v1/breakers", || get(api::breakers)),
    change(Method::POST, "/api/v1/reload", Role::Operator, AuditAction::Reload, || post(api::reload)),
    look("/api/v1/cache", || get(cache::caches)),
    change(Method::DELETE, "/api/v1/cache", Role::Operator, AuditAction::CachePurge, || delete(cache::purge_by_query)),
    change(Method::POST, "/api/v1/cache/purge", Role::Operator, AuditAction::CachePurge, || post(cache::purge_by_body)),
    view("/api/v1/limits", || get(limits::limits)),
    change(Method::POST, "/api/v1/limits/reset", Role::Operator, AuditAction::LimitsReset, || post(limits::reset)),
    view("/api/v1/lockouts", || get(lockouts::lockouts)),
    change(Method::POST, "/api/v1/lockouts/lift", Role::Operator, AuditAction::LockoutsLift, || post(lockouts::lift)),
    view("/api/v1/grants", || get(grants::list)),
    view("/api/v1/grants/{id}", || get(grants::one)),
    change(Method::DELETE, "/api/v1/grants/{id}", Role::Operator, AuditAction::GrantEnd, || delete(grants::end)),
    view("/api/v1/apps", || get(apps::list)),
    view("/api/v1/apps/{id}", || get(apps::one)),
    change(Method::POST, "/api/v1/apps/{id}/suspend", Role::Operator, AuditAction::AppSuspend, || post(apps::suspend)),
    change(Method::POST, "/api/v1/apps/{id}/resume", Role::Operator, AuditAction::AppResume, || post(apps::resume)),
    view("/api/v1/revocations", || get(revocations::list)),
    change(Method::POST, "/api/v1/revocations", Role::Operator, AuditAction::Revoke, || post(revocations::revoke)),
    look("/api/v1/payments", || get(payments::show)),
    change(Method::PUT, "/api/v1/payments", Role::Admin, AuditAction::Payments, || put(payments::switch)),
    view("/api/v1/audit", || get(audit::lines)),
];
