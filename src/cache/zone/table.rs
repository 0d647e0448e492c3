//! One shard of a zone: a hash table of entries, under a lock.
//!
//! The work of every call is bounded by the length of the value that it receives or finds. Entries are chains of blocks
//! of one size, so taking and freeing them needs no search, and entries are evicted for another only until there are
//! enough blocks. Nothing here allocates, panics, makes a system call or reads a clock.
//!
//! # Trust
//!
//! A process that died while holding the lock may leave the shard in any state, so it is emptied before the next holder
//! looks at it: [`Table::empty`] reads nothing of the memory that it overwrites. Beyond that, no number in the memory
//! is trusted. A block's number is looked up within bounds, a chain is followed for at most its maximum number of
//! steps, and a contradiction is [`Corrupt`]; the caller then empties the shard. So overwritten memory costs its
//! contents, and can turn a right value into a wrong one, which its seal detects; it can do no more. The locks are the
//! exception: see `lock.rs`.
//!
//! # Inactive tokens
//!
//! When a token is called inactive, its cached entries must end in all processes. A change of its key's version ends
//! them. But a version is shared by many keys, and any client can send random tokens, which are called inactive, as
//! often as it likes. So the version is changed only if some process may have cached an active verdict. A process
//! caches only verdicts that were stored here, and for no longer than here. So the contents of the shard answer that
//! question, except for verdicts that left before their time: evicted, or too large to be stored. Those are marked
//! ([`Shard::strays`]), and the mark lasts until the version changes next. So random tokens change no version more
//! often than active verdicts were evicted.
//!
//! An active verdict that was asked for before a token was called inactive and arrives later must not be stored. Each
//! end is counted beside the version, in the same word, and a verdict of another count is refused. No cached entry ends
//! by that; a verdict that is refused because of random tokens is asked for again.
//!
//! # Proofs
//!
//! A verdict that is lost when its shard is emptied does no harm, but a proof whose record is lost could be used again.
//! So a shard keeps the latest `iat` of the proofs that it has forgotten ([`ShardHead::forgotten`]), and refuses every
//! proof that was not made after it. A proof whose record has ended is forgotten when its room is needed. When a shard
//! was emptied, it is not known which proofs were there: all that could have been recorded by then count as forgotten.

use std::sync::atomic::{AtomicU64, Ordering};

use super::atomics::{Relaxed8, Relaxed32, crash};
use super::layout::{
    Block, COUNTERS, EntryKind, FIRST, Head, List, MORE, Map, NONE, PROVIDERS, Place, Shard, Space,
};
use super::providers::words_of;
use crate::cache::{FetchLease, FirstUse, NO_PROOF, ProofTime, Version};
use crate::token::Key;

/// The precision of "least recently used", in units of [`stamp`]: an entry that moved to the front this recently stays
/// where it is. Moving it touches the heads of its neighbours, and takes the cache lines from the other processors.
const RECENCY: u16 = 10;
/// The time for which waiting flights receive the failure of a flight, in milliseconds.
const FAILURE_KEPT: u64 = 2_000;
/// The maximum length of a stored failure, in bytes.
pub(super) const MAX_FAILURE: usize = 512;
/// A lease's value begins with its [`Record`].
const RECORD: usize = 16;
/// The `pid` of a lease that has failed: no process has it.
const SETTLED: u32 = 0;
/// A proof's value is its `iat`.
const PROOF: usize = size_of::<i64>();

/// The increment of [`Version::epoch`] in a word that holds a version.
const EPOCH: u64 = 1 << 32;

/// The memory contradicts itself.
#[derive(Debug)]
pub(super) struct Corrupt;

/// A shard whose lock is held.
pub(super) struct Table<'a> {
    pub(super) map: &'a Map,
    pub(super) shard: Shard<'a>,
}

/// The key, provider and time of an operation.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) key: &'a Key,
    pub(super) place: Place,
    /// The provider's slot.
    pub(super) slot: usize,
    /// In milliseconds on the monotonic clock.
    pub(super) now: u64,
}

/// The result of a lookup.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Nothing,
    /// A value that ends at this time, and has been appended.
    Until(u64),
    /// A value of this many bytes, for which the buffer had no room.
    Longer(usize),
}

/// The result of a lease request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Granted,
    /// A flight of the process `pid` holds it.
    Held {
        flight: u64,
        pid: u32,
    },
    /// The flight has failed. Its failure has this many bytes, which were copied.
    Failed(usize),
}

