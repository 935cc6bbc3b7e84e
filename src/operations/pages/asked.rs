//! What a page is asked: parameters of its address and fields of its form.

use std::net::IpAddr;

use http::{HeaderMap, Method};

use crate::error::{Code, Refusal};
use crate::model::UserId;
use crate::operations::{Call, Services};
use crate::policy::authn::bearer::{self, Credential};
use crate::policy::guard::Address;
use crate::policy::{Form, Permit};

/// A call of a page.
pub struct Asked<'a> {
    /// The headers.
    pub headers: &'a HeaderMap,
    address: Address<'a>,
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
        Ok(Asked { headers: call.headers, address: call.address, posted: call.method == Method::POST, form, query })
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

    /// Where the request comes from.
    pub fn client(&self) -> IpAddr {
        self.address.client
    }

    /// Notes that what was sent is nobody's password, token or code: whoever goes on guessing is not heard any more.
    pub fn guessed(&self, services: &Services) {
        self.address.guessed(services.clock.tick());
    }

    /// Whose Matrix access token was sent, if one was.
    ///
    /// # Errors
    /// As [`Services::identify`], and 401 for a credential of another kind.
    pub async fn user(&self, services: &Services) -> Result<Option<UserId>, Refusal> {
        let Some(token) = self.bearer()? else { return Ok(None) };
        let identified = services.identify(token).await;
        if identified.as_ref().is_err_and(|refusal| refusal.code() == Code::InvalidToken) {
            self.guessed(services);
        }
        identified.map(Some)
    }

    fn bearer(&self) -> Result<Option<&'a str>, Refusal> {
        match bearer::credential(self.headers)? {
            Credential::Bearer(token) => Ok(Some(token)),
            Credential::None => Ok(None),
            Credential::Basic(_) | Credential::Other => Err(bearer::missing()),
        }
    }
}
