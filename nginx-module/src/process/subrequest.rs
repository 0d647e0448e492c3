//! Introspection by a location of the operator: a subrequest to it, which uses the location's `proxy_pass`, cache, TLS and
//! credentials.
//!
//! The client's thread requests a call ([`Calls`]). nginx's thread makes it as a background subrequest of a request that
//! waits for the verdict. That request waits like any other, and may get its verdict, or lose its client, at any time.
//! `filter.rs` collects the answer, which is passed on when nginx ends the subrequest.
//!
//! Method, body, headers and variables of the subrequest are ours alone. nginx's subrequests normally share the values
//! of variables with their parents. Then a `$request_body` that was evaluated for the client's request could be the key
//! under which a cache finds another token's answer, and one that was evaluated for the subrequest could put the token
//! into the log of the client's request. So the subrequest has values of its own, and of its parent's only those that
//! `set` has set.
//!
//! A parent that continues while its subrequest still runs ends it ([`SubrequestHandle::cancel`]). A parent that ends
//! takes the subrequest along, and the call is made again on behalf of another request.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_CLIENT_CLOSED_REQUEST, NGX_HTTP_CLOSE, NGX_HTTP_CREATED,
    NGX_HTTP_NO_CONTENT, NGX_HTTP_POST, NGX_HTTP_REQUEST_TIME_OUT, NGX_HTTP_SPECIAL_RESPONSE,
    NGX_HTTP_SUBREQUEST_BACKGROUND, NGX_HTTP_VAR_WEAK, NGX_OK, ngx_alloc_chain_link, ngx_array_t,
    ngx_buf_t, ngx_hash_key, ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_header_t,
    ngx_http_headers_in, ngx_http_log_ctx_t, ngx_http_post_subrequest_t, ngx_http_request_body_t,
    ngx_http_request_t, ngx_http_run_posted_requests, ngx_http_subrequest, ngx_http_variable_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_list_create, ngx_list_push, ngx_list_t, ngx_pcalloc,
    ngx_table_elt_t, ngx_uint_t, off_t,
};
use phantom_token::{Answer, Call, CallFailure, CallSink, CompletionQueue};

use crate::nginx::bits;
use crate::nginx::panic::contained;
use crate::nginx::pool;
use crate::nginx::request::Request;
use crate::nginx::strings::string;
use crate::process::Process;

/// A queue of calls from the clients' threads to nginx's, each with its provider's index in the configuration.
#[derive(Default)]
pub struct Calls(Mutex<VecDeque<(usize, Call)>>);

impl Calls {
    /// A provider's end of the queue, for its client; `queue` wakes the worker that makes the calls.
    pub fn sink(calls: &Arc<Self>, queue: &Arc<CompletionQueue>, provider: usize) -> CallSink {
        let (calls, queue) = (Arc::clone(calls), Arc::clone(queue));
        Arc::new(move |call| {
            calls.lock().push_back((provider, call));
            queue.wake();
        })
    }

