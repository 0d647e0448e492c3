//! The store that clients share: the trait for a shared cache.
//!
//! A store keeps bytes under a key, for a time. It decides nothing and interprets nothing. The bytes are sealed (see
//! `sealed.rs`): a reader of the store learns neither tokens nor JWTs, and a writer can make no verdict.
//! [`Zone`](super::Zone) is the store that comes with this crate, in memory that processes share; a host may provide
//! its own.
//!
//! # Versions
//!
//! An entry outside the store, in the memory of one process, must end when another process purges its key. So every key
//! has a *version*, which changes when the key is purged. A process that caches a verdict notes the version from before
//! it began to ask, and uses the entry only while the version is the same. Keys may share a version: then a purge of
//! one costs the others a lookup in the store, and nothing else.
//!
//! # Inactive tokens
//!
//! When the authorization server calls a token inactive, all entries of the token end, as with a purge
//! ([`Store::end`]), whether or not the inactive verdict itself may be stored. An active verdict that was asked for
//! before and arrives after is not stored: for that, a [`Version`] counts the tokens that were called inactive.
//!
//! # Leases
//!
//! One process at a time asks about a token. It takes a *lease* of the key first. The others wait until the answer is
//! in the store or the lease has ended, for any reason: it was released, its time was over, or its process died.
//!
//! # Proofs
//!
//! A proof that a sender has a key is valid for one request (RFC 9449 §11.1). So it is recorded for as long as it would
//! be accepted. It is the one thing in a store that must not be forgotten: neither to make room for another, nor when a
//! key or all keys are purged. A proof that can't be recorded is not the first use.
//!
//! A record ends when its proof is no longer accepted. This time is computed from the current clock and window, and
//! both may change: another location or a reload has a longer window, or the clock is set back. So a store remembers
//! the latest `iat` of the proofs that it has forgotten, and no proof is new unless its `iat` is later than that one.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::token::Key;

/// The class of a stored value: each class has its own share of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// An active verdict.
    Active,
    /// An inactive verdict: a client that sends a million random tokens fills this share and no other.
    Inactive,
}

/// A request for the lease of a key, to be the one process that asks about a token.
#[derive(Debug, Clone, Copy)]
pub struct FetchLease {
    /// The id of the flight that would ask: no two flights have the same.
    pub flight: u64,
    /// The key's version when the flight began. A lease of another [`Version::epoch`] makes no other flight wait.
    pub version: Version,
    /// The maximum time from now until the flight has ended.
    pub within: Duration,
    /// The flight that was waited for until now: if it failed, so has this one.
    pub waited_for: Option<u64>,
    /// The time since this flight began. A flight that failed since then counts like one that was waited for: this
    /// flight would have waited for it, had it asked in time.
    pub waited: Duration,
}

/// The version of a key. Keys may share one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Version {
    /// Changes when all cached verdicts of the key must end.
    pub epoch: u32,
    /// The number of tokens that have been called inactive. An active verdict that was asked for at another count may
    /// be older than the inactive one.
    pub ends: u32,
}

impl From<u32> for Version {
    fn from(epoch: u32) -> Self {
        Version { epoch, ends: 0 }
    }
}

/// The result of a lease request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// The lease is granted: ask, then call [`Store::release`].
    Granted,
    /// This flight is asking already: wait for it.
    Held(u64),
    /// The flight that was waited for, or would have been, has failed. The bytes describe the failure.
    Failed(Vec<u8>),
}

/// Words that all clients of a store share. Their meaning is up to the code that uses them; they begin as zeroes.
pub type SharedAtomics = [AtomicU64; 4];

/// The name of a proof: a digest, from which nothing of the proof can be recovered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofId(pub [u8; 32]);

/// The maximum by which a client's clock may be ahead of ours: the `iat` of a proof may be this much later than now.
pub const PROOF_AHEAD: Duration = Duration::from_secs(10);

/// The time in seconds for which a proof is recorded longer than it is accepted: our clocks count seconds, and are not
/// exactly the same.
const SLACK: i64 = 2;

/// An `iat` that is earlier than that of any proof.
pub(crate) const NO_PROOF: i64 = i64::MIN;

