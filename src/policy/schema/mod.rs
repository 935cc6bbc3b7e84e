//! What an operation's body has to be: one JSON Schema per row that takes JSON, `conf/schemas/<name>.json`.
//!
//! The schemas are part of the program: a body rule that is missing or does not compile is found by the build's tests,
//! not by a customer. Shared parts (amounts, ids, timestamps) stand in `common.json` and are written into each schema
//! before it is compiled, so a failing rule leads straight to the words that explain it, the `description` beside it.
//! Two keywords are ours: `decimal` and `maxBytes`.
//!
//! A check first asks only yes or no, which stops at the first failure and is nearly free when there is none. Who is
//! refused gets every failing field, up to [`MOST`], by a second pass that looks at no more than 1000
//! elements of one array or object: a megabyte of wrong elements must not become hundreds of megabytes of findings.
//! Findings never hold a value: what failed may be a PIN.

mod keywords;
mod view;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{PatternOptions, Registry, ValidationError};
use serde_json::{Value, json};

use self::view::{Indexed, View};
use crate::policy::json::Document;

/// Most findings that one refusal lists.
pub const MOST: usize = 32;

/// Most elements of one array or object that the listing of findings looks at.
const LOOKED_AT: usize = 1000;

const COMMON: &str = include_str!("../../../conf/schemas/common.json");

macro_rules! sources {
    ($($name:literal)*) => {
        /// Every schema by name, as it stands in `conf/schemas`.
        const SOURCES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../conf/schemas/", $name, ".json")))),*];
    };
}

sources! {
    "auth_revoke" "client_bootstrap" "client_check_updates" "gift_create" "gift_open" "miniapp_appeal"
    "miniapp_register" "miniapp_submit" "miniapp_update" "p2p_accept" "p2p_confirm" "p2p_initiate" "p2p_reject"
    "payment_authorize" "payment_initiate" "payment_mfa_challenge" "payment_mfa_verify" "payment_refund" "rpc"
    "storage_batch_get" "storage_batch_set" "storage_set" "store_install" "wallet_activate" "wallet_callback"
    "wallet_device_register" "wallet_register" "wallet_resolve_batch" "webhook_redeliver" "webhook_subscriptions"
    "webhook_test"
}

/// Every schema, compiled.
#[derive(Debug)]
pub struct Schemas {
    by_name: HashMap<&'static str, SchemaId>,
    all: Vec<Schema>,
}

/// Which schema: a dense number, given by [`Schemas::find`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SchemaId(u16);

/// A schema that cannot be used: a mistake in the file, which the tests find.
#[derive(Debug)]
pub struct BadSchema {
    name: &'static str,
    reason: String,
}

impl std::fmt::Display for BadSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "conf/schemas/{}.json: {}", self.name, self.reason)
    }
}

impl std::error::Error for BadSchema {}

impl Schemas {
    /// Compiles every schema. Nothing is fetched: a reference that leads out of `conf/schemas` is an error.
    ///
    /// # Errors
    /// The first schema that is no JSON or no schema.
    pub fn compile() -> Result<Self, BadSchema> {
        let common = Registry::new()
            .add("edge:/common.json", parse("common", COMMON)?)
            .and_then(|registry| registry.prepare())
            .map_err(|error| BadSchema { name: "common", reason: error.to_string() })?;
        let mut schemas = Schemas { by_name: HashMap::new(), all: Vec::with_capacity(SOURCES.len()) };
        for (name, source) in SOURCES {
            let id = u16::try_from(schemas.all.len()).unwrap_or(u16::MAX);
            schemas.by_name.insert(name, SchemaId(id));
            schemas.all.push(Schema::compile(name, source, &common)?);
        }
        Ok(schemas)
    }

    /// The schema of that name.
    pub fn find(&self, name: &str) -> Option<SchemaId> {
        self.by_name.get(name).copied()
    }

    /// The compiled schema.
    pub fn get(&self, id: SchemaId) -> Option<&Schema> {
        self.all.get(usize::from(id.0))
    }
}

fn parse(name: &'static str, source: &str) -> Result<Value, BadSchema> {
    serde_json::from_str(source).map_err(|error| BadSchema { name, reason: error.to_string() })
}

/// One compiled schema.
#[derive(Debug)]
pub struct Schema {
    rules: Value,
    compiled: jsonschema::Validator<Indexed>,
    optional: bool,
}

impl Schema {
    fn compile(name: &'static str, source: &str, common: &Registry<'_>) -> Result<Self, BadSchema> {
        let bad = |reason: String| BadSchema { name, reason };
        let options = || {
            jsonschema::options_for::<Indexed>()
                .with_draft(jsonschema::Draft::Draft202012)
                .with_base_uri(format!("edge:/{name}.json"))
                .with_pattern_options(PatternOptions::regex())
                .with_keyword("decimal", keywords::decimal)
                .with_keyword("maxBytes", keywords::max_bytes)
                .offline()
        };
        let source = parse(name, source)?;
        let rules = options().with_registry(common).dereference(&source).map_err(|error| bad(error.to_string()))?;
        let compiled = options().build(&rules).map_err(|error| bad(error.to_string()))?;
        let empty = Document::read(b"{}").map_err(|error| bad(error.to_string()))?;
        let optional = compiled.is_valid(View::whole(empty.root()));
        Ok(Schema { rules, compiled, optional })
    }

