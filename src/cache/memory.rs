//! The cache of one process.
//!
//! A hit takes one uncontended lock for the time of one hash-table probe and copies out a pointer: nothing is
//! allocated and no byte of a JWT is moved. Keys are SHA-256 digests, so they are spread over shards and
//! buckets by some of their own bits.
//!
//! Active and inactive verdicts are kept apart, each within bounds of its own: whoever sends a million random
//! tokens fills the inactive share and pushes out not one live entry.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

use crate::clock::Now;
use crate::token::Key;
use crate::{Active, Verdict};

/// What an entry costs beyond the verdict itself: key, links, hash-table slot, allocator rounding.
const ENTRY_OVERHEAD: usize = 192;
/// What an inactive verdict costs: it is all overhead.
const INACTIVE_SIZE: usize = 128;
/// Inactive verdicts may take one part in so many of what the cache may hold.
const INACTIVE_SHARE: usize = 8;
/// A shard is worth having when it can hold this much.
const SHARD_SIZE: usize = 1 << 20;
const MAX_SHARDS: usize = 16;
/// How exactly "least recently used" is kept, in milliseconds: an entry that moved to the front this recently
/// stays where it is. Moving it touches the nodes of its neighbours, which at a million entries costs more than
/// all the rest of a hit.
const RECENCY: u64 = 1000;

/// Remembered verdicts, bounded by number and by bytes.
pub struct MemoryCache {
    shards: Box<[Mutex<Shard>]>,
    /// What one shard may hold.
    bounds: Bounds,
}

/// What a cache holds and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheCounts {
    /// Verdicts served.
    pub hits: u64,
    /// Inactive verdicts among them.
    pub inactive_hits: u64,
    /// Verdicts held, active and inactive.
    pub entries: u64,
    /// Inactive verdicts held.
    pub inactive_entries: u64,
    /// Bytes that all of them take.
    pub bytes: u64,
    /// Verdicts pushed out before their time.
    pub evictions: u64,
}

#[derive(Clone, Copy)]
struct Bounds {
    active_entries: usize,
    active_bytes: usize,
    inactive_entries: usize,
}

struct Shard {
    active: LruCache<Key, Entry, KeyHasher>,
    inactive: LruCache<Key, Stamp, KeyHasher>,
    active_bytes: usize,
    hits: u64,
    inactive_hits: u64,
    evictions: u64,
}

struct Entry {
    active: Arc<Active>,
    /// `exp`, in seconds since the epoch; never, if there is none.
    exp: i64,
    stamp: Stamp,
}

#[derive(Clone, Copy)]
struct Stamp {
    /// When the time to live ends, on the monotonic clock.
    expires: u64,
    /// When the entry last moved to the front, on the monotonic clock.
    moved: u64,
}

impl Stamp {
    fn new(now: Now, ttl: Duration) -> Self {
        Stamp {
            expires: now.after(ttl).monotonic,
            moved: now.monotonic,
        }
    }
}

impl Entry {
    fn size(&self) -> usize {
        self.active.size() + ENTRY_OVERHEAD
    }

    fn is_live(&self, now: Now) -> bool {
        now.monotonic < self.stamp.expires && now.unix < self.exp
    }
}

impl MemoryCache {
    /// A cache of at most `max_bytes` and `max_entries`; with either zero it remembers nothing.
    pub fn new(max_bytes: usize, max_entries: usize) -> Self {
        let enabled = max_bytes > 0 && max_entries > 0;
        let shards = (max_bytes / SHARD_SIZE)
            .min(max_entries / 64)
            .clamp(1, MAX_SHARDS)
            .next_power_of_two();
        let share = |all: usize, of: usize| if enabled { (all / of).max(1) } else { 0 };
        let inactive_entries = share(max_entries, INACTIVE_SHARE)
            .min(share(max_bytes, INACTIVE_SHARE * INACTIVE_SIZE));
        let bounds = Bounds {
            active_entries: share(max_entries.saturating_sub(inactive_entries), shards),
            active_bytes: share(max_bytes - max_bytes / INACTIVE_SHARE, shards),
            inactive_entries: share(inactive_entries, shards),
        };
        let hasher = KeyHasher::new();
        let shard = || Shard {
            active: LruCache::unbounded_with_hasher(hasher.clone()),
            inactive: LruCache::unbounded_with_hasher(hasher.clone()),
            active_bytes: 0,
            hits: 0,
            inactive_hits: 0,
            evictions: 0,
        };
        MemoryCache {
            shards: (0..shards).map(|_| Mutex::new(shard())).collect(),
            bounds,
        }
    }

