//! Suspension of requests that wait for their verdict: suspend, find again, resume, cancel.
//!
//! The client's thread never has a pointer to a request. It has a tag: a slot and the slot's generation. nginx's
//! thread looks the slot up when the verdict arrives, and finds nothing if the request has ended in the meantime.

use std::ptr::NonNull;

use ngx::ffi::{
    NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_LOG_ERR, NGX_OK, ngx_current_msec, ngx_event_t,
    ngx_handle_read_event, ngx_http_block_reading, ngx_http_core_run_phases,
    ngx_http_finalize_request, ngx_http_log_ctx_t, ngx_http_post_request,
    ngx_http_posted_request_t, ngx_http_run_posted_requests, ngx_http_test_reading, ngx_int_t,
    ngx_msec_t, ngx_pcalloc, ngx_posted_events,
};
use ngx::ngx_log_error;
use phantom_token::{Call, Client, Completion, Error, ErrorKind, RequestId, Resolution};

use crate::conf::MainConf;
use crate::nginx::bits;
use crate::nginx::panic::contained;
use crate::nginx::request::Request;
use crate::process::state::State;
use crate::process::subrequest;
use crate::process::worker::Worker;

/// The margin of the timer over the provider's timeout. A verdict comes within the timeout unless the client's thread is
/// blocked; then the timer ends the wait.
const SLACK: ngx_msec_t = 1000;

/// The waiting requests, by tag.
#[derive(Default)]
pub struct WaiterTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    waiting: Option<Waiting>,
}

/// A waiting request. It is removed from its slot before the request ends: see [`Pending`].
#[derive(Clone, Copy)]
struct Waiting {
    request: Request,
    state: NonNull<State>,
}

impl WaiterTable {
    /// The tag of the next waiting request.
    pub fn next_tag(&self) -> u64 {
        match self.free.last() {
            Some(&index) => tag(index, self.slots[index as usize].generation),
            // As many requests as there are connections: far fewer than 2^32.
            None => tag(self.slots.len() as u32, 0),
        }
    }

    fn occupy(&mut self, waiting: Waiting) -> u64 {
        let tag = self.next_tag();
        match self.free.pop() {
            Some(index) => self.slots[index as usize].waiting = Some(waiting),
            None => self.slots.push(Slot {
                generation: 0,
                waiting: Some(waiting),
            }),
        }
        tag
    }

    /// The waiting request with this tag.
    fn waiting(&self, tag: u64) -> Option<Waiting> {
        let (index, generation) = (tag as u32, (tag >> 32) as u32);
        self.slots
            .get(index as usize)
            .filter(|slot| slot.generation == generation)?
            .waiting
    }

    fn vacate(&mut self, tag: u64) -> Option<Waiting> {
        let (index, generation) = (tag as u32, (tag >> 32) as u32);
        let slot = self
            .slots
            .get_mut(index as usize)
            .filter(|slot| slot.generation == generation)?;
        let waiting = slot.waiting.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        Some(waiting)
    }
}

fn tag(index: u32, generation: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

/// The state of a suspended request for nginx, in the request's pool.
#[repr(C)]
pub struct Suspension {
    /// First, so that its address is that of the structure.
    timer: ngx_event_t,
    posted: ngx_http_posted_request_t,
    request: Request,
    state: NonNull<State>,
}

/// A wait. When it is dropped, nothing can wake the request any more.
pub struct Pending {
    tag: u64,
    id: RequestId,
    provider: usize,
    since: ngx_msec_t,
    client: Client,
    worker: NonNull<Worker>,
    suspension: NonNull<Suspension>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        // SAFETY: the worker is in the configuration, which outlives its requests.
        let worker = unsafe { self.worker.as_ref() };
        // If it is not there any more it has completed: then there is nothing to cancel.
        if worker.slots.borrow_mut().vacate(self.tag).is_some() {
            self.client.cancel(self.id);
        }
        // SAFETY: the suspension is in the request's pool, whose memory is freed only after its cleanups, of which
        // this is a part, have run; the timer is in nginx's tree if and only if the bit is set.
        unsafe {
            let timer = &raw mut (*self.suspension.as_ptr()).timer;
            if bits::event::timer_set(timer) != 0 {
                bits::del_timer(timer);
            }
        }
    }
}

/// The parameters of a suspension.
pub struct Wait<'a> {
    /// The queue in which the verdict will arrive.
    pub worker: &'a Worker,
    /// The client that was asked.
    pub client: &'a Client,
    /// The provider's index in the configuration.
    pub provider: usize,
    /// The id of the client's request.
    pub id: RequestId,
}

/// Suspends a main request until its verdict arrives. The verdict must have been requested with the tag from
/// [`WaiterTable::next_tag`]. Returns `false` if that is not possible; the client's request is then cancelled.
pub fn suspend(request: Request, state: &State, wait: &Wait<'_>) -> bool {
    let Some(suspension) = prepare(request, state) else {
        wait.client.cancel(wait.id);
        return false;
    };
    let tag = wait.worker.slots.borrow_mut().occupy(Waiting {
        request,
        state: NonNull::from(state),
    });
    // SAFETY: `ngx_current_msec` is nginx's clock, read on its thread.
    let now = unsafe { ngx_current_msec };
    state.pending.replace(Some(Pending {
        tag,
        id: wait.id,
        provider: wait.provider,
        since: now,
        client: wait.client.clone(),
        worker: NonNull::from(wait.worker),
        suspension,
    }));
    let timeout = wait.client.provider().timeout().as_millis();
    let timeout = ngx_msec_t::try_from(timeout).unwrap_or(ngx_msec_t::MAX / 4);
    // SAFETY: the request and its connection live. The timer is in memory that lives until the wait is over, and it
    // is removed then (`Pending::drop`). That the client leaves is noticed as `limit_req` notices it.
    let ready = unsafe {
        let connection = request.connection();
        let timer = &raw mut (*suspension.as_ptr()).timer;
        (*timer).handler = Some(on_timeout);
        // nginx's debug log takes this for a connection.
        (*timer).data = connection.cast();
        (*timer).log = request.log();
        bits::add_timer(timer, timeout.saturating_add(SLACK));

        let read = (*connection).read;
        (*request.as_ptr()).read_event_handler = Some(ngx_http_test_reading);
        if bits::event::ready(read) != 0 {
            bits::post_event(read, &raw mut ngx_posted_events);
            true
        } else {
            ngx_handle_read_event(read, 0) == NGX_OK as ngx_int_t
        }
    };
    if !ready {
        state.pending.take();
    }
    ready
}

