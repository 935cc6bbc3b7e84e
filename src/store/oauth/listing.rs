//! Grants page by page, for operators.
//!
//! One user's come from that user's list. Those of a mini-app, or of everybody, have no list: keeping one would cost every
//! grant that is made a second durable write, for a question that is asked now and then. They are found by walking through
//! the whole store, so much of it for each page and no more: a page may be empty and still not be the last one.
//!
//! Nothing is decided by a page, so what it shows may come from a replica. For the same reason nothing is tidied here: a
//! grant that a replica does not know may just have been made.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::index;
use super::{Grants, Held, Place};
use crate::model::oauth::{Grant, GrantId};
use crate::model::{MiniAppId, UserId};
use crate::store::{Read, Record, StoreError};

/// Records of the store that are looked at for one page, about.
const LOOKED_AT: usize = 2_000;
/// How cursors begin: within a user's list, or within the whole store.
const IN_LIST: char = 'u';
const IN_STORE: char = 's';

/// Grants, and where to go on when there may be more.
#[derive(Debug, Default)]
pub struct Page {
    /// The grants, in no particular order over pages.
    pub grants: Vec<(GrantId, Held<Grant>)>,
    /// What to ask for the next page with.
    pub next: Option<String>,
}

impl Grants {
    /// A page of the grants that live: of `user`, to `app`, or of everybody to anything. At most `limit` of a user's, and
    /// else what the part of the store held that was looked at. It may lag a moment behind ([`Read::Stale`]).
    ///
    /// # Errors
    /// [`StoreError::NoSuchCursor`] for a cursor that no such page gave, and when the store fails.
    pub async fn page(
        &self,
        user: Option<&UserId>,
        app: Option<&MiniAppId>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        match user {
            Some(user) => self.page_of_user(user, app, cursor, limit).await,
            None => self.page_of_all(app, cursor, limit).await,
        }
    }

    async fn page_of_user(
        &self,
        user: &UserId,
        app: Option<&MiniAppId>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let after = cursor.map(|cursor| decode(IN_LIST, cursor)).transpose()?;
        let entries = index::page(&*self.store, user, app, after.as_deref(), limit, Read::Stale).await?;
        let mut page = Page::default();
        for (_, id) in entries.iter().filter_map(|(name, _)| index::read_name(name)) {
            if let Some(grant) = self.read(id, Read::Stale).await? {
                page.grants.push((id, grant));
            }
        }
        page.next = entries.last().filter(|_| entries.len() == limit).map(|(last, _)| encode(IN_LIST, last));
        Ok(page)
    }

    async fn page_of_all(
        &self,
        app: Option<&MiniAppId>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let mut cursor = cursor.map(|cursor| decode(IN_STORE, cursor)).transpose()?;
        let (mut page, mut looked_at) = (Page::default(), 0);
        loop {
            let (records, next) = self.store.dump(cursor, limit).await?;
            looked_at += records.len().max(1);
            for record in &records {
                if let Some((of, id)) = entry(record)
                    && app.is_none_or(|app| *app == of)
                    && let Some(grant) = self.read(id, Read::Stale).await?
                {
                    page.grants.push((id, grant));
                }
            }
            page.next = next.as_deref().map(|next| encode(IN_STORE, next));
            if next.is_none() || page.grants.len() >= limit || looked_at >= LOOKED_AT {
                return Ok(page);
            }
            cursor = next;
        }
    }
}

/// The mini-app and the grant, when the record is an entry of somebody's list.
fn entry(record: &Record) -> Option<(MiniAppId, GrantId)> {
    match record {
        Record::Value { partition, name, .. } if partition.kind() == Place::Grants.kind() => index::read_name(name),
        _ => None,
    }
}

fn encode(place: char, after: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{place}{after}"))
}

fn decode(place: char, cursor: &str) -> Result<String, StoreError> {
    let text = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.and_then(|text| text.strip_prefix(place).map(str::to_owned)).ok_or(StoreError::NoSuchCursor)
}