    /// The number of queued calls.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Takes the next call.
    pub fn next(&self) -> Option<(usize, Call)> {
        self.lock().pop_front()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(usize, Call)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call and the state of its answer. It is in the pool of the main request, like the subrequest itself; nginx
/// and the filters find it by [`Subrequest::of`]. Its resources are released when the subrequest ends or is ended, or with
/// the main request's [`SubrequestHandle`].
pub struct Subrequest {
    /// nginx's subrequest; NULL until there is one.
    request: *mut ngx_http_request_t,
    /// Taken when the call is answered.
    call: Option<Call>,
    answer: Option<Answer>,
    /// The answer is complete.
    whole: bool,
    /// nginx has finished the subrequest.
    over: bool,
    /// The subrequest has entered a location.
    arrived: bool,
    /// The name of the location that it is for.
    location: &'static str,
}

impl Subrequest {
    /// The call whose subrequest is `r`; `None` if `r` is not a subrequest of ours. An internal redirect within the
    /// subrequest does not change that.
    ///
    /// # Safety
    /// `r` must be a live request, and the reference end before anything else looks at it.
    pub unsafe fn of<'a>(r: *mut ngx_http_request_t) -> Option<&'a mut Self> {
        // SAFETY: `post_subrequest` is NULL or valid; one with our handler was made by `start` with such data, which is
        // in the pool of the main request.
        unsafe {
            let post = (*r).post_subrequest.as_ref()?;
            let is_ours = post.handler.is_some_and(|handler| {
                ptr::fn_addr_eq(
                    handler,
                    finalized
                        as unsafe extern "C" fn(
                            *mut ngx_http_request_t,
                            *mut c_void,
                            ngx_int_t,
                        ) -> ngx_int_t,
                )
            });
            if is_ours {
                post.data.cast::<Self>().as_mut()
            } else {
                None
            }
        }
    }

    /// Whether the subrequest may start in the location of this name, which nginx has selected. Where that location
    /// leads is the operator's decision.
    pub fn may_begin_in(&mut self, name: &[u8]) -> bool {
        if self.arrived || name == self.location.as_bytes() {
            self.arrived = true;
            return true;
        }
        false
    }

    /// The name of the location that it is for.
    pub fn location(&self) -> &'static str {
        self.location
    }

    /// Receives the head of the answer. `None` means that the rest of the answer is not needed.
    pub fn begin(&mut self, status: u16) -> Option<&mut Answer> {
        let answer = self.call.as_ref()?.begin(status);
        Some(self.answer.insert(answer))
    }

    /// Receives a piece of the body.
    pub fn push(&mut self, piece: &[u8]) {
        if let Some(answer) = &mut self.answer
            && !answer.push(piece)
        {
            self.fail(CallFailure::TooLarge);
        }
    }

    /// Ends the answer: all of it was received.
    pub fn end(&mut self) {
        self.whole = true;
    }

    /// Ends the call without an answer.
    pub fn fail(&mut self, failure: CallFailure) {
        self.answer = None;
        if let Some(call) = self.call.take() {
            call.answer(Err(failure));
        }
    }
}

/// A request's handle to the call that is made on its behalf. When it is dropped with the request, a call without an answer
/// fails as [`CallFailure::Gone`].
pub struct SubrequestHandle(NonNull<Subrequest>);

impl Drop for SubrequestHandle {
    fn drop(&mut self) {
        // SAFETY: the subrequest is in the request's pool, whose memory is freed only after its cleanups, of which this is
        // a part, have run. Nobody else looks at it meanwhile.
        unsafe { self.0.as_mut() }.fail(CallFailure::Gone);
    }
}

impl SubrequestHandle {
    /// Ends the subrequest if it still runs: nothing waits for it, or its answer has been passed on.
    ///
    /// # Safety
    /// Called on nginx's thread, from none of the subrequest's own handlers, while its main request lives and is not
    /// being ended.
    pub unsafe fn cancel(self) {
        let this = self.0;
        drop(self);
        // SAFETY: the caller's promise. nginx is called without a reference.
        unsafe {
            if (*this.as_ptr()).over {
                return;
            }
            let r = (*this.as_ptr()).request;
            let Some(upstream) = (*r).upstream.as_ref() else {
                return;
            };
            // What nginx itself calls when the client has gone: it closes the connection and gives back what the
            // subrequest holds, which is one count of the main request. There is none before there is a connection to
            // be had, nor when it has ended; then it ends by itself, and is swallowed.
            let Some(cleanup) = upstream.cleanup.as_ref().copied().flatten() else {
                return;
            };
            (*this.as_ptr()).over = true;
            cleanup(r.cast());
        }
    }
}

/// Makes a call on behalf of a request that waits for it: a subrequest to the location of this name. In every case
/// the call is answered. Returns a handle with which the subrequest can be ended early.
///
/// # Safety
/// The request must be a main request that is suspended, and nothing of nginx's be at work on it. `location` must live
/// as long as the configuration. Afterwards the request may have been ended.
pub unsafe fn start(
    request: Request,
    location: &'static str,
    call: Call,
    note: impl FnOnce(SubrequestHandle),
) {
    let subrequest = Subrequest {
        request: ptr::null_mut(),
        call: Some(call),
        answer: None,
        whole: false,
        over: false,
        arrived: false,
        location,
    };
    // SAFETY: the request lives and so does its pool, which drops nothing here. If there is no memory the call has been
    // dropped, and with it answered.
    let Some(subrequest) = (unsafe { pool::emplace_with(request.pool(), subrequest, None) }) else {
        return;
    };
    // SAFETY: the request lives. What is handed to nginx is in its pool, or in the configuration; the reference to the
    // subrequest that is made here ends before nginx is told to go on.
    unsafe {
        let this = subrequest.as_ptr();
        let Some(r) = create(request, location, subrequest) else {
            (*this).over = true;
            (*this).fail(CallFailure::Failed);
            return;
        };
        (*this).request = r;
        note(SubrequestHandle(subrequest));
        let prepared = (*this)
            .call
            .as_ref()
            .is_some_and(|call| prepare(request, r, location, call));
        if !prepared {
            // It has not begun, and must not begin as it is: there is no memory for it.
            (*this).fail(CallFailure::Failed);
            (*r).write_event_handler = Some(nothing);
        }
        let connection = request.connection();
        let context = (*(*connection).log).data.cast::<ngx_http_log_ctx_t>();
        if let Some(context) = context.as_mut() {
            context.current_request = r;
        }
        ngx_http_run_posted_requests(connection);
    }
}

/// The handler of a subrequest that could not be prepared: it ends the subrequest without a request.
unsafe extern "C" fn nothing(r: *mut ngx_http_request_t) {
    // SAFETY: nginx calls this once with the live subrequest, which is one of the background: what it holds is one count
    // of its main request.
    unsafe { ngx::ffi::ngx_http_finalize_request(r, NGX_OK as ngx_int_t) };
}

/// Creates nginx's subrequest.
///
/// # Safety
/// As [`start`].
unsafe fn create(
    request: Request,
    location: &'static str,
    subrequest: NonNull<Subrequest>,
) -> Option<*mut ngx_http_request_t> {
    // SAFETY: the request lives; the memory is in its pool, and large enough for what is written to it.
    unsafe {
        let post = ngx_pcalloc(request.pool(), size_of::<ngx_http_post_subrequest_t>())
            .cast::<ngx_http_post_subrequest_t>();
        if post.is_null() {
            return None;
        }
        post.write(ngx_http_post_subrequest_t {
            handler: Some(finalized),
            data: subrequest.as_ptr().cast(),
        });
        let mut uri = string(location.as_bytes());
        let mut made = ptr::null_mut();
        let done = ngx_http_subrequest(
            request.as_ptr(),
            &raw mut uri,
            ptr::null_mut(),
            &raw mut made,
            post,
            NGX_HTTP_SUBREQUEST_BACKGROUND as ngx_uint_t,
        );
        (done == NGX_OK as ngx_int_t && !made.is_null()).then_some(made)
    }
}

/// Replaces nginx's copy of the parent request by the introspection request. Returns `false` when there is no memory.
///
/// # Safety
/// `r` must be a subrequest of the live request that has not begun.
unsafe fn prepare(
    request: Request,
    r: *mut ngx_http_request_t,
    location: &str,
    call: &Call,
) -> bool {
    const POST: &[u8] = b"POST";
    let Some(line) = request.copy(format!("POST {location} HTTP/1.1").as_bytes()) else {
        return false;
    };
    // SAFETY: the caller's promise; what is put into the subrequest is in its pool, or constant.
    unsafe {
        (*r).method = NGX_HTTP_POST as ngx_uint_t;
        (*r).method_name = string(POST);
        // The client's URI must not influence which server is asked.
        (*r).unparsed_uri = (*r).uri;
        (*r).request_line = string(line);
        // Files, which a cache has, are read before they come to our filter.
        bits::request::set_filter_need_in_memory(r, 1);
        let Some(body) = request.copy(call.body()) else {
            return false;
        };
        set_variables(request, r) && set_headers(request, r, call, body.len()) && set_body(r, body)
    }
}

/// Gives the subrequest variables of its own; only those that the parent's configuration has `set` have a value.
///
/// # Safety
/// As [`prepare`].
unsafe fn set_variables(request: Request, r: *mut ngx_http_request_t) -> bool {
    // SAFETY: the caller's promise. nginx's main configuration is there, and has as many variables as each request has
    // values, whose flags are those of the variables.
    unsafe {
        let core = (*r)
            .main_conf
            .add((*ptr::addr_of!(ngx_http_core_module)).ctx_index);
        let core = (*core).cast::<ngx_http_core_main_conf_t>();
        let count = (*core).variables.nelts;
        let size = count * size_of::<ngx_http_variable_value_t>();
        let own = ngx_pcalloc(request.pool(), size.max(1)).cast::<ngx_http_variable_value_t>();
        if own.is_null() {
            return false;
        }
        let set = Process::of(request).map_or(&[][..], |process| &process.set_variables);
        for index in set {
            own.add(*index).write(*(*r).variables.add(*index));
        }
        (*r).variables = own;
        true
    }
}

/// The indices of the variables that `set` sets, once nginx has read its configuration.
pub fn variables_of_set(core: &ngx_http_core_main_conf_t) -> Vec<usize> {
    // SAFETY: nginx's own list, of this type.
    let known = unsafe { core.variables.as_slice::<ngx_http_variable_t>() };
    let is_weak = |variable: &ngx_http_variable_t| {
        // Of all variables only those of `set` are such.
        variable.flags & NGX_HTTP_VAR_WEAK as ngx_uint_t != 0
    };
    (0..known.len())
        .filter(|index| is_weak(&known[*index]))
        .collect()
}

/// Builds the subrequest's headers: ours, and those of the parent's that may go along.
///
/// # Safety
/// As [`prepare`].
unsafe fn set_headers(
    request: Request,
    r: *mut ngx_http_request_t,
    call: &Call,
    length: usize,
) -> bool {
    // SAFETY: the caller's promise. The list and what is pushed to it are in the pool; the subrequest has its own copy of
    // `headers_in`, whose headers are those of the parent until here.
    unsafe {
        let list: *mut ngx_list_t =
            ngx_list_create(request.pool(), 20, size_of::<ngx_table_elt_t>());
        if list.is_null() {
            return false;
        }
        for header in request.headers_in() {
            if !Call::may_carry(&header.name().to_ascii_lowercase()) {
                continue;
            }
            let copy: *mut ngx_table_elt_t = ngx_list_push(list).cast();
            if copy.is_null() {
                return false;
            }
            copy.write(*header.as_ptr());
        }
        let headers_in = &raw mut (*r).headers_in;
        forget(headers_in.cast());
        (*headers_in).user = string(b"");
        (*headers_in).passwd = string(b"");
        bits::headers_in::set_chunked(headers_in, 0);
        (*headers_in).content_length_n = length as off_t;

        let text = length.to_string();
        let Some(length) = request.copy(text.as_bytes()) else {
            return false;
        };
        let Some(accept) = request.copy(call.accept()) else {
            return false;
        };
        let kind = Call::CONTENT_TYPE.as_bytes();
        let push = |name: &'static [u8], lower: &'static [u8], value: &[u8]| {
            let header: *mut ngx_table_elt_t = ngx_list_push(list).cast();
            if !header.is_null() {
                header.write_bytes(0, 1);
                (*header).hash = ngx_hash_key(lower.as_ptr().cast_mut(), lower.len());
                (*header).key = string(name);
                (*header).lowcase_key = lower.as_ptr().cast_mut();
                (*header).value = string(value);
            }
            header
        };
        (*headers_in).content_type = push(b"Content-Type", b"content-type", kind);
        (*headers_in).content_length = push(b"Content-Length", b"content-length", length);
        let accepted = push(b"Accept", b"accept", accept);
        if (*headers_in).content_type.is_null()
            || (*headers_in).content_length.is_null()
            || accepted.is_null()
        {
            return false;
        }
        // A list that has one part only points into itself: the copy must do so too.
        let last = (*list).last;
        (*headers_in).headers = *list;
        if ptr::eq(last, &raw const (*list).part) {
            (*headers_in).headers.last = &raw mut (*headers_in).headers.part;
        }
        true
    }
}

/// Clears nginx's own pointers to the headers that must not go along.
///
/// # Safety
/// `headers_in` must be that of a subrequest.
unsafe fn forget(headers_in: *mut u8) {
    // SAFETY: nginx's table ends with a name of no length, and says where in `headers_in` the pointer to each header is
    // (an offset of 0 is none). Before 1.23 those of `Cookie` and `X-Forwarded-For` are no pointers but lists.
    unsafe {
        let mut known = (&raw const ngx_http_headers_in).cast::<ngx_http_header_t>();
        while (*known).name.len > 0 {
            let name = slice::from_raw_parts((*known).name.data, (*known).name.len);
            let lower = name.to_ascii_lowercase();
            let is_list =
                cfg!(not(chained_headers)) && matches!(&*lower, b"cookie" | b"x-forwarded-for");
            if (*known).offset != 0 && !Call::may_carry(&lower) {
                let place = headers_in.add((*known).offset);
                if is_list {
                    (*place.cast::<ngx_array_t>()).nelts = 0;
                } else {
                    place.cast::<*mut ngx_table_elt_t>().write(ptr::null_mut());
                }
            }
            known = known.add(1);
        }
    }
}

/// Sets the body, as if it had been read from a client.
///
/// # Safety
/// As [`prepare`]; `body` is in the pool.
unsafe fn set_body(r: *mut ngx_http_request_t, body: &[u8]) -> bool {
    // SAFETY: the caller's promise. Zeroes are what nginx expects of what is not in use.
    unsafe {
        let pool = (*r).pool;
        let read: *mut ngx_http_request_body_t =
            ngx_pcalloc(pool, size_of::<ngx_http_request_body_t>()).cast();
        let buffer: *mut ngx_buf_t = ngx_pcalloc(pool, size_of::<ngx_buf_t>()).cast();
        let link = ngx_alloc_chain_link(pool);
        if read.is_null() || buffer.is_null() || link.is_null() {
            return false;
        }
        let start = body.as_ptr().cast_mut();
        (*buffer).start = start;
        (*buffer).pos = start;
        (*buffer).end = start.add(body.len());
        (*buffer).last = (*buffer).end;
        bits::buffer::set_temporary(buffer, 1);
        bits::buffer::set_last_buf(buffer, 1);
        (*link).buf = buffer;
        (*link).next = ptr::null_mut();
        (*read).bufs = link;
        (*read).buf = buffer;
        (*r).request_body = read;
        true
    }
}

/// The post-subrequest handler: nginx is about to end the subrequest with `rc`, and gets the code to end it with. nginx
/// may call this again, for its own error page, or after a delayed read.
unsafe extern "C" fn finalized(
    r: *mut ngx_http_request_t,
    data: *mut c_void,
    rc: ngx_int_t,
) -> ngx_int_t {
    const FAILED: ngx_int_t = NGX_ERROR as ngx_int_t;
    const TIMED_OUT: ngx_int_t = NGX_HTTP_REQUEST_TIME_OUT as ngx_int_t;
    const CLIENT_LEFT: ngx_int_t = NGX_HTTP_CLIENT_CLOSED_REQUEST as ngx_int_t;
    const CLOSE: ngx_int_t = NGX_HTTP_CLOSE as ngx_int_t;
    const CREATED: ngx_int_t = NGX_HTTP_CREATED as ngx_int_t;
    const NO_CONTENT: ngx_int_t = NGX_HTTP_NO_CONTENT as ngx_int_t;
    contained(FAILED, || {
        // SAFETY: nginx calls this with the live subrequest and what `create` gave it, which nobody else looks at
        // meanwhile.
        let (this, client_left, unread, answered) = unsafe {
            (
                &mut *data.cast::<Subrequest>(),
                bits::connection::error((*r).connection) != 0,
                bits::request::buffered(r) != 0,
                bits::request::header_sent(r) != 0,
            )
        };
        let fatal = matches!(rc, FAILED | TIMED_OUT | CLIENT_LEFT | CLOSE);
        if this.whole {
            if let (Some(call), Some(answer)) = (this.call.take(), this.answer.take()) {
                call.answer(Ok(answer));
            }
        } else if client_left {
            // The main request is about to go. The call goes with that, and not before: those who wait are asked then
            // who is left.
            this.answer = None;
            this.over = true;
            return rc;
        } else if !fatal {
            let says_itself =
                rc >= NGX_HTTP_SPECIAL_RESPONSE as ngx_int_t || rc == CREATED || rc == NO_CONTENT;
            if (says_itself && !answered) || unread {
                return rc;
            }
        }
        this.fail(if answered {
            CallFailure::CutOff
        } else {
            CallFailure::Failed
        });
        this.over = true;
        // Only the call has failed: it must not close the connection of a client that is still there.
        if fatal { NGX_OK as ngx_int_t } else { rc }
    })
}
