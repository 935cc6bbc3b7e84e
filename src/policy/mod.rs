//! May this request proceed?

pub mod authn;
pub mod authz;
pub mod guard;
pub mod issuers;
pub mod json;
pub mod keyring;
pub mod path;
pub mod rate_limit;
pub mod route;
pub mod sanitize;
pub mod schema;
pub mod validate;
pub mod whoami;
