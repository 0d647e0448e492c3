//! Metrics of all processes, and their sums.
//!
//! | file | contents |
//! | --- | --- |
//! | `memory.rs` | the memory layout |
//! | `words.rs` | the counters and gauges, as words in memory |
//! | `text.rs` | error messages that are read whole or not at all |
//!
//! Each process counts for itself, in its own memory. From time to time it *publishes* its numbers: it writes them to
//! its own row in memory that all processes share. The sum of all rows is the total of all processes. There is no lock:
//! a row has one writer, its numbers are words that are written atomically, and counters only grow.
//!
//! # Rows outlive their process
//!
//! The row of a process that has ended, or was killed, keeps its numbers. The next process that counts for the same
//! provider continues from them. So a sum never decreases when a worker dies or the configuration is reloaded; during a
//! reload the workers of both configurations run for a while. Gauges of a process (entries, requests under way) end
//! with the process, and count only while it lives.
//!
//! A row is identified by the provider's name, under which the numbers are shown. A provider with a changed address or
//! secret is the same provider.
//!
//! # The memory is not trusted
//!
//! Reading the memory terminates and gives numbers, also if its content is damaged. Nothing in it is used as a pointer, an
//! unbounded size, or a condition to wait for.

mod memory;
#[cfg(test)]
mod tests;
mod text;
mod words;

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;

use aws_lc_rs::digest;

use self::memory::{Head, LAYOUT, MAGIC, Memory, Place, TAKEN, VACANT};
use self::words::{COUNTERS, Counted};
use crate::cache::Attached;
use crate::process::is_alive;
use crate::resolver::{LastErrors, Stats};
use crate::verdict::CacheStatus;

const VERDICTS: usize = CacheStatus::ALL.len();

/// The most attempts to read a row whose owner changes during the read.
const READ_ATTEMPTS: usize = 4;

/// The most outcomes of requests that can be counted.
pub const OUTCOMES: usize = 16;

/// The metrics of one process for one provider, since the process began.
#[derive(Debug, Clone, Default)]
pub struct ProcessMetrics {
    /// The metrics of the provider's client.
    pub stats: Stats,
    /// Requests by outcome. The host defines the meaning of each index.
    pub outcomes: [u64; OUTCOMES],
    /// The requests among them that got a verdict, by its cache status ([`CacheStatus::index`]).
    pub verdicts: [u64; VERDICTS],
    /// The last error of each kind.
    pub last_errors: LastErrors,
}

/// The metrics of all processes for one provider.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// The sums. Gauges count living processes only; `breaker_open` is the number of processes whose circuit breaker is
    /// open.
    pub done: ProcessMetrics,
    /// The number of processes that count for the provider now.
    pub processes: u64,
}

/// The reason why memory can't be used for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// The memory has fewer bytes than [`SharedMetrics::SIZE`]: this many.
    #[error("{0} bytes are too few: it takes {size}", size = SharedMetrics::SIZE)]
    TooSmall(usize),
    /// The memory does not begin at a page boundary.
    #[error("the memory must be aligned to a page")]
    Unaligned,
}

/// The rows of metrics that processes share.
pub struct SharedMetrics {
    memory: NonNull<Memory>,
    /// Whether this value owns the memory and must free it.
    own: bool,
}

// SAFETY: the memory consists of atomics. It stays at its address for as long as a `SharedMetrics` uses it: the caller
// of `attach` has promised that, or the memory is owned.
unsafe impl Send for SharedMetrics {}
// SAFETY: as above.
unsafe impl Sync for SharedMetrics {}

impl fmt::Debug for SharedMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMetrics")
            .field("since", &self.since())
            .finish_non_exhaustive()
    }
}

impl SharedMetrics {
    /// The size of the memory in bytes. Only the pages that are written to take physical memory: a few kilobytes for
    /// each process and provider.
    pub const SIZE: usize = size_of::<Memory>();

    /// The number of rows. Each process takes one row for each provider, in each of the two configurations that run
    /// during a reload.
    pub const ROWS: usize = memory::ROWS;

    /// Attaches to shared memory: continues with the numbers in it, or starts from zero. `unix` is the time, in seconds
    /// since the epoch.
    ///
    /// # Safety
    /// - `base` is aligned to a page. The [`SharedMetrics::SIZE`] bytes at it can be read and written for as long as
    ///   the returned value or a row of it is used. They are zero, or were last used by a `SharedMetrics`.
    /// - No other thread or process attaches at the same time. Every concurrent user of the memory uses a
    ///   `SharedMetrics` of the same version.
    ///
    /// # Errors
    /// When the memory is too small or not aligned.
    pub unsafe fn attach(
        base: *mut u8,
        size: usize,
        unix: i64,
    ) -> Result<(Arc<Self>, Attached), MetricsError> {
        if size < Self::SIZE {
            return Err(MetricsError::TooSmall(size));
        }
        let memory = NonNull::new(base)
            .map(NonNull::cast::<Memory>)
            .filter(|memory| memory.is_aligned())
            .ok_or(MetricsError::Unaligned)?;
        let tally = SharedMetrics { memory, own: false };
        let header = &tally.memory().header;
        let whole = header.magic.load(Acquire) == MAGIC
            && header.layout.load(Relaxed) == LAYOUT
            && header.size.load(Relaxed) == Self::SIZE as u64;
        let attached = if whole {
            Attached::Kept
        } else if header.magic.load(Relaxed) == 0 {
            Attached::New
        } else {
            Attached::Replaced
        };
        if !whole {
            tally.format(unix);
        }
        Ok((Arc::new(tally), attached))
    }

