//! What the pipeline counts on its way.

use super::RouteLimit;
use super::rate_limit::Decision;
use crate::error::{Code, Refusal};
use crate::metrics::{self, BodyRefusal, Metrics};
use crate::model::{Scope, ScopeSet};

/// Counts the scopes by virtue of which a request was admitted: of each set that the route asks for, the first held.
pub(super) fn scopes(metrics: &Metrics, required: &[ScopeSet], held: ScopeSet) {
    for set in required {
        let used: Option<Scope> = set.intersection(held).iter().next();
        if let Some(scope) = used {
            metrics.scopes.inc(scope);
        }
    }
}

/// Counts what the limits decided. A refusal is counted for the policy that refused.
pub(super) fn limits(limits: &[RouteLimit], decision: &Decision) {
    let Some(report) = decision.report() else { return };
    let decided = match decision {
        Decision::Refused(_) => metrics::Decision::Refused,
        _ if report.would_refuse.is_some() => metrics::Decision::WouldRefuse,
        _ => metrics::Decision::Admitted,
    };
    // An override of one mini-app has a policy id of its own and is counted under the name that it overrides.
    let decisive = limits.iter().find(|limit| limit.policy == report.policy).or(limits.first());
    if let Some(limit) = decisive {
        limit.metrics.inc(decided);
    }
}

/// Counts a body that is refused, by reason.
pub(super) fn refused_body<T>(metrics: &Metrics, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
    if let Err(refusal) = &outcome {
        metrics.bodies_refused.inc(reason(refusal));
    }
    outcome
}

fn reason(refusal: &Refusal) -> BodyRefusal {
    let rule = refusal.details_value().and_then(|details| details.pointer("/errors/0/rule")).and_then(|rule| rule.as_str());
    match (refusal.code(), rule) {
        (Code::PayloadTooLarge, _) => BodyRefusal::TooLarge,
        (Code::UnsupportedMediaType, _) => BodyRefusal::MediaType,
        (Code::RequestTimeout, _) => BodyRefusal::Timeout,
        (Code::ServiceUnavailable, _) => BodyRefusal::NoBudget,
        (_, Some("syntax" | "trailing_bytes" | "byte_order_mark" | "number_range" | "number_length" | "value_count")) => BodyRefusal::Malformed,
        (_, Some("duplicate_name")) => BodyRefusal::DuplicateKey,
        (_, Some("depth")) => BodyRefusal::TooDeep,
        (_, Some("utf8" | "lone_surrogate")) => BodyRefusal::BadText,
        (Code::ValidationFailed, None) => BodyRefusal::Unexpected,
        _ => BodyRefusal::Schema,
    }
}
