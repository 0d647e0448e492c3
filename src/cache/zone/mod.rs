//! A cache in memory that processes share.
//!
//! | file | contents |
//! | --- | --- |
//! | `layout.rs` | the memory layout |
//! | `atomics.rs` | the atomics that the layout is made of |
//! | `lock.rs` | locks that survive their holder |
//! | `providers.rs` | the assignment of parts to providers |
//! | `table.rs` | a shard: entries and leases under one lock |
//!
//! The memory is divided into up to 64 shards. Each has its own lock, which is held for the time of one probe and one
//! copy. When a process dies while it holds a lock, the kernel notifies the next process that takes the lock, and that
//! process empties the shard: its entries are lost, and nothing else. So a process may die at any point without leaving
//! a wrong entry, and no single point needs separate analysis.
//!
//! A zone does not interpret the values it stores: see `sealed.rs` for their format. Proofs (see `store.rs`) are
//! digests, from which nothing can be recovered either.

mod atomics;
mod layout;
mod lock;
mod providers;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use aws_lc_rs::rand;

use self::layout::{BLOCK, COUNTERS, EntryKind, LAYOUT, MAGIC, Map, PROVIDERS};
use self::lock::Lock;
use self::providers::Holding;
use self::table::{Asked, At, Corrupt, Got, MAX_FAILURE, Table, after, bump, version_of};
use super::store::{
    Class, FetchLease, FirstUse, LeaseOutcome, ProofId, ProofTime, SharedAtomics, Store, Version,
};
use crate::clock;
use crate::process::is_alive;
use crate::token::{Fingerprint, Key};

/// The number of times that a lookup makes room for a value that has grown meanwhile.
const GET_ATTEMPTS: usize = 4;
/// The number of times that a lease is taken over from processes that have died.
const CLAIM_ATTEMPTS: usize = 4;

/// Sealed entries in memory that processes share.
pub struct Zone {
    map: Map,
}

/// The result of [`Zone::attach`] for the memory that it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// It held a zone of this layout, which is continued.
    Kept,
    /// It held no zone.
    New,
    /// It held a zone of another layout or size, which is lost.
    Replaced,
}

/// The sizes and counters of a zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ZoneCounts {
    /// Verdicts held, active and inactive. Those that have expired, or were cleared, are included until their room is
    /// needed.
    pub entries: u64,
    /// Inactive verdicts among them.
    pub inactive_entries: u64,
    /// Leases held.
    pub claims: u64,
    /// Proofs recorded. Those that have expired are included until their room is needed.
    pub proofs: u64,
    /// The size of all of them, in bytes.
    pub bytes: u64,
    /// The maximum size of all of them, in bytes.
    pub capacity: u64,
    /// Verdicts evicted before their lifetime ended.
    pub evictions: u64,
    /// The number of times that a shard was emptied, because a process died while it changed it or the memory was
    /// overwritten.
    pub recoveries: u64,
}

/// The reason why memory can't be used as a zone.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// The system has no robust locks.
    #[error("this system has no locks that survive the process that holds them")]
    Unsupported,
    /// The memory has fewer bytes than [`Zone::MIN_SIZE`]: this many.
    #[error("a zone of {0} bytes is too small: it needs {min} at least", min = Zone::MIN_SIZE)]
    TooSmall(usize),
    /// The memory does not begin with a page.
    #[error("the memory of a zone must be aligned to a page")]
    Unaligned,
    /// The system gives no random numbers.
    #[error("no random numbers can be had")]
    Random,
    /// The system makes no lock.
    #[error("{call}: {source}")]
    Lock {
        /// The function that failed.
        call: &'static str,
        /// Its error.
        source: io::Error,
    },
}

impl Zone {
    /// The minimum size, in bytes.
    pub const MIN_SIZE: usize = 256 << 10;

    /// The maximum number of providers in a zone. With more, those that were opened longest ago share nothing.
    pub const MAX_PROVIDERS: usize = PROVIDERS;