/// The sizes and counters of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TableCounts {
    /// By [`EntryKind`].
    pub(super) entries: [u64; 4],
    pub(super) blocks: u64,
    pub(super) evictions: u64,
    pub(super) recoveries: u64,
}

/// The holder of a lease.
#[derive(Clone, Copy)]
struct Record {
    flight: u64,
    version: u32,
    /// The flight's process, or [`SETTLED`].
    pid: u32,
}

impl Record {
    fn bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..8].copy_from_slice(&self.flight.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..].copy_from_slice(&self.pid.to_le_bytes());
        bytes
    }

    fn of(bytes: &[u8; RECORD]) -> Self {
        let bits = u128::from_le_bytes(*bytes);
        Record {
            flight: bits as u64,
            version: (bits >> 64) as u32,
            pid: (bits >> 96) as u32,
        }
    }
}

/// The current time as stored in an entry's time of its last move: in seconds of 1,024 ms. It wraps around after 18
/// hours; an entry that was not used for exactly that time is moved to the front at its next use but one.
fn stamp(now: u64) -> u16 {
    (now >> 10) as u16
}

/// The number of blocks for a value of this length.
pub(super) fn blocks_for(length: usize) -> usize {
    1 + length.saturating_sub(FIRST).div_ceil(MORE)
}

/// The number of bytes of a value in the block `number` of its chain, and the number of other bytes before them in that
/// block.
#[inline]
fn part(number: usize, left: usize) -> (usize, usize) {
    if number == 0 {
        (size_of::<Head>(), left.min(FIRST))
    } else {
        (size_of::<Relaxed32>(), left.min(MORE))
    }
}

impl<'a> Table<'a> {
    /// Removes all entries of the shard, without reading them, and changes the versions of its keys.
    pub(super) fn empty(&self) {
        let head = self.shard.head;
        self.bump_all();
        head.emptied.set(1);
        self.clean();
        head.recoveries.set(head.recoveries.get().wrapping_add(1));
    }

    /// Initializes a new shard: one that has lost no entries.
    pub(super) fn format(&self) {
        let head = self.shard.head;
        for epoch in &head.epochs {
            epoch.set(0);
        }
        head.evictions.set(0);
        head.recoveries.set(0);
        head.emptied.set(0);
        head.forgotten.set(NO_PROOF as u64);
        self.clean();
    }

    fn clean(&self) {
        let head = self.shard.head;
        for bucket in self.shard.buckets {
            bucket.set(NONE);
        }
        for list in &head.lists {
            list.newest.set(NONE);
            list.oldest.set(NONE);
            list.entries.set(0);
            list.blocks.set(0);
        }
        head.free.set(NONE);
        head.fresh.set(1);
    }

    /// Appends the stored value to `value`, if there is room for it.
    pub(super) fn get(&self, at: At<'_>, value: &mut Vec<u8>) -> Result<Got, Corrupt> {
        let Some(index) = self.find(at.key, at.place, Space::Verdict)? else {
            return Ok(Got::Nothing);
        };
        let entry = self.entry(index)?;
        if !self.is_live(entry, &at) {
            self.discard(index)?;
            return Ok(Got::Nothing);
        }
        let length = self.length(entry)?;
        let room = value.spare_capacity_mut();
        if room.len() < length {
            return Ok(Got::Longer(length));
        }
        // SAFETY: there is room for `length` bytes, in memory of this process alone.
        unsafe { self.copy_out(index, length, room.as_mut_ptr().cast())? };
        // SAFETY: there was room for `length` bytes more, all of which have been written.
        unsafe { value.set_len(value.len() + length) };
        if stamp(at.now).wrapping_sub(entry.moved.get()) >= RECENCY {
            let list = self.list(self.kind(entry)?);
            self.unlist(list, index)?;
            self.enlist(list, index)?;
            entry.moved.set(stamp(at.now));
        }
        Ok(Got::Until(entry.until.get()))
    }

