//! Which operation a request is: a trie over decoded path segments.
//!
//! The built-in rows of `model::rows` come first; a config's `tmcp_endpoints` lie over them and may only tighten
//! (protocol section 1): their scope sets and limits are asked for *besides* the row's own, and nothing that the
//! table closes is opened. Looking up costs the path's length, not the number of routes.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::path::PathView;
use super::trie::{Found, Trie};
use crate::config::{Config, Endpoint};
use crate::error::{Code, Refusal};
use crate::model::rows::{Answer, Auth, Body, Class, ROWS, Row, Verb, limit};
use crate::model::{Operation, ScopeSet};

/// One operation as this config has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The operation's name.
    pub operation: Operation,
    /// Methods, `HEAD` where `GET` stands included.
    pub methods: Vec<Verb>,
    /// Patterns, all of them this one route.
    pub paths: Vec<Arc<str>>,
    /// How the caller proves who it is.
    pub auth: Auth,
    /// From each of these sets the token needs one scope.
    pub scopes: Vec<ScopeSet>,
    /// Limit policies that all apply.
    pub limits: Vec<String>,
    /// What may come as a body.
    pub body: Body,
    /// Body fields that hold text for people.
    pub text_fields: &'static [&'static str],
    /// Who answers.
    pub answer: RouteAnswer,
    /// The breaker class.
    pub class: Class,
    /// Whether answers may be cached.
    pub cacheable: bool,
    /// A config's label.
    pub label: Option<String>,
    /// Whether an upgrade to another protocol may pass.
    pub upgrades: bool,
}

/// Who answers a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteAnswer {
    /// The edge itself.
    Edge,
    /// The wallet, asked by the edge with checks around it.
    WalletChecked,
    /// An upstream, through the proxy.
    Upstream(String),
    /// Not built yet.
    NotImplemented,
}

/// Every route of one config revision.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
    trie: Trie,
}

/// A route and where its parameters stand in the path.
#[derive(Debug)]
pub struct Matched<'t> {
    /// The route.
    pub route: &'t Arc<Route>,
    /// Its number in the table.
    pub index: usize,
    /// Which of its patterns matched.
    pub pattern: &'t Arc<str>,
    /// Parameters: name and byte range in the raw path.
    pub params: Params<'t>,
}

/// Parameters of a matched path.
pub type Params<'t> = smallvec::SmallVec<[(&'t str, std::ops::Range<usize>); 2]>;

impl RouteTable {
    /// Lays the config's rows over the built-in ones.
    pub fn build(config: &Config) -> RouteTable {
        let forward_client_api = config.upstreams.get("homeserver").is_some_and(|hs| hs.forward_client_api);
        let mut routes: Vec<Route> =
            ROWS.iter().filter(|row| row.answer != Answer::Homeserver || forward_client_api).map(built_in).collect();
        for endpoint in &config.endpoints {
            lay_over(&mut routes, endpoint);
        }
        routes.extend(config.endpoints.iter().filter_map(added));
        let mut table = RouteTable { routes: routes.into_iter().map(Arc::new).collect(), trie: Trie::default() };
        for (index, route) in table.routes.iter().enumerate() {
            for path in &route.paths {
                table.trie.insert(path, &route.methods, index);
            }
        }
        table
    }

    /// Every route, in the order of the table.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The route of a path and method: 404 when no pattern fits, 405 with `Allow` when the method does not.
    pub fn find<'t>(&'t self, method: &http::Method, path: &PathView<'_>) -> Result<Matched<'t>, Refusal> {
        match self.trie.find(path, Verb::parse(method.as_str())) {
            Found::Route { index, pattern, params } => match self.routes.get(index) {
                Some(route) => Ok(Matched { route, index, pattern, params }),
                None => Err(Refusal::internal("the route trie points outside the table")),
            },
            Found::OtherMethods(allow) => Err(method_not_allowed(&allow)),
            Found::Ambiguous => Err(Refusal::new(
                Code::ValidationFailed,
                "The request path holds an encoded slash, a backslash or a `;` in a segment that may not hold one.",
            )),
            Found::Nothing => Err(Refusal::new(
                Code::NotFound,
                "There is no such path here. The paths of the protocol start with /api/v1, /oauth2 or /_matrix/app/v1.",
            )),
        }
    }
}

fn method_not_allowed(allow: &[Verb]) -> Refusal {
    let list = allow.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(", ");
    let refusal = Refusal::new(Code::MethodNotAllowed, format!("This path takes {list}."));
    match http::HeaderValue::from_str(&list) {
        Ok(value) => refusal.header(http::header::ALLOW, value),
        Err(_) => refusal,
    }
}

/// Adds `HEAD` wherever `GET` stands (RFC 9110 section 9.3.2).
fn with_head(methods: &[Verb]) -> Vec<Verb> {
    let mut all = methods.to_vec();
    if all.contains(&Verb::Get) && !all.contains(&Verb::Head) {
        all.push(Verb::Head);
    }
    all
}