    /// Attaches memory as a zone: continues with its contents, or makes a new zone.
    ///
    /// # Safety
    /// - `base` is aligned to a page and `size` bytes at it can be read and written for as long as the zone or a store
    ///   made of it is used; they are zero, or were last used by a zone.
    /// - No other process attaches at the same time; all later users use it through zones of the same version.
    /// - The memory does not outlive the system's run: after a reboot, its locks and its times mean nothing.
    ///
    /// # Errors
    /// When the memory is too small or not aligned, or the system has no locks that processes share.
    pub unsafe fn attach(base: *mut u8, size: usize) -> Result<(Arc<Zone>, Attached), ZoneError> {
        if !Lock::SUPPORTED {
            return Err(ZoneError::Unsupported);
        }
        if size < Self::MIN_SIZE {
            return Err(ZoneError::TooSmall(size));
        }
        let base = NonNull::new(base)
            .filter(|base| base.addr().get() % BLOCK == 0)
            .ok_or(ZoneError::Unaligned)?;
        // SAFETY: `base` is aligned to a block, and the memory large enough, as was just checked. The rest is our
        // caller's promise.
        let map = unsafe { Map::new(base, size) };
        let mut zone = Zone { map };
        let header = &zone.map.front().header;
        let attached = if header.magic.get() == 0 {
            Attached::New
        } else if zone.is_whole() {
            Attached::Kept
        } else {
            Attached::Replaced
        };
        if attached != Attached::Kept {
            // SAFETY: no other process attaches, and no process uses a zone in this memory: there is no complete zone,
            // or it is of another version.
            unsafe { zone.format()? };
        }
        // Everything written to the memory before its magic number is visible from here on.
        fence(Ordering::Acquire);
        let secret = zone.map.front().header.secret.get();
        zone.map.set_secret(secret);
        Ok((Arc::new(zone), attached))
    }

    /// Returns the store of a provider. Its earlier entries are still there, unless [`Zone::MAX_PROVIDERS`] other
    /// providers were opened since. When that happens while the store is held, it loses all entries and stores nothing
    /// any more; opening it again helps.
    pub fn store(self: &Arc<Self>, provider: &Fingerprint) -> ZoneStore {
        let providers = &self.map.front().providers;
        let holding = providers.open(provider, |slot, used| {
            // Entries of the slot's last provider can't be found by another provider, whose keys differ. But the last
            // provider might return to this slot after it was cleared in another. And entries in the memory of its
            // processes could not be ended any more, once it has no slot.
            for shard in 0..self.map.geometry().shards {
                self.locked(shard, |table| {
                    if used {
                        table.bump_all();
                    }
                    table.hide(slot)
                });
            }
        });
        ZoneStore {
            zone: Arc::clone(self),
            provider: *provider,
            holding,
        }
    }

    /// The sizes and counters of the zone.
    pub fn counts(&self) -> ZoneCounts {
        let geometry = self.map.geometry();
        let mut all = ZoneCounts::default();
        for shard in 0..geometry.shards {
            let Some(counts) = self.locked(shard, |table| Ok(table.counts())) else {
                continue;
            };
            let [active, inactive, claims, proofs] = counts.entries;
            all.entries += active + inactive;
            all.inactive_entries += inactive;
            all.claims += claims;
            all.proofs += proofs;
            all.bytes += counts.blocks * BLOCK as u64;
            all.evictions += counts.evictions;
            all.recoveries += counts.recoveries;
            all.capacity += (geometry.blocks as u64 - 1) * BLOCK as u64;
        }
        all
    }

    /// Whether the memory contains a zone of this layout and size.
    fn is_whole(&self) -> bool {
        let header = &self.map.front().header;
        header.magic.get() == MAGIC
            && header.layout.get() == LAYOUT
            && header.lock.get() == size_of::<Lock>() as u32
            && header.size.get() == self.map.geometry().size as u64
    }

    /// Makes an empty zone. If this is interrupted, the memory contains no zone.
    ///
    /// # Safety
    /// No process uses the memory.
    unsafe fn format(&self) -> Result<(), ZoneError> {
        let mut secret = [0; 8];
        rand::fill(&mut secret).map_err(|_| ZoneError::Random)?;
        let front = self.map.front();
        let header = &front.header;
        header.magic.set(0);
        // No write below is visible before that.
        fence(Ordering::SeqCst);
        header.layout.set(LAYOUT);
        header.lock.set(size_of::<Lock>() as u32);
        header.size.set(self.map.geometry().size as u64);
        header.secret.set(u64::from_le_bytes(secret));
        // Not zero: a process that cached entries of an earlier zone in this memory must not use them any more.
        front.versions.iter().for_each(bump);
        front.strays.iter().for_each(|stray| stray.set(0));
        // SAFETY: nobody uses the memory.
        unsafe { front.providers.lock.init()? };
        front.providers.format();
        for number in 0..self.map.geometry().shards {
            let shard = self.map.shard(number);
            // SAFETY: as above.
            unsafe { shard.head.lock.init()? };
            // No other process has the lock's memory yet, which is equivalent to holding the lock.
            Table {
                map: &self.map,
                shard,
            }
            .format();
        }
        // No write above is visible after this.
        fence(Ordering::SeqCst);
        header.magic.set(MAGIC);
        Ok(())
    }

