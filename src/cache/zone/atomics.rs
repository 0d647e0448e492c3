//! The atomics that a zone is made of.
//!
//! Everything in a zone except the bytes of values is an atomic. Other processes change it, and a reference to it is
//! sound whatever they write. The locks define the order, so every access to a [`Relaxed32`] or [`Relaxed64`] is
//! relaxed and costs as much as a plain one. A field that is read without the lock has a comment at that read.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $atomic:ty, $plain:ty) => {
        $(#[$doc])*
        #[repr(transparent)]
        pub(super) struct $name($atomic);

        impl $name {
            #[inline]
            pub(super) fn get(&self) -> $plain {
                self.0.load(Ordering::Relaxed)
            }

            #[inline]
            pub(super) fn set(&self, value: $plain) {
                crash::point();
                self.0.store(value, Ordering::Relaxed);
            }
        }
    };
}

word!(
    /// One byte.
    Relaxed8,
    AtomicU8,
    u8
);
word!(
    /// Two bytes.
    Relaxed16,
    AtomicU16,
    u16
);
word!(
    /// Four bytes.
    Relaxed32,
    AtomicU32,
    u32
);
word!(
    /// Eight bytes.
    Relaxed64,
    AtomicU64,
    u64
);

/// The points at which a test makes a process die: before each of its writes to a zone, one after the other.
#[cfg(not(test))]
pub(super) mod crash {
    #[inline(always)]
    pub(in super::super) fn point() {}
}

#[cfg(test)]
pub(super) mod crash {
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The remaining number of writes. Set only in children of the tests, each of which has its own copy.
    static LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

    /// Makes this process die before its write number `count`, counted from 0.
    pub(in super::super) fn after(count: u64) {
        LEFT.store(count, Ordering::Relaxed);
    }

    pub(in super::super) fn point() {
        let left = LEFT.load(Ordering::Relaxed);
        if left == u64::MAX {
            return;
        }
        if left == 0 {
            // SAFETY: the signal goes to this process alone, and nothing of it runs after that.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
        LEFT.store(left - 1, Ordering::Relaxed);
    }
}
