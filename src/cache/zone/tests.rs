//! | file | contents |
//! | --- | --- |
//! | `behaviour.rs` | the promises of a zone, one at a time |
//! | `model.rs` | any sequence of calls, compared with a map |
//! | `overwritten.rs` | a zone whose memory is overwritten |
//! | `dying.rs` | processes that die at every point and at any point |

mod behaviour;
mod dying;
mod model;
mod overwritten;

use std::ops::Range;
use std::time::Duration;

use strum::VariantArray;

use super::layout::{FIRST, MORE};
use super::table::blocks_for;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const START: u64 = 1_000_000;

/// A proof that is to be recorded for this many seconds from `now` on, on the monotonic clock.
fn noted_for(left: i64, now: u64) -> ProofTime {
    let now = 1_700_000_000 + (now / 1000) as i64;
    ProofTime {
        iat: now + left - 62,
        now,
        window: MINUTE,
    }
}

/// Memory that children share, between pages that no process may touch.
struct Memory {
    outer: *mut u8,
    size: usize,
}

const PAGE: usize = 4096;

impl Memory {
    fn new(size: usize) -> Self {
        let rounded = size.next_multiple_of(PAGE);
        // SAFETY: new memory is asked for, and a part of it made accessible; nothing else is touched.
        let outer = unsafe {
            let outer = libc::mmap(
                std::ptr::null_mut(),
                rounded + 2 * PAGE,
                libc::PROT_NONE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(outer, libc::MAP_FAILED);
            let inner = outer.byte_add(PAGE);
            assert_eq!(
                libc::mprotect(inner, rounded, libc::PROT_READ | libc::PROT_WRITE),
                0
            );
            outer.cast::<u8>()
        };
        Memory { outer, size }
    }

    fn base(&self) -> *mut u8 {
        self.outer.wrapping_add(PAGE)
    }

    fn try_attach(&self) -> Result<(Arc<Zone>, Attached), ZoneError> {
        // SAFETY: the memory is aligned to a page and lives longer than what the tests make of it; each test attaches
        // one after the other.
        unsafe { Zone::attach(self.base(), self.size) }
    }

    fn attach(&self) -> Arc<Zone> {
        self.try_attach().unwrap().0
    }

    /// Overwrites a byte.
    fn write(&self, at: usize, byte: u8) {
        assert!(at < self.size);
        // SAFETY: within the memory. The test's thread alone uses it.
        unsafe { self.base().add(at).write_volatile(byte) };
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let size = self.size.next_multiple_of(PAGE) + 2 * PAGE;
        // SAFETY: the memory is this one's, and the tests drop their zones before.
        unsafe { libc::munmap(self.outer.cast(), size) };
    }
}

fn provider(number: u8) -> Fingerprint {
    Fingerprint([number; 32])
}

/// A key that depends on a number, as a digest would.
fn key(number: u64) -> Key {
    let mut bytes = [0; 32];
    for (position, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&mixed(number * 4 + position as u64).to_le_bytes());
    }
    Key(bytes)
}

/// A pseudorandom number, from a number that is not random.
fn mixed(number: u64) -> u64 {
    let mut word = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A value that proves by its bytes that it is complete, and for which key it is. It has at least 16 bytes.
fn value(key: u64, round: u32, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(key.to_le_bytes());
    bytes.extend(round.to_le_bytes());
    bytes.extend((length as u32).to_le_bytes());
    let seed = mixed(key ^ (u64::from(round) << 32) ^ length as u64) as u8;
    let start = bytes.len();
    bytes.resize(length.max(start), 0);
    // Two parts to a block, so that none that is missing or elsewhere goes unnoticed.
    for (number, part) in bytes[start..].chunks_mut(60).enumerate() {
        part.fill(seed.wrapping_add(number as u8));
    }
    bytes
}

fn is_value(key: u64, bytes: &[u8]) -> bool {
    let Some((_, rest)) = bytes.split_first_chunk::<8>() else {
        return false;
    };
    let Some(round) = rest.first_chunk() else {
        return false;
    };
    bytes == value(key, u32::from_le_bytes(*round), bytes.len().max(16))
}

impl ZoneStore {
    fn seen(&self, key: &Key, now: u64) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        self.get_at(key, &mut value, now).map(|_| value)
    }

    fn set(&self, key: &Key, value: &[u8], kind: EntryKind, now: u64) {
        let version = self.version(key).unwrap();
        self.put_at(key, value, kind, MINUTE, version, now);
    }
}

