//! The cache of one process.
//!
//! A hit takes one uncontended lock for the time of one hash-table probe and copies out a pointer: nothing is allocated
//! and no byte of a JWT is moved. Keys are SHA-256 digests: separate bits of them choose the shard, and the table's
//! hash is one multiplication of eight of their bytes with a secret of the process ([`lru::DefaultHasher`]).
//!
//! Active and inactive verdicts are kept apart, each within its own bounds: a client that sends a million random tokens
//! fills the inactive share and evicts no live entry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

use super::lifetime::Lifetime;
use crate::clock::Now;
use crate::token::Key;
use crate::{Active, Verdict};

/// The cost of an entry beyond the verdict itself: a node of 112 bytes with the key, the times and the links; 17 bytes
/// for each place of a hash table of which 7 of 16 to 7 of 8 are in use; the allocator's overhead for the verdict's
/// three parts.
const ENTRY_OVERHEAD: usize = 208;
/// The cost of an inactive verdict, which is a node and its places in the hash table.
const INACTIVE_SIZE: usize = 152;
/// Inactive verdicts may take one part in this many of the cache's capacity.
const INACTIVE_SHARE: usize = 8;
/// The minimum capacity of a shard.
const SHARD_SIZE: usize = 1 << 20;
const MAX_SHARDS: usize = 16;
/// The precision of "least recently used", in milliseconds: an entry that moved to the front this recently stays where
/// it is. Moving it touches the nodes of its neighbours, which at a million entries costs more than all the rest of a
/// hit.
const RECENCY: u64 = 10_000;

/// Cached verdicts, bounded by number and by bytes.
pub struct MemoryCache {
    shards: Box<[Mutex<Shard>]>,
    /// The bounds of one shard.
    bounds: Bounds,
}

/// The sizes and counters of a cache.
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
    /// The size of all verdicts held, in bytes.
    pub bytes: u64,
    /// Verdicts evicted before their lifetime ended.
    pub evictions: u64,
}

#[derive(Clone, Copy)]
struct Bounds {
    active_entries: usize,
    active_bytes: usize,
    inactive_entries: usize,
}

struct Shard {
    active: LruCache<Key, Entry>,
    inactive: LruCache<Key, Ended>,
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

/// Times on the monotonic clock, and the key's version when the lookup of the verdict began.
#[derive(Clone, Copy)]
struct Stamp {
    /// The end of the time to live.
    expires: u64,
    /// The time from which the entry is useless, even as a stale one.
    useless: u64,
    /// The time from which a hit requests a refresh; never, once one has.
    refresh: u64,
    /// The time when the entry last moved to the front.
    moved: u64,
    version: u32,
}

/// A token that was called inactive.
#[derive(Clone, Copy)]
struct Ended {
    /// `useless` is the time from which a store can hold nothing older than this entry.
    stamp: Stamp,
    /// The time when it was called inactive, in seconds since the epoch.
    at: i64,
}

impl Stamp {
    fn new(now: Now, lifetime: Lifetime, version: u32) -> Self {
        let expires = now.after(lifetime.fresh).monotonic;
        Stamp {
            expires,
            useless: now
                .after(lifetime.fresh.saturating_add(lifetime.stale))
                .monotonic,
            refresh: lifetime
                .refresh
                .map_or(u64::MAX, |refresh| now.after(refresh).monotonic),
            moved: now.monotonic,
            version,
        }
    }
}

/// A cached verdict.
#[derive(Debug)]
pub struct Hit {
    /// The verdict.
    pub verdict: Verdict,
    /// The verdict is due for a refresh. Reported once.
    pub refresh: bool,
}

impl Entry {
    fn size(&self) -> usize {
        self.active.size() + ENTRY_OVERHEAD
    }

    fn is_live(&self, now: Now) -> bool {
        now.monotonic < self.stamp.expires && now.unix < self.exp
    }

