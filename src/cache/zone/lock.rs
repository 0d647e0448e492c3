//! A lock in shared memory that survives its holder.
//!
//! It is a mutex of the system, shared between processes and *robust*: when the process that holds it dies, by any
//! signal, the kernel passes it on and notifies the next holder. The next holder repairs the data under the lock before
//! it does anything else. If it dies as well, the one after it is notified again.
//!
//! # No waiter sleeps for long
//!
//! The kernel passes on the lock of a dead holder, but not always the wake-up call for the next one. Suppose a process
//! is woken, and is killed before it has seen that yet another process has taken the lock: the wake-up call is lost
//! with it. The waiters then sleep until another process has to wait, which may be never. (With four processes that are
//! killed a hundred times a second, this happens within seconds.) So every waiter checks the lock itself every few
//! milliseconds.

//! # Pointers
//!
//! The system's mutex is the one thing in a zone that is not a number. While a thread holds it, it is in that thread's
//! list of robust mutexes. The kernel follows this list when the thread dies, and the list's pointers are in the
//! mutexes. So a process that writes to a zone while another process holds a lock can choose an address at which that
//! process writes when it unlocks. Only the kernel can pass on the lock of a dead holder, and it knows no other list: a
//! lock without pointers would be lost with a killed worker, or be taken from a live one by mistake. So a zone must be
//! shared only by processes that trust each other, as nginx's workers do; its master takes no lock. `docs/security.md`
//! says so.

use std::cell::UnsafeCell;
use std::marker::PhantomData;

use super::ZoneError;

/// Guards a part of a zone. Lives in the shared memory and never moves.
#[repr(C)]
pub(super) struct Lock(UnsafeCell<system::Mutex>);

// SAFETY: the system's mutex is made to be used by any thread of any process at the same time, through shared
// references as here.
unsafe impl Sync for Lock {}

/// Holds a [`Lock`], on the thread that took it.
pub(super) struct Guard<'a> {
    lock: &'a Lock,
    /// The system wants a mutex unlocked by the thread that locked it: this makes the guard stay there.
    _stays: PhantomData<*const ()>,
}

impl Lock {
    /// Whether this system has such locks.
    pub(super) const SUPPORTED: bool = system::SUPPORTED;

    /// Initializes the memory as a lock, whatever its contents.
    ///
    /// # Safety
    /// No process uses the lock until this returns.
    pub(super) unsafe fn init(&self) -> Result<(), ZoneError> {
        // SAFETY: the pointer is valid, aligned and writable for as long as `self` is; the rest is our caller's
        // promise.
        unsafe { system::init(self.0.get()) }
    }

    /// Waits for the lock. `mend` is called before anything else if the last holder died. `None` when the lock is
    /// permanently unusable: its data is out of use then.
    pub(super) fn lock(&self, mend: impl FnOnce()) -> Option<Guard<'_>> {
        let mutex = self.0.get();
        // SAFETY: the mutex was initialized when the zone was formatted, which is over before anybody has a `Zone`.
        let status = unsafe { system::lock(mutex) };
        let guard = match status {
            system::Status::Locked | system::Status::OwnerDied => Guard {
                lock: self,
                _stays: PhantomData,
            },
            system::Status::Unusable => return None,
        };
        if status == system::Status::OwnerDied {
            // If this process dies here, or panics, the lock has not been declared consistent: the next holder is
            // notified again, or can't get the lock any more.
            mend();
            // SAFETY: as above, and this thread holds the mutex in the state that the call is for.
            if !unsafe { system::consistent(mutex) } {
                return None;
            }
        }
        Some(guard)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // SAFETY: the mutex is initialized and held by this thread: a guard is made on locking, and is not `Send`.
        unsafe { system::unlock(self.lock.0.get()) };
    }
}

#[cfg(any(target_os = "linux", target_os = "freebsd"))]
mod system {
    use std::mem::MaybeUninit;
    use std::{hint, io};

    use super::ZoneError;

