//! The completion queue of an event loop.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use parking_lot::Mutex;

use super::RequestId;
use crate::{Error, Resolution};

/// A finished request.
#[derive(Debug)]
pub struct Completion {
    /// The id of the request.
    pub id: RequestId,
    /// The tag that the submitter passed.
    pub tag: u64,
    /// The result of the request.
    pub outcome: Result<Resolution, Error>,
}

/// Finished requests, and a file descriptor that becomes readable when there are some. One queue may serve
/// several clients; it belongs to the event loop that drains it.
pub struct CompletionQueue {
    finished: Mutex<VecDeque<Completion>>,
    wakeup: Wakeup,
}

impl fmt::Debug for CompletionQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompletionQueue")
            .field("finished", &self.finished.lock().len())
            .finish_non_exhaustive()
    }
}

impl CompletionQueue {
    /// Creates an empty queue.
    ///
    /// # Errors
    /// When the system has no file descriptor left.
    pub fn new() -> io::Result<Arc<Self>> {
        Ok(Arc::new(CompletionQueue {
            finished: Mutex::default(),
            wakeup: Wakeup::new()?,
        }))
    }

    /// Becomes readable when a completion arrives in the empty queue. Belongs to the queue: don't read, write or
    /// close it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.wakeup.fd()
    }

    /// Makes the descriptor unreadable again. Call it before [`CompletionQueue::drain`] when the descriptor is watched
    /// level-triggered. An edge-triggered descriptor does not need it, which saves a system call.
    pub fn acknowledge(&self) {
        self.wakeup.clear();
    }

    /// Wakes the event loop without a completion.
    pub fn wake(&self) {
        self.wakeup.signal();
    }

    /// Appends at most `limit` completions to `into`, and returns their number. If some are left for a later call, the
    /// descriptor becomes readable again.
    pub fn drain(&self, into: &mut Vec<Completion>, limit: usize) -> usize {
        let mut finished = self.finished.lock();
        let count = finished.len().min(limit);
        into.extend(finished.drain(..count));
        let more = !finished.is_empty();
        drop(finished);
        if more {
            self.wakeup.signal();
        }
        count
    }

    pub(super) fn push(&self, completion: Completion) {
        let mut finished = self.finished.lock();
        let was_empty = finished.is_empty();
        finished.push_back(completion);
        drop(finished);
        // Every drain takes all entries or signals again, so one signal per filling is enough.
        if was_empty {
            self.wakeup.signal();
        }
    }
}

/// A descriptor that wakes an event loop: an eventfd where there is one, a pipe elsewhere.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
struct Wakeup(std::fs::File);

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
impl Wakeup {
    fn new() -> io::Result<Self> {
        use std::os::fd::FromRawFd;

        // SAFETY: the call takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened, is valid (checked above), and nobody else knows of it.
        Ok(Wakeup(unsafe { std::fs::File::from_raw_fd(fd) }))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn signal(&self) {
        // It fails only when the counter is full, and then the descriptor is readable already.
        let _ = io::Write::write(&mut &self.0, &1u64.to_ne_bytes());
    }

    fn clear(&self) {
        // It fails only when nothing was signalled.
        let _ = io::Read::read(&mut &self.0, &mut [0; 8]);
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
struct Wakeup {
    reader: io::PipeReader,
    writer: io::PipeWriter,
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
impl Wakeup {
    fn new() -> io::Result<Self> {
        use std::os::fd::AsRawFd;

        let (reader, writer) = io::pipe()?;
        for fd in [reader.as_raw_fd(), writer.as_raw_fd()] {
            // SAFETY: `fd` is open and ours; the calls take integers and touch no memory of ours.
            let done = unsafe {
                let flags = libc::fcntl(fd, libc::F_GETFL);
                flags >= 0 && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
            };
            if !done {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Wakeup { reader, writer })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }

    fn signal(&self) {
        // It fails only when the pipe is full, and then it is readable already.
        let _ = io::Write::write(&mut &self.writer, &[1]);
    }

    fn clear(&self) {
        let mut buffer = [0; 64];
        while matches!(io::Read::read(&mut &self.reader, &mut buffer), Ok(64)) {}
    }
}
