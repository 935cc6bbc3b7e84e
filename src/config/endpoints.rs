//! `tmcp_endpoints` (brief 4.3): rows that lie over the built-in ones, and rows of their own.
//!
//! A row without `upstream` lies over every built-in row that its pattern covers and may only tighten it: its scopes
//! are asked for on top, its limit may not be wider, and `auth_required: false` opens nothing. A row with `upstream`
//! is a new route, and may not cover a built-in one: that would take the operation away from whoever answers it.

use std::collections::{BTreeSet, HashMap};

use super::limits::Policies;
use super::pattern::Pattern;
use super::reader::Value;
use super::tree::Spot;
use super::types::{Endpoint, LimitPolicy};
use crate::model::rows::{ROWS, Row, Verb, limit};
use crate::model::{Scope, ScopeSet};

/// What a row may refer to.
pub(super) struct Known<'a> {
    pub policies: &'a Policies,
    /// Names of upstreams; `None` when they could not be read, which has been complained of.
    pub upstreams: Option<&'a BTreeSet<String>>,
}

/// Reads `tmcp_endpoints`.
pub(super) fn read(value: &Value<'_>, known: &Known<'_>) -> Vec<Endpoint> {
    let built_in: Vec<(Pattern, &Row)> = ROWS
        .iter()
        .flat_map(|row| row.paths.iter().filter_map(move |path| Some((Pattern::parse(path).ok()?, row))))
        .collect();
    let mut seen: HashMap<(String, Verb), Spot> = HashMap::new();
    let rows = value.list("a list of rows", |value| {
        let faults = value.load.faults();
        let (pattern, endpoint) = row(value, known).filter(|_| value.load.faults() == faults)?;
        let (methods, normal) = (verbs(&endpoint), pattern.normal());
        let twice =
            methods.iter().find_map(|verb| seen.insert((normal.clone(), *verb), value.spot).map(|at| (*verb, at)));
        if let Some((verb, at)) = twice {
            return value.refuse(
                format!("{} {} has a row already, in line {}", verb.as_str(), endpoint.path, at.line),
                "one row for each method and path",
            );
        }
        let covered = built_in.iter().filter(|(path, _)| pattern.covers(path)).map(|(_, row)| *row);
        let covered: Vec<&Row> = covered.filter(|row| row.methods.iter().any(|verb| methods.contains(verb))).collect();
        check_over(value, &endpoint, &covered, known)?;
        Some(endpoint)
    });
    rows.unwrap_or_default()
}

fn row(value: &Value<'_>, known: &Known<'_>) -> Option<(Pattern, Endpoint)> {
    value.map("a map with path, methods, scopes …", |m| {
        let place = format!("{}:{}", value.file.display(), value.spot.line);
        let path = m.required("path", "a path pattern such as /partner/v1/*", |v| {
            let text = v.text("a path pattern such as /partner/v1/*")?;
            match Pattern::parse(&text) {
                Ok(pattern) => Some((pattern, text)),
                Err(why) => v.refuse(format!("the pattern {} {why}", v.found()), "literals, {name} and a * at the end"),
            }
        });
        let methods = m.get("methods").map_or(Some(Vec::new()), |v| methods(&v));
        let label = m.optional("operation", |v| v.text("a label"));
        let auth_required = m.or("auth_required", true, |v| v.flag());
        let scopes = m.get("scopes").map(|v| (scopes(&v), v));
        let rate_limit = m.optional("rate_limit", |v| {
            if v.word() == Some(limit::NONE) {
                return v.refuse("`none` is reserved for the homeserver's own traffic", "the name of a limit policy");
            }
            v.known("limit policy", known.policies.keys().map(String::as_str))
        });
        let upstream = m.optional("upstream", |v| match known.upstreams {
            Some(names) => v.known("upstream", names.iter().map(String::as_str)),
            None => v.text("the name of an upstream"),
        });
        let cacheable = m.optional("cacheable", |v| {
            let on = v.flag()?;
            let readable = |verb: &Verb| matches!(verb, Verb::Get | Verb::Head);
            match &methods {
                Some(methods) if on && !methods.is_empty() && !methods.iter().any(readable) => {
                    v.refuse("only answers to GET and HEAD can be cached", "GET among the methods, or false")
                }
                _ => Some(on),
            }
        });
        let (path, methods) = (path?, methods?);
        if let Some((Some(set), v)) = &scopes
            && !auth_required
            && !set.is_empty()
        {
            return v.refuse("scopes without a token to hold them", "auth_required: true, or no scopes");
        }
        let (pattern, path) = path;
        let scopes = match scopes {
            Some((set, _)) => set?,
            None => ScopeSet::EMPTY,
        };
        Some((
            pattern,
            Endpoint { path, methods, label, auth_required, scopes, rate_limit, upstream, cacheable, place },
        ))
    })?
}

