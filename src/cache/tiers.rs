//! All caches of a client: its own memory in front, the shared store behind it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::lifetime::Lifetime;
use super::sealed::{self, Entry};
use super::{
    CacheCounts, Class, FirstUse, Hit, MemoryCache, ProofId, ProofTime, Proofs, SharedAtomics,
    Store, Version, Versions,
};
use crate::clock::Now;
use crate::token::{Key, Token};
use crate::{Provider, Verdict};

/// The maximum size of a value in a store: a JWT of the maximum length, its claims, and the framing.
const LARGEST: usize = 1 << 20;
/// The buffer for a sealed entry is kept for the next one, unless it is larger than this.
const KEPT: usize = 16 << 10;

/// One token's key, and the version under which its verdict was or is being looked up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct VersionedKey {
    pub key: Key,
    pub version: Version,
}

/// The caches of a client.
pub(crate) struct TieredCache {
    provider: Arc<Provider>,
    memory: MemoryCache,
    store: Option<Arc<dyn Store>>,
    /// Verdicts are put into the store and taken from it. Without `cache_ttl` they are not; but a token that is called
    /// inactive is still ended in the store, where a client with another configuration may have cached it.
    shares: bool,
    proofs: Proofs,
    /// For a client without a store, or with one that keeps no versions.
    versions: Versions,
    /// Likewise.
    words: SharedAtomics,
    /// The buffer in which sealed entries are opened, one after the other; wiped after each.
    sealed: Mutex<Vec<u8>>,
}

impl TieredCache {
    pub fn new(provider: &Arc<Provider>, store: Option<Arc<dyn Store>>) -> Self {
        TieredCache {
            memory: MemoryCache::new(provider.cache_size, provider.cache_entries),
            // Proofs are used once, even where no verdicts are cached.
            proofs: Proofs::new(store.clone()),
            store,
            shares: !provider.cache_ttl.is_zero(),
            versions: Versions::new(),
            words: SharedAtomics::default(),
            sealed: Mutex::default(),
            provider: Arc::clone(provider),
        }
    }

    /// Names a token for a lookup that starts now. Call this before any lookup: a purge after this call changes the
    /// name.
    pub fn subject(&self, key: Key) -> VersionedKey {
        let version = self.store.as_ref().and_then(|store| store.version(&key));
        VersionedKey {
            key,
            version: version.unwrap_or_else(|| self.versions.of(&key)),
        }
    }

