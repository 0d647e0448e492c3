//! Versions of keys, which change on a purge, for a client without a shared store that keeps versions.

use std::sync::atomic::{AtomicU32, Ordering};

use super::store::Version;
use crate::token::Key;

/// The number of counters, 16 KiB in total. Keys share them, see [`super::Store`].
const COUNTERS: usize = 4096;

/// The versions of all keys.
pub(crate) struct Versions(Box<[AtomicU32]>);

impl Versions {
    pub fn new() -> Self {
        Versions((0..COUNTERS).map(|_| AtomicU32::new(0)).collect())
    }

    /// The key's version.
    pub fn of(&self, key: &Key) -> Version {
        self.counter(key).load(Ordering::Acquire).into()
    }

    /// Changes the key's version.
    pub fn change(&self, key: &Key) {
        self.counter(key).fetch_add(1, Ordering::AcqRel);
    }

    /// Changes the versions of all keys.
    pub fn change_all(&self) {
        for counter in &self.0 {
            counter.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn counter(&self, key: &Key) -> &AtomicU32 {
        let [.., low, high] = *key.as_bytes();
        &self.0[usize::from(u16::from_le_bytes([low, high])) % COUNTERS]
    }
}
