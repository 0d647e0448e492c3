//! A table that knows which of its entries was used least recently.
//!
//! A hit on an entry that nobody asked for lately waits for memory, and hardly for anything else: so a table is as fast
//! as it has few places to look at. Here they are two, the index and the entry. The index is an array of words; one
//! holds an entry's number and half of its hash, so that no entry is looked at but the one that is asked for, and none
//! when the index grows. The entries lie in an array without gaps, and the order of use beside them: it is touched only
//! when an entry moves in it.
//!
//! ```text
//! index    0 | hash, 2 | 0 | hash, 1 | hash, 3 | …      linear probing
//! entries  1: key, value | 2: key, value | 3: key, value | …
//! links    0: the ends | 1: newer, older | 2: newer, older | 3: newer, older | …
//! ```

use std::hash::{BuildHasher, RandomState};

use crate::token::Key;

/// Values by key, in the order in which they were put in or promoted.
pub(super) struct LruTable<V> {
    secret: Secret,
    /// A power of two in length, and never full.
    index: Vec<Word>,
    /// Entry `number` stands at `number - 1`.
    entries: Vec<(Key, V)>,
    /// A ring through all entries, by number. The first stands for none: between the newest and the oldest.
    links: Vec<Links>,
}

/// In the index: an entry's number in the lower half and its hash in the upper. No entry has number 0.
type Word = u64;

const NOTHING: Word = 0;

#[derive(Clone, Copy)]
struct Links {
    newer: u32,
    older: u32,
}

/// The ring's end.
const END: u32 = 0;

const SMALLEST_INDEX: usize = 8;

impl<V> LruTable<V> {
    /// The most entries that a table can number.
    pub const MOST: usize = u32::MAX as usize;