    /// Runs a function under the lock of a shard. `None` when the lock is unusable, or the shard contradicted itself
    /// and is empty now.
    fn locked<T>(
        &self,
        number: usize,
        work: impl FnOnce(&Table<'_>) -> Result<T, Corrupt>,
    ) -> Option<T> {
        /// Empties the shard on a panic. There should be none; but the state that a panic leaves must not be used.
        struct OnPanic<'a>(&'a Table<'a>);

        impl Drop for OnPanic<'_> {
            fn drop(&mut self) {
                self.0.empty();
            }
        }

        let shard = self.map.shard(number);
        let table = Table {
            map: &self.map,
            shard,
        };
        let _guard = shard.head.lock.lock(|| table.empty())?;
        let on_panic = OnPanic(&table);
        let done = work(&table);
        std::mem::forget(on_panic);
        match done {
            Ok(value) => Some(value),
            Err(Corrupt) => {
                table.empty();
                None
            }
        }
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The numbers of the zone are under locks, which are not taken for this.
        f.debug_struct("Zone")
            .field("size", &self.map.geometry().size)
            .finish_non_exhaustive()
    }
}

/// A [`Zone`] for one provider.
pub struct ZoneStore {
    zone: Arc<Zone>,
    provider: Fingerprint,
    holding: Option<Holding>,
}

impl fmt::Debug for ZoneStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZoneStore")
            .field("zone", &self.zone)
            .finish_non_exhaustive()
    }
}

impl ZoneStore {
    /// The provider's slot, for as long as this store owns it.
    #[inline]
    fn holding(&self) -> Option<Holding> {
        let providers = &self.zone.map.front().providers;
        self.holding
            .filter(|&holding| providers.is_current(holding))
    }

    #[inline]
    fn at<'a>(&self, key: &'a Key, now: u64) -> Option<At<'a>> {
        Some(At {
            key,
            place: self.zone.map.place(key),
            slot: self.holding()?.slot(),
            now,
        })
    }

    /// [`Store::get`] at a given time.
    fn get_at(&self, key: &Key, value: &mut Vec<u8>, now: u64) -> Option<Duration> {
        let at = self.at(key, now)?;
        for _ in 0..GET_ATTEMPTS {
            match self
                .zone
                .locked(at.place.shard, |table| table.get(at, value))?
            {
                Got::Nothing => return None,
                Got::Until(until) => return Some(Duration::from_millis(until.saturating_sub(now))),
                // Not under the lock, which must never wait for the allocator.
                Got::Longer(length) => value.reserve(length),
            }
        }
        None
    }

    fn put_at(
        &self,
        key: &Key,
        value: &[u8],
        kind: EntryKind,
        keep: Duration,
        version: Version,
        now: u64,
    ) -> bool {
        let place = self.zone.map.place(key);
        let stored = self
            .zone
            .locked(place.shard, |table| match self.at(key, now) {
                Some(at) => table.put(at, value, kind, after(now, keep), version),
                None => Ok(table.put_elsewhere(place, kind, version)),
            });
        // With an unusable shard, cached entries of its keys end whenever one of their tokens is called inactive.
        stored.unwrap_or(true)
    }

    fn end_at(
        &self,
        key: &Key,
        value: &[u8],
        keep: Duration,
        version: Version,
        now: u64,
    ) -> Option<Version> {
        let outdated = self.word(key).epoch != version.epoch;
        let ended = self.at(key, now).and_then(|at| {
            self.zone.locked(at.place.shard, |table| {
                table.end(at, value, after(now, keep), version)
            })
        });
        ended.unwrap_or_else(|| {
            // Ends all entries of the key that this store can't look up.
            self.remove(key);
            (!outdated).then(|| self.word(key))
        })
    }

    fn word(&self, key: &Key) -> Version {
        let counter = self.zone.map.place(key).counter;
        let version = &self.zone.map.front().versions[counter % COUNTERS];
        // Any lookup after this comes after the change that made this version.
        version_of(version.load(Ordering::Acquire))
    }

    fn lease_at(&self, key: &Key, lease: &FetchLease, now: u64) -> LeaseOutcome {
        let Some(at) = self.at(key, now) else {
            return LeaseOutcome::Granted;
        };
        // Read every time: the store may have been inherited through a fork.
        let pid = std::process::id();
        let mut failure = [0; MAX_FAILURE];
        let mut dead = None;
        for _ in 0..CLAIM_ATTEMPTS {
            let asked = self.zone.locked(at.place.shard, |table| {
                table.lease(at, lease, pid, dead, &mut failure)
            });
            match asked {
                None | Some(Asked::Granted) => break,
                Some(Asked::Failed(length)) => {
                    return LeaseOutcome::Failed(failure[..length].to_vec());
                }
                Some(Asked::Held { flight, pid: other }) => {
                    if other == pid || is_alive(other) {
                        return LeaseOutcome::Held(flight);
                    }
                    dead = Some(flight);
                }
            }
        }
        LeaseOutcome::Granted
    }

    fn settle_at(&self, key: &Key, flight: u64, failure: Option<&[u8]>, now: u64) {
        let Some(at) = self.at(key, now) else { return };
        self.zone
            .locked(at.place.shard, |table| table.release(at, flight, failure));
    }

    fn first_use_at(&self, proof: &ProofId, time: ProofTime, now: u64) -> FirstUse {
        // All providers share the records of proofs, and none needs a slot for them. So a lost slot loses no proofs,
        // and a clear removes none.
        let key = Key(proof.0);
        let at = At {
            key: &key,
            place: self.zone.map.place(&key),
            slot: 0,
            now,
        };
        self.zone
            .locked(at.place.shard, |table| table.first_use(at, &time))
            .unwrap_or(FirstUse::Lost)
    }
}