    fn is_useless(&self, now: Now) -> bool {
        now.monotonic >= self.stamp.useless || now.unix >= self.exp
    }
}

impl MemoryCache {
    /// Creates a cache of at most `max_bytes` and `max_entries`; with either zero it caches nothing.
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
        // Unbounded, because a bounded one takes the memory for all of its entries at once.
        let shard = || Shard {
            active: LruCache::unbounded(),
            inactive: LruCache::unbounded(),
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

    /// The cached verdict of `key` at `now`, when its version is `version`: an entry of another version is removed.
    pub fn get(&self, key: &Key, now: Now, version: u32) -> Option<Hit> {
        let mut shard = self.shard(key).lock();
        if let Some(entry) = shard.active.peek_mut(key) {
            if entry.stamp.version == version {
                if entry.is_live(now) {
                    let verdict = Verdict::Active(Arc::clone(&entry.active));
                    let refresh = now.monotonic >= entry.stamp.refresh;
                    if refresh {
                        entry.stamp.refresh = u64::MAX;
                    }
                    let moved_long_ago = now.monotonic.saturating_sub(entry.stamp.moved) >= RECENCY;
                    if moved_long_ago {
                        entry.stamp.moved = now.monotonic;
                        shard.active.promote(key);
                    }
                    shard.hits += 1;
                    return Some(Hit { verdict, refresh });
                }
                if !entry.is_useless(now) {
                    return None;
                }
            }
            let dead = shard.take_active(key);
            // Freed only after the lock is released.
            drop(shard);
            drop(dead);
            return None;
        }
        let Ended { stamp, .. } = shard.inactive.peek_mut(key)?;
        if now.monotonic >= stamp.expires || stamp.version != version {
            if now.monotonic >= stamp.useless || stamp.useless <= stamp.expires {
                shard.inactive.pop(key);
            }
            return None;
        }
        if now.monotonic.saturating_sub(stamp.moved) >= RECENCY {
            stamp.moved = now.monotonic;
            shard.inactive.promote(key);
        }
        shard.hits += 1;
        shard.inactive_hits += 1;
        Some(Hit {
            verdict: Verdict::Inactive,
            refresh: false,
        })
    }

    /// The cached verdict of `key` past its lifetime, but not for longer than it may be served then.
    pub fn stale(&self, key: &Key, now: Now, version: u32) -> Option<Verdict> {
        let mut shard = self.shard(key).lock();
        let entry = shard.active.peek_mut(key)?;
        (entry.stamp.version == version && !entry.is_useless(now))
            .then(|| Verdict::Active(Arc::clone(&entry.active)))
    }

    /// Caches `verdict` from `now`, and replaces the entry of `key`. `version` is the key's version from before the
    /// lookup began.
    pub fn put(&self, key: Key, verdict: &Verdict, lifetime: Lifetime, now: Now, version: u32) {
        let mut dropped = Vec::new();
        let mut shard = self.shard(&key).lock();
        dropped.extend(shard.take_active(&key));
        shard.inactive.pop(&key);
        if !lifetime.fresh.is_zero() {
            let stamp = Stamp::new(now, lifetime, version);
            match verdict {
                Verdict::Active(active) => {
                    let entry = Entry {
                        active: Arc::clone(active),
                        exp: active.exp().unwrap_or(i64::MAX),
                        stamp,
                    };
                    shard.put_active(key, entry, self.bounds, now, &mut dropped);
                }
                Verdict::Inactive => {
                    let at = now.unix;
                    shard.put_inactive(key, Ended { stamp, at }, self.bounds, now);
                }
            }
        }
        drop(shard);
        // Freed only after the lock is released.
        drop(dropped);
    }

    /// Caches for `fresh` from `now` that a token is inactive, and replaces its entry. For `older`, no older verdict of
    /// the token is to be used, see [`MemoryCache::ended`].
    pub fn end(&self, key: Key, fresh: Duration, older: Duration, now: Now, version: u32) {
        let lifetime = Lifetime {
            stale: older.saturating_sub(fresh),
            ..fresh.into()
        };
        let mut shard = self.shard(&key).lock();
        let dead = shard.take_active(&key);
        shard.inactive.pop(&key);
        if !fresh.is_zero() || !older.is_zero() {
            let ended = Ended {
                stamp: Stamp::new(now, lifetime, version),
                at: now.unix,
            };
            shard.put_inactive(key, ended, self.bounds, now);
        }
        drop(shard);
        // Freed only after the lock is released.
        drop(dead);
    }

    /// The time when a token was called inactive, in seconds since the epoch, if it is still recorded.
    pub fn ended(&self, key: &Key, now: Now) -> Option<i64> {
        let mut shard = self.shard(key).lock();
        let ended = shard.inactive.peek_mut(key)?;
        (now.monotonic < ended.stamp.useless).then_some(ended.at)
    }

    /// Removes the entry of `key`.
    pub fn remove(&self, key: &Key) {
        let mut shard = self.shard(key).lock();
        let dead = shard.take_active(key);
        shard.inactive.pop(key);
        drop(shard);
        drop(dead);
    }

    /// The sizes and counters of the cache.
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
        // These bits differ from those that choose the bucket, so that a shard's table fills evenly.
        let choice = usize::from(key.as_bytes()[31]);
        // The number of shards is a power of two, at most 16.
        &self.shards[choice & (self.shards.len() - 1)]
    }
}

impl fmt::Debug for MemoryCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache")
            .field("counts", &self.counts())
            .finish_non_exhaustive()
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