    /// Whether the body may be left away: it may when `{}` would do.
    pub fn is_optional(&self) -> bool {
        self.optional
    }

    /// Checks a body.
    ///
    /// # Errors
    /// What is wrong with it: at least one finding and at most [`MOST`].
    pub fn check(&self, document: &Document<'_>) -> Result<(), Vec<Finding>> {
        if self.compiled.is_valid(View::whole(document.root())) {
            return Ok(());
        }
        let mut findings: Vec<Finding> = Vec::new();
        for error in self.compiled.iter_errors(View::upto(document.root(), LOOKED_AT)).take(MOST) {
            self.explain(&error, &mut findings);
        }
        if findings.is_empty() {
            // Whatever fails stands behind the elements that the listing looks at.
            if let Err(error) = self.compiled.validate(View::whole(document.root())) {
                self.explain(&error, &mut findings);
            }
        }
        findings.truncate(MOST);
        Err(findings)
    }

    fn explain(&self, error: &ValidationError<'_>, findings: &mut Vec<Finding>) {
        let keyword = error.kind().keyword();
        let place = error.instance_path().as_str();
        let rule_path = error.schema_path().as_str();
        let subschema = rule_path.rfind('/').and_then(|end| self.rules.pointer(rule_path.get(..end)?));
        match error.kind() {
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default();
                let described = subschema.and_then(|schema| schema.get("properties")?.get(name)?.get("description"));
                findings.push(Finding::new(format!("{place}/{}", escape(name)), keyword, "is required", described));
            }
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                for name in unexpected.iter().take(MOST) {
                    let name: String = name.chars().take(64).collect();
                    findings.push(Finding::new(
                        format!("{place}/{}", escape(&name)),
                        keyword,
                        "is not known here",
                        None,
                    ));
                }
            }
            kind => {
                let inside = rule_path.matches('/').count() > 1;
                let described = subschema.filter(|_| inside).and_then(|schema| schema.get("description"));
                findings.push(Finding::new(place.to_owned(), keyword, &message(kind), described));
            }
        }
    }
}

/// One thing that is wrong with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// JSON pointer to the failing field; of a missing one, to where it should be.
    pub pointer: String,
    /// The keyword of JSON Schema that is broken.
    pub rule: String,
    /// What is wrong and what was expected, for people. Never a value.
    pub message: String,
}

impl Finding {
    fn new(pointer: String, rule: &str, wrong: &str, described: Option<&Value>) -> Self {
        let message = match described.and_then(Value::as_str) {
            Some(expected) => format!("{wrong}; expected {expected}"),
            None => wrong.to_owned(),
        };
        Finding { pointer, rule: rule.to_owned(), message }
    }

    /// As it stands in `details.errors`.
    pub fn to_json(&self) -> Value {
        json!({ "pointer": self.pointer, "rule": self.rule, "message": self.message })
    }
}

fn escape(step: &str) -> String {
    step.replace('~', "~0").replace('/', "~1")
}

fn message(kind: &ValidationErrorKind) -> String {
    match kind {
        ValidationErrorKind::Type { kind: TypeKind::Single(one) } => format!("must be of type {one}"),
        ValidationErrorKind::Type { kind: TypeKind::Multiple(several) } => {
            let names: Vec<String> = several.iter().map(|one| one.to_string()).collect();
            format!("must be of type {}", names.join(" or "))
        }
        ValidationErrorKind::ExclusiveMinimum { limit } => format!("must be greater than {limit}"),
        ValidationErrorKind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        ValidationErrorKind::Minimum { limit } => format!("must be at least {limit}"),
        ValidationErrorKind::Maximum { limit } => format!("must be at most {limit}"),
        ValidationErrorKind::MinLength { limit } => format!("must have at least {limit} characters"),
        ValidationErrorKind::MaxLength { limit } => format!("must have at most {limit} characters"),
        ValidationErrorKind::MinItems { limit } => format!("must have at least {limit} elements"),
        ValidationErrorKind::MaxItems { limit } => format!("must have at most {limit} elements"),
        ValidationErrorKind::MinProperties { limit } => format!("must have at least {limit} members"),
        ValidationErrorKind::MaxProperties { limit } => format!("must have at most {limit} members"),
        ValidationErrorKind::UniqueItems => "must not hold an element twice".to_owned(),
        ValidationErrorKind::Pattern { .. } => "does not have the right form".to_owned(),
        ValidationErrorKind::Enum { options } => format!("must be one of {options}"),
        ValidationErrorKind::Constant { expected_value } => format!("must be {expected_value}"),
        ValidationErrorKind::AnyOf { .. } | ValidationErrorKind::OneOfNotValid { .. } => {
            "has none of the allowed forms".to_owned()
        }
        ValidationErrorKind::PropertyNames { error } => format!("has a member whose name {}", message(error.kind())),
        ValidationErrorKind::Custom { message, .. } => message.clone(),
        _ => "breaks a rule".to_owned(),
    }
}
