//! The memory layout: a header, then the heads of the rows, which identify them, then the bodies, which hold the
//! numbers. The heads are small and scanned as a whole. So the bodies of rows that were never used stay untouched and
//! take no physical memory.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use super::text::Slot;
use super::words::{COUNTERS, GAUGES};
use crate::ErrorKind;

/// The layout version. It changes with every change to the memory in these files. A different size is a different
/// layout as well.
pub(super) const LAYOUT: u64 = 1;
/// Marks the memory as initialized. It is written last.
pub(super) const MAGIC: u64 = u64::from_le_bytes(*b"phantomT");
pub(super) const ROWS: usize = 1024;

/// The row has no owner and its numbers do not count.
pub(super) const VACANT: u64 = 0;
/// The row belongs to a provider.
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
    /// The time when the memory was initialized, in seconds since the epoch.
    pub(super) since: AtomicU64,
}

#[repr(C, align(64))]
pub(super) struct Head {
    /// The process that owns the row: see [`super::Owner`].
    pub(super) owner: AtomicU64,
    pub(super) state: AtomicU64,
    pub(super) name: [AtomicU64; 4],
}

/// The numbers of a row, on cache lines of their own: processes write their rows at the same time.
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
        // SAFETY: the layout is not of size zero.
        let memory = unsafe { alloc_zeroed(layout) };
        NonNull::new(memory.cast()).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// # Safety
    /// The memory is from [`Memory::allocate`], and not used any more.
    pub(super) unsafe fn free(memory: NonNull<Self>) {
        // SAFETY: it was allocated with this layout; the caller promises the rest.
        unsafe { dealloc(memory.as_ptr().cast(), Layout::new::<Self>()) };
    }
}
