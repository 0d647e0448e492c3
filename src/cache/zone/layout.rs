//! The memory layout of a zone.
//!
//! ```text
//! zone:   Front (header, versions, strays, providers) | shard | shard | …
//! shard:  ShardHead | heads of the buckets | blocks
//! entry:  a chain of blocks: Head and the first bytes of the value, then more bytes of it
//! ```
//!
//! Processes may see the memory at different addresses, so nothing in it is a pointer: blocks are named by their
//! number in their shard, and 0, whose block is never used, names none. All sizes follow from the size of the memory:
//! each process computes them for itself and believes no number that it finds.

use std::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use strum::VariantArray;

use super::atomics::{Relaxed8, Relaxed16, Relaxed32, Relaxed64, crash};
use super::lock::Lock;
use super::providers::Providers;
use crate::token::Key;

/// The version of the layout. It changes with every change of this file, and of the operations on the memory.
pub(super) const LAYOUT: u32 = 4;
/// Marks the memory as a zone. It is written last, so that a zone whose creation was interrupted is none.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"phantomZ");
/// No block.
pub(super) const NONE: u32 = 0;
/// The number of versions: few enough to stay in the processor's caches, and enough that a purge costs hardly any other
/// key a lookup in the zone.
pub(super) const COUNTERS: usize = 4096;
/// The maximum number of providers with a slot.
pub(super) const PROVIDERS: usize = 64;
/// The minimum size of a shard.
const SHARD_SIZE: usize = 256 << 10;
const MAX_SHARDS: usize = 64;
/// The number of blocks per bucket. An active entry of a usual size takes ten of them.
const BLOCKS_PER_BUCKET: usize = 4;
/// Inactive verdicts may take one part in this many.
const INACTIVE_SHARE: u32 = 8;
/// Leases may take one part in this many.
const CLAIM_SHARE: u32 = 16;
/// Proofs may take one part in this many. It is a part of the share of active verdicts. So where no tokens are bound,
/// no room is reserved for proofs, and where there are many, their cost is a verdict that is asked for again.
const PROOF_SHARE: u32 = 2;
/// The size of a block in bytes. It is near the square root of twice four bytes for the link times a value of a
/// kilobyte, where the cost of the links plus the unused part of the last block is smallest; and two cache lines.
pub(super) const BLOCK: usize = 128;
/// Bytes of a value in the first block of an entry.
pub(super) const FIRST: usize = BLOCK - size_of::<Head>();
/// Bytes of a value in every other one.
pub(super) const MORE: usize = BLOCK - size_of::<Relaxed32>();

/// Everything before the shards.
#[repr(C)]
pub(super) struct Front {
    pub(super) header: Header,
    /// [`Version`](crate::cache::Version)s: the epoch in the upper half, the ends in the lower one.
    pub(super) versions: [AtomicU64; COUNTERS],
    /// By counter, whether an active verdict that is not in the zone may be in the memory of a process: 0 or 1.
    pub(super) strays: [Relaxed8; COUNTERS],
    pub(super) providers: Providers,
}

#[repr(C, align(128))]
pub(super) struct Header {
    pub(super) magic: Relaxed64,
    pub(super) layout: Relaxed32,
    /// The size of a lock, which may differ with another C library.
    pub(super) lock: Relaxed32,
    pub(super) size: Relaxed64,
    /// See [`Map::place`].
    pub(super) secret: Relaxed64,
}

#[repr(C, align(128))]
pub(super) struct ShardHead {
    pub(super) lock: Lock,
    /// The first free block that was used before.
    pub(super) free: Relaxed32,
    /// The first block that was never used: all blocks from here on are free as well. So a zone that is new, or that
    /// was emptied, touches none of its pages.
    pub(super) fresh: Relaxed32,
    /// The entries, by [`EntryKind`].
    pub(super) lists: [List; 4],
    pub(super) evictions: Relaxed64,
    pub(super) recoveries: Relaxed64,
    /// Not 0 if proofs were lost since the last operation that read the time: see `table.rs`.
    pub(super) emptied: Relaxed64,
    /// The latest `iat` of the proofs that were forgotten, as the bits of an `i64`.
    pub(super) forgotten: Relaxed64,
    /// The epoch by provider: entries of another epoch do not count.
    pub(super) epochs: [Relaxed32; PROVIDERS],
}

/// Entries of a kind in the order of their last use.
#[repr(C)]
pub(super) struct List {
    pub(super) newest: Relaxed32,
    pub(super) oldest: Relaxed32,
    pub(super) entries: Relaxed32,
    pub(super) blocks: Relaxed32,
}

