//! The body of a request: is it one that the operation takes, and what of it is sent on?
//!
//! In two steps, because the first needs only the headers and may refuse before a byte is read:
//!
//! 1. [`Validator::head`]: content type, coding and length against the row's body rule. It answers with a [`BodyPlan`]:
//!    nothing to read, stream through, or read whole up to a cap.
//! 2. [`Validator::body`]: structure, then sanitising, then the schema, in that order: the schema judges what will be
//!    sent, not what came. A body that sanitising does not change is handed back as the very same bytes.
//!
//! What comes from a homeserver is exempt from every content rule: it would send a refused transaction again for ever
//! (protocol section 11). Raw rows are not looked at.

mod form;
mod media;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Version};
use serde_json::json;

pub use self::form::Form;
use self::media::MediaType;
use crate::config::types::{Sanitization, Validation};
use crate::error::{Code, Refusal};
use crate::model::rows;
use crate::policy::json::{self, Document, Fault};
use crate::policy::sanitize;
use crate::policy::schema::{BadSchema, Finding, SchemaId, Schemas};

/// Largest body of a homeserver's transaction, bytes (protocol section 11).
pub const HOMESERVER_CAP: usize = 64 << 20;

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data";

/// Whether checking a body of that length takes so long (some tenths of a millisecond and more) that it belongs on a
/// blocking thread.
pub const fn is_heavy(length: usize) -> bool {
    length >= 64 << 10
}

/// What the head of a message says about the length of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    Empty,
    /// So many bytes, at least one.
    Exactly(u64),
    /// Chunked, or an HTTP/2 stream without a length: there may be a body, and it may be empty.
    Unknown,
}

impl Length {
    /// Reads the head. A caller that knows the stream to be over already says [`Length::Empty`] instead.
    ///
    /// # Errors
    /// 400 when `Content-Length` is no number or there are several that differ; the connection closes, since what
    /// follows cannot be told from a body.
    pub fn of(version: Version, headers: &HeaderMap) -> Result<Length, Refusal> {
        let mut length = None;
        for value in headers.get_all(CONTENT_LENGTH) {
            let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            let this: Option<u64> = text.and_then(|text| text.parse().ok());
            if this.is_none() || length.is_some_and(|length| Some(length) != this) {
                return Err(refuse_head("The Content-Length header is not one whole number.").close());
            }
            length = this;
        }
        Ok(match length {
            _ if headers.contains_key(TRANSFER_ENCODING) => Length::Unknown,
            Some(0) => Length::Empty,
            Some(length) => Length::Exactly(length),
            None if version >= Version::HTTP_2 => Length::Unknown,
            None => Length::Empty,
        })
    }
}

/// What to do about a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyPlan {
    /// There is none, and none is needed.
    None,
    /// Send it on as it comes, without looking.
    Stream,
    /// Read it whole, then ask [`Validator::body`].
    Read(Reading),
}

/// How to read a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Most bytes to read. At the first byte more, answer [`Reading::over`].
    pub cap: usize,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It has to turn out empty.
    Nothing,
    /// It has to turn out empty, since no content type says what it would be.
    Untyped {
        schema: Option<SchemaId>,
        row: rows::Body,
    },
    Schema(SchemaId),
    AnyJson,
    Form,
    /// Taken as it is: a content type that is not ours to understand.
    Opaque,
    Homeserver,
}

impl Reading {
    /// The refusal of a body that is longer than the cap.
    pub fn over(&self) -> Refusal {
        match self.kind {
            Kind::Nothing => unexpected_body(),
            _ => too_large(self.cap),
        }
    }
}

/// The checks of every body, compiled once per config.
#[derive(Debug)]
pub struct Validator {
    cap: usize,
    allowed: Vec<String>,
    sanitization: Sanitization,
    schemas: Schemas,
}

impl Validator {
    /// Compiles the schemas.
    ///
    /// # Errors
    /// A schema that is none: a mistake in the program, found by its tests.
    pub fn new(config: &Validation) -> Result<Validator, BadSchema> {
        Ok(Validator {
            cap: config.max_request_size,
            allowed: config.allowed_content_types.clone(),
            sanitization: config.sanitization,
            schemas: Schemas::compile()?,
        })
    }

