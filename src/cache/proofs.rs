//! The record of used proofs (RFC 9449 §11.1): in the shared store, or else in the memory of one process.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::store::{FirstUse, NO_PROOF, ProofId, ProofTime, Store};

/// The maximum number of proofs that one process records: those of 2,000 requests a second for a minute, in 8 MiB.
const MOST: usize = 1 << 17;

/// The used proofs of a client.
pub(crate) struct Proofs {
    store: Option<Arc<dyn Store>>,
    noted: Mutex<Noted>,
    /// The longest known window for which any proof is accepted, in seconds.
    longest: AtomicU64,
}

impl Proofs {
    pub fn new(store: Option<Arc<dyn Store>>) -> Self {
        Proofs {
            store,
            noted: Mutex::default(),
            longest: AtomicU64::new(0),
        }
    }

    /// Announces that there are rules with this window.
    pub fn expect_window(&self, window: Duration) {
        // It protects no other data: a record that is too short means that an old proof is refused.
        self.longest.fetch_max(window.as_secs(), Ordering::Relaxed);
    }

    /// Records a proof in the store, or in memory if the store records none, for as long as the longest window seen so
    /// far accepts it. The lock is held for one probe, and for one allocation whenever the table has doubled.
    pub fn first_use(&self, proof: &ProofId, time: ProofTime, now: u64) -> FirstUse {
        self.expect_window(time.window);
        let time = ProofTime {
            window: Duration::from_secs(self.longest.load(Ordering::Relaxed)),
            ..time
        };
        let shared = self
            .store
            .as_ref()
            .map(|store| store.first_use(proof, time))
            .filter(|&shared| shared != FirstUse::Unsupported);
        shared.unwrap_or_else(|| self.noted.lock().first_use(proof, time, now, MOST))
    }
}

/// The part of a proof's name that tells proofs apart: finding two digests that begin with the same 16 bytes is
/// infeasible, and a sender that found them would be refused.
type Name = u128;

/// A proof that was used.
#[derive(Clone, Copy)]
struct Note {
    /// The time until which it is recorded, on the monotonic clock.
    until: u64,
    iat: i64,
}

/// Proofs in memory.
struct Noted {
    notes: HashMap<Name, Note>,
    /// The names in the order in which they were recorded.
    order: VecDeque<Name>,
    /// The latest `iat` of the proofs that were forgotten.
    forgotten: i64,
}

impl Default for Noted {
    fn default() -> Self {
        Noted {
            notes: HashMap::new(),
            order: VecDeque::new(),
            forgotten: NO_PROOF,
        }
    }
}