fn methods(value: &Value<'_>) -> Option<Vec<Verb>> {
    let read = |value: &Value<'_>| {
        let choices: Vec<(&str, Verb)> = Verb::ALL.iter().map(|verb| (verb.as_str(), *verb)).collect();
        value.choice(&choices)
    };
    value.some("a list of at least one method (no `methods` at all means every one)", read)
}

/// Reads a list of scopes.
pub(super) fn scopes(value: &Value<'_>) -> Option<ScopeSet> {
    let names = || Scope::ALL.iter().map(|scope| scope.as_str());
    let list = value.list("a list of scopes", |v| v.known("scope", names()).as_deref().and_then(Scope::parse))?;
    Some(list.into_iter().collect())
}

fn verbs(endpoint: &Endpoint) -> Vec<Verb> {
    if endpoint.methods.is_empty() { Verb::ALL.to_vec() } else { endpoint.methods.clone() }
}

fn check_over(value: &Value<'_>, endpoint: &Endpoint, covered: &[&Row], known: &Known<'_>) -> Option<()> {
    let first = covered.first().map(|row| row.operation.as_str());
    match (&endpoint.upstream, first) {
        (None, None) => value.refuse(
            format!("nothing answers {}: no built-in row lies under it and it names no upstream", endpoint.path),
            "upstream: <name>, or a path that covers built-in rows",
        ),
        (Some(upstream), Some(operation)) => value.refuse(
            format!("{} would send the built-in operation {operation} to {upstream}", endpoint.path),
            "a path that no built-in row has, or no `upstream`",
        ),
        (Some(_), None) if endpoint.methods.is_empty() => value
            .refuse("a new row without methods", "methods: [GET, …]; only a row over built-in rows may leave them out"),
        (Some(_), None) => Some(()),
        (None, Some(_)) => {
            let Some(own) = &endpoint.rate_limit else { return Some(()) };
            let Some(policy) = known.policies.get(own) else { return Some(()) };
            let looser = covered.iter().find(|row| {
                known.policies.get(row.limit).is_some_and(|built_in| own != row.limit && wider(policy, built_in))
            });
            match looser {
                None => Some(()),
                Some(row) => value.refuse(
                    format!("the limit {own} is wider than {}, which {} has", row.limit, row.operation),
                    "a narrower limit: a row over built-in rows may only tighten them (change the policy itself under rate_limits)",
                ),
            }
        }
    }
}

/// Whether `policy` lets more through than `than`, in the long run or at once.
fn wider(policy: &LimitPolicy, than: &LimitPolicy) -> bool {
    let rate = |a: &LimitPolicy, b: &LimitPolicy| u128::from(a.requests) * b.per.as_millis();
    let at_once = |policy: &LimitPolicy| u64::from(policy.requests) + u64::from(policy.burst);
    rate(policy, than) > rate(than, policy)
        || at_once(policy) > at_once(than)
        || (policy.report_only && !than.report_only)
}
