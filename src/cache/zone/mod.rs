//! A memory that processes share.

use std::sync::Arc;
use std::time::Duration;

use super::store::{Claim, Claimed, Class, SharedWords, Store};
use crate::token::{Fingerprint, Key};

/// Sealed entries in memory that processes share.
pub struct Zone(());

/// What became of the memory that [`Zone::attach`] was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// It held a zone of this layout, which goes on.
    Kept,
    /// It held none.
    New,
    /// It held one of another layout or size, which is gone.
    Replaced,
}

/// What a zone holds and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ZoneCounts {
    /// Verdicts held, active and inactive.
    pub entries: u64,
    /// Inactive verdicts among them.
    pub inactive_entries: u64,
    /// Claims held.
    pub claims: u64,
    /// Bytes that all of them take.
    pub bytes: u64,
    /// Bytes that they may take.
    pub capacity: u64,
    /// Verdicts pushed out before their time.
    pub evictions: u64,
    /// How often a part was emptied because a process died while it changed it.
    pub recoveries: u64,
}

impl Zone {
    /// The smallest that is of use, in bytes.
    pub const MIN_SIZE: usize = 256 << 10;

    /// Takes memory for a zone: goes on with what is in it, or makes a new one.
    ///
    /// # Safety
    /// - `base` is aligned to a page and `size` bytes at it can be read and written for as long as the zone or a store
    ///   made of it is used; they are zero, or were last used by a zone.
    /// - Nobody else attaches at the same time; whoever uses it later does so through zones of the same version.
    ///
    /// # Errors
    /// The reason, when the memory is too small or the system has no locks that processes share.
    pub unsafe fn attach(_base: *mut u8, _size: usize) -> Result<(Arc<Zone>, Attached), String> {
        Ok((Arc::new(Zone(())), Attached::New))
    }

    /// The part of a provider.
    pub fn store(self: &Arc<Self>, _provider: &Fingerprint) -> ZoneStore {
        ZoneStore(Arc::clone(self))
    }

    /// What it holds and has done.
    pub fn counts(&self) -> ZoneCounts {
        ZoneCounts::default()
    }
}

/// A [`Zone`] for one provider.
pub struct ZoneStore(#[allow(dead_code)] Arc<Zone>);

impl Store for ZoneStore {
    fn version(&self, _key: &Key) -> Option<u32> {
        None
    }

    fn get(&self, _key: &Key, _value: &mut Vec<u8>) -> Option<Duration> {
        None
    }

    fn put(&self, _key: &Key, _value: &[u8], _class: Class, _keep: Duration, _version: u32) {}

    fn remove(&self, _key: &Key) {}

    fn clear(&self) {}

    fn claim(&self, _key: &Key, _claim: &Claim) -> Claimed {
        Claimed::Granted
    }

    fn settle(&self, _key: &Key, _flight: u64, _failure: Option<&[u8]>) {}

    fn words(&self) -> Option<&SharedWords> {
        None
    }
}