    /// Metrics in memory of this process alone.
    pub fn alone(unix: i64) -> Arc<Self> {
        let tally = SharedMetrics {
            memory: Memory::allocate(),
            own: true,
        };
        tally.format(unix);
        Arc::new(tally)
    }

    /// The time when counting began, in seconds since the epoch.
    pub fn since(&self) -> i64 {
        time(self.memory().header.since.load(Relaxed))
    }

    /// Takes a row for this process and the provider of this name: a row that another process has left, or a new one.
    /// `None` when all rows are taken. `known` are the names of all providers of the configuration: a row of a provider
    /// that is not among them is taken only when no other row is free. A process takes one row for each name.
    pub fn row(self: &Arc<Self>, name: &str, known: &[&str]) -> Option<Slot> {
        self.row_of(name, known, std::process::id(), &is_alive)
    }

    /// The metrics of all processes for the provider of this name.
    pub fn sum(&self, name: &str) -> Totals {
        self.sum_by(name, &is_alive)
    }

    /// The number of processes that count for any provider now.
    pub fn processes(&self) -> usize {
        let mut pids: Vec<u32> = self
            .memory()
            .heads
            .iter()
            .map(|head| Owner::of(head).pid)
            .filter(|&pid| pid != NOBODY)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        pids.into_iter().filter(|&pid| is_alive(pid)).count()
    }

    fn memory(&self) -> &Memory {
        // SAFETY: the memory is aligned and as large as a `Memory`: that is checked in `attach`, or it was allocated as
        // one. It stays valid for as long as `self` does. All of it is atomics, which are valid for any bytes and may
        // change while they are borrowed.
        unsafe { self.memory.as_ref() }
    }

    /// Clears the memory. If this is interrupted, the memory does not contain valid metrics.
    fn format(&self, unix: i64) {
        let Memory { header, heads, .. } = self.memory();
        header.magic.store(0, Relaxed);
        // No write below is ordered before this one.
        fence(SeqCst);
        header.layout.store(LAYOUT, Relaxed);
        header.size.store(Self::SIZE as u64, Relaxed);
        header
            .since
            .store(u64::try_from(unix).unwrap_or(0), Relaxed);
        for head in heads {
            // The contents of a row are cleared when the row is taken.
            head.state.store(VACANT, Relaxed);
            head.owner.store(0, Relaxed);
        }
        header.magic.store(MAGIC, Release);
    }

    fn row_of(
        self: &Arc<Self>,
        name: &str,
        known: &[&str],
        pid: u32,
        alive: &dyn Fn(u32) -> bool,
    ) -> Option<Slot> {
        let wanted = Name::of(name);
        let known: Vec<Name> = known.iter().copied().map(Name::of).collect();
        let kept = |head: &Head| head.state.load(Acquire) == TAKEN;
        let take = |fits: &dyn Fn(&Head) -> bool| {
            let heads = self.memory().heads.iter().enumerate();
            heads
                .filter(|(_, head)| fits(head))
                .find_map(|(index, head)| {
                    let owner = Owner::of(head).taken_by(head, pid, alive)?;
                    // It may have belonged to another process for a moment.
                    if fits(head) {
                        return Some((index, owner));
                    }
                    owner.leave(head);
                    None
                })
        };
        let (index, owner, is_known) = take(&|head| kept(head) && Name::in_row(head) == wanted)
            .map(|(index, owner)| (index, owner, true))
            .or_else(|| take(&|head| !kept(head)).map(|(index, owner)| (index, owner, false)))
            .or_else(|| {
                take(&|head| kept(head) && !known.contains(&Name::in_row(head)))
                    .map(|(index, owner)| (index, owner, false))
            })?;
        let place = self.memory().place(index);
        if is_known {
            place.mend();
        } else {
            // The row stays vacant until it is complete: if this process dies here, the next process finds it vacant.
            place.head.state.store(VACANT, Relaxed);
            fence(SeqCst);
            place.clear();
            wanted.write(place.head);
            place.head.state.store(TAKEN, Release);
        }
        Some(Slot {
            base: place.counters(),
            tally: Arc::clone(self),
            index,
            owner,
            process: std::process::id(),
            written: LastErrors::default(),
        })
    }

