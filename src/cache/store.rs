//! What a client remembers together with others: the trait behind which such a memory stands.
//!
//! A store keeps bytes under a key, for a time. It decides nothing and understands nothing: the bytes are sealed (see
//! `sealed.rs`), so that whoever reads the store learns neither tokens nor JWTs, and whoever writes to it can make no
//! verdict. [`Zone`](super::Zone) is the one that comes with this crate, in memory that processes share; a host may
//! bring its own.
//!
//! # Versions
//!
//! What is remembered outside the store, in the memory of one process, must end when somebody else purges it. So every
//! key has a *version*, which changes when the key is purged. Whoever remembers something notes the version from before
//! it began to find it out, and believes itself only while the version is the same. Keys may share a version: then a
//! purge of one costs the others a look into the store, and nothing else.
//!
//! # Inactive tokens
//!
//! A token that the authorization server has called inactive ends everything that was known of it, as a purge does
//! ([`Store::end`]), whether or not the inactive verdict itself may be stored. An active verdict that was asked for before
//! and arrives after is not stored: a [`Version`] counts the tokens that were called inactive for that.
//!
//! # Claims
//!
//! One process at a time asks about a token. It *claims* the key first; the others wait until the answer is in the
//! store or the claim has ended, whatever ended it: that it was settled, that its time was over, or that its process
//! died.
//!
//! # Proofs
//!
//! A proof that a sender has a key is good for one request (RFC 9449 §11.1). So it is noted, for as long as it would be
//! accepted, and the one thing here that is not allowed to be forgotten: neither for another, nor when a key or all keys
//! are purged. What can't be noted is not the first use.
//!
//! A note ends when its proof is accepted no longer. That is foreseen by the clock and the window of the moment, and both
//! may change: another location or a reload has a longer window, or the clock is set back. So a store remembers the
//! latest `iat` of the proofs that it has forgotten, and no proof is new that is not later than that one.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::token::Key;

/// What is stored: each class has a share of the memory of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// An active verdict.
    Active,
    /// An inactive one: whoever sends a million random tokens fills this share and no other.
    Inactive,
}

/// The wish to be the one who asks about a token.
#[derive(Debug, Clone, Copy)]
pub struct FetchLease {
    /// Names the flight that would ask: no two have the same.
    pub flight: u64,
    /// The key's version when the flight began. A claim of another [`Version::epoch`] holds up nobody.
    pub version: Version,
    /// When the flight will have ended, from now on.
    pub within: Duration,
    /// The flight that was waited for until now: if it failed, so has this one.
    pub waited_for: Option<u64>,
    /// How long ago this flight began. One that failed since then is as good as one that was waited for: this one would
    /// have waited, had it come to ask in time.
    pub waited: Duration,
}

/// The version of a key. Keys may share one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Version {
    /// Changes when whatever anybody remembers of the key must end.
    pub epoch: u32,
    /// How many tokens have been called inactive. An active verdict that was asked for at another count may be older than
    /// the inactive one.
    pub ends: u32,
}

impl From<u32> for Version {
    fn from(epoch: u32) -> Self {
        Version { epoch, ends: 0 }
    }
}

/// What became of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseOutcome {
    /// Ask. Then [`Store::release`].
    Granted,
    /// This flight is asking already: wait for it.
    Held(u64),
    /// The flight that was waited for, or would have been, has failed, as these bytes say.
    Failed(Vec<u8>),
}

/// Words that all who share a store see. What they mean is the business of whoever asks for them; they begin as
/// zeroes.
pub type SharedAtomics = [AtomicU64; 4];

/// The name of a proof: a digest, from which nothing of the proof can be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofId(pub [u8; 32]);

/// How far ahead of our clock that of a client may be: the `iat` of a proof may be as much later than now.
pub const PROOF_AHEAD: Duration = Duration::from_secs(10);

/// A proof is noted for so much longer than it is accepted, in seconds: our clocks tell seconds, and are not quite the
/// same.
const SLACK: i64 = 2;