    /// Judges by the head alone; nothing of the body has been read.
    ///
    /// # Errors
    /// 413 for a length over the cap, 415 for a content type or coding that is not accepted, 400 for a body where none
    /// is taken or none where one is needed.
    pub fn head(
        &self,
        rule: rows::Body,
        method: &Method,
        headers: &HeaderMap,
        length: Length,
    ) -> Result<BodyPlan, Refusal> {
        let rule = match rule {
            rows::Body::Raw => return Ok(BodyPlan::Stream),
            rows::Body::Homeserver => return Self::plan(Kind::Homeserver, HOMESERVER_CAP, length),
            // A row's body is that of its writing methods: RFC 9110 section 9.3 gives none of these a meaning.
            rows::Body::Json(_) | rows::Body::Form if !writes(method) => rows::Body::None,
            other => other,
        };
        if rule == rows::Body::None {
            return match length {
                Length::Empty => Ok(BodyPlan::None),
                Length::Exactly(_) => Err(unexpected_body()),
                Length::Unknown => Ok(BodyPlan::Read(Reading { cap: 0, kind: Kind::Nothing })),
            };
        }
        let schema = match rule {
            rows::Body::Json(name) => {
                Some(self.schemas.find(name).ok_or_else(|| Refusal::internal(format!("there is no schema {name}")))?)
            }
            _ => None,
        };
        if length == Length::Empty {
            return self.empty(schema).map(|()| BodyPlan::None);
        }
        identity_coding(headers)?;
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        let kind = match (types.next(), types.next()) {
            (None, _) if length == Length::Unknown => Kind::Untyped { schema, row: rule },
            (None, _) => return Err(self.unsupported(rule, "The request has a body but no Content-Type.")),
            (Some(value), None) => self.kind(rule, schema, value)?,
            (Some(_), Some(_)) => return Err(self.unsupported(rule, "The request has several Content-Type headers.")),
        };
        Self::plan(kind, if rule == rows::Body::Form { self.cap.min(form::CAP) } else { self.cap }, length)
    }

    fn plan(kind: Kind, cap: usize, length: Length) -> Result<BodyPlan, Refusal> {
        match length {
            Length::Empty => Ok(BodyPlan::None),
            Length::Exactly(length) if usize::try_from(length).map_or(true, |length| length > cap) => {
                Err(too_large(cap))
            }
            _ => Ok(BodyPlan::Read(Reading { cap, kind })),
        }
    }

    /// What a content type makes of the body.
    fn kind(&self, rule: rows::Body, schema: Option<SchemaId>, value: &HeaderValue) -> Result<Kind, Refusal> {
        let as_schema = schema.map_or(Kind::AnyJson, Kind::Schema);
        // What nearly every request says needs no parsing.
        if value == JSON && self.accepts(rule, JSON) {
            return Ok(as_schema);
        }
        let Some(media) = value.to_str().ok().and_then(MediaType::parse) else {
            return Err(self.unsupported(rule, "The Content-Type is malformed."));
        };
        if !self.accepts(rule, &media.essence) {
            return Err(self.unsupported(rule, "The Content-Type is not accepted here."));
        }
        match media.essence.as_str() {
            JSON | FORM if !media.is_utf8() => {
                Err(self.unsupported(rule, "The Content-Type may have no parameter but charset=utf-8."))
            }
            MULTIPART if !media.has_boundary() => {
                Err(self.unsupported(rule, "The Content-Type needs a well-formed boundary parameter."))
            }
            JSON => Ok(as_schema),
            FORM => Ok(Kind::Form),
            _ => Ok(Kind::Opaque),
        }
    }

    /// Whether a rule takes a content type: it belongs to the rule, and the config allows it.
    fn accepts(&self, rule: rows::Body, essence: &str) -> bool {
        let own = match rule {
            rows::Body::Json(_) | rows::Body::AnyJson => essence == JSON,
            rows::Body::Form => essence == FORM,
            _ => true,
        };
        own && self.allowed.iter().any(|allowed| allowed == essence)
    }

    fn unsupported(&self, rule: rows::Body, wrong: &str) -> Refusal {
        let allowed = self.allowed.iter().map(String::as_str);
        let accepted: Vec<&str> = allowed.filter(|essence| self.accepts(rule, essence)).collect();
        let message = match accepted.as_slice() {
            [] => format!("{wrong} The configuration allows no content type that this operation takes."),
            accepted => format!("{wrong} Accepted: {}.", accepted.join(", ")),
        };
        Refusal::new(Code::UnsupportedMediaType, message).details(json!({ "accepted": accepted }))
    }

