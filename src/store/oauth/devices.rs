//! Devices that wait for a user's answer (RFC 8628). A device's partition is that of the grant that will come of it; the
//! user code, which people type and which therefore carries no id, points there.

use std::sync::Arc;
use std::time::Duration;

use super::credential::random;
use super::value::{self, Held};
use super::{Credential, Kind, Place, partition};
use crate::model::ScopeSet;
use crate::model::oauth::{ClientId, Device, GrantId, UserCode};
use crate::store::{Applied, Backend, Batch, Condition, Partition, Read, StoreError};

pub(super) const NAME: &str = "device";
const POINTER: &str = "device";
/// Codes that are drawn before giving up. With a million devices waiting, one in 25,000 is taken.
const DRAWS: usize = 5;

/// Everybody's devices.
#[derive(Clone, Debug)]
pub struct Devices {
    store: Arc<dyn Backend>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Pointer {
    grant: String,
}

fn pointer(code: &UserCode) -> Partition {
    Place::UserCode.of(code.as_str())
}

impl Devices {
    /// Kept in `store`.
    pub fn new(store: Arc<dyn Backend>) -> Devices {
        Devices { store }
    }

    /// A device begins to wait, for `ttl` from `now` (milliseconds since the Unix epoch).
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(
        &self,
        client: ClientId,
        scopes: ScopeSet,
        now: u64,
        ttl: Duration,
    ) -> Result<(Credential, UserCode), StoreError> {
        let device_code = Credential::first(Kind::Device)?;
        let pointed = value::write(&Pointer { grant: device_code.grant().to_string() })?;
        for _ in 0..DRAWS {
            let mut bytes = [0; 64];
            random(&mut bytes)?;
            let user_code = UserCode::draw(&bytes);
            let batch = Batch::new(pointer(&user_code))?
                .when(POINTER, Condition::Absent)
                .put(POINTER, pointed.clone(), Some(ttl))
                .relaxed();
            if self.store.apply(batch).await? != Applied::Done {
                continue;
            }
            let expires_at = now + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
            let device = Device::new(client, scopes, device_code.hash(), user_code.clone(), expires_at);
            let batch = Batch::new(partition(device_code.grant()))?.put(NAME, value::write(&device)?, Some(ttl));
            self.store.apply(batch.relaxed()).await?;
            return Ok((device_code, user_code));
        }
        Err(StoreError::Internal("no user code is free".to_owned()))
    }

    /// The device that shows `code`, if one waits.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn by_user_code(&self, code: &UserCode) -> Result<Option<(GrantId, Held<Device>)>, StoreError> {
        let Some(entry) = self.store.get(&pointer(code), POINTER, Read::Latest).await? else { return Ok(None) };
        let pointer: Held<Pointer> = value::read("a user code", &entry)?;
        let Some(id) = GrantId::parse(&pointer.value.grant) else {
            return Err(StoreError::Malformed("a user code points nowhere".to_owned()));
        };
        Ok(self.get(id).await?.filter(|device| device.value.user_code == *code).map(|device| (id, device)))
    }

    /// The device of a grant, as long as it waits.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn get(&self, id: GrantId) -> Result<Option<Held<Device>>, StoreError> {
        let entry = self.store.get(&partition(id), NAME, Read::Latest).await?;
        entry.map(|entry| value::read("a device", &entry)).transpose()
    }

    /// Writes what became of a device: the user's answer ([`Device::approved`], [`Device::denied`]), or that it asked.
    /// `false`: somebody was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn change(
        &self,
        id: GrantId,
        held: &Held<Device>,
        changed: &Device,
        now: u64,
    ) -> Result<bool, StoreError> {
        let left = Duration::from_millis(changed.expires_at.saturating_sub(now).max(1));
        let batch = Batch::new(partition(id))?.when(NAME, Condition::Is(held.version)).put(
            NAME,
            value::write(changed)?,
            Some(left),
        );
        // An answer must not be lost; that a device has asked may be.
        let batch = if changed.answer == held.value.answer { batch.relaxed() } else { batch };
        Ok(self.store.apply(batch).await? == Applied::Done)
    }
}