impl Zone {
    /// The positions of the locks, from the start of the memory.
    fn locks(&self) -> Vec<Range<usize>> {
        let start = std::ptr::from_ref(self.map.front()).addr();
        let range = |lock: &Lock| {
            let at = std::ptr::from_ref(lock).addr() - start;
            at..at + size_of::<Lock>()
        };
        (0..self.map.geometry().shards)
            .map(|number| range(&self.map.shard(number).head.lock))
            .chain([range(&self.map.front().providers.lock)])
            .collect()
    }

    /// Walks the whole zone: every block must be in its place, exactly once.
    fn check(&self) -> Result<(), String> {
        (0..self.map.geometry().shards).try_for_each(|number| {
            self.locked(number, |table| Ok(check(number, table)))
                .unwrap_or_else(|| Err("no lock".to_owned()))
        })
    }
}

macro_rules! holds {
    ($what:expr) => {
        if !$what {
            return Err(format!("line {}: {}", line!(), stringify!($what)));
        }
    };
}

fn check(number: usize, table: &Table<'_>) -> Result<(), String> {
    let shard = &table.shard;
    let mut met = vec![false; shard.blocks.len()];
    let mut meet = |index: u32| {
        let known = met.get_mut(index as usize).filter(|_| index != 0);
        let known = known.ok_or(format!("block {index}"))?;
        holds!(!std::mem::replace(known, true));
        Ok(())
    };
    let mut names = std::collections::HashSet::new();
    let mut entries = [0; 4];
    let mut blocks = [0; 4];
    let head_of = |index: u32| shard.blocks[index as usize].head();
    for (bucket, first) in shard.buckets.iter().enumerate() {
        let mut index = first.get();
        while index != 0 {
            meet(index)?;
            let head = head_of(index);
            let words = head.key.each_ref().map(|word| word.get());
            let kind = EntryKind::of(head.kind.get()).ok_or("kind")?;
            holds!(names.insert((words, kind.space())));
            let place = table.map.place_of(words[0]);
            holds!(place.shard == number && place.bucket == bucket);
            let length = head.length.get() as usize;
            entries[kind as usize] += 1;
            blocks[kind as usize] += blocks_for(length) as u32;
            let mut last = index;
            for _ in 1..blocks_for(length) {
                last = shard.blocks[last as usize].next().get();
                meet(last)?;
            }
            holds!(head.last.get() == last);
            index = head.chain.get();
        }
    }
    for &kind in EntryKind::VARIANTS {
        let list = &shard.head.lists[kind as usize];
        holds!(list.entries.get() == entries[kind as usize]);
        holds!(list.blocks.get() == blocks[kind as usize]);
        holds!(list.blocks.get() <= table.map.geometry().quotas[kind as usize]);
        let mut newer = 0;
        let mut index = list.newest.get();
        let mut listed = 0;
        while index != 0 {
            holds!(listed < list.entries.get());
            let head = head_of(index);
            holds!(head.newer.get() == newer && head.kind.get() == kind as u8);
            listed += 1;
            newer = index;
            index = head.older.get();
        }
        holds!(list.oldest.get() == newer && listed == list.entries.get());
    }
    let [active, _, _, proofs] = blocks;
    holds!(active + proofs <= table.map.geometry().quotas[EntryKind::Active as usize]);
    let mut index = shard.head.free.get();
    while index != 0 {
        meet(index)?;
        index = shard.blocks[index as usize].next().get();
    }
    let fresh = shard.head.fresh.get() as usize;
    holds!((1..=shard.blocks.len()).contains(&fresh));
    holds!(met[1..fresh].iter().all(|&met| met));
    holds!(met[fresh..].iter().all(|&met| !met));
    Ok(())
}