    pub(super) type Mutex = libc::pthread_mutex_t;
    pub(super) const SUPPORTED: bool = true;
    /// The number of attempts to take a lock before sleeping.
    const SPINS: usize = 50;
    /// The maximum time to sleep before the next attempt, in nanoseconds.
    const LOOK_AGAIN: libc::c_long = 5_000_000;

    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) enum Status {
        Locked,
        OwnerDied,
        Unusable,
    }

    /// # Safety
    /// `mutex` is valid for writes and nobody uses it.
    pub(super) unsafe fn init(mutex: *mut Mutex) -> Result<(), ZoneError> {
        let check = |call, status: libc::c_int| match status {
            0 => Ok(()),
            code => Err(ZoneError::Lock {
                call,
                source: io::Error::from_raw_os_error(code),
            }),
        };
        let mut attributes = MaybeUninit::uninit();
        let attributes = attributes.as_mut_ptr();
        // SAFETY: `attributes` is valid for writes; it is initialized by the first call, before the others use it, and
        // destroyed by the last, after which nothing uses it. `mutex` is our caller's promise.
        unsafe {
            check(
                "pthread_mutexattr_init",
                libc::pthread_mutexattr_init(attributes),
            )?;
            let made = check(
                "pthread_mutexattr_setpshared",
                libc::pthread_mutexattr_setpshared(attributes, libc::PTHREAD_PROCESS_SHARED),
            )
            .and_then(|()| {
                check(
                    "pthread_mutexattr_setrobust",
                    libc::pthread_mutexattr_setrobust(attributes, libc::PTHREAD_MUTEX_ROBUST),
                )
            })
            .and_then(|()| {
                check(
                    "pthread_mutex_init",
                    libc::pthread_mutex_init(mutex, attributes),
                )
            });
            libc::pthread_mutexattr_destroy(attributes);
            made
        }
    }

    /// # Safety
    /// `mutex` is initialized.
    pub(super) unsafe fn lock(mutex: *mut Mutex) -> Status {
        // The work under the locks takes less time than falling asleep and being woken.
        for _ in 0..SPINS {
            // SAFETY: our caller's promise.
            match unsafe { libc::pthread_mutex_trylock(mutex) } {
                libc::EBUSY => hint::spin_loop(),
                status => return status_of(status),
            }
        }
        loop {
            let deadline = soon();
            // SAFETY: our caller's promise; the time is valid for the call.
            match unsafe { libc::pthread_mutex_timedlock(mutex, &raw const deadline) } {
                libc::ETIMEDOUT => {}
                status => return status_of(status),
            }
        }
    }

    fn status_of(status: libc::c_int) -> Status {
        match status {
            0 => Status::Locked,
            libc::EOWNERDEAD => Status::OwnerDied,
            _ => Status::Unusable,
        }
    }

    /// The time of the next attempt, on the clock that the system requires.
    fn soon() -> libc::timespec {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` may be written to, and the clock exists everywhere.
        unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
        time.tv_nsec += LOOK_AGAIN;
        if time.tv_nsec >= 1_000_000_000 {
            time.tv_nsec -= 1_000_000_000;
            time.tv_sec += 1;
        }
        time
    }

    /// # Safety
    /// `mutex` is initialized, and this thread has locked it from an owner that died.
    pub(super) unsafe fn consistent(mutex: *mut Mutex) -> bool {
        // SAFETY: our caller's promise.
        unsafe { libc::pthread_mutex_consistent(mutex) == 0 }
    }

    /// # Safety
    /// `mutex` is initialized, and this thread has locked it.
    pub(super) unsafe fn unlock(mutex: *mut Mutex) {
        // SAFETY: our caller's promise.
        let status = unsafe { libc::pthread_mutex_unlock(mutex) };
        debug_assert_eq!(status, 0, "pthread_mutex_unlock");
    }
}

/// A mutex without robustness would be lost with a killed worker, and stop all workers after it: better none.
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
mod system {
    use super::ZoneError;

    pub(super) type Mutex = u64;
    pub(super) const SUPPORTED: bool = false;

    #[derive(Clone, Copy, PartialEq, Eq)]
    #[allow(dead_code)]
    pub(super) enum Status {
        Locked,
        OwnerDied,
        Unusable,
    }

    pub(super) unsafe fn init(_mutex: *mut Mutex) -> Result<(), ZoneError> {
        Err(ZoneError::Unsupported)
    }

    pub(super) unsafe fn lock(_mutex: *mut Mutex) -> Status {
        Status::Unusable
    }

    pub(super) unsafe fn consistent(_mutex: *mut Mutex) -> bool {
        false
    }

    pub(super) unsafe fn unlock(_mutex: *mut Mutex) {}
}