    fn sum_by(&self, name: &str, alive: &dyn Fn(u32) -> bool) -> Totals {
        let wanted = Name::of(name);
        let mut sum = Totals::default();
        for (index, head) in self.memory().heads.iter().enumerate() {
            let place = self.memory().place(index);
            for _ in 0..READ_ATTEMPTS {
                if head.state.load(Acquire) != TAKEN || Name::in_row(head) != wanted {
                    break;
                }
                let owner = Owner::of(head);
                let lives = owner.pid != NOBODY && alive(owner.pid);
                let found = place.read(lives);
                // No read above is ordered after the reads below.
                fence(Acquire);
                if Name::in_row(head) == wanted && head.state.load(Relaxed) == TAKEN {
                    words::add(&mut sum.done, &found);
                    sum.processes += u64::from(lives);
                    break;
                }
            }
        }
        sum
    }
}

impl Drop for SharedMetrics {
    fn drop(&mut self) {
        if self.own {
            // SAFETY: `alone` allocated it. Rows hold a reference to this value, so nobody uses the memory any more.
            unsafe { Memory::free(self.memory) };
        }
    }
}

/// A process's row for a provider. Dropping it releases the row.
pub struct Slot {
    tally: Arc<SharedMetrics>,
    index: usize,
    owner: Owner,
    /// The process that owns the row. A forked child does not own it.
    process: u32,
    /// The numbers that were in the row when it was taken. The numbers of this process are added to them.
    base: [u64; COUNTERS],
    written: LastErrors,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl Slot {
    /// Publishes the metrics of this process since it began.
    pub fn publish(&mut self, done: &ProcessMetrics) {
        let place = self.tally.memory().place(self.index);
        if Owner::of(place.head) != self.owner {
            // Another process considered this one dead, or overwrote the memory. The row's new owner continues from its
            // numbers.
            return;
        }
        let Counted { counters, gauges } = Counted::of(done);
        for ((word, base), own) in place.body.counters.iter().zip(self.base).zip(counters) {
            word.store(base.saturating_add(own), Relaxed);
        }
        for (word, value) in place.body.gauges.iter().zip(gauges) {
            word.store(value, Relaxed);
        }
        let last = place.body.errors.iter().zip(&done.last_errors);
        for ((slot, new), written) in last.zip(&mut self.written) {
            if let Some(error) = new
                && new != written
            {
                slot.write(error);
                written.clone_from(new);
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            self.owner.leave(&self.tally.memory().heads[self.index]);
        }
    }
}

const NOBODY: u32 = 0;

/// The owner of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    pid: u32,
    /// The number of times that the row has changed its owner. It distinguishes two processes that take the row from a
    /// third one.
    turn: u32,
}

impl Owner {
    fn of(head: &Head) -> Self {
        let word = head.owner.load(Acquire);
        Owner {
            pid: word as u32,
            turn: (word >> 32) as u32,
        }
    }

    fn word(self) -> u64 {
        u64::from(self.turn) << 32 | u64::from(self.pid)
    }

    /// Takes the row from this owner, if that process has left the row or died. An owner with the process number of
    /// this process was another process.
    fn taken_by(self, head: &Head, pid: u32, alive: &dyn Fn(u32) -> bool) -> Option<Self> {
        if self.pid != NOBODY && self.pid != pid && alive(self.pid) {
            return None;
        }
        self.replaced_by(head, pid)
    }

    fn leave(self, head: &Head) {
        self.replaced_by(head, NOBODY);
    }

    fn replaced_by(self, head: &Head, pid: u32) -> Option<Self> {
        let next = Owner {
            pid,
            turn: self.turn.wrapping_add(1),
        };
        // All that the former owner has written to the row is visible to the new owner.
        head.owner
            .compare_exchange(self.word(), next.word(), AcqRel, Relaxed)
            .ok()
            .map(|_| next)
    }
}

/// A provider's name, as it is stored in a row.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Name([u64; 4]);

impl Name {
    fn of(name: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        let mut words = [0; 4];
        for (word, chunk) in words.iter_mut().zip(digest.as_ref().as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*chunk);
        }
        Name(words)
    }

    fn in_row(head: &Head) -> Self {
        Name(head.name.each_ref().map(|word| word.load(Relaxed)))
    }

    fn write(self, head: &Head) {
        for (word, value) in head.name.iter().zip(self.0) {
            word.store(value, Relaxed);
        }
    }
}

/// A time from untrusted memory.
fn time(word: u64) -> i64 {
    i64::try_from(word).unwrap_or(0)
}

impl Place<'_> {
    fn counters(&self) -> [u64; COUNTERS] {
        self.body.counters.each_ref().map(|word| word.load(Relaxed))
    }

    /// Cleans up after a process that died: removes its gauges and incomplete messages.
    fn mend(&self) {
        for word in &self.body.gauges {
            word.store(0, Relaxed);
        }
        self.body.errors.iter().for_each(text::Slot::mend);
    }

    fn clear(&self) {
        for word in self.body.counters.iter().chain(&self.body.gauges) {
            word.store(0, Relaxed);
        }
        self.body.errors.iter().for_each(text::Slot::clear);
    }

    fn read(&self, lives: bool) -> ProcessMetrics {
        let counted = Counted {
            counters: self.counters(),
            gauges: if lives {
                self.body.gauges.each_ref().map(|word| word.load(Relaxed))
            } else {
                Default::default()
            },
        };
        let mut done = counted.done();
        done.last_errors = self.body.errors.each_ref().map(text::Slot::read);
        done
    }
}
