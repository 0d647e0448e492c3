//! Everything that a client remembers: its own memory in front, the store that it shares with others behind it.

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

/// What a value in a store may take at the most: a JWT of the greatest length, its claims, and what is around them.
const LARGEST: usize = 1 << 20;
/// The room for a sealed entry is kept for the next, unless it is larger than this.
const KEPT: usize = 16 << 10;

/// One token's name, and the version under which something is known of it or being found out.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct VersionedKey {
    pub key: Key,
    pub version: Version,
}

/// What a client remembers.
pub(crate) struct TieredCache {
    provider: Arc<Provider>,
    memory: MemoryCache,
    store: Option<Arc<dyn Store>>,
    /// Verdicts are put into the store and taken from it. Without `cache_ttl` they are not; but a token that is called
    /// inactive ends in the store all the same, where another configuration may remember it.
    shares: bool,
    proofs: Proofs,
    /// For a client without a store, or with one that keeps no versions.
    versions: Versions,
    /// Likewise.
    words: SharedAtomics,
    /// Where a sealed entry is put to be opened, one after the other; wiped in between.
    sealed: Mutex<Vec<u8>>,
}

impl TieredCache {
    pub fn new(provider: &Arc<Provider>, store: Option<Arc<dyn Store>>) -> Self {
        TieredCache {
            memory: MemoryCache::new(provider.cache_size, provider.cache_entries),
            // Whatever is remembered of tokens, a proof is used once.
            proofs: Proofs::new(store.clone()),
            store,
            shares: !provider.cache_ttl.is_zero(),
            versions: Versions::new(),
            words: SharedAtomics::default(),
            sealed: Mutex::default(),
            provider: Arc::clone(provider),
        }
    }

    /// Names a token as it is to be asked about from now on. To be called before anything is looked up: what is purged
    /// after that has another name.
    pub fn subject(&self, key: Key) -> VersionedKey {
        let version = self.store.as_ref().and_then(|store| store.version(&key));
        VersionedKey {
            key,
            version: version.unwrap_or_else(|| self.versions.of(&key)),
        }
    }

    /// The store that is shared with others, if verdicts are.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref().filter(|_| self.shares)
    }

    /// What this process knows.
    pub fn own(&self, subject: &VersionedKey, now: Now) -> Option<Hit> {
        self.memory.get(&subject.key, now, subject.version.epoch)
    }

    /// What the store knows. It is remembered here too.
    pub fn shared(&self, subject: &VersionedKey, token: Token<'_>, now: Now) -> Option<Hit> {
        let (entry, left) = self.stored(subject, token, now)?;
        let fresh = left.saturating_sub(entry.stale);
        if fresh.is_zero() || is_expired(&entry.verdict, now) {
            return None;
        }
        let lifetime = Lifetime::new(&self.provider, &entry.verdict, entry.fresh, fresh);
        let refresh = lifetime.refresh.is_some_and(|after| after.is_zero());
        let lifetime = Lifetime {
            // Whoever is told here need not be told again.
            refresh: lifetime.refresh.filter(|after| !after.is_zero()),
            // No copy outlives what it is a copy of: a store ends copies for as long as it has that.
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

    /// What is known and past its time, but may be served when the authorization server can't be asked.
    pub fn stale(&self, subject: &VersionedKey, token: Token<'_>, now: Now) -> Option<Verdict> {
        if self.provider.stale_if_error.is_zero() {
            return None;
        }
        // As it is by now: what was known when `subject` was named may have been ended since.
        let subject = self.subject(subject.key);
        let own = self.memory.stale(&subject.key, now, subject.version.epoch);
        own.or_else(|| {
            let (entry, _) = self.stored(&subject, token, now)?;
            let is_active = matches!(entry.verdict, Verdict::Active(_));
            (is_active && !is_expired(&entry.verdict, now)).then_some(entry.verdict)
        })
    }

    /// Learns what was found out, and remembers it for `fresh` from `now`. What was known before ends, in the memory of
    /// others and in the store too, when the token is inactive and when the verdict is not to be remembered.
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

    /// Remembers an active verdict, unless something has ended since it was asked for that it may be older than.
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
            // It would be believed by nobody, and take the place of what is known by now.
            return;
        }
        if let Some(store) = self.store() {
            let sealed = self.seal(token, verdict, lifetime, now);
            let keep = lifetime.fresh.saturating_add(lifetime.stale);
            // Before it is remembered here: a token that is called inactive from now on ends in the store, and by that
            // here; and if it was before this, the store says so.
            if !store.put(&key, &sealed, Class::Active, keep, version) {
                return;
            }
        }
        self.memory.put(key, verdict, lifetime, now, version.epoch);
    }

    /// Ends what was known of a token that is inactive, and remembers that it is for as long as that may be.
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
        // Where what is removed may come back, it is remembered that it must not.
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

    /// Ends what the store and others who share it know of a key, and stores `sealed` if that is to be kept. Returns the
    /// version under which the end may be remembered here, if it may.
    fn end(&self, subject: &VersionedKey, sealed: &[u8], keep: Duration) -> Option<Version> {
        let VersionedKey { key, version } = *subject;
        let outdated = || self.subject(key).version.epoch != version.epoch;
        let Some(store) = &self.store else {
            // Nobody else remembers anything, and what this process does takes the place of what it knew.
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

    /// Forgets a key, everywhere.
    pub fn purge(&self, key: &Key) {
        // Before, so that no flight that is under way stores its answer any more; and after, so that nobody who found the
        // old one in the store meanwhile goes on with it. A store that keeps versions does both at once.
        self.versions.change(key);
        if let Some(store) = &self.store {
            store.remove(key);
            self.versions.change(key);
        }
        self.memory.remove(key);
    }

    /// Forgets everything of the provider, everywhere. What this process holds goes as it is met.
    pub fn purge_all(&self) {
        self.versions.change_all();
        if let Some(store) = &self.store {
            store.clear();
            self.versions.change_all();
        }
    }

    /// Notes that a proof is used. No purge forgets it.
    pub fn first_use(&self, proof: &ProofId, time: ProofTime, now: Now) -> FirstUse {
        self.proofs.first_use(proof, time, now.monotonic)
    }

    /// Says that proofs are accepted for as long as this.
    pub fn expect_window(&self, window: Duration) {
        self.proofs.expect_window(window);
    }

    /// Words that all who share the store see, or only this process, when there is none.
    pub fn words(&self) -> &SharedAtomics {
        self.store()
            .and_then(|store| store.words())
            .unwrap_or(&self.words)
    }

    /// What this process holds and has done.
    pub fn counts(&self) -> CacheCounts {
        self.memory.counts()
    }

    /// What the store has under the key, and for how long it will.
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
            // Another thread is at it.
            None => self.opened(subject, token, &mut Vec::new()),
        }?;
        // A store can shorten the life of what is in it, and not prolong it: neither by what it says nor by handing out
        // what it had long ago. A second is what the coarser clock may be off.
        let most = entry.fresh.saturating_add(entry.stale);
        let age = u64::try_from(now.unix.saturating_sub(entry.stored)).unwrap_or(0);
        let left_at_most = most.checked_sub(Duration::from_secs(age.saturating_sub(1)))?;
        // Nor can it bring back what was ended.
        let ended = self.memory.ended(&subject.key, now);
        if matches!(entry.verdict, Verdict::Active(_)) && ended.is_some_and(|at| entry.stored <= at)
        {
            return None;
        }
        Some((entry, left.min(left_at_most)))
    }

    /// Takes what the store has out into `sealed`, which is empty, and opens it there.
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