/// The `iat` of a proof that is earlier than any.
pub(crate) const NO_PROOF: i64 = i64::MIN;

/// The times that say for how long a proof is to be remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProofTime {
    /// When it was made: its `iat`, in seconds since the epoch.
    pub iat: i64,
    /// The time now, likewise.
    pub now: i64,
    /// For how long it may be accepted from its `iat` on, by whatever rules.
    pub window: Duration,
}

impl ProofTime {
    /// For how long the proof is to be noted from now on.
    pub fn left(&self) -> Duration {
        let end = self
            .iat
            .saturating_add_unsigned(self.window.as_secs())
            .saturating_add(SLACK);
        Duration::from_secs(u64::try_from(end.saturating_sub(self.now)).unwrap_or(0))
    }

    /// The latest `iat` that a proof can have that was noted by now.
    pub(crate) fn latest_noted(&self) -> i64 {
        self.now.saturating_add_unsigned(PROOF_AHEAD.as_secs())
    }
}

/// Whether a proof has been used before. Only the first of these lets anybody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum FirstUse {
    /// It has not, and from now on it has.
    First,
    /// It has.
    Replayed,
    /// There is no room to note it, and those that are noted are needed still.
    Full,
    /// It can't be known: what was noted is forgotten, and this one is old enough to have been among it.
    Lost,
    /// This store notes no proofs.
    Unsupported,
}

/// Remembers for one provider, together with whoever else shares it. Called from any thread; every call is short.
///
/// Nothing here fails: a store that can't do what it is asked to has forgotten, and forgetting is always allowed; except
/// for proofs, of which [`FirstUse`] says what can't be done.
pub trait Store: Send + Sync {
    /// The key's version: one atomic load. `None` when the store keeps no versions.
    fn version(&self, key: &Key) -> Option<Version>;

    /// Appends what is stored to `value` and returns for how long it will be; `None` when there is nothing.
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> Option<Duration>;

    /// Stores `value` in the place of what was there, unless the key's version is another than `version`; of an inactive
    /// verdict only [`Version::epoch`] counts. Returns whether the verdict may be remembered, here or elsewhere: `false`
    /// when the version was another.
    fn put(&self, key: &Key, value: &[u8], class: Class, keep: Duration, version: Version) -> bool;

    /// Forgets a key and changes its [`Version::epoch`].
    fn remove(&self, key: &Key);

    /// Ends all that is known of a key, here and in the memory of others: its token was called inactive, or there is a
    /// newer verdict that may not be stored. Then stores `value`, an inactive verdict, unless `keep` is zero or the epoch
    /// was another than that of `version`, under which the verdict was asked for. Returns the version under which an
    /// inactive verdict may be remembered elsewhere, if it may.
    ///
    /// Random tokens end too. A store that can tell that nothing active was known of a key, to nobody, need not change
    /// its epoch; this default can't tell.
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

    /// Whether what is removed is gone for certain. Clients of a store that may fail to remove remember for themselves
    /// which tokens were called inactive, and take nothing older from it.
    fn removes_surely(&self) -> bool {
        false
    }

    /// Forgets all that is stored for this provider and changes the versions of all its keys.
    fn clear(&self);

    /// Asks to be the one who finds out.
    fn lease(&self, _key: &Key, _claim: &FetchLease) -> LeaseOutcome {
        LeaseOutcome::Granted
    }

    /// Ends what [`Store::lease`] granted to `flight`: what was found out is stored by now, or there are the bytes that
    /// say why not. Does nothing when another flight holds the claim by now.
    fn release(&self, _key: &Key, _flight: u64, _failure: Option<&[u8]>) {}

    /// Notes a proof, at once for all who share the store: of any number who ask about the same, one is told that it is
    /// the first.
    fn first_use(&self, _proof: &ProofId, _time: ProofTime) -> FirstUse {
        FirstUse::Unsupported
    }

    /// Words that all who share this store see.
    fn words(&self) -> Option<&SharedAtomics> {
        None
    }
}