    /// Stores a value that ends at `until`, unless the version of its key differs. Returns whether it is the same.
    pub(super) fn put(
        &self,
        at: At<'_>,
        value: &[u8],
        kind: EntryKind,
        until: u64,
        version: Version,
    ) -> Result<bool, Corrupt> {
        if !self.may_remember(at.place, kind, version) {
            return Ok(false);
        }
        let mut replaced = 0;
        if let Some(index) = self.find(at.key, at.place, Space::Verdict)? {
            let entry = self.entry(index)?;
            if self.kind(entry)? == EntryKind::Active {
                replaced = entry.until.get();
            }
            self.discard(index)?;
        }
        let stored = self.insert(at, value, kind, until)?;
        // The time until which others may cache an active verdict, and the time until which one is here.
        let (copies, held) = match kind {
            EntryKind::Active => (until.max(replaced), if stored { until } else { 0 }),
            _ => (replaced, 0),
        };
        if copies > held && copies > at.now {
            self.stray(at.place).set(1);
        }
        Ok(true)
    }

    /// [`Table::put`] for a provider that no longer has a slot: nothing is stored, but the caller may cache the
    /// verdict.
    pub(super) fn put_elsewhere(&self, place: Place, kind: EntryKind, version: Version) -> bool {
        let may = self.may_remember(place, kind, version);
        if may && kind == EntryKind::Active {
            self.stray(place).set(1);
        }
        may
    }

    /// Ends all entries of a key, in this process and in others; see the head of this file. Then stores an inactive
    /// verdict that ends at `until`, unless that is over, or the epoch differs from that of `version`. Returns the new
    /// version, if the epoch was the same.
    pub(super) fn end(
        &self,
        at: At<'_>,
        value: &[u8],
        until: u64,
        version: Version,
    ) -> Result<Option<Version>, Corrupt> {
        let outdated = self.now(at.place).epoch != version.epoch;
        let store = !outdated && at.now < until;
        let mut known = self.stray(at.place).get() != 0;
        if let Some(index) = self.find(at.key, at.place, Space::Verdict)? {
            let active = self.kind(self.entry(index)?)? == EntryKind::Active;
            known |= active;
            if active || store {
                self.discard(index)?;
            }
        }
        crash::point();
        // After some 2^32 of them the epoch changes too, which ends only entries that are known elsewhere as well.
        self.version(at.place).fetch_add(1, Ordering::Release);
        if known {
            self.bump(at.place);
        }
        if store {
            self.insert(at, value, EntryKind::Inactive, until)?;
        }
        Ok((!outdated).then(|| self.now(at.place)))
    }

    /// Records a proof, if it has not been recorded before.
    pub(super) fn first_use(&self, at: At<'_>, time: &ProofTime) -> Result<FirstUse, Corrupt> {
        if let Some(index) = self.find(at.key, at.place, Space::Proof)? {
            let entry = self.entry(index)?;
            if at.now < entry.until.get() || time.iat <= self.iat(index, entry)? {
                return Ok(FirstUse::Replayed);
            }
            self.forget_proof(index)?;
        }
        let head = self.shard.head;
        if head.emptied.get() != 0 {
            self.forget_until(time.latest_noted());
            head.emptied.set(0);
        }
        if time.iat <= head.forgotten.get() as i64 {
            return Ok(FirstUse::Lost);
        }
        let until = after(at.now, time.left());
        Ok(
            if self.insert(at, &time.iat.to_le_bytes(), EntryKind::Proof, until)? {
                FirstUse::First
            } else {
                FirstUse::Full
            },
        )
    }

    /// The `iat` of a recorded proof.
    fn iat(&self, index: u32, entry: &Head) -> Result<i64, Corrupt> {
        if self.length(entry)? != PROOF {
            return Err(Corrupt);
        }
        let mut value = [0; PROOF];
        // SAFETY: there is room for `PROOF` bytes, on the stack of this thread.
        unsafe { self.copy_out(index, PROOF, value.as_mut_ptr())? };
        Ok(i64::from_le_bytes(value))
    }

    /// Removes a proof, and records that there was one.
    fn forget_proof(&self, index: u32) -> Result<(), Corrupt> {
        self.forget_until(self.iat(index, self.entry(index)?)?);
        self.discard(index)
    }

    /// Records that proofs which were made until `iat` may be forgotten.
    fn forget_until(&self, iat: i64) {
        let forgotten = &self.shard.head.forgotten;
        forgotten.set(iat.max(forgotten.get() as i64) as u64);
    }

    /// Removes the entry of the key, and changes the key's version.
    pub(super) fn remove(&self, key: &Key, place: Place) -> Result<(), Corrupt> {
        self.bump(place);
        if let Some(index) = self.find(key, place, Space::Verdict)? {
            self.discard(index)?;
        }
        Ok(())
    }

