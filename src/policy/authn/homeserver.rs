//! The homeserver, by its `hs_token`. Looked at before a body byte is read, and compared in constant time.

use http::HeaderMap;

use super::bearer::{self, Credential};
use crate::config::{AppService, Secret};
use crate::error::{Challenge, Code, Refusal};

/// The tokens that the homeserver may show.
#[derive(Clone, Debug, Default)]
pub struct HomeserverTokens {
    tokens: Vec<Secret>,
    query_too: bool,
}

impl HomeserverTokens {
    /// Those of the registration; without one, no homeserver is believed.
    pub fn new(service: Option<&AppService>) -> HomeserverTokens {
        service.map_or_else(HomeserverTokens::default, |service| HomeserverTokens {
            tokens: service.hs_tokens.clone(),
            query_too: service.query_token,
        })
    }

    /// Whether the request is the homeserver's. The header counts; `?access_token=` is looked at only without one, and
    /// only where the config takes it (old homeservers send both).
    ///
    /// # Errors
    /// 401 `INVALID_TOKEN` when nothing was shown, 403 `FORBIDDEN` when it is wrong (protocol section 6).
    pub fn check(&self, headers: &HeaderMap, query: Option<&str>) -> Result<(), Refusal> {
        let from_query;
        let shown = match bearer::credential(headers)? {
            Credential::Bearer(token) => token,
            Credential::None if self.query_too => {
                from_query = token_in(query).ok_or_else(missing)?;
                from_query.as_str()
            }
            _ => return Err(missing()),
        };
        // All of them, whichever matches: the time does not tell which is in use.
        let known = self.tokens.iter().fold(false, |known, token| known | token.matches(shown.as_bytes()));
        if known {
            return Ok(());
        }
        Err(Refusal::new(Code::Forbidden, "The homeserver's token is not valid.").inside("wrong hs_token"))
    }
}

fn missing() -> Refusal {
    Refusal::new(Code::InvalidToken, "This path is for the homeserver, which has to show its hs_token.")
        .challenge(Challenge::Bearer)
        .inside("no hs_token")
}

/// The one `access_token` of a query; two of them are as bad as none.
fn token_in(query: Option<&str>) -> Option<String> {
    let mut values = url::form_urlencoded::parse(query?.as_bytes()).filter(|(name, _)| name == "access_token");
    let value = values.next().map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty());
    value.filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::AUTHORIZATION;

    use super::*;

    fn check(query_too: bool, header: Option<&'static str>, query: Option<&str>) -> Result<(), Code> {
        let tokens = HomeserverTokens { tokens: vec![Secret::new("demo-old"), Secret::new("demo-new")], query_too };
        let mut headers = HeaderMap::new();
        if let Some(header) = header {
            headers.insert(AUTHORIZATION, HeaderValue::from_static(header));
        }
        tokens.check(&headers, query).map_err(|refusal| refusal.code())
    }

    #[test]
    fn either_token_while_rotating() {
        assert_eq!(check(false, Some("Bearer demo-old"), None), Ok(()));
        assert_eq!(check(false, Some("bearer demo-new"), None), Ok(()));
        assert_eq!(check(false, Some("Bearer demo-newer"), None), Err(Code::Forbidden));
        assert_eq!(check(false, Some("Basic demo-new"), None), Err(Code::InvalidToken));
        assert_eq!(check(false, None, None), Err(Code::InvalidToken));
    }

    #[test]
    fn the_query_form_only_where_configured() {
        assert_eq!(check(false, None, Some("access_token=demo-new")), Err(Code::InvalidToken));
        assert_eq!(check(true, None, Some("x=1&access_token=demo-new")), Ok(()));
        assert_eq!(check(true, None, Some("access_token=demo%2Dnew")), Ok(()));
        assert_eq!(check(true, None, Some("access_token=wrong")), Err(Code::Forbidden));
        assert_eq!(check(true, None, Some("access_token=demo-new&access_token=x")), Err(Code::InvalidToken));
        assert_eq!(check(true, None, Some("access_token=")), Err(Code::InvalidToken));
        assert_eq!(check(true, Some("Bearer wrong"), Some("access_token=demo-new")), Err(Code::Forbidden));
    }

    #[test]
    fn nobody_without_a_registration() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert_eq!(HomeserverTokens::new(None).check(&headers, None).unwrap_err().code(), Code::Forbidden);
    }
}
