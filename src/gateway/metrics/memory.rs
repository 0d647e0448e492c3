//! What is where: a header, then what tells the rows apart, then what is in them. The second is small and looked at
//! whole, so that rows that were never used stay untouched and cost no memory.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use super::text::Slot;
use super::words::{COUNTERS, GAUGES};
use crate::ErrorKind;

/// Changes with whatever these files say of the memory. What has another size is another layout as well.
pub(super) const LAYOUT: u64 = 1;
/// Says that the memory is a tally. It is written after all else.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"phantomT");
pub(super) const ROWS: usize = 1024;

/// Nothing in the row counts.
pub(super) const VACANT: u64 = 0;
/// It is a provider's.
pub(super) const TAKEN: u64 = 1;

#[repr(C, align(64))]
pub(super) struct Memory {
    pub(super) header: Header,
    pub(super) heads: [Head; ROWS],
    pub(super) bodies: [Body; ROWS],
}

#[repr(C, align(64))]
pub(super) struct Header {
    pub(super) magic: AtomicU64,
    pub(super) layout: AtomicU64,
    pub(super) size: AtomicU64,
    /// When it was made, in seconds since the epoch.
    pub(super) since: AtomicU64,
}

#[repr(C, align(64))]
pub(super) struct Head {
    /// The process: see [`super::Owner`].
    pub(super) owner: AtomicU64,
    pub(super) state: AtomicU64,
    pub(super) name: [AtomicU64; 4],
}

/// On cache lines of its own: processes write theirs at the same time.
#[repr(C, align(64))]
pub(super) struct Body {
    pub(super) counters: [AtomicU64; COUNTERS],
    pub(super) gauges: [AtomicU64; GAUGES],
    pub(super) errors: [Slot; ErrorKind::ALL.len()],
}

/// A row.
pub(super) struct Place<'a> {
    pub(super) head: &'a Head,
    pub(super) body: &'a Body,
}

impl Memory {
    /// The row of this number, which is less than [`ROWS`].
    pub(super) fn place(&self, index: usize) -> Place<'_> {
        Place {
            head: &self.heads[index],
            body: &self.bodies[index],
        }
    }

    /// Memory of this process, all zero.
    pub(super) fn allocate() -> NonNull<Self> {
        let layout = Layout::new::<Self>();
        // SAFETY: the layout has a size.
        let memory = unsafe { alloc_zeroed(layout) };
        NonNull::new(memory.cast()).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// It is from [`Memory::allocate`], and not used any more.
    pub(super) unsafe fn free(memory: NonNull<Self>) {
        // SAFETY: it was allocated with this layout; the rest is our caller's promise.
        unsafe { dealloc(memory.as_ptr().cast(), Layout::new::<Self>()) };
    }
}