/// The kind of an entry. Each kind has its own list and its own share of the blocks, so that none can evict another;
/// but the share of proofs is within that of active verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, VariantArray)]
pub(super) enum EntryKind {
    Active,
    Inactive,
    FetchLease,
    Proof,
}

/// The key spaces: one entry of each of these may exist under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Space {
    Verdict,
    FetchLease,
    Proof,
}

/// The start of an entry's first block. The fields that a lookup reads come first, within one cache line.
#[repr(C)]
pub(super) struct Head {
    /// The next block of this entry, or of the free ones.
    pub(super) next: Relaxed32,
    /// The next entry of the bucket.
    pub(super) chain: Relaxed32,
    pub(super) key: [Relaxed64; 4],
    /// The end of its lifetime, in milliseconds on the monotonic clock, which all processes of a machine share.
    pub(super) until: Relaxed64,
    /// The length of the value in bytes.
    pub(super) length: Relaxed32,
    /// The provider's epoch when it was stored.
    pub(super) epoch: Relaxed32,
    /// The time when it last moved to the front of its list; see `table.rs`.
    pub(super) moved: Relaxed16,
    /// An [`EntryKind`].
    pub(super) kind: Relaxed8,
    pub(super) provider: Relaxed8,
    pub(super) newer: Relaxed32,
    pub(super) older: Relaxed32,
    /// The last block, so that all of them can be freed at once.
    pub(super) last: Relaxed32,
}

/// A block: a [`Head`] and [`FIRST`] bytes, or a link and [`MORE`] bytes.
#[repr(C, align(128))]
pub(super) struct Block(UnsafeCell<[u8; BLOCK]>);

// SAFETY: a block's links are atomics, and its bytes are touched only under its shard's lock (see `bytes`).
unsafe impl Sync for Block {}

const _: () = {
    assert!(size_of::<Head>() == 72 && align_of::<Head>() <= align_of::<Block>());
    assert!(size_of::<Block>() == BLOCK && align_of::<Front>() == BLOCK);
    assert!(size_of::<Front>() < 64 << 10);
    assert!(size_of::<ShardHead>() <= 512 && align_of::<ShardHead>() == BLOCK);
};

impl EntryKind {
    pub(super) fn of(byte: u8) -> Option<Self> {
        Self::VARIANTS.get(usize::from(byte)).copied()
    }

    pub(super) fn space(self) -> Space {
        match self {
            EntryKind::Active | EntryKind::Inactive => Space::Verdict,
            EntryKind::FetchLease => Space::FetchLease,
            EntryKind::Proof => Space::Proof,
        }
    }
}

impl Block {
    /// The block as the first of an entry. The block itself does not show whether it is one. If it is not, the values
    /// read are nonsense, as they are when the memory was overwritten, and every number is checked before use.
    pub(super) fn head(&self) -> &Head {
        // SAFETY: a `Head` is smaller than a block and no more aligned, as asserted above. All of it is atomics,
        // without padding, so that any bytes are a valid one, it may change while it is borrowed, and no reference but
        // such ones is ever made to these bytes.
        unsafe { &*self.0.get().cast::<Head>() }
    }

    /// The link to the next block, which every block has.
    pub(super) fn next(&self) -> &Relaxed32 {
        &self.head().next
    }

    /// Copies to `to` what part of a value the block holds, behind its first `skip` bytes.
    ///
    /// # Safety
    /// - The lock of the block's shard is held.
    /// - `count` bytes can be written to `to`, none of them in a zone.
    #[inline]
    pub(super) unsafe fn read(&self, skip: usize, to: *mut u8, count: usize) {
        debug_assert!(skip + count <= BLOCK);
        let count = count.min(BLOCK.saturating_sub(skip));
        // SAFETY: `skip + count` is within the block. Every writer to these bytes holds the lock, which we do, so that
        // they don't change meanwhile. The rest is our caller's promise.
        unsafe {
            self.0
                .get()
                .cast::<u8>()
                .add(skip.min(BLOCK))
                .copy_to(to, count)
        };
    }

    /// Copies a part of a value into the block, behind its first `skip` bytes.
    ///
    /// # Safety
    /// The lock of the block's shard is held.
    #[inline]
    pub(super) unsafe fn write(&self, skip: usize, part: &[u8]) {
        debug_assert!(skip + part.len() <= BLOCK);
        crash::point();
        let count = part.len().min(BLOCK.saturating_sub(skip));
        // SAFETY: `skip + count` is within the block. Every reader or writer of these bytes holds the lock, which we
        // do. `part` is in no zone: no reference to bytes of a value is ever made.
        unsafe {
            self.0
                .get()
                .cast::<u8>()
                .add(skip.min(BLOCK))
                .copy_from(part.as_ptr(), count);
        }
    }
}

