//! Event loops.
//!
//! A thread that must not wait submits a token and goes on. When the answer has come, a file descriptor becomes
//! readable; the loop then calls `phantom_client_dispatch`, which calls back on that same thread:
//!
//! ```c
//! switch (phantom_client_submit(client, token, token_length, on_verdict, request, &id, &result)) {
//!   case PHANTOM_OK:      // known already: here is the result, and there will be no callback
//!   case PHANTOM_PENDING: // there will be exactly one callback, unless it is cancelled
//!   default:              // an error, and there will be no callback
//! }
//! ```

use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::boundary::{Failure, Output, boundary, bytes, shared};
use super::client::phantom_client;
use super::result::phantom_result;
use super::status::phantom_status;
use crate::{Completion, CompletionQueue, RequestId, Submitted, Token};

/// Takes the answer to one submitted request, on the thread that called `phantom_client_dispatch`.
///
/// With `PHANTOM_OK` there is a verdict, and `result` is yours: free it with `phantom_result_free`. With any other
/// status, `result` is NULL, and `phantom_last_error` says why.
///
/// It may call any function of this library, `phantom_client_free` for this very client included.
pub type phantom_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        status: phantom_status,
        result: *mut phantom_result,
    ),
>;

/// The callbacks that are still to run.
pub(super) struct Events {
    queue: Arc<CompletionQueue>,
    pending: Mutex<Pending>,
    /// The client has been freed, perhaps by a callback: no further one runs.
    closed: AtomicBool,
}

#[derive(Default)]
struct Pending {
    /// The tag of the last request, which is also its name for C.
    last: u64,
    requests: HashMap<u64, Request>,
}

struct Request {
    id: RequestId,
    callback: unsafe extern "C" fn(*mut c_void, phantom_status, *mut phantom_result),
    user_data: *mut c_void,
}

// SAFETY: the callback is code, and `user_data` is never looked at here, only handed back, on whichever thread
// dispatches: the submitter has promised that it may be (`phantom_client_submit`, # Safety).
unsafe impl Send for Request {}

impl Events {
    pub(super) fn new(queue: Arc<CompletionQueue>) -> Self {
        Events {
            queue,
            pending: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Takes a request out: whoever succeeds decides what becomes of it, so that it is either called back or
    /// cancelled, and only once.
    fn claim(&self, name: u64) -> Option<Request> {
        self.pending.lock().requests.remove(&name)
    }
}

/// Submits `token`. It never waits.
///
/// - `PHANTOM_OK`: the verdict is known, and is written to `result`, which is yours. The callback never runs.
/// - `PHANTOM_PENDING`: the request's name is written to `request_id`, for `phantom_client_cancel`. The callback runs
///   once, from `phantom_client_dispatch`, within the configured `timeout`; never, if the request is cancelled or the
///   client freed.
/// - Any other status: an error. The callback never runs.
///
/// `user_data` is handed to the callback and never looked at; it may be NULL. `request_id` may be NULL if you never
/// cancel. A thread other than this one may already run the callback before this returns, if it dispatches.
///
/// # Safety
/// - `client` is NULL, or alive.
/// - `token` is NULL, or `token_length` bytes at it can be read.
/// - `callback` is NULL, or can be called with `user_data` on every thread that dispatches, until it has run, was
///   cancelled, or the client was freed; it does not unwind.
/// - `request_id` and `result` are NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_submit(
    client: *const phantom_client,
    token: *const c_char,
    token_length: usize,
    callback: phantom_callback,
    user_data: *mut c_void,
    request_id: *mut u64,
    result: *mut *mut phantom_result,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `client`, `token`, `request_id` and `result`.
        let (client, token, request_id, result) = unsafe {
            (
                shared(client, "client")?,
                bytes(token, token_length, "token")?,
                Output::optional(request_id),
                Output::required(result, "result")?,
            )
        };
        let callback = callback.ok_or_else(|| {
            Failure::new(phantom_status::PHANTOM_INVALID_ARGUMENT, "callback is NULL")
        })?;
        let token = Token::parse(token)?;
        // A hit takes no lock of ours; and a forked child, where it may be held for ever, is found out here.
        if let Some(resolution) = client.client.lookup(token)? {
            result.write(phantom_result::into_raw(resolution));
            return Ok(phantom_status::PHANTOM_OK);
        }
        // Held until the request is entered: a completion that is dispatched meanwhile has to find it.
        let mut pending = client.events.pending.lock();
        let name = pending.last + 1;
        match client.client.submit(token, &client.events.queue, name) {
            Submitted::Ready(outcome) => {
                drop(pending);
                result.write(phantom_result::into_raw(outcome?));
                Ok(phantom_status::PHANTOM_OK)
            }
            Submitted::Pending(id) => {
                pending.last = name;
                let request = Request {
                    id,
                    callback,
                    user_data,
                };
                pending.requests.insert(name, request);
                // Before another thread can call back, which may free what this points to.
                request_id.write(name);
                drop(pending);
                Ok(phantom_status::PHANTOM_PENDING)
            }
        }
    })
}