impl Noted {
    fn first_use(&mut self, proof: &ProofId, time: ProofTime, now: u64, most: usize) -> FirstUse {
        // Two for each new one, so that ended records become fewer.
        for _ in 0..2 {
            let Some(&name) = self.order.front() else {
                break;
            };
            if self.notes.get(&name).is_some_and(|note| now < note.until) {
                break;
            }
            self.order.pop_front();
            if let Some(note) = self.notes.remove(&name) {
                self.forgotten = self.forgotten.max(note.iat);
            }
        }
        let mut name = [0; 16];
        name.copy_from_slice(&proof.0[..16]);
        let name = Name::from_le_bytes(name);
        let left = u64::try_from(time.left().as_millis()).unwrap_or(u64::MAX);
        let note = Note {
            until: now.saturating_add(left),
            iat: time.iat,
        };
        let full = self.notes.len() >= most;
        match self.notes.entry(name) {
            Entry::Occupied(noted) if now < noted.get().until || note.iat <= noted.get().iat => {
                FirstUse::Replayed
            }
            _ if note.iat <= self.forgotten => FirstUse::Lost,
            Entry::Occupied(mut noted) => {
                self.forgotten = self.forgotten.max(noted.get().iat);
                // Its old place in the order stays: it is removed a little early, and never before its time.
                noted.insert(note);
                FirstUse::First
            }
            Entry::Vacant(_) if full || note.until <= now => FirstUse::Full,
            Entry::Vacant(vacant) => {
                vacant.insert(note);
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

    const NOW: i64 = 1_700_000_000;

    /// A proof that is to be recorded for this many seconds from `now` on, on the monotonic clock.
    fn noted_for(left: i64, now: u64) -> ProofTime {
        let now = NOW + (now / 1000) as i64;
        ProofTime {
            iat: now + left - 62,
            now,
            window: Duration::from_secs(60),
        }
    }

    #[test]
    fn a_proof_is_used_once_for_as_long_as_it_is_noted_and_after() {
        let mut noted = Noted::default();
        let mut used = |number, time, now| noted.first_use(&proof(number), time, now, 10);
        let time = noted_for(60, START);
        assert_eq!(used(1, time, START), FirstUse::First);
        assert_eq!(used(1, time, START), FirstUse::Replayed);
        assert_eq!(used(2, time, START), FirstUse::First);
        assert_eq!(used(1, time, START + 59_999), FirstUse::Replayed);
        // Its record is gone, but it is known that there was a proof that old.
        assert_eq!(used(1, time, START + 60_000), FirstUse::Lost);
        // A later proof with the same name is another proof.
        let later = noted_for(60, START + 60_000);
        assert_eq!(used(1, later, START + 60_000), FirstUse::First);
        assert_eq!(used(1, later, START + 60_001), FirstUse::Replayed);
    }

    #[test]
    fn when_there_is_no_room_nobody_is_let_in_and_nothing_is_forgotten() {
        let mut noted = Noted::default();
        for number in 0..10 {
            let time = noted_for(10 + number as i64, START);
            assert_eq!(
                noted.first_use(&proof(number), time, START, 10),
                FirstUse::First
            );
        }
        let mut used = |number, now| noted.first_use(&proof(number), noted_for(60, now), now, 10);
        assert_eq!(used(10, START + 9_999), FirstUse::Full);
        for number in 0..10 {
            assert_eq!(used(number, START + 9_999), FirstUse::Replayed);
        }
        // One record has ended, and makes room for one.
        assert_eq!(used(10, START + 10_000), FirstUse::First);
        assert_eq!(used(11, START + 10_000), FirstUse::Full);
        assert_eq!(noted.notes.len(), 10);
    }

    #[test]
    fn what_has_ended_is_not_kept() {
        let mut noted = Noted::default();
        for number in 0..10_000 {
            let now = START + number * 1000;
            assert_eq!(
                noted.first_use(&proof(number), noted_for(60, now), now, 100),
                FirstUse::First
            );
            assert!(noted.notes.len() <= 61 && noted.notes.len() == noted.order.len());
        }
    }

    #[test]
    fn when_the_clock_is_set_back_no_proof_is_used_again() {
        let mut noted = Noted::default();
        let old = noted_for(60, START);
        assert_eq!(noted.first_use(&proof(1), old, START, 10), FirstUse::First);
        for later in [61_000, 3_600_000] {
            let now = START + later;
            let others = noted_for(60, now);
            for number in 0..3 {
                let id = proof(later + number);
                assert_eq!(noted.first_use(&id, others, now, 10), FirstUse::First);
            }
            // By the wall clock it is as late as when the proof was used.
            let said = noted.first_use(&proof(1), old, now, 10);
            assert_ne!(said, FirstUse::First);
        }
    }

    #[test]
    fn a_longer_window_lets_in_nothing_that_was_forgotten() {
        let proofs = Proofs::new(None);
        let time = |iat, now, window| ProofTime {
            iat,
            now,
            window: Duration::from_secs(window),
        };
        // Two locations: one with a window of two seconds, and one with a minute that has not been used yet.
        let used = |number, time: ProofTime| {
            proofs.first_use(&proof(number), time, (time.now - NOW) as u64 * 1000 + START)
        };
        assert_eq!(used(1, time(NOW, NOW, 2)), FirstUse::First);
        assert_ne!(used(1, time(NOW, NOW + 10, 60)), FirstUse::First);
        assert_eq!(used(2, time(NOW + 10, NOW + 10, 60)), FirstUse::First);
        // The window is known from now on, and records last as long.
        assert_eq!(used(3, time(NOW + 10, NOW + 10, 2)), FirstUse::First);
        assert_eq!(used(4, time(NOW + 20, NOW + 20, 2)), FirstUse::First);
        assert_eq!(used(3, time(NOW + 10, NOW + 60, 60)), FirstUse::Replayed);
        assert_eq!(used(5, time(NOW + 11, NOW + 60, 60)), FirstUse::First);
        // The same from the start, where the window was announced.
        let proofs = Proofs::new(None);
        proofs.expect_window(Duration::from_secs(60));
        let used = |number, time: ProofTime| {
            proofs.first_use(&proof(number), time, (time.now - NOW) as u64 * 1000 + START)
        };
        assert_eq!(used(1, time(NOW, NOW, 2)), FirstUse::First);
        assert_eq!(used(2, time(NOW + 10, NOW + 10, 2)), FirstUse::First);
        assert_eq!(used(3, time(NOW + 40, NOW + 40, 2)), FirstUse::First);
        assert_eq!(used(4, time(NOW - 5, NOW + 50, 60)), FirstUse::First);
        assert_eq!(used(1, time(NOW, NOW + 60, 60)), FirstUse::Replayed);
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
            let used = || proofs.first_use(&proof(1), noted_for(60, START), START);
            assert_eq!([used(), used()], [FirstUse::First, FirstUse::Replayed]);
        }
    }
}