    /// What is known of `key` at `now`.
    pub fn get(&self, key: &Key, now: Now) -> Option<Verdict> {
        let mut shard = self.shard(key).lock();
        if let Some(entry) = shard.active.peek_mut(key) {
            if entry.is_live(now) {
                let verdict = Verdict::Active(Arc::clone(&entry.active));
                let stale = now.monotonic.saturating_sub(entry.stamp.moved) >= RECENCY;
                if stale {
                    entry.stamp.moved = now.monotonic;
                    shard.active.promote(key);
                }
                shard.hits += 1;
                return Some(verdict);
            }
            let dead = shard.take_active(key);
            // Freed only after the lock is gone.
            drop(shard);
            drop(dead);
            return None;
        }
        let stamp = shard.inactive.peek_mut(key)?;
        if now.monotonic >= stamp.expires {
            shard.inactive.pop(key);
            return None;
        }
        if now.monotonic.saturating_sub(stamp.moved) >= RECENCY {
            stamp.moved = now.monotonic;
            shard.inactive.promote(key);
        }
        shard.hits += 1;
        shard.inactive_hits += 1;
        Some(Verdict::Inactive)
    }

    /// Remembers `verdict` for `ttl` from `now`, in the place of what was known of `key`.
    pub fn put(&self, key: Key, verdict: &Verdict, ttl: Duration, now: Now) {
        let mut dropped = Vec::new();
        let mut shard = self.shard(&key).lock();
        dropped.extend(shard.take_active(&key));
        shard.inactive.pop(&key);
        if !ttl.is_zero() {
            let stamp = Stamp::new(now, ttl);
            match verdict {
                Verdict::Active(active) => {
                    let entry = Entry {
                        active: Arc::clone(active),
                        exp: active.claims().exp.unwrap_or(i64::MAX),
                        stamp,
                    };
                    shard.put_active(key, entry, self.bounds, now, &mut dropped);
                }
                Verdict::Inactive => shard.put_inactive(key, stamp, self.bounds, now),
            }
        }
        drop(shard);
        // Freed only after the lock is gone.
        drop(dropped);
    }

    /// What it holds and has done.
    pub fn counts(&self) -> CacheCounts {
        let mut counts = CacheCounts::default();
        for shard in &self.shards {
            let shard = shard.lock();
            counts.hits += shard.hits;
            counts.inactive_hits += shard.inactive_hits;
            counts.evictions += shard.evictions;
            counts.inactive_entries += shard.inactive.len() as u64;
            counts.entries += (shard.active.len() + shard.inactive.len()) as u64;
            counts.bytes += (shard.active_bytes + shard.inactive.len() * INACTIVE_SIZE) as u64;
        }
        counts
    }

    fn shard(&self, key: &Key) -> &Mutex<Shard> {
        // Other bits than those that choose the bucket, so that a shard's table fills evenly.
        let choice = usize::from(key.as_bytes()[31]);
        // The number of shards is a power of two, at most 16.
        &self.shards[choice & (self.shards.len() - 1)]
    }
}

impl Shard {
    fn take_active(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.active.pop(key)?;
        self.active_bytes -= entry.size();
        Some(entry)
    }

    fn put_active(
        &mut self,
        key: Key,
        entry: Entry,
        bounds: Bounds,
        now: Now,
        dropped: &mut Vec<Entry>,
    ) {
        let size = entry.size();
        if size > bounds.active_bytes || bounds.active_entries == 0 {
            return;
        }
        while self.active_bytes + size > bounds.active_bytes
            || self.active.len() >= bounds.active_entries
        {
            let Some((_, oldest)) = self.active.pop_lru() else {
                break;
            };
            self.active_bytes -= oldest.size();
            self.evictions += u64::from(oldest.is_live(now));
            dropped.push(oldest);
        }
        self.active_bytes += size;
        self.active.put(key, entry);
    }

    fn put_inactive(&mut self, key: Key, stamp: Stamp, bounds: Bounds, now: Now) {
        if bounds.inactive_entries == 0 {
            return;
        }
        while self.inactive.len() >= bounds.inactive_entries {
            let Some((_, oldest)) = self.inactive.pop_lru() else {
                break;
            };
            self.evictions += u64::from(now.monotonic < oldest.expires);
        }
        self.inactive.put(key, stamp);
    }
}

/// Takes a key's own bits as its hash, folded with a secret of this process: a digest is spread well enough, but
/// a client who knows the configuration could search for tokens whose digests share a bucket.
#[derive(Clone)]
struct KeyHasher {
    secret: u64,
}

struct KeyHash {
    secret: u64,
    hash: u64,
}

impl KeyHasher {
    fn new() -> Self {
        KeyHasher {
            // Odd, so that the multiplication loses nothing.
            secret: RandomState::new().hash_one(0u8) | 1,
        }
    }
}

impl BuildHasher for KeyHasher {
    type Hasher = KeyHash;

    fn build_hasher(&self) -> KeyHash {
        KeyHash {
            secret: self.secret,
            hash: 0,
        }
    }
}

impl Hasher for KeyHash {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.hash ^ word) * u128::from(self.secret);
        let [low, high] = [product as u64, (product >> 64) as u64];
        self.hash = low ^ high;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}