    fn put_inactive(&mut self, key: Key, ended: Ended, bounds: Bounds, now: Now) {
        if bounds.inactive_entries == 0 {
            return;
        }
        while self.inactive.len() >= bounds.inactive_entries {
            let Some((_, oldest)) = self.inactive.pop_lru() else {
                break;
            };
            self.evictions += u64::from(now.monotonic < oldest.stamp.expires);
        }
        self.inactive.put(key, ended);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::jwt::{self, Claims};
    use crate::token::{Fingerprint, Token};

    const START: Now = Now {
        unix: 1_000_000,
        monotonic: 5_000,
    };
    const MINUTE: Duration = Duration::from_secs(60);

    fn key(number: usize) -> Key {
        let name = format!("token-{number}");
        Key::new(
            &Fingerprint([1; 32]),
            Token::parse(name.as_bytes()).unwrap(),
        )
    }

    fn active(exp: Option<i64>) -> Verdict {
        let mut claims = Claims::empty();
        claims.exp = exp;
        // {"alg":"ES256"}.{}
        let jwt = jwt::check_compact(b"eyJhbGciOiJFUzI1NiJ9.e30.AAAA").unwrap();
        Verdict::Active(Arc::new(Active::new(&jwt, claims)))
    }

    fn is_active(hit: Option<Hit>) -> bool {
        matches!(hit, Some(hit) if matches!(hit.verdict, Verdict::Active(_)))
    }

    #[test]
    fn a_verdict_lives_for_its_time_to_live_and_not_a_moment_longer() {
        let cache = MemoryCache::new(1 << 20, 1000);
        cache.put(key(1), &active(None), MINUTE.into(), START, 0);
        cache.put(key(2), &Verdict::Inactive, MINUTE.into(), START, 0);
        let last = START.after(MINUTE - Duration::from_millis(1));
        assert!(is_active(cache.get(&key(1), last, 0)));
        assert!(cache.get(&key(2), last, 0).is_some());
        assert!(!is_active(cache.get(&key(2), last, 0)));
        assert!(cache.get(&key(1), START.after(MINUTE), 0).is_none());
        assert!(cache.get(&key(2), START.after(MINUTE), 0).is_none());
        assert_eq!(cache.counts().bytes, 0, "what is dead is gone");
    }

    #[test]
    fn what_was_found_out_under_another_version_is_forgotten() {
        let cache = MemoryCache::new(1 << 20, 1000);
        for verdict in [active(None), Verdict::Inactive] {
            cache.put(key(1), &verdict, MINUTE.into(), START, 7);
            assert!(cache.get(&key(1), START, 7).is_some());
            assert!(cache.stale(&key(1), START, 8).is_none());
            assert!(cache.get(&key(1), START, 8).is_none());
            assert!(cache.get(&key(1), START, 7).is_none(), "for good");
            cache.put(key(1), &verdict, MINUTE.into(), START, 8);
            cache.remove(&key(1));
            assert!(cache.get(&key(1), START, 8).is_none());
        }
        assert_eq!(cache.counts().bytes, 0);
    }

    #[test]
    fn a_hit_in_the_last_part_of_an_entrys_life_says_once_that_it_is_time_to_ask_anew() {
        let cache = MemoryCache::new(1 << 20, 1000);
        let lifetime = Lifetime {
            refresh: Some(MINUTE - Duration::from_secs(6)),
            ..MINUTE.into()
        };
        cache.put(key(1), &active(None), lifetime, START, 0);
        let refreshes = |seconds| {
            let now = START.after(Duration::from_secs(seconds));
            cache.get(&key(1), now, 0).unwrap().refresh
        };
        assert_eq!([53, 54, 55, 59].map(refreshes), [false, true, false, false]);
        cache.put(key(1), &active(None), lifetime, START, 0);
        assert!(refreshes(54), "the next life has its own");
    }

    #[test]
    fn what_is_past_its_time_is_no_hit_but_is_there_while_it_may_be_served_and_never_past_exp() {
        let cache = MemoryCache::new(1 << 20, 1000);
        let lifetime = Lifetime {
            stale: MINUTE,
            ..MINUTE.into()
        };
        let at = |seconds| START.after(Duration::from_secs(seconds));
        cache.put(key(1), &active(None), lifetime, START, 0);
        cache.put(key(2), &active(Some(START.unix + 90)), lifetime, START, 0);
        for number in [1, 2] {
            assert!(cache.get(&key(number), at(60), 0).is_none());
            assert!(cache.stale(&key(number), at(60), 0).is_some());
        }
        assert!(cache.stale(&key(2), at(90), 0).is_none());
        assert!(cache.stale(&key(1), at(119), 0).is_some());
        assert!(cache.stale(&key(1), at(120), 0).is_none());
        assert!(cache.get(&key(1), at(120), 0).is_none());
        assert!(cache.get(&key(2), at(120), 0).is_none());
        assert_eq!(cache.counts().bytes, 0, "what is of no use is gone");
    }

    #[test]
    fn a_wall_clock_set_forward_ends_what_has_expired_and_set_back_prolongs_nothing() {
        let cache = MemoryCache::new(1 << 20, 1000);
        cache.put(
            key(1),
            &active(Some(START.unix + 30)),
            MINUTE.into(),
            START,
            0,
        );
        let forward = Now {
            unix: START.unix + 30,
            ..START
        };
        assert!(cache.get(&key(1), forward, 0).is_none());

        cache.put(
            key(1),
            &active(Some(START.unix + 90)),
            MINUTE.into(),
            START,
            0,
        );
        let back = Now {
            unix: START.unix - 3600,
            ..START.after(MINUTE)
        };
        assert!(cache.get(&key(1), back, 0).is_none());
    }

    #[test]
    fn a_million_random_tokens_push_out_not_one_live_entry() {
        let cache = MemoryCache::new(4 << 20, 4096);
        for number in 0..100 {
            cache.put(key(number), &active(None), MINUTE.into(), START, 0);
        }
        for number in 1000..1_001_000 {
            cache.put(key(number), &Verdict::Inactive, MINUTE.into(), START, 0);
        }
        assert!((0..100).all(|number| is_active(cache.get(&key(number), START, 0))));
        let counts = cache.counts();
        assert!(counts.inactive_entries <= 4096 / 8);
        assert!(counts.inactive_entries > 4096 / 16, "the share is used");
    }

    #[test]
    fn the_entry_used_least_recently_goes_first() {
        // One shard, so that its order is that of the whole cache.
        let cache = MemoryCache::new(1 << 20, 63);
        for number in 0..63 {
            cache.put(key(number), &active(None), MINUTE.into(), START, 0);
        }
        let later = START.after(Duration::from_millis(RECENCY));
        let room = 63 - 63 / 8;
        // The remaining entries are the last `room`; the oldest of them is used again.
        let oldest = 63 - room;
        assert!(cache.get(&key(oldest - 1), later, 0).is_none());
        assert!(is_active(cache.get(&key(oldest), later, 0)));
        cache.put(key(100), &active(None), MINUTE.into(), later, 0);
        assert!(is_active(cache.get(&key(oldest), later, 0)));
        assert!(cache.get(&key(oldest + 1), later, 0).is_none());
    }

    #[test]
    fn an_entry_larger_than_its_share_is_not_remembered_and_harms_nothing() {
        let cache = MemoryCache::new(500, 1000);
        cache.put(key(1), &active(None), MINUTE.into(), START, 0);
        assert!(is_active(cache.get(&key(1), START, 0)) || cache.counts().entries == 0);
        let small = MemoryCache::new(1, 1000);
        small.put(key(1), &active(None), MINUTE.into(), START, 0);
        assert!(small.get(&key(1), START, 0).is_none());
    }

    #[test]
    fn a_cache_of_nothing_remembers_nothing() {
        for cache in [MemoryCache::new(0, 1000), MemoryCache::new(1 << 20, 0)] {
            cache.put(key(1), &active(None), MINUTE.into(), START, 0);
            cache.put(key(2), &Verdict::Inactive, MINUTE.into(), START, 0);
            assert!(cache.get(&key(1), START, 0).is_none());
            assert!(cache.get(&key(2), START, 0).is_none());
            assert_eq!(cache.counts().entries, 0);
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        PutActive { key: usize, ttl: u64, exp: i64 },
        PutInactive { key: usize, ttl: u64 },
        Get { key: usize },
        Pass { millis: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..40usize, 0..5000u64, 0..8i64).prop_map(|(key, ttl, exp)| Step::PutActive {
                key,
                ttl,
                exp
            }),
            (0..40usize, 0..5000u64).prop_map(|(key, ttl)| Step::PutInactive { key, ttl }),
            (0..40usize).prop_map(|key| Step::Get { key }),
            (0..3000u64).prop_map(|millis| Step::Pass { millis }),
        ]
    }

    proptest! {
        /// Compares the cache with a map that forgets nothing: the cache may have forgotten, but never returns an
        /// outdated verdict, never exceeds its bounds, and forgets nothing while there is room.
        #[test]
        fn it_never_says_what_is_not_true(
            steps in prop::collection::vec(step(), 1..200),
            entries in prop_oneof![1..80usize, Just(640)],
        ) {
            let bytes = 1 << 20;
            let cache = MemoryCache::new(bytes, entries);
            let mut model: HashMap<usize, (bool, u64, i64)> = HashMap::new();
            let mut now = START;
            for step in steps {
                match step {
                    Step::PutActive { key: number, ttl, exp } => {
                        let exp = now.unix + exp;
                        let ttl = Duration::from_millis(ttl);
                        cache.put(key(number), &active(Some(exp)), ttl.into(), now, 0);
                        model.insert(number, (true, now.after(ttl).monotonic, exp));
                    }
                    Step::PutInactive { key: number, ttl } => {
                        let ttl = Duration::from_millis(ttl);
                        cache.put(key(number), &Verdict::Inactive, ttl.into(), now, 0);
                        model.insert(number, (false, now.after(ttl).monotonic, i64::MAX));
                    }
                    Step::Get { key: number } => {
                        let truth = model
                            .get(&number)
                            .filter(|(_, expires, exp)| now.monotonic < *expires && now.unix < *exp)
                            .map(|(active, _, _)| *active);
                        let said = cache.get(&key(number), now, 0).map(|it| matches!(it.verdict, Verdict::Active(_)));
                        prop_assert!(said.is_none() || said == truth, "{said:?} for {truth:?}");
                        // 40 keys fit into an eighth of 640 entries of either kind.
                        if entries >= 640 {
                            prop_assert_eq!(said, truth);
                        }
                    }
                    Step::Pass { millis } => {
                        let monotonic = now.monotonic + millis;
                        let unix = START.unix + ((monotonic - START.monotonic) / 1000) as i64;
                        now = Now { unix, monotonic };
                    }
                }
                let counts = cache.counts();
                prop_assert!(counts.entries <= entries as u64 + 1);
                prop_assert!(counts.bytes <= bytes as u64);
            }
        }
    }
}
