//! Everything that a client remembers: its own memory in front, the store that it shares with others behind it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::lifetime::Lifetime;
use super::sealed::{self, Entry};
use super::{
    CacheCounts, Class, FirstUse, Hit, MemoryCache, ProofId, ProofTime, Proofs, SharedWords, Store,
    Versions,
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
pub(crate) struct Subject {
    pub key: Key,
    pub version: u32,
}

/// What a client remembers.
pub(crate) struct Levels {
    provider: Arc<Provider>,
    memory: MemoryCache,
    store: Option<Arc<dyn Store>>,
    proofs: Proofs,
    /// For a client without a store, or with one that keeps no versions.
    versions: Versions,
    /// Likewise.
    words: SharedWords,
    /// Where a sealed entry is put to be opened, one after the other; wiped in between.
    sealed: Mutex<Vec<u8>>,
}

impl Levels {
    pub fn new(provider: &Arc<Provider>, store: Option<Arc<dyn Store>>) -> Self {
        Levels {
            memory: MemoryCache::new(provider.cache_size, provider.cache_entries),
            // Whatever is remembered of tokens, a proof is used once.
            proofs: Proofs::new(store.clone()),
            // What is not remembered at all is not shared either.
            store: store.filter(|_| !provider.cache_ttl.is_zero()),
            versions: Versions::new(),
            words: SharedWords::default(),
            sealed: Mutex::default(),
            provider: Arc::clone(provider),
        }
    }

    /// Names a token as it is to be asked about from now on. To be called before anything is looked up: what is purged
    /// after that has another name.
    pub fn subject(&self, key: Key) -> Subject {
        let version = self.store.as_ref().and_then(|store| store.version(&key));
        Subject {
            key,
            version: version.unwrap_or_else(|| self.versions.of(&key)),
        }
    }

    /// The store that is shared with others.
    pub fn store(&self) -> Option<&Arc<dyn Store>> {
        self.store.as_ref()
    }

    /// What this process knows.
    pub fn own(&self, subject: &Subject, now: Now) -> Option<Hit> {
        self.memory.get(&subject.key, now, subject.version)
    }

    /// What the store knows. It is remembered here too.
    pub fn shared(&self, subject: &Subject, token: Token<'_>, now: Now) -> Option<Hit> {
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
            ..lifetime
        };
        let (key, version) = (subject.key, subject.version);
        self.memory.put(key, &entry.verdict, lifetime, now, version);
        Some(Hit {
            verdict: entry.verdict,
            refresh,
        })
    }

    /// What is known and past its time, but may be served when the authorization server can't be asked.
    pub fn stale(&self, subject: &Subject, token: Token<'_>, now: Now) -> Option<Verdict> {
        if self.provider.stale_if_error.is_zero() {
            return None;
        }
        let own = self.memory.stale(&subject.key, now, subject.version);
        own.or_else(|| {
            let (entry, _) = self.stored(subject, token, now)?;
            let is_active = matches!(entry.verdict, Verdict::Active(_));
            (is_active && !is_expired(&entry.verdict, now)).then_some(entry.verdict)
        })
    }

    /// Remembers what was found out, for `fresh` from `now`.
    pub fn put(
        &self,
        subject: &Subject,
        token: Token<'_>,
        verdict: &Verdict,
        fresh: Duration,
        now: Now,
    ) {
        let lifetime = Lifetime::new(&self.provider, verdict, fresh, fresh);
        let Subject { key, version } = *subject;
        if self.subject(key) != *subject {
            // Purged meanwhile. It would be believed by nobody, and take the place of what is known by now.
            return;
        }
        self.memory.put(key, verdict, lifetime, now, version);
        if fresh.is_zero() {
            return;
        }
        if let Some(store) = &self.store {
            let entry = Entry {
                verdict: verdict.clone(),
                stored: now.unix,
                fresh,
                stale: lifetime.stale,
            };
            let sealed = sealed::seal(&self.provider.fingerprint, token, &entry);
            let class = match verdict {
                Verdict::Active(_) => Class::Active,
                Verdict::Inactive => Class::Inactive,
            };
            let keep = fresh.saturating_add(lifetime.stale);
            store.put(&key, &sealed, class, keep, version);
        }
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

    /// Words that all who share the store see, or only this process, when there is none.
    pub fn words(&self) -> &SharedWords {
        self.store
            .as_ref()
            .and_then(|store| store.words())
            .unwrap_or(&self.words)
    }

    /// What this process holds and has done.
    pub fn counts(&self) -> CacheCounts {
        self.memory.counts()
    }

    /// What the store has under the key, and for how long it will.
    fn stored(&self, subject: &Subject, token: Token<'_>, now: Now) -> Option<(Entry, Duration)> {
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
        Some((entry, left.min(left_at_most)))
    }

    /// Takes what the store has out into `sealed`, which is empty, and opens it there.
    fn opened(
        &self,
        subject: &Subject,
        token: Token<'_>,
        sealed: &mut Vec<u8>,
    ) -> Option<(Entry, Duration)> {
        let left = self.store.as_ref()?.get(&subject.key, sealed)?;
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