    /// Makes all entries of a slot invisible. An entry is freed when its lifetime is over, when its key is looked up,
    /// or when its room is needed.
    pub(super) fn hide(&self, slot: usize) -> Result<(), Corrupt> {
        let epoch = self.shard.head.epochs.get(slot).ok_or(Corrupt)?;
        epoch.set(epoch.get().wrapping_add(1));
        Ok(())
    }

    /// Requests the lease of a key, for the process `pid`. The flight `dead` makes no other flight wait. The failure of
    /// a flight is copied to `failure`.
    pub(super) fn lease(
        &self,
        at: At<'_>,
        lease: &FetchLease,
        pid: u32,
        dead: Option<u64>,
        failure: &mut [u8; MAX_FAILURE],
    ) -> Result<Asked, Corrupt> {
        // A flight that began before the key was purged may ask, but its result will not be stored: no other flight has
        // to wait for it, and it takes no other flight's place.
        let outdated = self.now(at.place).epoch != lease.version.epoch;
        if let Some(index) = self.find(at.key, at.place, Space::FetchLease)? {
            let entry = self.entry(index)?;
            let (record, said) = self.record(index, entry, failure)?;
            if self.is_live(entry, &at) {
                // A failure is kept for this time after the lease was released.
                let failed_at = entry.until.get().saturating_sub(FAILURE_KEPT);
                let waited = u64::try_from(lease.waited.as_millis()).unwrap_or(u64::MAX);
                if record.pid == SETTLED
                    && (Some(record.flight) == lease.waited_for
                        || failed_at > at.now.saturating_sub(waited))
                {
                    return Ok(Asked::Failed(said));
                }
                if outdated {
                    return Ok(Asked::Granted);
                }
                if record.pid != SETTLED
                    && record.version == lease.version.epoch
                    && record.flight != lease.flight
                    && Some(record.flight) != dead
                {
                    return Ok(Asked::Held {
                        flight: record.flight,
                        pid: record.pid,
                    });
                }
            }
            self.discard(index)?;
        }
        if !outdated {
            let record = Record {
                flight: lease.flight,
                version: lease.version.epoch,
                pid,
            };
            self.insert(
                at,
                &record.bytes(),
                EntryKind::FetchLease,
                after(at.now, lease.within),
            )?;
        }
        Ok(Asked::Granted)
    }

    /// Ends the lease of a flight, if the flight still holds it.
    pub(super) fn release(
        &self,
        at: At<'_>,
        flight: u64,
        failure: Option<&[u8]>,
    ) -> Result<(), Corrupt> {
        let Some(index) = self.find(at.key, at.place, Space::FetchLease)? else {
            return Ok(());
        };
        let entry = self.entry(index)?;
        let (record, _) = self.record(index, entry, &mut [0; MAX_FAILURE])?;
        if record.pid == SETTLED || record.flight != flight {
            return Ok(());
        }
        let hidden = !self.is_visible(entry, at.slot);
        self.discard(index)?;
        let Some(failure) = failure.filter(|_| !hidden) else {
            return Ok(());
        };
        let record = Record {
            pid: SETTLED,
            ..record
        };
        let said = &failure[..failure.len().min(MAX_FAILURE)];
        let mut value = [0; RECORD + MAX_FAILURE];
        value[..RECORD].copy_from_slice(&record.bytes());
        value[RECORD..RECORD + said.len()].copy_from_slice(said);
        let value = &value[..RECORD + said.len()];
        self.insert(
            at,
            value,
            EntryKind::FetchLease,
            at.now.saturating_add(FAILURE_KEPT),
        )
        .map(drop)
    }

    pub(super) fn counts(&self) -> TableCounts {
        let head = self.shard.head;
        TableCounts {
            entries: head.lists.each_ref().map(|list| list.entries.get().into()),
            blocks: head
                .lists
                .iter()
                .map(|list| u64::from(list.blocks.get()))
                .sum(),
            evictions: head.evictions.get(),
            recoveries: head.recoveries.get(),
        }
    }