    /// Lets no body at all pass where the schema could do without one; other rules speak only of a body that is there.
    fn empty(&self, schema: Option<SchemaId>) -> Result<(), Refusal> {
        if schema.and_then(|id| self.schemas.get(id)).is_none_or(|schema| schema.is_optional()) {
            return Ok(());
        }
        let finding =
            Finding { pointer: String::new(), rule: "required".to_owned(), message: "is required".to_owned() };
        Err(refuse_findings("The request needs a JSON body.", &[finding]))
    }

    /// Judges a body that was read whole, and returns what to send on. `text_fields` are the row's. Takes time in
    /// proportion to the length: see [`is_heavy`].
    ///
    /// # Errors
    /// 400 with every failing field, 413 over the cap, 415 for a body without content type.
    pub fn body(&self, reading: &Reading, text_fields: &[&str], body: Bytes) -> Result<Bytes, Refusal> {
        if body.len() > reading.cap {
            return Err(reading.over());
        }
        match reading.kind {
            Kind::Nothing | Kind::Opaque | Kind::Homeserver => Ok(body),
            Kind::Untyped { schema, .. } if body.is_empty() => self.empty(schema).map(|()| body),
            Kind::Untyped { row, .. } => Err(self.unsupported(row, "The request has a body but no Content-Type.")),
            Kind::Form => match form::check(&body) {
                Ok(()) => Ok(body),
                Err(finding) => Err(form::malformed(&finding)),
            },
            Kind::Schema(id) if body.is_empty() => self.empty(Some(id)).map(|()| body),
            Kind::AnyJson if body.is_empty() => Ok(body),
            Kind::Schema(id) => self.json(Some(id), text_fields, body),
            Kind::AnyJson if text_fields.is_empty() => match json::check(&body) {
                Ok(()) => Ok(body),
                Err(fault) => Err(malformed(&fault)),
            },
            Kind::AnyJson => self.json(None, text_fields, body),
        }
    }

    fn json(&self, schema: Option<SchemaId>, text_fields: &[&str], body: Bytes) -> Result<Bytes, Refusal> {
        let document = Document::read(&body).map_err(|fault| malformed(&fault))?;
        match sanitize::body(&document, &body, text_fields, self.sanitization) {
            None => self.schema(schema, &document)?,
            Some(clean) => {
                let document = Document::read(&clean)
                    .map_err(|fault| Refusal::internal(format!("sanitising broke a body's structure: {fault}")))?;
                self.schema(schema, &document)?;
                return Ok(clean);
            }
        }
        Ok(body)
    }

    fn schema(&self, schema: Option<SchemaId>, document: &Document<'_>) -> Result<(), Refusal> {
        let Some(schema) = schema.and_then(|id| self.schemas.get(id)) else { return Ok(()) };
        schema.check(document).map_err(|findings| {
            refuse_findings("The body does not have the form that this operation takes.", &findings)
        })
    }
}

fn writes(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

/// What is coded cannot be looked into, and a coding can hide a gigabyte in a megabyte.
fn identity_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let coded =
        headers.get_all(CONTENT_ENCODING).iter().any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if !coded {
        return Ok(());
    }
    let message = "A request body must not have a content coding. Accepted: identity.";
    Err(Refusal::new(Code::UnsupportedMediaType, message)
        .details(json!({ "accepted_codings": ["identity"] }))
        .header(ACCEPT_ENCODING, HeaderValue::from_static("identity")))
}

fn too_large(cap: usize) -> Refusal {
    Refusal::new(Code::PayloadTooLarge, format!("The body is larger than {cap} bytes."))
        .details(json!({ "max_bytes": cap }))
}

fn unexpected_body() -> Refusal {
    refuse_head("This operation takes no body.")
}

fn refuse_head(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::ValidationFailed, message)
}

fn refuse_findings(message: impl Into<Cow<'static, str>>, findings: &[Finding]) -> Refusal {
    let errors: Vec<serde_json::Value> = findings.iter().map(Finding::to_json).collect();
    Refusal::new(Code::ValidationFailed, message).details(json!({ "errors": errors }))
}

fn malformed(fault: &Fault) -> Refusal {
    Refusal::new(Code::ValidationFailed, format!("The body is not the JSON that is accepted here: {fault}.")).details(
        json!({ "errors": [{
            "pointer": fault.pointer,
            "rule": fault.rule,
            "message": fault.to_string(),
            "line": fault.line,
            "column": fault.column,
            "offset": fault.offset,
        }] }),
    )
}
