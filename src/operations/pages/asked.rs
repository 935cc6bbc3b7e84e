//! What a page is asked: parameters of its address and fields of its form.

use http::{HeaderMap, Method};

use crate::error::Refusal;
use crate::operations::Call;
use crate::policy::authn::bearer::{self, Credential};
use crate::policy::{Form, Permit};

/// A call of a page.
pub struct Asked<'a> {
    /// The headers.
    pub headers: &'a HeaderMap,
    posted: bool,
    form: Form,
    query: Form,
}

impl<'a> Asked<'a> {
    /// Reads form and query.
    ///
    /// # Errors
    /// 400 for a malformed one, or a name that stands twice.
    pub fn of(permit: &Permit, call: &Call<'a>) -> Result<Asked<'a>, Refusal> {
        let form = Form::parse(permit.body().map_or(&[], |body| body))?;
        let query = Form::parse(call.query.unwrap_or_default().as_bytes())?;
        Ok(Asked { headers: call.headers, posted: call.method == Method::POST, form, query })
    }

    /// Whether a form was sent.
    pub fn posted(&self) -> bool {
        self.posted
    }

    /// A field of the form.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.form.get(name)
    }

    /// A field of the form, else a parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.form.get(name).or_else(|| self.query.get(name))
    }

    /// The bearer token that was sent, if one was.
    ///
    /// # Errors
    /// 401 for a credential of another kind, or a malformed one.
    pub fn bearer(&self) -> Result<Option<&'a str>, Refusal> {
        match bearer::credential(self.headers)? {
            Credential::Bearer(token) => Ok(Some(token)),
            Credential::None => Ok(None),
            Credential::Basic(_) | Credential::Other => Err(bearer::missing()),
        }
    }
}
