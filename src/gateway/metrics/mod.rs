//! What all processes have done, summed.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `memory.rs` | what is where |
//! | `words.rs` | what is counted, as the words that are kept of it |
//! | `text.rs` | messages that nobody reads half |
//!
//! Each process counts for itself, in its own memory, and *publishes* what it has counted from time to time: it writes
//! the numbers to a row of its own in memory that all processes share. A sum of all rows is what all have done. There is
//! no lock: a row has one writer, its numbers are words that are written whole, and they only grow.
//!
//! # Rows outlive their process
//!
//! The row of a process that has ended, or was killed, keeps its numbers, and the next process that counts for the same
//! provider goes on from there. So a sum never falls when a worker dies or the configuration is loaded anew, where the
//! workers of both are at work for a while. What a process *holds* (entries, requests under way) ends with it, and counts
//! only while it lives.
//!
//! Rows are told apart by the provider's name, which is what the numbers are shown under: a provider that is given
//! another address or secret is the same one still.
//!
//! # Nothing in it is believed
//!
//! Whatever stands in the memory, reading it ends and gives numbers: nothing in it is a pointer, a size that is not
//! bounded, or something to wait for.

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

/// How often a row is read that changes hands meanwhile.
const READ_ATTEMPTS: usize = 4;

/// How many outcomes of requests there is room for.
pub const OUTCOMES: usize = 16;

/// What a process has done for a provider, since it began.
#[derive(Debug, Clone, Default)]
pub struct ProcessMetrics {
    /// What its client has.
    pub stats: Stats,
    /// Requests by what became of them; what each place stands for is for the host to say.
    pub outcomes: [u64; OUTCOMES],
    /// Those among them that got a verdict, by where it came from: by [`CacheStatus::index`].
    pub verdicts: [u64; VERDICTS],
    /// What went wrong last.
    pub last_errors: LastErrors,
}

/// What all processes have done for a provider.
#[derive(Debug, Clone, Default)]
pub struct Totals {
    /// What it comes to. Of what is held, what the living hold; `breaker_open` is how many of them ask nothing.
    pub done: ProcessMetrics,
    /// How many processes count for it now.
    pub processes: u64,
}

/// The reason why memory can't be used for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MetricsError {
    /// It has fewer bytes than [`SharedMetrics::SIZE`]: this many.
    #[error("{0} bytes are too few: it takes {size}", size = SharedMetrics::SIZE)]
    TooSmall(usize),
    /// It does not begin with a page.
    #[error("the memory must be aligned to a page")]
    Unaligned,
}

/// The rows.
pub struct SharedMetrics {
    memory: NonNull<Memory>,
    /// Whether the memory is this one's to free.
    own: bool,
}

// SAFETY: the memory is atomics, and stays where it is for as long as there is a `SharedMetrics` of it, as whoever made it has
// promised or because it is its own.
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
    /// How many bytes it takes. Only those that are written to become memory of the machine: a few kilobytes for each
    /// process and provider.
    pub const SIZE: usize = size_of::<Memory>();

    /// How many rows there are: one for each process and provider, in the two configurations that are at work during a
    /// reload.
    pub const ROWS: usize = memory::ROWS;

    /// Takes memory for it: goes on with what is in it, or begins anew. `unix` is the time, in seconds since the epoch.
    ///
    /// # Safety
    /// - `base` is aligned to a page, and [`SharedMetrics::SIZE`] bytes at it can be read and written for as long as the tally
    ///   or a row of it is used; they are zero, or were last used by a tally.
    /// - Nobody else attaches at the same time; whoever uses it meanwhile does so through tallies of the same version.
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

    /// One for a process that shares with nobody.
    pub fn alone(unix: i64) -> Arc<Self> {
        let tally = SharedMetrics {
            memory: Memory::allocate(),
            own: true,
        };
        tally.format(unix);
        Arc::new(tally)
    }

    /// Since when is counted, in seconds since the epoch.
    pub fn since(&self) -> i64 {
        time(self.memory().header.since.load(Relaxed))
    }

    /// A row for this process and the provider of this name: one that another has left, or a new one. `None` when all
    /// rows are taken. `known` are the names of all providers of the configuration: rows of others are taken when no
    /// other is left. A process takes one row for each name.
    pub fn row(self: &Arc<Self>, name: &str, known: &[&str]) -> Option<Slot> {
        self.row_of(name, known, std::process::id(), &is_alive)
    }

    /// What all have done for the provider of this name.
    pub fn sum(&self, name: &str) -> Totals {
        self.sum_by(name, &is_alive)
    }

    /// How many processes count for any provider now.
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
        // SAFETY: the memory is aligned and as large as a `Memory`, checked in `attach` or allocated as one, and stays
        // for as long as `self` does. All of it is atomics, which are valid whatever the bytes and may change while
        // they are borrowed.
        unsafe { self.memory.as_ref() }
    }

    /// Empties it. If that is cut short, the memory holds none.
    fn format(&self, unix: i64) {
        let Memory { header, heads, .. } = self.memory();
        header.magic.store(0, Relaxed);
        // No write below comes before that.
        fence(SeqCst);
        header.layout.store(LAYOUT, Relaxed);
        header.size.store(Self::SIZE as u64, Relaxed);
        header
            .since
            .store(u64::try_from(unix).unwrap_or(0), Relaxed);
        for head in heads {
            // What a row holds is cleared when it is taken.
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
                    // It may have been another's for a moment.
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
            // Nobody's until it is whole: whoever comes after a process that died here finds it so.
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
                // No read above comes after those below.
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
            // SAFETY: `alone` made it, and rows hold the tally: nobody uses it any more.
            unsafe { Memory::free(self.memory) };
        }
    }
}

/// A process's row for a provider. It is given up when it is dropped.
pub struct Slot {
    tally: Arc<SharedMetrics>,
    index: usize,
    owner: Owner,
    /// Which has it: a child that is forked has not.
    process: u32,
    /// What was in it: what this process counts comes on top.
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
    /// Writes what this process has done since it began.
    pub fn publish(&mut self, done: &ProcessMetrics) {
        let place = self.tally.memory().place(self.index);
        if Owner::of(place.head) != self.owner {
            // Somebody took this process for dead, or wrote over the memory: whoever has the row now counts on from it.
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

/// Whose a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    pid: u32,
    /// How often the row has changed hands: so that two who take it from a third are told apart.
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

    /// Takes the row from this owner, if that one has left or died. One with the same number was another process.
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
        // What the one has written to the row is seen by the other.
        head.owner
            .compare_exchange(self.word(), next.word(), AcqRel, Relaxed)
            .ok()
            .map(|_| next)
    }
}

/// A provider's name, as it stands in a row.
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

/// A time that somebody may have made up.
fn time(word: u64) -> i64 {
    i64::try_from(word).unwrap_or(0)
}

impl Place<'_> {
    fn counters(&self) -> [u64; COUNTERS] {
        self.body.counters.each_ref().map(|word| word.load(Relaxed))
    }

    /// Makes good what a process has left that died: what it held is gone, and what it was about to write is not whole.
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