/// The division of a memory of a given size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) size: usize,
    /// A power of two.
    pub(super) shards: usize,
    pub(super) shard_size: usize,
    /// The number of buckets of a shard.
    pub(super) buckets: usize,
    /// The number of blocks of a shard, with number 0, which is never used.
    pub(super) blocks: usize,
    /// The maximum number of blocks of a shard for each [`EntryKind`]. Their sum is the number of blocks, without that
    /// of proofs, which is a part of that of active verdicts.
    pub(super) quotas: [u32; 4],
}

impl Geometry {
    pub(super) fn of(size: usize) -> Self {
        let room = size.saturating_sub(size_of::<Front>());
        let shards = (room / SHARD_SIZE).clamp(1, MAX_SHARDS);
        // Rounded down.
        let shards = 1 << shards.ilog2();
        let shard_size = room / shards / BLOCK * BLOCK;
        let room = shard_size.saturating_sub(size_of::<ShardHead>());
        // A bucket's head is a word, and all heads together end where a block may begin.
        let per_block = BLOCK + size_of::<Relaxed32>() / BLOCKS_PER_BUCKET;
        let buckets = (room / per_block / BLOCKS_PER_BUCKET)
            .next_multiple_of(BLOCK / size_of::<Relaxed32>())
            .min(1 << 30);
        let blocks = (room.saturating_sub(buckets * size_of::<Relaxed32>()) / BLOCK).min(1 << 31);
        let usable = u32::try_from(blocks.saturating_sub(1)).unwrap_or(u32::MAX);
        let inactive = usable / INACTIVE_SHARE;
        let claims = usable / CLAIM_SHARE;
        Geometry {
            size,
            shards,
            shard_size,
            buckets,
            blocks,
            quotas: [
                usable - inactive - claims,
                inactive,
                claims,
                usable / PROOF_SHARE,
            ],
        }
    }
}

/// The place of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Follows from the counter: all keys of a version are in one shard.
    pub(super) shard: usize,
    pub(super) counter: usize,
    pub(super) bucket: usize,
}

/// A zone's memory as this process sees it.
pub(super) struct Map {
    base: NonNull<u8>,
    geometry: Geometry,
    secret: u64,
}

// SAFETY: the memory stays where it is for as long as there is a `Map` of it, as the caller that made the map has
// promised, and all that is handed out is shared references to types that are `Sync`.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

/// The parts of a shard.
#[derive(Clone, Copy)]
pub(super) struct Shard<'a> {
    pub(super) head: &'a ShardHead,
    pub(super) buckets: &'a [Relaxed32],
    pub(super) blocks: &'a [Block],
    /// The versions of its keys.
    pub(super) versions: &'a [AtomicU64],
    /// The marks of its versions.
    pub(super) strays: &'a [Relaxed8],
}

impl Map {
    /// # Safety
    /// - `base` is aligned to a block, and `size` bytes at it, at least `Zone::MIN_SIZE`, can be read and written for
    ///   as long as the map is used.
    /// - All other users of these bytes use them meanwhile through a `Map` of the same size.
    pub(super) unsafe fn new(base: NonNull<u8>, size: usize) -> Self {
        Map {
            base,
            geometry: Geometry::of(size),
            secret: 1,
        }
    }

    /// Uses the zone's secret.
    pub(super) fn set_secret(&mut self, secret: u64) {
        // Odd, so that the multiplication loses nothing.
        self.secret = secret | 1;
    }

    pub(super) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(super) fn front(&self) -> &Front {
        // SAFETY: the memory is aligned to a block, as a `Front` is, and larger than one. All of it is atomics and
        // locks, which may change while they are borrowed and are valid whatever the bytes.
        unsafe { self.base.cast::<Front>().as_ref() }
    }

