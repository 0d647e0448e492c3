//! Fork detection.
//!
//! In a child only the forking thread continues: our thread does not, and a lock that it held stays locked for ever. So
//! every client records in which process it was started, and does nothing at all in any other. A counter that the C
//! library increments in each child makes the check as cheap as one load; `getpid` would be a system call on every hit.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process in which it was created.
pub(super) struct Process(u32);

impl Process {
    pub(super) fn current() -> Self {
        static REGISTERED: Once = Once::new();
        REGISTERED.call_once(|| {
            // SAFETY: `forked` is a function of this library, which is never unloaded while a client of it lives;
            // glibc drops the handler itself when the library goes. It does nothing but raise an atomic, which is
            // safe at a point where any lock may be held.
            let status = unsafe { libc::pthread_atfork(None, None, Some(forked)) };
            // Out of memory is the only reason to fail, and memory that cannot be had aborts in Rust.
            debug_assert_eq!(status, 0, "pthread_atfork");
        });
        Process(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this is still that process.
    pub(super) fn is_current(&self) -> bool {
        // Relaxed is enough: the counter only changes in `fork`, which orders all that happens in the child.
        self.0 == FORKS.load(Ordering::Relaxed)
    }
}

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