    fn version(&self, place: Place) -> &'a AtomicU64 {
        let versions = self.shard.versions;
        // Their number is a power of two, and those of a shard begin at a multiple of it.
        &versions[place.counter & (versions.len() - 1)]
    }

    /// The version of a key, which only the holder of the lock changes.
    fn now(&self, place: Place) -> Version {
        version_of(self.version(place).load(Ordering::Relaxed))
    }

    /// Whether a verdict that was asked for under `version` may be cached.
    fn may_remember(&self, place: Place, kind: EntryKind, version: Version) -> bool {
        let now = self.now(place);
        now.epoch == version.epoch && (kind != EntryKind::Active || now.ends == version.ends)
    }

    /// Whether a process may have cached an active verdict of such a key that is not here.
    fn stray(&self, place: Place) -> &'a Relaxed8 {
        let strays = self.shard.strays;
        &strays[place.counter & (strays.len() - 1)]
    }

    /// Changes the version of a key: cached entries of keys with this version are not used any more.
    fn bump(&self, place: Place) {
        bump(self.version(place));
        self.stray(place).set(0);
    }

    /// Changes the versions of all keys.
    pub(super) fn bump_all(&self) {
        self.shard.versions.iter().for_each(bump);
    }

    fn bucket(&self, number: usize) -> Result<&'a Relaxed32, Corrupt> {
        self.shard.buckets.get(number).ok_or(Corrupt)
    }

    fn block(&self, index: u32) -> Result<&'a Block, Corrupt> {
        if index == NONE {
            return Err(Corrupt);
        }
        self.shard.blocks.get(index as usize).ok_or(Corrupt)
    }

    fn entry(&self, index: u32) -> Result<&'a Head, Corrupt> {
        self.block(index).map(Block::head)
    }

    fn kind(&self, entry: &Head) -> Result<EntryKind, Corrupt> {
        EntryKind::of(entry.kind.get()).ok_or(Corrupt)
    }

    fn list(&self, kind: EntryKind) -> &'a List {
        &self.shard.head.lists[kind as usize]
    }

    /// The length of an entry's value: no more than all blocks hold.
    fn length(&self, entry: &Head) -> Result<usize, Corrupt> {
        let length = entry.length.get() as usize;
        if blocks_for(length) < self.shard.blocks.len() {
            Ok(length)
        } else {
            Err(Corrupt)
        }
    }

    /// Whether an entry belongs to the provider and was stored since its last [`Table::hide`].
    fn is_visible(&self, entry: &Head, slot: usize) -> bool {
        let epoch = self.shard.head.epochs.get(slot).map(Relaxed32::get);
        usize::from(entry.provider.get()) == slot && Some(entry.epoch.get()) == epoch
    }

    fn is_live(&self, entry: &Head, at: &At<'_>) -> bool {
        at.now < entry.until.get() && self.is_visible(entry, at.slot)
    }

    /// The entry under the key in one of its spaces.
    fn find(&self, key: &Key, place: Place, space: Space) -> Result<Option<u32>, Corrupt> {
        let name = words_of(key.as_bytes());
        let mut index = self.bucket(place.bucket)?.get();
        for _ in 0..self.shard.blocks.len() {
            if index == NONE {
                return Ok(None);
            }
            let entry = self.entry(index)?;
            let same = entry
                .key
                .iter()
                .zip(name)
                .all(|(word, other)| word.get() == other);
            if same && self.kind(entry)?.space() == space {
                return Ok(Some(index));
            }
            index = entry.chain.get();
        }
        Err(Corrupt)
    }

    /// Stores a new entry at the front, in the place of as many others as [`Table::make_room`] says. One that is too
    /// large, or that ends already, is not stored; whether it was is what is returned.
    fn insert(
        &self,
        at: At<'_>,
        value: &[u8],
        kind: EntryKind,
        until: u64,
    ) -> Result<bool, Corrupt> {
        let list = self.list(kind);
        let needed = blocks_for(value.len());
        let Ok(length) = u32::try_from(value.len()) else {
            return Ok(false);
        };
        if until <= at.now || !self.make_room(kind, needed, at.now)? {
            return Ok(false);
        }
        let first = self.take()?;
        let mut last = first;
        let mut left = value;
        for number in 0..needed {
            if number > 0 {
                let next = self.take()?;
                self.block(last)?.next().set(next);
                last = next;
            }
            let (skip, count) = part(number, left.len());
            let (now, later) = left.split_at(count);
            // SAFETY: a table is only made while the lock of its shard is held.
            unsafe { self.block(last)?.write(skip, now) };
            left = later;
        }
        self.block(last)?.next().set(NONE);

        let entry = self.entry(first)?;
        for (word, value) in entry.key.iter().zip(words_of(at.key.as_bytes())) {
            word.set(value);
        }
        entry.until.set(until);
        entry.length.set(length);
        entry
            .epoch
            .set(self.shard.head.epochs.get(at.slot).ok_or(Corrupt)?.get());
        entry.moved.set(stamp(at.now));
        entry.kind.set(kind as u8);
        // Less than 64.
        entry.provider.set(at.slot as u8);
        entry.last.set(last);
        let bucket = self.bucket(at.place.bucket)?;
        entry.chain.set(bucket.get());
        bucket.set(first);
        self.enlist(list, first)?;
        list.entries.set(list.entries.get().wrapping_add(1));
        list.blocks
            .set(list.blocks.get().wrapping_add(needed as u32));
        Ok(true)
    }

    /// Makes room for an entry of this many blocks, by removing others of its kind, or proofs that have ended. For a
    /// proof, active verdicts may be removed as well. `false` when there is no room.
    fn make_room(&self, kind: EntryKind, needed: usize, now: u64) -> Result<bool, Corrupt> {
        let quota = |kind: EntryKind| u64::from(self.map.geometry().quotas[kind as usize]);
        let used = |kind: EntryKind| u64::from(self.list(kind).blocks.get());
        let needed = needed as u64;
        // Each round takes an entry from a list, or finds a contradiction: there are no more rounds than entries, and,
        // where none contradicts itself, than blocks are needed.
        match kind {
            EntryKind::Inactive | EntryKind::FetchLease => {
                if needed > quota(kind) {
                    return Ok(false);
                }
                while used(kind) + needed > quota(kind) {
                    self.evict(self.list(kind), now)?;
                }
                return Ok(true);
            }
            EntryKind::Proof => {
                // Two for the one that comes, so that those that have ended become fewer though nobody looks for them.
                let _ = self.end_proof(now)? && self.end_proof(now)?;
                if used(EntryKind::Proof) + needed > quota(EntryKind::Proof) {
                    return Ok(false);
                }
            }
            EntryKind::Active => {
                while used(EntryKind::Proof) + needed > quota(EntryKind::Active) {
                    if !self.end_proof(now)? {
                        return Ok(false);
                    }
                }
            }
        }
        while used(EntryKind::Active) + used(EntryKind::Proof) + needed > quota(EntryKind::Active) {
            if !self.end_proof(now)? {
                self.evict(self.list(EntryKind::Active), now)?;
            }
        }
        Ok(true)
    }

    /// Removes the proof that was recorded first, if it has ended. Proofs recorded later may have ended as well. They
    /// are removed when it is, which is soon, since all last for about as long.
    fn end_proof(&self, now: u64) -> Result<bool, Corrupt> {
        let oldest = self.list(EntryKind::Proof).oldest.get();
        let ended = oldest != NONE && self.entry(oldest)?.until.get() <= now;
        if ended {
            self.forget_proof(oldest)?;
        }
        Ok(ended)
    }

    /// Evicts the entry of a list that was used least recently.
    fn evict(&self, list: &List, now: u64) -> Result<(), Corrupt> {
        let oldest = list.oldest.get();
        let entry = self.entry(oldest)?;
        let slot = usize::from(entry.provider.get());
        let live = now < entry.until.get() && self.is_visible(entry, slot);
        let kind = self.kind(entry)?;
        if live && kind.space() == Space::Verdict {
            let evictions = &self.shard.head.evictions;
            evictions.set(evictions.get().wrapping_add(1));
        }
        if live && kind == EntryKind::Active {
            let place = self.map.place_of(entry.key[0].get());
            self.stray(place).set(1);
        }
        self.discard(oldest)
    }

    /// Removes an entry from its bucket and its list, and frees its blocks.
    fn discard(&self, index: u32) -> Result<(), Corrupt> {
        let entry = self.entry(index)?;
        let list = self.list(self.kind(entry)?);

        let place = self.map.place_of(entry.key[0].get());
        let mut link = self.bucket(place.bucket)?;
        let mut steps = 0;
        while link.get() != index {
            // The end of a bucket that does not have the entry is no entry either.
            link = &self.entry(link.get())?.chain;
            steps += 1;
            if steps > self.shard.blocks.len() {
                return Err(Corrupt);
            }
        }
        link.set(entry.chain.get());

        self.unlist(list, index)?;
        let fewer = |word: &Relaxed32, by: usize| {
            let by = u32::try_from(by).map_err(|_| Corrupt)?;
            word.set(word.get().checked_sub(by).ok_or(Corrupt)?);
            Ok(())
        };
        fewer(&list.entries, 1)?;
        fewer(&list.blocks, blocks_for(self.length(entry)?))?;

        let free = &self.shard.head.free;
        self.block(entry.last.get())?.next().set(free.get());
        free.set(index);
        Ok(())
    }

    /// Takes a free block.
    fn take(&self) -> Result<u32, Corrupt> {
        let head = self.shard.head;
        let index = head.free.get();
        if index != NONE {
            head.free.set(self.block(index)?.next().get());
            return Ok(index);
        }
        let index = head.fresh.get();
        self.block(index)?;
        head.fresh.set(index + 1);
        Ok(index)
    }

    /// Puts an entry that is in no list at the front of one.
    fn enlist(&self, list: &List, index: u32) -> Result<(), Corrupt> {
        let entry = self.entry(index)?;
        let second = list.newest.get();
        entry.newer.set(NONE);
        entry.older.set(second);
        if second == NONE {
            list.oldest.set(index);
        } else {
            self.entry(second)?.newer.set(index);
        }
        list.newest.set(index);
        Ok(())
    }

    /// Takes an entry out of its list.
    fn unlist(&self, list: &List, index: u32) -> Result<(), Corrupt> {
        let entry = self.entry(index)?;
        let [newer, older] = [entry.newer.get(), entry.older.get()];
        let from_newer = match newer {
            NONE => &list.newest,
            _ => &self.entry(newer)?.older,
        };
        let from_older = match older {
            NONE => &list.oldest,
            _ => &self.entry(older)?.newer,
        };
        if from_newer.get() != index || from_older.get() != index {
            return Err(Corrupt);
        }
        from_newer.set(older);
        from_older.set(newer);
        Ok(())
    }

    /// Copies a value out.
    ///
    /// # Safety
    /// `length` bytes can be written to `to`, none of them in a zone.
    unsafe fn copy_out(&self, first: u32, length: usize, to: *mut u8) -> Result<(), Corrupt> {
        let mut index = first;
        let mut done = 0;
        for number in 0..blocks_for(length) {
            let block = self.block(index)?;
            let (skip, count) = part(number, length - done);
            // SAFETY: a table is only made while the lock of its shard is held. No more than `length` bytes are written
            // from `to` on: `count` is at most what is left of them.
            unsafe { block.read(skip, to.add(done), count) };
            done += count;
            if done == length && self.entry(first)?.last.get() != index {
                return Err(Corrupt);
            }
            index = block.next().get();
        }
        Ok(())
    }

    /// The record of a lease and of its failure: this many bytes, copied to `failure`.
    fn record(
        &self,
        index: u32,
        entry: &Head,
        failure: &mut [u8; MAX_FAILURE],
    ) -> Result<(Record, usize), Corrupt> {
        let length = self.length(entry)?;
        let mut value = [0; RECORD + MAX_FAILURE];
        if !(RECORD..=value.len()).contains(&length) {
            return Err(Corrupt);
        }
        // SAFETY: there is room for `length` bytes, on the stack of this thread.
        unsafe { self.copy_out(index, length, value.as_mut_ptr())? };
        let (record, said) = value[..length].split_at(RECORD);
        failure[..said.len()].copy_from_slice(said);
        let record = record.first_chunk().ok_or(Corrupt)?;
        Ok((Record::of(record), said.len()))
    }
}

/// Changes a version. Readers of it hold no lock: a reader that sees the new version, and then takes the lock, finds
/// the entries gone that were removed with it.
pub(super) fn bump(version: &AtomicU64) {
    crash::point();
    version.fetch_add(EPOCH, Ordering::Release);
}

/// A version as it is kept in one word.
pub(super) fn version_of(word: u64) -> Version {
    Version {
        epoch: (word >> 32) as u32,
        ends: word as u32,
    }
}

/// The point in time that is `span` after `now`.
pub(super) fn after(now: u64, span: std::time::Duration) -> u64 {
    now.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

const _: () = assert!(PROVIDERS <= 1 << u8::BITS && COUNTERS.is_power_of_two());
