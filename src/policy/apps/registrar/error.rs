//! Why a mini-app was not registered or changed, in words for an operator.

use std::fmt;
use std::path::PathBuf;

use crate::config::Problems;
use crate::config::miniapp::MAX_NAME;
use crate::model::MiniAppId;
use crate::store::StoreError;

/// Why nothing was done.
#[derive(Debug)]
pub enum RegistrarError {
    /// The store; what was asked for may have happened.
    Store(StoreError),
    /// It is no mini-app, or not one that may be.
    Invalid(Problems),
    /// Another one has the id.
    Exists(MiniAppId),
    /// One that was removed had the id.
    Removed(MiniAppId),
    /// The config's own, with the file that it stands in.
    Named(MiniAppId, Option<PathBuf>),
    /// One of the two signs in under the other's id.
    Namesake(MiniAppId, MiniAppId),
    /// None is known by that id.
    Unknown(MiniAppId),
    /// It is public.
    KeepsNoSecret(MiniAppId),
    /// It has no webhook address.
    NoWebhook(MiniAppId),
    /// It is not switched off.
    NotSuspended(MiniAppId),
    /// The reason is too long, or not one line of plain text.
    Reason,
    /// What would be written reads back as something else.
    Record(MiniAppId, String),
}

impl fmt::Display for RegistrarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegistrarError::Store(error) => error.fmt(f),
            RegistrarError::Invalid(problems) => problems.fmt(f),
            RegistrarError::Exists(id) => {
                write!(f, "there is a mini-app {id} already; --replace puts this one in its place")
            }
            RegistrarError::Removed(id) => write!(
                f,
                "{id} was the id of a mini-app that has been removed, and what users allowed it is remembered by that id; \
                 --replace brings it back, for a mini-app of the same developer"
            ),
            RegistrarError::Named(id, Some(file)) => {
                write!(f, "{id} stands in the config: change it in {}, then reload", file.display())
            }
            RegistrarError::Named(id, None) => write!(f, "{id} stands in the config: change it there, then reload"),
            RegistrarError::Namesake(id, other) => write!(
                f,
                "{id} cannot be told from {other}, one being the name of the other's back end; take another id"
            ),
            RegistrarError::Unknown(id) => write!(f, "there is no mini-app {id}; `app list` shows what there is"),
            RegistrarError::KeepsNoSecret(id) => {
                write!(
                    f,
                    "{id} is public and keeps no secret; register it again with --replace and another --type first"
                )
            }
            RegistrarError::NoWebhook(id) => {
                write!(f, "{id} has no webhook address; register it again with --replace and --webhook-url first")
            }
            RegistrarError::NotSuspended(id) => write!(f, "{id} is not suspended"),
            RegistrarError::Reason => {
                write!(f, "--reason: too long, or not one line of plain text, expected at most {MAX_NAME} characters")
            }
            RegistrarError::Record(id, why) => write!(f, "mini-app {id}: {why}"),
        }
    }
}

impl std::error::Error for RegistrarError {}

impl From<StoreError> for RegistrarError {
    fn from(error: StoreError) -> RegistrarError {
        RegistrarError::Store(error)
    }
}