/// Allocates the state of a suspension.
fn prepare(request: Request, state: &State) -> Option<NonNull<Suspension>> {
    if let Some(suspension) = state.suspension.get() {
        return Some(suspension);
    }
    // SAFETY: the request's pool lives. What it returns is aligned for any of nginx's structures, and zeroes are
    // what nginx expects of an event that is not in use.
    unsafe {
        let memory = ngx_pcalloc(request.pool(), size_of::<Suspension>());
        let suspension = NonNull::new(memory.cast::<Suspension>())?;
        let fields = suspension.as_ptr();
        (&raw mut (*fields).request).write(request);
        (&raw mut (*fields).state).write(NonNull::from(state));
        state.suspension.set(Some(suspension));
        Some(suspension)
    }
}

/// Delivers a verdict that has arrived.
pub fn complete(worker: &Worker, completion: Completion) {
    let waiting = worker.slots.borrow_mut().vacate(completion.tag);
    // Nobody: the client has left.
    if let Some(waiting) = waiting {
        resume(waiting, completion.outcome);
    }
}

/// Makes a call that a client's thread has requested, on behalf of the request that it names.
pub fn carry(worker: &Worker, provider: usize, call: Call) {
    let waiting = call
        .tag()
        .and_then(|tag| worker.slots.borrow().waiting(tag));
    // If there is nobody the call is dropped, and with it answered.
    let Some(Waiting { request, state }) = waiting else {
        return;
    };
    let Some(by) =
        MainConf::of(request).and_then(|main| main.providers.get(provider)?.introspection.as_ref())
    else {
        return;
    };
    // SAFETY: a request that waits lives, is suspended, and nothing is at work on it: this is called by the event loop.
    // The configuration outlives its requests. The reference to the state ends before nginx goes on.
    unsafe {
        subrequest::start(request, &by.location, call, |subrequest| {
            state.as_ref().carried.replace(Some(subrequest));
        });
    }
}

/// The timer's handler: no verdict has arrived in time.
unsafe extern "C" fn on_timeout(event: *mut ngx_event_t) {
    contained((), || {
        // SAFETY: the event is the first field of a suspension that lives as long as its request.
        let (request, state) = unsafe {
            let suspension = event.cast::<Suspension>();
            ((*suspension).request, (*suspension).state)
        };
        // SAFETY: the state lives as long as its request; the reference ends before nginx is called.
        let pending = unsafe { state.as_ref() }.pending.borrow();
        let Some(name) = pending
            .as_ref()
            .map(|pending| pending.client.provider().name())
        else {
            return;
        };
        let message = format!("provider \"{name}\": no verdict, although its time is over");
        drop(pending);
        let log = request.log();
        ngx_log_error!(NGX_LOG_ERR, log, "phantom_token: {message}");
        resume(
            Waiting { request, state },
            Err(Error::new(ErrorKind::Timeout, message)),
        );
    });
}

/// Resumes the request with its result.
fn resume(Waiting { request, state }: Waiting, outcome: Result<Resolution, Error>) {
    // SAFETY: a request that waits lives, or its state would have been dropped and taken out of its slot. The
    // reference ends before nginx is called, which may end the request.
    let (suspension, carried) = unsafe {
        let state = state.as_ref();
        let Some(pending) = state.pending.take() else {
            return;
        };
        let waited = ngx_current_msec.saturating_sub(pending.since);
        state.time.set(Some(state.time.get().unwrap_or(0) + waited));
        state
            .cache
            .set(outcome.as_ref().ok().map(|resolution| resolution.cache));
        state.verdict.replace(Some((pending.provider, outcome)));
        state.resumed.set(true);
        (pending.suspension, state.carried.take())
    };
    if let Some(carried) = carried {
        // SAFETY: it was made for this request, which lives, and this is called by the event loop.
        unsafe { carried.cancel() };
    }
    // SAFETY: the request and its connection live until nginx is told to go on, and the connection's own memory
    // longer than that: nginx marks it when the request ends, and looks at the mark. The memory for posting is in
    // the request's pool and not in use, because a request is posted here once per wait.
    unsafe {
        let r = request.as_ptr();
        let connection = request.connection();
        let context = (*(*connection).log).data.cast::<ngx_http_log_ctx_t>();
        if let Some(context) = context.as_mut() {
            context.current_request = r;
        }
        (*r).read_event_handler = Some(ngx_http_block_reading);
        (*r).write_event_handler = Some(ngx_http_core_run_phases);
        let posted = &raw mut (*suspension.as_ptr()).posted;
        if ngx_handle_read_event((*connection).read, 0) != NGX_OK as ngx_int_t
            || ngx_http_post_request(r, posted) != NGX_OK as ngx_int_t
        {
            ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t);
        }
        ngx_http_run_posted_requests(connection);
    }
}
