//! What an operation sees of its request, besides the permit.

use std::borrow::Cow;

use http::request::Parts;

use super::form::Form;
use crate::error::Refusal;
use crate::policy::Permit;
use crate::policy::authn::{Caller, bearer};

/// A request that was admitted.
pub struct Asked<'a> {
    /// Its head.
    pub head: &'a Parts,
    /// Who is calling.
    pub caller: &'a Caller,
    form: Form<'a>,
}

impl<'a> Asked<'a> {
    /// Of an admitted request, whose body the permit holds. Fields are read from forms alone.
    pub fn new(head: &'a Parts, caller: &'a Caller, permit: &'a Permit) -> Asked<'a> {
        let form = match permit.route().body {
            crate::model::rows::Body::Form => permit.body().map(|body| Form::parse(body)).unwrap_or_default(),
            _ => Form::default(),
        };
        Asked { head, caller, form }
    }

    /// A field of the form that was sent.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.get(name)
    }

    /// A field of the form, else a parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<Cow<'_, str>> {
        let query = || {
            let query = Form::parse(self.head.uri.query().unwrap_or_default().as_bytes());
            query.get(name).map(|value| Cow::Owned(value.to_owned()))
        };
        self.form.get(name).map(Cow::Borrowed).or_else(query)
    }

    /// The bearer token that was sent, if one was.
    ///
    /// # Errors
    /// 401 for a credential of another kind, or a malformed one.
    pub fn bearer(&self) -> Result<Option<&'a str>, Refusal> {
        match bearer::credential(&self.head.headers)? {
            bearer::Credential::Bearer(token) => Ok(Some(token)),
            bearer::Credential::None => Ok(None),
            bearer::Credential::Basic(_) | bearer::Credential::Other => Err(bearer::missing()),
        }
    }
}