    pub(super) fn shard(&self, number: usize) -> Shard<'_> {
        let Geometry {
            shards,
            shard_size,
            buckets,
            blocks,
            ..
        } = self.geometry;
        let number = number & (shards - 1);
        let counters = COUNTERS / shards;
        // SAFETY: `number` is less than `shards`, of which each has `shard_size` bytes after the front; in those there
        // is room for a head, the buckets and the blocks, as `Geometry::of` has computed it and its test shows. All
        // start at a multiple of a block and are no more aligned. What they are made of is valid whatever the bytes and
        // may change while it is borrowed.
        let (head, heads, all) = unsafe {
            let start = self.base.add(size_of::<Front>()).add(number * shard_size);
            let heads = start.add(size_of::<ShardHead>());
            let all = heads.add(buckets * size_of::<Relaxed32>());
            (
                start.cast::<ShardHead>().as_ref(),
                NonNull::slice_from_raw_parts(heads.cast::<Relaxed32>(), buckets).as_ref(),
                NonNull::slice_from_raw_parts(all.cast::<Block>(), blocks).as_ref(),
            )
        };
        Shard {
            head,
            buckets: heads,
            blocks: all,
            versions: &self.front().versions[number * counters..][..counters],
            strays: &self.front().strays[number * counters..][..counters],
        }
    }

    /// The place of a key. Its own bits determine it, mixed with the zone's secret: a digest is spread well enough, but
    /// a client that knows the configuration could search for tokens whose digests share a bucket.
    #[inline]
    pub(super) fn place(&self, key: &Key) -> Place {
        let mut first = [0; 8];
        first.copy_from_slice(&key.as_bytes()[..8]);
        self.place_of(u64::from_le_bytes(first))
    }

    /// The place of a key whose first eight bytes are `word`.
    pub(super) fn place_of(&self, word: u64) -> Place {
        let product = u128::from(word) * u128::from(self.secret);
        let hash = (product as u64) ^ ((product >> 64) as u64);
        // The upper bits choose the counter, and the uppermost of those the shard; the lower half of the word is
        // scaled to the number of buckets.
        let counter = (hash >> (64 - COUNTERS.ilog2())) as usize;
        Place {
            shard: counter / (COUNTERS / self.geometry.shards),
            counter,
            bucket: (((hash & 0xffff_ffff) * self.geometry.buckets as u64) >> 32) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Zone;
    use super::*;

    #[test]
    fn a_zone_of_any_size_is_divided_within_its_bounds_and_hardly_a_byte_is_lost() {
        let mut sizes = vec![Zone::MIN_SIZE, Zone::MIN_SIZE + 1, 300_001, 1 << 20];
        sizes.extend([(1 << 26) - 1, 1 << 26, 1 << 30, 1 << 36, 1 << 45]);
        for size in sizes {
            let geometry = Geometry::of(size);
            let Geometry {
                shards,
                shard_size,
                buckets,
                blocks,
                quotas,
                ..
            } = geometry;
            assert!(shards.is_power_of_two() && shards <= MAX_SHARDS);
            assert!(shards == 1 || shard_size >= SHARD_SIZE, "{geometry:?}");
            assert_eq!(shard_size % BLOCK, 0);
            assert_eq!(buckets * size_of::<Relaxed32>() % BLOCK, 0);
            assert!(size_of::<Front>() + shards * shard_size <= size);
            let used = size_of::<ShardHead>() + buckets * size_of::<Relaxed32>() + blocks * BLOCK;
            assert!(used <= shard_size, "{geometry:?}");
            if size < 1 << 40 {
                assert!(shard_size - used < BLOCK, "{geometry:?}");
            }
            let [active, inactive, claims, proofs] = quotas.map(u64::from);
            assert_eq!(active + inactive + claims, blocks as u64 - 1);
            assert!(0 < proofs && proofs < active);
        }
    }

    #[test]
    fn keys_are_spread_over_shards_counters_and_buckets() {
        let mut words = [0u64; 8];
        // SAFETY: nothing of the memory is looked at.
        let mut map = unsafe { Map::new(NonNull::from(&mut words).cast(), 16 << 20) };
        map.set_secret(0x9e37_79b9_7f4a_7c15);
        let geometry = *map.geometry();
        let mut shards = vec![0u32; geometry.shards];
        let mut counters = vec![0u32; COUNTERS];
        let mut buckets = vec![0u32; geometry.buckets];
        let rounds = 1 << 18;
        for number in 0..rounds {
            let key = Key::new(
                &crate::token::Fingerprint([1; 32]),
                crate::Token::parse(format!("{number}").as_bytes()).unwrap(),
            );
            let place = map.place(&key);
            shards[place.shard] += 1;
            counters[place.counter] += 1;
            buckets[place.bucket] += 1;
        }
        for counts in [shards, counters, buckets] {
            let mean = rounds / counts.len() as u32;
            assert!(counts.iter().all(|&count| count < mean * 3));
            assert!(counts.iter().all(|&count| count > mean / 3));
        }
    }
}
