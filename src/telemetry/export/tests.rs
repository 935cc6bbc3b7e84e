use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::error::Code;
use crate::metrics::families::{FAMILIES, Kind};
use crate::metrics::*;
use crate::model::Operation;
use crate::model::rows::Class;

/// Counts in every family at least once.
fn busy() -> Arc<Metrics> {
    let metrics = Arc::new(Metrics::new(Code::NAMES).unwrap());
    metrics.request((Operation::WalletBalance, None), 200, Duration::from_millis(3), (10, 20));
    metrics.wallet.observe(Operation::WalletBalance, Duration::from_micros(700));
    metrics.homeserver.observe(HomeserverCall::Whoami, Duration::from_secs(60));
    metrics.refusals.inc(Code::RateLimitExceeded.index());
    metrics.credentials.inc(Credential::Matrix, CredentialResult::Refused);
    metrics.cache.inc(CacheName::Response, CacheResult::Hit);
    metrics.oauth_questions.inc(OauthFlow::Code, OauthQuestion::Put);
    metrics.oauth_answers.inc(OauthFlow::Code, OauthAnswer::Approved);
    metrics.oauth_tokens.inc(GrantType::AuthorizationCode, Issuance::Issued);
    metrics.revocation_lag.observe(RevocationKind::User, Duration::from_millis(40));
    metrics.store_calls.inc(StoreVerb::Get, StoreResult::Ok);
    metrics.store.observe(StoreVerb::Get, Duration::from_micros(30));
    metrics.policy("na\"me\\with\nodd characters").inc(Decision::WouldRefuse);
    metrics
}

/// A strict reading of the text format: each family's HELP and TYPE once, before its samples, and all samples
/// of a family together. Gives samples by family.
fn parse(text: &str) -> BTreeMap<String, (String, Vec<(String, f64)>)> {
    let mut families: BTreeMap<String, (String, Vec<(String, f64)>)> = BTreeMap::new();
    let (mut current, mut helped) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            helped = rest.split_once(' ').unwrap().0.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, helped);
            assert!(families.insert(name.to_owned(), (kind.to_owned(), Vec::new())).is_none(), "{name} stands twice");
            current = name.to_owned();
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let (kind, samples) = families.get_mut(&current).unwrap();
            let base = match kind.as_str() {
                "histogram" => ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap(),
                _ => name,
            };
            assert_eq!(base, current, "{line}");
            samples.push((series.to_owned(), value.parse().unwrap()));
        }
    }
    families
}

#[test]
fn every_family_is_listed_and_every_listed_one_is_there() {
    let metrics = busy();
    let _wallet = metrics.upstream("wallet");
    let text = Exporter::new(metrics, Clock::system()).render().unwrap();
    let families = parse(std::str::from_utf8(&text).unwrap());
    let listed: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(families.keys().map(String::as_str).collect::<BTreeSet<_>>(), listed);
    for family in FAMILIES {
        let (kind, samples) = &families[family.name];
        assert_eq!(kind, family.kind.as_str());
        assert!(!samples.is_empty(), "{} has no sample", family.name);
    }
}

#[test]
fn buckets_grow_and_end_with_the_count() {
    let text = Exporter::new(busy(), Clock::system()).render().unwrap();
    let families = parse(std::str::from_utf8(&text).unwrap());
    for family in FAMILIES.iter().filter(|family| family.kind == Kind::Histogram) {
        let samples = &families[family.name].1;
        let buckets: Vec<f64> = samples.iter().filter(|(name, _)| name.contains("_bucket")).map(|(_, n)| *n).collect();
        assert!(buckets.is_sorted(), "{}", family.name);
        let count = samples.iter().find(|(name, _)| name.contains("_count")).unwrap().1;
        assert_eq!(buckets.last(), Some(&count));
    }
    assert!(String::from_utf8(text).unwrap().contains(r#"policy="na\"me\\with\nodd characters""#));
}

#[test]
fn what_others_hold_is_asked_for_when_rendering() {
    let (clock, hand) = Clock::manual(1_766_193_300);
    let exporter =
        Exporter::new(busy(), clock).refresh_with(Box::new(|metrics| metrics.cache_entries.set(CacheName::Token, 17)));
    hand.advance(Duration::from_secs(90));
    let text = String::from_utf8(exporter.render().unwrap()).unwrap();
    assert!(text.contains("tmcp_edge_cache_entries{cache=\"token\"} 17\n"), "{text}");
    assert!(text.contains("tmcp_edge_uptime_seconds 90\n"), "{text}");
    assert!(text.contains("process_start_time_seconds 1766193300\n"), "{text}");
}

#[test]
fn breaker_states_are_numbers() {
    let metrics = busy();
    let wallet = metrics.upstream("wallet");
    wallet.set_breaker(Class::Payment, BreakerState::Open);
    let text = String::from_utf8(Exporter::new(metrics, Clock::system()).render().unwrap()).unwrap();
    assert!(text.contains("tmcp_edge_breaker_state{class=\"payment\",upstream=\"wallet\"} 2\n"), "{text}");
    assert!(text.contains("tmcp_edge_breaker_state{class=\"read\",upstream=\"wallet\"} 0\n"), "{text}");
}