impl Store for ZoneStore {
    fn version(&self, key: &Key) -> Option<Version> {
        Some(self.word(key))
    }

    fn get(&self, key: &Key, value: &mut Vec<u8>) -> Option<Duration> {
        self.get_at(key, value, clock::now().monotonic)
    }

    fn put(&self, key: &Key, value: &[u8], class: Class, keep: Duration, version: Version) -> bool {
        let kind = match class {
            Class::Active => EntryKind::Active,
            Class::Inactive => EntryKind::Inactive,
        };
        self.put_at(key, value, kind, keep, version, clock::now().monotonic)
    }

    fn remove(&self, key: &Key) {
        let place = self.zone.map.place(key);
        let removed = self.zone.locked(place.shard, |table| {
            // Clears it in any slot: if this store has lost its slot, others may hold the provider's new one.
            table.remove(key, place)
        });
        if removed.is_none() {
            // An unusable shard has no entries, but cached entries of its keys in processes must end all the same.
            bump(&self.zone.map.front().versions[place.counter % COUNTERS]);
        }
    }

    fn end(&self, key: &Key, value: &[u8], keep: Duration, version: Version) -> Option<Version> {
        self.end_at(key, value, keep, version, clock::now().monotonic)
    }

    fn removes_surely(&self) -> bool {
        true
    }

    fn clear(&self) {
        // Not the slot that this store has held: if it was lost, others may hold the provider's new one.
        let slot = self.zone.map.front().providers.find(&self.provider);
        for number in 0..self.zone.map.geometry().shards {
            let cleared = self.zone.locked(number, |table| {
                table.bump_all();
                slot.map_or(Ok(()), |slot| table.hide(slot))
            });
            if cleared.is_none() {
                self.zone.map.shard(number).versions.iter().for_each(bump);
            }
        }
    }

    fn lease(&self, key: &Key, lease: &FetchLease) -> LeaseOutcome {
        self.lease_at(key, lease, clock::now().monotonic)
    }

    fn release(&self, key: &Key, flight: u64, failure: Option<&[u8]>) {
        self.settle_at(key, flight, failure, clock::now().monotonic);
    }

    fn first_use(&self, proof: &ProofId, time: ProofTime) -> FirstUse {
        self.first_use_at(proof, time, clock::now().monotonic)
    }

    fn words(&self) -> Option<&SharedAtomics> {
        let holding = self.holding()?;
        Some(self.zone.map.front().providers.words(holding))
    }
}