    /// The shared store, if verdicts are shared.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref().filter(|_| self.shares)
    }

    /// The verdict in this process's memory.
    pub fn own(&self, subject: &VersionedKey, now: Now) -> Option<Hit> {
        self.memory.get(&subject.key, now, subject.version.epoch)
    }

    /// The verdict in the store. It is also put into this process's memory.
    pub fn shared(&self, subject: &VersionedKey, token: Token<'_>, now: Now) -> Option<Hit> {
        let (entry, left) = self.stored(subject, token, now)?;
        let fresh = left.saturating_sub(entry.stale);
        if fresh.is_zero() || is_expired(&entry.verdict, now) {
            return None;
        }
        let lifetime = Lifetime::new(&self.provider, &entry.verdict, entry.fresh, fresh);
        let refresh = lifetime.refresh.is_some_and(|after| after.is_zero());
        let lifetime = Lifetime {
            // A refresh that is requested here need not be requested again.
            refresh: lifetime.refresh.filter(|after| !after.is_zero()),
            // No copy outlives its original: a store ends copies for as long as it has the original.
            stale: lifetime.stale.min(entry.stale),
            ..lifetime
        };
        let (key, epoch) = (subject.key, subject.version.epoch);
        self.memory.put(key, &entry.verdict, lifetime, now, epoch);
        Some(Hit {
            verdict: entry.verdict,
            refresh,
        })
    }

    /// A verdict past its lifetime that may be served when the authorization server can't be asked.
    pub fn stale(&self, subject: &VersionedKey, token: Token<'_>, now: Now) -> Option<Verdict> {
        if self.provider.stale_if_error.is_zero() {
            return None;
        }
        // Uses the current version: the entry may have been ended since `subject` was named.
        let subject = self.subject(subject.key);
        let own = self.memory.stale(&subject.key, now, subject.version.epoch);
        own.or_else(|| {
            let (entry, _) = self.stored(&subject, token, now)?;
            let is_active = matches!(entry.verdict, Verdict::Active(_));
            (is_active && !is_expired(&entry.verdict, now)).then_some(entry.verdict)
        })
    }

    /// Caches a new verdict for `fresh` from `now`. The previous verdict ends, in the memory of other processes and in
    /// the store too, when the token is inactive and when the new verdict is not to be cached.
    pub fn put(
        &self,
        subject: &VersionedKey,
        token: Token<'_>,
        verdict: &Verdict,
        fresh: Duration,
        now: Now,
    ) {
        let lifetime = Lifetime::new(&self.provider, verdict, fresh, fresh);
        match verdict {
            Verdict::Active(_) if fresh.is_zero() && !self.shares => {}
            Verdict::Active(_) if fresh.is_zero() => {
                self.end(subject, &[], Duration::ZERO);
                self.memory.remove(&subject.key);
            }
            Verdict::Active(_) => self.remember(subject, token, verdict, lifetime, now),
            Verdict::Inactive => self.end_inactive(subject, token, lifetime, now),
        }
    }

    /// Caches an active verdict, unless an end since the request may be newer than this verdict.
    fn remember(
        &self,
        subject: &VersionedKey,
        token: Token<'_>,
        verdict: &Verdict,
        lifetime: Lifetime,
        now: Now,
    ) {
        let VersionedKey { key, version } = *subject;
        if self.subject(key) != *subject {
            // The entry would never be used, and would replace the current one.
            return;
        }
        if let Some(store) = self.store() {
            let sealed = self.seal(token, verdict, lifetime, now);
            let keep = lifetime.fresh.saturating_add(lifetime.stale);
            // The store comes before this process's memory. If the token is called inactive from now on, it ends in the
            // store, and by that here. If it was called inactive before this, the store reports it.
            if !store.put(&key, &sealed, Class::Active, keep, version) {
                return;
            }
        }
        self.memory.put(key, verdict, lifetime, now, version.epoch);
    }

    /// Ends the previous verdict of an inactive token, and caches the inactive verdict for as long as allowed.
    fn end_inactive(&self, subject: &VersionedKey, token: Token<'_>, lifetime: Lifetime, now: Now) {
        let keep = if self.shares {
            lifetime.fresh
        } else {
            Duration::ZERO
        };
        let sealed = match self.store {
            Some(_) if !keep.is_zero() => self.seal(token, &Verdict::Inactive, lifetime, now),
            _ => Vec::new(),
        };
        let version = self.end(subject, &sealed, keep);
        let lifetime = Lifetime {
            fresh: version.map_or(Duration::ZERO, |_| lifetime.fresh),
            ..lifetime
        };
        // Where a removed entry may come back, this process records that it must not be used.
        let forgets = self.store().is_none_or(|store| store.removes_surely());
        let older = if forgets {
            Duration::ZERO
        } else {
            let Provider {
                cache_ttl,
                stale_if_error,
                ..
            } = *self.provider;
            cache_ttl.saturating_add(stale_if_error)
        };
        let epoch = version.unwrap_or(subject.version).epoch;
        self.memory
            .end(subject.key, lifetime.fresh, older, now, epoch);
    }

    /// Ends the entries of a key in the store and in other processes that share it, and stores `sealed` if that is to
    /// be kept. Returns the version under which the end may be cached here, if it may.
    fn end(&self, subject: &VersionedKey, sealed: &[u8], keep: Duration) -> Option<Version> {
        let VersionedKey { key, version } = *subject;
        let outdated = || self.subject(key).version.epoch != version.epoch;
        let Some(store) = &self.store else {
            // No other process caches anything, and this process replaces its own entry.
            return (!outdated()).then_some(version);
        };
        if store.version(&key).is_some() {
            return store.end(&key, sealed, keep, version);
        }
        // Before and after, as for a purge.
        let outdated = outdated();
        self.versions.change(&key);
        let keep = if outdated { Duration::ZERO } else { keep };
        store.end(&key, sealed, keep, version);
        self.versions.change(&key);
        (!outdated).then(|| self.versions.of(&key))
    }

    fn seal(&self, token: Token<'_>, verdict: &Verdict, lifetime: Lifetime, now: Now) -> Vec<u8> {
        let entry = Entry {
            verdict: verdict.clone(),
            stored: now.unix,
            fresh: lifetime.fresh,
            stale: lifetime.stale,
        };
        sealed::seal(&self.provider.fingerprint, token, &entry)
    }

    /// Removes a key from all caches.
    pub fn purge(&self, key: &Key) {
        // Once before, so that no flight in progress stores its answer; and once after, so that no request that found
        // the old entry in the store meanwhile continues to use it. A store that keeps versions does both at once.
        self.versions.change(key);
        if let Some(store) = &self.store {
            store.remove(key);
            self.versions.change(key);
        }
        self.memory.remove(key);
    }

    /// Removes everything of the provider from all caches. Entries in this process are removed when they are next
    /// looked up.
    pub fn purge_all(&self) {
        self.versions.change_all();
        if let Some(store) = &self.store {
            store.clear();
            self.versions.change_all();
        }
    }

    /// Records that a proof is used. No purge removes it.
    pub fn first_use(&self, proof: &ProofId, time: ProofTime, now: Now) -> FirstUse {
        self.proofs.first_use(proof, time, now.monotonic)
    }

    /// Announces that proofs are accepted for as long as this.
    pub fn expect_window(&self, window: Duration) {
        self.proofs.expect_window(window);
    }

    /// Words that all clients of the store share, or only this process when there is no store.
    pub fn words(&self) -> &SharedAtomics {
        self.store()
            .and_then(|store| store.words())
            .unwrap_or(&self.words)
    }

    /// The sizes and counters of this process's memory.
    pub fn counts(&self) -> CacheCounts {
        self.memory.counts()
    }

    /// The entry of the key in the store, and its remaining lifetime.
    fn stored(
        &self,
        subject: &VersionedKey,
        token: Token<'_>,
        now: Now,
    ) -> Option<(Entry, Duration)> {
        let (entry, left) = match self.sealed.try_lock() {
            Some(mut sealed) => {
                let opened = self.opened(subject, token, &mut sealed);
                sealed.clear();
                if sealed.capacity() > KEPT {
                    *sealed = Vec::new();
                }
                opened
            }
            // Another thread is using the buffer.
            None => self.opened(subject, token, &mut Vec::new()),
        }?;
        // A store can shorten the lifetime of an entry, but cannot prolong it: neither by the lifetime that it reports
        // nor by returning an old entry. One second is the maximum error of the coarser clock.
        let most = entry.fresh.saturating_add(entry.stale);
        let age = u64::try_from(now.unix.saturating_sub(entry.stored)).unwrap_or(0);
        let left_at_most = most.checked_sub(Duration::from_secs(age.saturating_sub(1)))?;
        // The store cannot bring back an entry that was ended, either.
        let ended = self.memory.ended(&subject.key, now);
        if matches!(entry.verdict, Verdict::Active(_)) && ended.is_some_and(|at| entry.stored <= at)
        {
            return None;
        }
        Some((entry, left.min(left_at_most)))
    }

    /// Reads the stored value into `sealed`, which is empty, and opens it there.
    fn opened(
        &self,
        subject: &VersionedKey,
        token: Token<'_>,
        sealed: &mut Vec<u8>,
    ) -> Option<(Entry, Duration)> {
        let left = self.store()?.get(&subject.key, sealed)?;
        if sealed.len() > LARGEST {
            return None;
        }
        let entry = sealed::open(&self.provider.fingerprint, token, sealed)?;
        Some((entry, left))
    }
}

fn is_expired(verdict: &Verdict, now: Now) -> bool {
    match verdict {
        Verdict::Active(active) => active.exp().is_some_and(|exp| exp <= now.unix),
        Verdict::Inactive => false,
    }
}
