//! Event loops.
//!
//! A thread that must not block submits a token and continues. When an answer arrives, a file descriptor becomes
//! readable. The event loop then calls `phantom_client_dispatch`, which runs the callback on the same thread:
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

/// A callback that receives the answer to one submitted request, on the thread that called `phantom_client_dispatch`.
///
/// With `PHANTOM_OK` there is a verdict, and `result` is yours: free it with `phantom_result_free`. With any other
/// status, `result` is NULL, and `phantom_last_error` has the message.
///
/// It may call any function of this library, even `phantom_client_free` for this client.
pub type phantom_callback = Option<
    unsafe extern "C" fn(
        user_data: *mut c_void,
        status: phantom_status,
        result: *mut phantom_result,
    ),
>;

/// The pending callbacks of a client.
pub(super) struct Events {
    queue: Arc<CompletionQueue>,
    pending: Mutex<Pending>,
    /// The client has been freed, perhaps by a callback: no other callback runs.
    closed: AtomicBool,
}

#[derive(Default)]
struct Pending {
    /// The tag of the last request, which is also its `request_id` in C.
    last: u64,
    requests: HashMap<u64, Request>,
}

struct Request {
    id: RequestId,
    callback: unsafe extern "C" fn(*mut c_void, phantom_status, *mut phantom_result),
    user_data: *mut c_void,
}

// SAFETY: the callback is code, and `user_data` is never dereferenced here, only passed to it, on any thread that
// dispatches: the submitter promises that this is allowed (`phantom_client_submit`, # Safety).
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

    /// Removes a request. Only the caller that gets it may run its callback or cancel it, so that exactly one of the
    /// two happens, once.
    fn claim(&self, name: u64) -> Option<Request> {
        self.pending.lock().requests.remove(&name)
    }
}

/// Submits `token` for an asynchronous answer. It never waits.
///
/// - `PHANTOM_OK`: the verdict is in memory. It is written to `result`, which is yours. The callback never runs.
/// - `PHANTOM_PENDING`: the request's id is written to `request_id`, for `phantom_client_cancel`. The callback runs
///   once, from `phantom_client_dispatch`, within the configured `timeout`. It never runs if the request is cancelled
///   or the client freed.
/// - Any other status: an error. The callback never runs.
///
/// `user_data` is passed to the callback and never dereferenced; it may be NULL. `request_id` may be NULL if you
/// never cancel. If another thread dispatches, it may run the callback before this function returns.
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
        // A hit takes no lock of this module. In a forked child, where the lock may never be released, `lookup`
        // returns the error.
        if let Some(resolution) = client.client.lookup(token)? {
            result.write(phantom_result::into_raw(resolution));
            return Ok(phantom_status::PHANTOM_OK);
        }
        // Held until the request is inserted: a completion that is dispatched at the same time must find it.
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
                // Written before another thread can run the callback, which may free the memory that this points to.
                request_id.write(name);
                drop(pending);
                Ok(phantom_status::PHANTOM_PENDING)
            }
        }
    })
}

/// Writes to `fd` the file descriptor that becomes readable when there is something to dispatch. Watch it with
/// `poll`, `epoll` or `kqueue`, level- or edge-triggered. It belongs to the client: never read, write or close it.
/// Stop watching it before the client is freed.
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

/// Runs the callbacks of answered requests, at most `max` of them; 0 means all that are ready now. The number of
/// callbacks that ran is written to `count`, which may be NULL. It never waits: with nothing to do it returns
/// `PHANTOM_OK`. Remaining answers keep the descriptor readable.
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
        // SAFETY: this owns the reference taken in the line above. It keeps the client alive when a callback frees
        // it.
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

/// Cancels a submitted request. After `PHANTOM_OK` its callback will not run. Returns `PHANTOM_NOT_FOUND` if the
/// callback has run or is running, or if the request was cancelled before. Other requests for the same token are not
/// affected.
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
                // If its completion is in the queue already, dispatch will find no request for it.
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
    // SAFETY: the promise of the submitter: callable with its `user_data` on every thread that dispatches, until it
    // has run, was cancelled or the client was freed. `claim` excludes the first two. It is claimed only as long as
    // the client is not closed, and no other thread frees a client that this one is using. No lock is held.
    unsafe { (request.callback)(request.user_data, status, result) };
    true
}