pub(super) fn built_in(row: &Row) -> Route {
    Route {
        operation: row.operation,
        methods: with_head(row.methods),
        paths: row.paths.iter().map(|path| Arc::from(*path)).collect(),
        auth: row.auth,
        scopes: if row.scopes.is_empty() { Vec::new() } else { vec![row.scopes] },
        limits: if row.limit == limit::NONE { Vec::new() } else { vec![row.limit.to_owned()] },
        body: row.body,
        text_fields: row.text_fields,
        answer: match row.answer {
            Answer::Edge => RouteAnswer::Edge,
            Answer::Wallet => RouteAnswer::Upstream("wallet".to_owned()),
            Answer::WalletChecked => RouteAnswer::WalletChecked,
            Answer::Homeserver => RouteAnswer::Upstream("homeserver".to_owned()),
            Answer::NotImplemented => RouteAnswer::NotImplemented,
        },
        class: row.class,
        cacheable: false,
        label: None,
        upgrades: row.body == Body::Raw,
    }
}

/// Tightens every built-in row that the endpoint's pattern and methods cover.
fn lay_over(routes: &mut [Route], endpoint: &Endpoint) {
    for route in routes {
        let method_fits =
            endpoint.methods.is_empty() || route.methods.iter().any(|verb| endpoint.methods.contains(verb));
        if !method_fits || !route.paths.iter().any(|path| covers(&endpoint.path, path)) {
            continue;
        }
        if endpoint.auth_required && route.auth == Auth::Public {
            route.auth = Auth::Tep;
        }
        if !endpoint.scopes.is_empty() && !route.scopes.contains(&endpoint.scopes) {
            route.scopes.push(endpoint.scopes);
        }
        if let Some(policy) = &endpoint.rate_limit
            && !route.limits.contains(policy)
        {
            route.limits.push(policy.clone());
        }
        if let Some(cacheable) = endpoint.cacheable {
            route.cacheable = cacheable;
        }
        if endpoint.label.is_some() {
            route.label.clone_from(&endpoint.label);
        }
    }
}

/// Whether a config's pattern covers a built-in one: equal but for parameter names, or ended by a `*`.
pub fn covers(pattern: &str, built_in: &str) -> bool {
    let mut theirs = built_in.split('/');
    let mut ours = pattern.split('/').peekable();
    while let Some(segment) = ours.next() {
        if segment == "*" && ours.peek().is_none() {
            return theirs.next().is_some();
        }
        match theirs.next() {
            Some(other) if segment == other || (segment.starts_with('{') && other.starts_with('{')) => {}
            _ => return false,
        }
    }
    theirs.next().is_none()
}

/// The row that an endpoint adds, if it names an upstream.
fn added(endpoint: &Endpoint) -> Option<Route> {
    let upstream = endpoint.upstream.clone()?;
    let methods = if endpoint.methods.is_empty() { Verb::ALL } else { &endpoint.methods };
    Some(Route {
        operation: Operation::Custom,
        methods: with_head(methods),
        paths: vec![Arc::from(endpoint.path.as_str())],
        auth: if endpoint.auth_required { Auth::Tep } else { Auth::Public },
        scopes: if endpoint.scopes.is_empty() { Vec::new() } else { vec![endpoint.scopes] },
        limits: vec![endpoint.rate_limit.clone().unwrap_or_else(|| limit::DEFAULT.to_owned())],
        body: Body::Any,
        text_fields: &[],
        answer: RouteAnswer::Upstream(upstream),
        class: Class::Other,
        cacheable: endpoint.cacheable.unwrap_or(false),
        label: endpoint.label.clone(),
        upgrades: true,
    })
}

/// The table as people read it: one line a route and pattern.
pub fn describe(table: &RouteTable) -> String {
    let mut rows: Vec<[String; 7]> =
        vec![["METHODS", "PATH", "OPERATION", "AUTH", "SCOPES", "LIMIT", "ANSWERED BY"].map(str::to_owned)];
    for route in table.routes() {
        for path in &route.paths {
            rows.push([
                route.methods.iter().map(|verb| verb.as_str()).collect::<Vec<_>>().join(","),
                path.to_string(),
                route.label.clone().unwrap_or_else(|| route.operation.to_string()),
                route.auth.as_str().to_owned(),
                route.scopes.iter().map(any_of).collect::<Vec<_>>().join(" and "),
                if route.limits.is_empty() { limit::NONE.to_owned() } else { route.limits.join(" and ") },
                answered_by(route),
            ]);
        }
    }
    columns(&rows)
}

fn any_of(set: &ScopeSet) -> String {
    set.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" or ")
}

fn answered_by(route: &Route) -> String {
    let cached = if route.cacheable { ", cached" } else { "" };
    match &route.answer {
        RouteAnswer::Edge => "edge".to_owned(),
        RouteAnswer::WalletChecked => "wallet, room checked".to_owned(),
        RouteAnswer::Upstream(name) => format!("{name}{cached}"),
        RouteAnswer::NotImplemented => "501 until built".to_owned(),
    }
}

fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = BTreeMap::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = widths.entry(column).or_insert(0);
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: String = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<width$}  ", width = widths.get(&column).copied().unwrap_or(0)))
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