/// Writes to `fd` the file descriptor that becomes readable when there is something to dispatch. Watch it with `poll`,
/// `epoll` or `kqueue`, level- or edge-triggered. It belongs to the client: never read, write or close it; stop
/// watching it before the client is freed.
///
/// # Safety
/// - `client` is NULL, or alive.
/// - `fd` is NULL or can be written to.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_fd(
    client: *const phantom_client,
    fd: *mut c_int,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `client` and `fd`.
        let (client, fd) = unsafe { (shared(client, "client")?, Output::required(fd, "fd")?) };
        client.check_process()?;
        fd.write(client.events.queue.fd().as_raw_fd());
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Calls back for what has been answered, at most `max` times; 0 stands for all that there is now. Writes to `count`
/// how many callbacks ran; it may be NULL. It never waits: with nothing to do it returns `PHANTOM_OK`. What is left over
/// keeps the descriptor readable.
///
/// # Safety
/// - `client` is NULL, or alive.
/// - `count` is NULL or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_dispatch(
    client: *const phantom_client,
    max: usize,
    count: *mut usize,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promises for `client` and `count`.
        let (handle, output) = unsafe { (shared(client, "client")?, Output::optional(count)) };
        handle.check_process()?;
        // SAFETY: `client` is not NULL (checked above) and alive, so it is what `Arc::into_raw` returned in
        // `phantom_client_start`, and holds a reference.
        unsafe { Arc::increment_strong_count(client) };
        // SAFETY: the reference taken in the line above is the one that this owns. It keeps the client alive when a
        // callback frees it.
        let client = unsafe { Arc::from_raw(client) };
        let limit = if max == 0 { usize::MAX } else { max };
        let mut finished = Vec::new();
        client.events.queue.acknowledge();
        client.events.queue.drain(&mut finished, limit);
        let mut ran = 0;
        for completion in finished {
            if client.events.closed.load(Ordering::Relaxed) {
                break;
            }
            ran += usize::from(call_back(&client.events, completion));
        }
        output.write(ran);
        Ok(phantom_status::PHANTOM_OK)
    })
}

/// Cancels a submitted request. After `PHANTOM_OK` its callback will not run. `PHANTOM_NOT_FOUND` when it has run, is
/// running, or was cancelled before. Others who wait for the same token are not disturbed.
///
/// # Safety
/// `client` is NULL, or alive.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_client_cancel(
    client: *const phantom_client,
    request_id: u64,
) -> phantom_status {
    boundary(|| {
        // SAFETY: the caller's promise for `client`.
        let client = unsafe { shared(client, "client")? };
        client.check_process()?;
        match client.events.claim(request_id) {
            None => Ok(phantom_status::PHANTOM_NOT_FOUND),
            Some(request) => {
                // If its completion is in the queue already, nobody will find a request for it.
                client.client.cancel(request.id);
                Ok(phantom_status::PHANTOM_OK)
            }
        }
    })
}

/// Runs the callback of a finished request, unless it has been cancelled.
fn call_back(events: &Events, completion: Completion) -> bool {
    let Some(request) = events.claim(completion.tag) else {
        return false;
    };
    let (status, result) = match completion.outcome {
        Ok(resolution) => (
            phantom_status::PHANTOM_OK,
            phantom_result::into_raw(resolution),
        ),
        Err(error) => (Failure::from(error).record(), std::ptr::null_mut()),
    };
    // SAFETY: the promise of whoever submitted it: callable with its `user_data` on every thread that dispatches, until
    // it has run, was cancelled or the client was freed. Claiming it excludes the first two; it is claimed only as long
    // as the client is not closed, and no other thread frees a client that this one is using. No lock is held.
    unsafe { (request.callback)(request.user_data, status, result) };
    true
}