/// The times that determine for how long a proof is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofTime {
    /// The time when it was made: its `iat`, in seconds since the epoch.
    pub iat: i64,
    /// The current time, in seconds since the epoch.
    pub now: i64,
    /// The longest time for which it may be accepted from its `iat` on, under any rules.
    pub window: Duration,
}

impl ProofTime {
    /// The time from now on for which the proof is to be recorded.
    pub fn left(&self) -> Duration {
        let end = self
            .iat
            .saturating_add_unsigned(self.window.as_secs())
            .saturating_add(SLACK);
        Duration::from_secs(u64::try_from(end.saturating_sub(self.now)).unwrap_or(0))
    }

    /// The latest possible `iat` of a proof that was recorded before now.
    pub(crate) fn latest_noted(&self) -> i64 {
        self.now.saturating_add_unsigned(PROOF_AHEAD.as_secs())
    }
}

/// Whether a proof has been used before. Only [`FirstUse::First`] gives access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum FirstUse {
    /// It has not been used before, and is now recorded as used.
    First,
    /// It has been used before.
    Replayed,
    /// There is no room to record it, and the recorded proofs are still needed.
    Full,
    /// It can't be known: records have been lost, and this proof is old enough to have been among them.
    Lost,
    /// This store records no proofs.
    Unsupported,
}

/// A store of one provider, shared with other clients. Called from any thread; every call is short.
///
/// No method fails: a store that can't do what it is asked to has forgotten, and forgetting is always allowed. Proofs
/// are the exception: [`FirstUse`] reports what can't be done.
pub trait Store: Send + Sync {
    /// The key's version: one atomic load. `None` when the store keeps no versions.
    fn version(&self, key: &Key) -> Option<Version>;

    /// Appends the stored value to `value` and returns its remaining lifetime; `None` when there is none.
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> Option<Duration>;

    /// Stores `value` and replaces the old value, unless the key's version differs from `version`; for an inactive
    /// verdict only [`Version::epoch`] counts. Returns whether the verdict may be cached, here or elsewhere: `false`
    /// when the version differed.
    fn put(&self, key: &Key, value: &[u8], class: Class, keep: Duration, version: Version) -> bool;

    /// Removes a key and changes its [`Version::epoch`].
    fn remove(&self, key: &Key);

    /// Ends all entries of a key, here and in the memory of others: its token was called inactive, or there is a newer
    /// verdict that may not be stored. Then stores `value`, an inactive verdict, unless `keep` is zero or the epoch
    /// differs from that of `version`, under which the verdict was asked for. Returns the version under which an
    /// inactive verdict may be cached elsewhere, if it may.
    ///
    /// Random tokens are ended too. A store that can tell that no process has an active verdict of a key need not
    /// change its epoch; this default can't tell.
    fn end(&self, key: &Key, value: &[u8], keep: Duration, version: Version) -> Option<Version> {
        let outdated = self
            .version(key)
            .is_some_and(|now| now.epoch != version.epoch);
        self.remove(key);
        if outdated {
            return None;
        }
        let version = self.version(key).unwrap_or(version);
        if !keep.is_zero() {
            self.put(key, value, Class::Inactive, keep, version);
        }
        Some(version)
    }

    /// Whether a removed entry is gone for certain. Clients of a store that may fail to remove keep their own record of
    /// which tokens were called inactive, and take nothing older from it.
    fn removes_surely(&self) -> bool {
        false
    }

    /// Removes all that is stored for this provider and changes the versions of all its keys.
    fn clear(&self);

    /// Requests the lease of a key.
    fn lease(&self, _key: &Key, _claim: &FetchLease) -> LeaseOutcome {
        LeaseOutcome::Granted
    }

    /// Ends the lease that [`Store::lease`] granted to `flight`. The answer is stored by now, or `failure` describes
    /// why not. Does nothing when another flight holds the lease by now.
    fn release(&self, _key: &Key, _flight: u64, _failure: Option<&[u8]>) {}

    /// Records a proof, atomically for all clients of the store: of any number of calls for the same proof, one
    /// receives [`FirstUse::First`].
    fn first_use(&self, _proof: &ProofId, _time: ProofTime) -> FirstUse {
        FirstUse::Unsupported
    }

    /// Words that all clients of this store share.
    fn words(&self) -> Option<&SharedAtomics> {
        None
    }
}
