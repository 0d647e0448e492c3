//! The assignment of a zone's parts to providers.
//!
//! A provider is identified by its fingerprint. It has a slot: a number that its entries carry, an epoch in every
//! shard, and words of its own. When all slots are taken, the provider that was opened longest ago loses its slot. A
//! client that still holds the slot detects this by the slot's generation, and has permanently lost all its entries.
//!
//! A process may die at any point here: a slot that is being changed is vacant meanwhile, and all other changes are the
//! write of one word. So nothing needs repair, and no provider loses a slot because another process dies.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use super::atomics::{Relaxed32, Relaxed64, crash};
use super::layout::PROVIDERS;
use super::lock::Lock;
use crate::cache::SharedAtomics;
use crate::token::Fingerprint;

const VACANT: u32 = 0;
const TAKEN: u32 = 1;

#[repr(C, align(128))]
pub(super) struct Providers {
    pub(super) lock: Lock,
    /// The number of times that any slot was opened.
    opened: Relaxed64,
    slots: [Slot; PROVIDERS],
}

/// A provider's slot. Any client may change the words; the fields that every call reads are in another cache line.
#[repr(C, align(64))]
struct Slot {
    fingerprint: [Relaxed64; 4],
    /// The value of [`Providers::opened`] when the slot was opened last.
    opened: Relaxed64,
    state: Relaxed32,
    /// Changes whenever the slot is given to another provider.
    generation: Relaxed32,
    words: Words,
}

#[repr(C, align(64))]
struct Words(SharedAtomics);

/// A slot, for as long as its holder owns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holding {
    slot: usize,
    generation: u32,
}

impl Slot {
    fn is_taken(&self) -> bool {
        self.state.get() == TAKEN
    }
}

impl Holding {
    /// Less than [`PROVIDERS`].
    pub(super) fn slot(self) -> usize {
        self.slot
    }
}

impl Providers {
    /// Makes all slots vacant.
    pub(super) fn format(&self) {
        self.opened.set(0);
        for slot in &self.slots {
            slot.state.set(VACANT);
            slot.opened.set(0);
            slot.generation.set(0);
        }
    }

    /// Returns the provider's slot: its own, or a vacant one, or that of the provider opened longest ago. `hide` must
    /// make all entries of a slot invisible; its argument says whether another provider had the slot.
    pub(super) fn open(
        &self,
        provider: &Fingerprint,
        hide: impl FnOnce(usize, bool),
    ) -> Option<Holding> {
        let _guard = self.lock.lock(|| {})?;
        let known = self.known(provider);
        let number = known
            .or_else(|| self.slots.iter().position(|slot| !slot.is_taken()))
            .or_else(|| (0..PROVIDERS).min_by_key(|&number| self.slots[number].opened.get()))?;
        let slot = &self.slots[number];
        if known.is_none() {
            // The fences keep the writes between them: the process that comes after one that died here finds the slot
            // vacant, or complete.
            slot.state.set(VACANT);
            fence(Ordering::SeqCst);
            let generation = slot.generation.get();
            slot.generation.set(generation.wrapping_add(1));
            hide(number, generation != 0);
            for word in &slot.words.0 {
                crash::point();
                word.store(0, Ordering::Relaxed);
            }
            for (word, value) in slot.fingerprint.iter().zip(words_of(&provider.0)) {
                word.set(value);
            }
            fence(Ordering::SeqCst);
            slot.state.set(TAKEN);
        }
        let opened = self.opened.get().wrapping_add(1);
        self.opened.set(opened);
        slot.opened.set(opened);
        Some(Holding {
            slot: number,
            generation: slot.generation.get(),
        })
    }

    /// The number of the provider's slot, if it has one.
    pub(super) fn find(&self, provider: &Fingerprint) -> Option<usize> {
        let _guard = self.lock.lock(|| {})?;
        self.known(provider)
    }

    fn known(&self, provider: &Fingerprint) -> Option<usize> {
        let name = words_of(&provider.0);
        self.slots.iter().position(|slot| {
            slot.is_taken() && slot.fingerprint.each_ref().map(Relaxed64::get) == name
        })
    }

    /// Whether the slot is still the one that the caller was given.
    #[inline]
    pub(super) fn is_current(&self, holding: Holding) -> bool {
        self.slots[holding.slot].generation.get() == holding.generation
    }

    pub(super) fn words(&self, holding: Holding) -> &[AtomicU64; 4] {
        &self.slots[holding.slot].words.0
    }
}

/// The words in which bytes are stored.
pub(super) fn words_of(bytes: &[u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}
