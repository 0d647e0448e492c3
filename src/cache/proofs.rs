//! Which proofs of senders were used (RFC 9449 §11.1): in the store that is shared, or else in the memory of one process.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;

use super::store::{FirstUse, ProofId, ProofTime, Store};

/// How many proofs one process notes at the most: those of 2,000 requests a second for a minute, in 8 MiB.
const MOST: usize = 1 << 17;

/// What a client knows of proofs.
pub(crate) struct Proofs {
    store: Option<Arc<dyn Store>>,
    noted: Mutex<Noted>,
}

impl Proofs {
    pub fn new(store: Option<Arc<dyn Store>>) -> Self {
        Proofs {
            store,
            noted: Mutex::default(),
        }
    }

    /// Notes a proof: in the store, unless it notes none. The lock is held for one probe, and for one allocation as often
    /// as the table has doubled.
    pub fn first_use(&self, proof: &ProofId, time: ProofTime, now: u64) -> FirstUse {
        let shared = self
            .store
            .as_ref()
            .map(|store| store.first_use(proof, time))
            .filter(|&shared| shared != FirstUse::Unsupported);
        shared.unwrap_or_else(|| self.noted.lock().first_use(proof, time, now, MOST))
    }
}

/// A proof's name, as far as it is needed to tell proofs apart: nobody finds two digests that begin with the same 16
/// bytes, and who did would be refused.
type Name = u128;

/// Proofs in memory.
#[derive(Default)]
struct Noted {
    /// Until when each is noted.
    until: HashMap<Name, u64>,
    /// In the order in which they were noted.
    order: VecDeque<Name>,
}

impl Noted {
    fn first_use(&mut self, proof: &ProofId, time: ProofTime, now: u64, most: usize) -> FirstUse {
        // Two for the one that comes, so that those that have ended become fewer.
        for _ in 0..2 {
            let ended = |name: &&Name| self.until.get(name).is_none_or(|&until| until <= now);
            let Some(&name) = self.order.front().filter(ended) else {
                break;
            };
            self.order.pop_front();
            self.until.remove(&name);
        }
        let mut name = [0; 16];
        name.copy_from_slice(&proof.0[..16]);
        let name = Name::from_le_bytes(name);
        let left = u64::try_from(time.left.as_millis()).unwrap_or(u64::MAX);
        let until = now.saturating_add(left);
        let full = self.until.len() >= most;
        match self.until.entry(name) {
            Entry::Occupied(noted) if now < *noted.get() => FirstUse::Replayed,
            Entry::Occupied(mut noted) => {
                // Its place in the order stays: it goes a little early, and not before its time.
                noted.insert(until);
                FirstUse::First
            }
            Entry::Vacant(_) if full || until <= now => FirstUse::Full,
            Entry::Vacant(vacant) => {
                vacant.insert(until);
                self.order.push_back(name);
                FirstUse::First
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const START: u64 = 1_000_000;

    fn proof(number: u64) -> ProofId {
        let mut id = [7; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        ProofId(id)
    }

    fn seconds(left: u64) -> ProofTime {
        ProofTime {
            left: Duration::from_secs(left),
            longest: Duration::from_secs(70),
        }
    }

    #[test]
    fn a_proof_is_used_once_for_as_long_as_it_would_be_accepted() {
        let mut noted = Noted::default();
        let mut used = |number, now| noted.first_use(&proof(number), seconds(60), now, 10);
        assert_eq!(used(1, START), FirstUse::First);
        assert_eq!(used(1, START), FirstUse::Replayed);
        assert_eq!(used(2, START), FirstUse::First);
        assert_eq!(used(1, START + 59_999), FirstUse::Replayed);
        assert_eq!(used(1, START + 60_000), FirstUse::First);
        assert_eq!(used(1, START + 60_001), FirstUse::Replayed);
    }

    #[test]
    fn when_there_is_no_room_nobody_is_let_in_and_nothing_is_forgotten() {
        let mut noted = Noted::default();
        for number in 0..10 {
            let left = seconds(10 + number);
            assert_eq!(
                noted.first_use(&proof(number), left, START, 10),
                FirstUse::First
            );
        }
        let mut used = |number, now| noted.first_use(&proof(number), seconds(60), now, 10);
        assert_eq!(used(10, START + 9_999), FirstUse::Full);
        for number in 0..10 {
            assert_eq!(used(number, START + 9_999), FirstUse::Replayed);
        }
        // One has ended, and makes room for one.
        assert_eq!(used(10, START + 10_000), FirstUse::First);
        assert_eq!(used(11, START + 10_000), FirstUse::Full);
        assert_eq!(noted.until.len(), 10);
    }

    #[test]
    fn what_has_ended_is_not_kept() {
        let mut noted = Noted::default();
        for number in 0..10_000 {
            let now = START + number * 1000;
            assert_eq!(
                noted.first_use(&proof(number), seconds(60), now, 100),
                FirstUse::First
            );
            assert!(noted.until.len() <= 61 && noted.until.len() == noted.order.len());
        }
    }

    #[test]
    fn a_store_that_notes_no_proofs_leaves_it_to_the_client() {
        struct Forgetful;
        impl Store for Forgetful {
            fn version(&self, _: &crate::token::Key) -> Option<crate::cache::Version> {
                None
            }
            fn get(&self, _: &crate::token::Key, _: &mut Vec<u8>) -> Option<Duration> {
                None
            }
            fn put(
                &self,
                _: &crate::token::Key,
                _: &[u8],
                _: crate::cache::Class,
                _: Duration,
                _: crate::cache::Version,
            ) -> bool {
                true
            }
            fn remove(&self, _: &crate::token::Key) {}
            fn clear(&self) {}
        }
        for store in [None, Some(Arc::new(Forgetful) as Arc<dyn Store>)] {
            let proofs = Proofs::new(store);
            let used = || proofs.first_use(&proof(1), seconds(60), START);
            assert_eq!([used(), used()], [FirstUse::First, FirstUse::Replayed]);
        }
    }
}