    /// An empty table.
    pub fn new(secret: Secret) -> Self {
        LruTable {
            secret,
            index: vec![NOTHING; SMALLEST_INDEX],
            entries: Vec::new(),
            links: vec![Links {
                newer: END,
                older: END,
            }],
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// A value, without a change to the order.
    pub fn peek_mut(&mut self, key: &Key) -> Option<&mut V> {
        let at = self.find(key)?;
        let (_, value) = self.entries.get_mut(position(self.index[at]))?;
        Some(value)
    }

    /// Makes an entry the one that was used last.
    pub fn promote(&mut self, key: &Key) {
        if let Some(at) = self.find(key) {
            let number = number(self.index[at]);
            self.unlink(number);
            self.link_newest(number);
        }
    }

    /// Puts a value in, as the one that was used last, in the place of what was there. A table of [`Self::MOST`]
    /// entries takes no further one.
    pub fn put(&mut self, key: Key, value: V) -> Option<V> {
        if let Some(at) = self.find(&key) {
            let number = number(self.index[at]);
            self.unlink(number);
            self.link_newest(number);
            let (_, old) = &mut self.entries[position(self.index[at])];
            return Some(std::mem::replace(old, value));
        }
        let Ok(number @ 1..) = u32::try_from(self.entries.len() + 1) else {
            return None;
        };
        // A quarter stays empty: else a search takes long to end.
        if (self.entries.len() + 1) * 4 > self.index.len() * 3 {
            self.grow();
        }
        let word = u64::from(self.secret.hash(&key)) << 32 | u64::from(number);
        insert(&mut self.index, word);
        self.entries.push((key, value));
        self.links.push(Links {
            newer: END,
            older: END,
        });
        self.link_newest(number);
        None
    }

    /// Takes an entry out.
    pub fn pop(&mut self, key: &Key) -> Option<V> {
        let at = self.find(key)?;
        Some(self.remove(at).1)
    }

    /// Takes out the entry that was used least recently.
    pub fn pop_lru(&mut self) -> Option<(Key, V)> {
        let oldest = self.links[END as usize].newer;
        if oldest == END {
            return None;
        }
        let at = self.place_of(oldest);
        Some(self.remove(at))
    }

    /// Where the index has a key.
    fn find(&self, key: &Key) -> Option<usize> {
        let hash = self.secret.hash(key);
        let mut at = home(&self.index, hash);
        loop {
            let word = self.index[at];
            if word == NOTHING {
                return None;
            }
            if hash_of(word) == hash && self.entries[position(word)].0 == *key {
                return Some(at);
            }
            at = after(&self.index, at);
        }
    }

    /// Where the index has an entry that is there.
    fn place_of(&self, number: u32) -> usize {
        let hash = self.secret.hash(&self.entries[number as usize - 1].0);
        let word = u64::from(hash) << 32 | u64::from(number);
        let mut at = home(&self.index, hash);
        while self.index[at] != word {
            at = after(&self.index, at);
        }
        at
    }

    fn remove(&mut self, at: usize) -> (Key, V) {
        let word = self.index[at];
        let number = number(word);
        self.unlink(number);
        // The last entry takes the number that becomes free.
        let last = self.entries.len() as u32;
        if number != last {
            let place = self.place_of(last);
            self.index[place] = self.index[place] & !u64::from(u32::MAX) | u64::from(number);
            let links = self.links[last as usize];
            self.links[number as usize] = links;
            self.links[links.newer as usize].older = number;
            self.links[links.older as usize].newer = number;
        }
        self.links.pop();
        remove(&mut self.index, at);
        self.entries.swap_remove(position(word))
    }

    fn grow(&mut self) {
        let mut index = vec![NOTHING; self.index.len() * 2];
        for &word in self.index.iter().filter(|&&word| word != NOTHING) {
            insert(&mut index, word);
        }
        self.index = index;
    }

    fn unlink(&mut self, number: u32) {
        let Links { newer, older } = self.links[number as usize];
        self.links[newer as usize].older = older;
        self.links[older as usize].newer = newer;
    }

    fn link_newest(&mut self, number: u32) {
        let newest = self.links[END as usize].older;
        self.links[number as usize] = Links {
            newer: END,
            older: newest,
        };
        self.links[newest as usize].newer = number;
        self.links[END as usize].older = number;
    }
}

fn hash_of(word: Word) -> u32 {
    (word >> 32) as u32
}

fn number(word: Word) -> u32 {
    word as u32
}

/// Where an entry stands. Not for [`NOTHING`].
fn position(word: Word) -> usize {
    number(word) as usize - 1
}

/// Where a hash is looked for first.
fn home(index: &[Word], hash: u32) -> usize {
    hash as usize & (index.len() - 1)
}

fn after(index: &[Word], at: usize) -> usize {
    (at + 1) & (index.len() - 1)
}

/// Puts a word in, which is not there; there must be room.
fn insert(index: &mut [Word], word: Word) {
    let mut at = home(index, hash_of(word));
    while index[at] != NOTHING {
        at = after(index, at);
    }
    index[at] = word;
}

/// Empties a place, and moves up what is found only by way of it.
fn remove(index: &mut [Word], at: usize) {
    let mask = index.len() - 1;
    let mut hole = at;
    let mut next = after(index, at);
    while index[next] != NOTHING {
        let way = next.wrapping_sub(home(index, hash_of(index[next]))) & mask;
        if way >= next.wrapping_sub(hole) & mask {
            index[hole] = index[next];
            hole = next;
        }
        next = after(index, next);
    }
    index[hole] = NOTHING;
}

/// What a key's own bits are folded with to make its hash. A digest is spread well enough, but a client who knows the
/// configuration could search for tokens whose digests stand in each other's way.
#[derive(Clone, Copy)]
pub(super) struct Secret(u64);

impl Secret {
    /// A secret of this process.
    pub fn new() -> Self {
        // Odd, so that the multiplication loses nothing.
        Secret(RandomState::new().hash_one(0u8) | 1)
    }

    fn hash(self, key: &Key) -> u32 {
        let mut first = [0; 8];
        first.copy_from_slice(&key.as_bytes()[..8]);
        let product = u128::from(u64::from_le_bytes(first)) * u128::from(self.0);
        let folded = product as u64 ^ (product >> 64) as u64;
        (folded >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use lru::LruCache;
    use proptest::prelude::*;

    use super::*;

    fn key(number: usize) -> Key {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(number as u64).to_le_bytes());
        bytes[20..28].copy_from_slice(&(number as u64).to_le_bytes());
        Key(bytes)
    }

    /// With it all keys have one hash.
    const NO_SECRET: Secret = Secret(0);

    impl<V> LruTable<V> {
        /// The keys, oldest first, by the links one way; every other way to them is checked to say the same.
        fn keys(&self) -> Vec<Key> {
            let mut keys = Vec::new();
            let mut before = END;
            let mut number = self.links[END as usize].newer;
            while number != END {
                assert_eq!(self.links[number as usize].older, before);
                let (key, _) = &self.entries[number as usize - 1];
                let at = self.find(key).unwrap();
                assert_eq!(super::number(self.index[at]), number);
                keys.push(*key);
                before = number;
                number = self.links[number as usize].newer;
            }
            assert_eq!(self.links[END as usize].older, before);
            assert_eq!(keys.len(), self.len());
            assert_eq!(self.links.len(), self.len() + 1);
            let words = self.index.iter().filter(|&&word| word != NOTHING).count();
            assert_eq!(words, self.len());
            assert!(self.index.len() * 3 >= self.len() * 4);
            keys
        }
    }

    #[test]
    fn what_was_used_least_recently_comes_out_first() {
        let mut table = LruTable::new(Secret::new());
        for number in 0..5 {
            assert_eq!(table.put(key(number), number), None);
        }
        table.promote(&key(0));
        assert_eq!(table.peek_mut(&key(1)), Some(&mut 1));
        assert_eq!(table.put(key(2), 20), Some(2));
        let order: Vec<_> =
            std::iter::from_fn(|| table.pop_lru().map(|(_, value)| value)).collect();
        assert_eq!(order, [1, 3, 4, 0, 20]);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn many_entries_are_all_found_and_their_places_are_used_again() {
        let mut table = LruTable::new(Secret::new());
        for number in 0..100_000 {
            table.put(key(number), number);
        }
        let places = (table.index.len(), table.entries.capacity());
        for number in 0..100_000 {
            assert_eq!(table.peek_mut(&key(number)).copied(), Some(number));
        }
        for number in 100_000..400_000 {
            assert_eq!(table.pop_lru().unwrap().1, number - 100_000);
            table.put(key(number), number);
        }
        assert_eq!((table.index.len(), table.entries.capacity()), places);
        assert_eq!(table.keys().len(), 100_000);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(usize),
        Peek(usize),
        Promote(usize),
        Pop(usize),
        PopLru,
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = || 0..60usize;
        prop_oneof![
            4 => key().prop_map(Step::Put),
            1 => key().prop_map(Step::Peek),
            2 => key().prop_map(Step::Promote),
            2 => key().prop_map(Step::Pop),
            1 => Just(Step::PopLru),
        ]
    }

    proptest! {
        #[test]
        fn it_does_what_a_known_good_one_does(
            steps in prop::collection::vec(step(), 1..300), all_collide in any::<bool>(),
        ) {
            let secret = if all_collide { NO_SECRET } else { Secret::new() };
            let mut table = LruTable::new(secret);
            let mut model = LruCache::unbounded();
            for (time, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Put(number) => {
                        prop_assert_eq!(table.put(key(number), time), model.put(number, time));
                    }
                    Step::Peek(number) => {
                        prop_assert_eq!(table.peek_mut(&key(number)), model.peek_mut(&number));
                    }
                    Step::Promote(number) => {
                        table.promote(&key(number));
                        model.promote(&number);
                    }
                    Step::Pop(number) => {
                        prop_assert_eq!(table.pop(&key(number)), model.pop(&number));
                    }
                    Step::PopLru => {
                        let oldest = table.pop_lru().map(|(_, value)| value);
                        prop_assert_eq!(oldest, model.pop_lru().map(|(_, value)| value));
                    }
                }
                let order: Vec<_> = model.iter().rev().map(|(number, _)| key(*number)).collect();
                prop_assert!(table.keys() == order);
            }
        }
    }
}
