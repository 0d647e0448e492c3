//! Responses that the module sends itself, and the headers that it adds to others.

use std::borrow::Cow;
use std::ptr::{self, NonNull};

use ngx::ffi::{
    NGX_DONE, NGX_ERROR, NGX_HTTP_FORBIDDEN, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_OK,
    NGX_HTTP_UNAUTHORIZED, NGX_OK, ngx_buf_t, ngx_chain_t, ngx_http_finalize_request,
    ngx_http_output_filter, ngx_http_send_header, ngx_int_t, ngx_list_push, ngx_pcalloc,
    ngx_table_elt_t, ngx_time, ngx_uint_t,
};

use phantom_token::gateway::access_policy::{self, Denial};

use crate::conf::LocationConf;
use crate::nginx::bits;
use crate::nginx::request::Request;
use crate::nginx::strings::string;
use crate::process::state::State;

const UNAUTHORIZED: ngx_int_t = NGX_HTTP_UNAUTHORIZED as ngx_int_t;
const FORBIDDEN: ngx_int_t = NGX_HTTP_FORBIDDEN as ngx_int_t;
const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// How a denial is answered.
pub enum Answer {
    /// nginx has an answer of its own to give: an `error_page`, the verdict of another check under `satisfy any`, a
    /// delayed 401.
    Nginx(ngx_int_t),
    /// Ours.
    Own {
        /// The status.
        status: ngx_int_t,
        /// The body.
        body: &'static str,
    },
}

/// Prepares the answer to a request that is denied: sets the headers that go with it, for any sender of the answer.
pub fn prepare(
    request: Request,
    state: &State,
    conf: &'static LocationConf,
    denial: &Denial<'_>,
) -> Answer {
    let Some(policy) = conf.policy() else {
        return Answer::Nginx(FAILED);
    };
    let answer = policy.answer(denial, ngx_time());
    let status = answer.status as ngx_int_t;
    if set_headers(request, state, &answer).is_none() {
        return Answer::Nginx(FAILED);
    }
    let others_may_allow = request.satisfies_any() && matches!(status, UNAUTHORIZED | FORBIDDEN);
    let is_delayed = status == UNAUTHORIZED && request.delays_unauthorized();
    if others_may_allow || is_delayed || request.has_error_page(status) {
        return Answer::Nginx(status);
    }
    Answer::Own {
        status,
        body: answer.body,
    }
}

/// Gives the answer, and returns what the access handler is to return. The request may be gone after this, and so may
/// its state: nobody may hold a reference to it here, also because nginx evaluates variables on the way.
pub fn send_denial(request: Request, answer: &Answer) -> ngx_int_t {
    match *answer {
        Answer::Nginx(status) => status,
        Answer::Own { status, body } => {
            request.discard_body();
            let sent = send(request, status, body);
            // SAFETY: the request lives. nginx's own handler of the phase ends requests in the same way; that
            // nobody may touch it afterwards is what NGX_DONE says.
            unsafe { ngx_http_finalize_request(request.as_ptr(), sent) };
            NGX_DONE as ngx_int_t
        }
    }
}

/// Gives an answer of a content handler, unless nginx has an `error_page` for it, and returns what the request is to be
/// finalized with.
pub fn send_error(request: Request, status: u16, body: &str) -> ngx_int_t {
    let status = ngx_int_t::try_from(status).unwrap_or(FAILED);
    if request.has_error_page(status) {
        return status;
    }
    request.discard_body();
    send(request, status, body)
}

/// Gives the answer of a content handler that shows something.
pub fn send_ok(request: Request, content_type: &'static str, body: &str) -> ngx_int_t {
    request.discard_body();
    send_as(request, NGX_HTTP_OK as ngx_int_t, content_type, body)
}

/// Refuses a method of a content handler, which takes those in `allowed` (RFC 9110 §15.5.6).
pub fn refuse_method(request: Request, allowed: &'static [u8]) -> ngx_int_t {
    match push_header(request, b"Allow", allowed) {
        Some(_) => send_error(request, 405, ""),
        None => FAILED,
    }
}

/// Sets the headers of an answer, for any sender of it.
fn set_headers(
    request: Request,
    state: &State,
    answer: &access_policy::Answer<'static>,
) -> Option<()> {
    restrict_caches(request, state, answer.cache_control)?;
    push_nonce(request, state, answer.dpop_nonce.as_deref())?;
    if let Some(seconds) = answer.retry_after {
        push_retry_after(request, seconds)?;
    }
    match &answer.challenge {
        Some(Cow::Borrowed(challenge)) => set_challenge(request, state, challenge.as_bytes()),
        Some(Cow::Owned(challenge)) => {
            set_challenge(request, state, request.copy(challenge.as_bytes())?)
        }
        None => {
            withdraw_challenge(request, state);
            Some(())
        }
    }
}

/// Adds `DPoP-Nonce` (RFC 9449 §8.2, §9), once: it stays across internal redirects.
pub fn push_nonce(request: Request, state: &State, nonce: Option<&str>) -> Option<()> {
    match nonce {
        Some(nonce) if !state.has_nonce.replace(true) => {
            let nonce = request.copy(nonce.as_bytes())?;
            push_header(request, b"DPoP-Nonce", nonce).map(drop)
        }
        _ => Some(()),
    }
}

/// Adds `Cache-Control` (RFC 6750 §2.3), once: it stays across internal redirects.
pub fn restrict_caches(
    request: Request,
    state: &State,
    cache_control: Option<&'static str>,
) -> Option<()> {
    match cache_control {
        Some(value) if !state.restricts_caches.replace(true) => {
            push_header(request, b"Cache-Control", value.as_bytes()).map(drop)
        }
        _ => Some(()),
    }
}

/// Adds `Retry-After` (RFC 9110 §10.2.3).
pub fn push_retry_after(request: Request, seconds: u64) -> Option<()> {
    let seconds = request.copy(seconds.to_string().as_bytes())?;
    push_header(request, b"Retry-After", seconds).map(drop)
}

/// Sets `WWW-Authenticate`, in the field by which nginx takes it back when another check allows the request.
/// `value` outlives the request.
fn set_challenge(request: Request, state: &State, value: &'static [u8]) -> Option<()> {
    let header = match our_challenge(request, state) {
        Some(header) => header,
        None => {
            let header = push_header(request, b"WWW-Authenticate", value)?;
            // SAFETY: the request lives, and the header is in its list.
            unsafe {
                let headers_out = &raw mut (*request.as_ptr()).headers_out;
                #[cfg(chained_headers)]
                {
                    (*header.as_ptr()).next = (*headers_out).www_authenticate;
                }
                (*headers_out).www_authenticate = header.as_ptr();
            }
            state.challenge.set(Some(header));
            header
        }
    };
    // SAFETY: the header is in the request's list.
    unsafe {
        (*header.as_ptr()).hash = 1;
        (*header.as_ptr()).value = string(value);
    }
    Some(())
}

/// Takes back the challenge of an earlier location: the request has been admitted, or it is not the token's fault.
pub fn withdraw_challenge(request: Request, state: &State) {
    if let Some(header) = our_challenge(request, state) {
        // SAFETY: the header is in the request's list; nginx sends none whose hash is 0.
        unsafe { (*header.as_ptr()).hash = 0 };
    }
}

/// The challenge that was set before, if nginx has not thrown all headers away since.
fn our_challenge(request: Request, state: &State) -> Option<NonNull<ngx_table_elt_t>> {
    // SAFETY: the request lives. The pointers are compared, and equal ones are in its list.
    let current = unsafe { (*request.as_ptr()).headers_out.www_authenticate };
    state
        .challenge
        .get()
        .filter(|ours| ptr::eq(ours.as_ptr(), current))
}

/// Adds a header to the answer. Name and value must outlive the request.
pub fn push_header(
    request: Request,
    name: &'static [u8],
    value: &'static [u8],
) -> Option<NonNull<ngx_table_elt_t>> {
    // SAFETY: the request lives, and its list is one of `ngx_table_elt_t`. nginx does not clear what it returns.
    unsafe {
        let headers = &raw mut (*request.as_ptr()).headers_out.headers;
        let header = NonNull::new(ngx_list_push(headers).cast::<ngx_table_elt_t>())?;
        header.write_bytes(0, 1);
        (*header.as_ptr()).hash = 1;
        (*header.as_ptr()).key = string(name);
        (*header.as_ptr()).value = string(value);
        Some(header)
    }
}

/// Sends the answer, and returns what the request is to be finalized with. The body is JSON, or empty.
fn send(request: Request, status: ngx_int_t, body: &str) -> ngx_int_t {
    send_as(request, status, "application/json", body)
}

/// The same, of any media type.
fn send_as(
    request: Request,
    status: ngx_int_t,
    content_type: &'static str,
    body: &str,
) -> ngx_int_t {
    let (media_type, parameters) =
        content_type.split_at(content_type.find(';').unwrap_or(content_type.len()));
    // In the request's memory: with HTTP/2 it may be sent long after this has returned.
    let Some(body) = request.copy(body.as_bytes()) else {
        return FAILED;
    };
    // SAFETY: the request lives; zeroes are a valid buffer, and all that its pointers show is in the request's pool.
    unsafe {
        let r = request.as_ptr();
        // Of an `error_page` on the way here: it would replace the status.
        (*r).err_status = status as ngx_uint_t;
        let headers_out = &raw mut (*r).headers_out;
        (*headers_out).status = status as ngx_uint_t;
        (*headers_out).status_line.len = 0;
        (*headers_out).content_length_n = body.len() as _;
        if body.is_empty() {
            bits::request::set_header_only(r, 1);
        } else {
            (*headers_out).content_type = string(content_type.as_bytes());
            // So that nginx's filters know it by its type alone, and add no charset to it.
            (*headers_out).content_type_len = media_type.len();
            if parameters.contains("charset=utf-8") {
                (*headers_out).charset = string(b"utf-8");
            }
            (*headers_out).content_type_lowcase = ptr::null_mut();
        }

        let sent = ngx_http_send_header(r);
        if sent == NGX_ERROR as ngx_int_t
            || sent > NGX_OK as ngx_int_t
            || bits::request::header_only(r) != 0
        {
            return sent;
        }
        let buffer: *mut ngx_buf_t = ngx_pcalloc(request.pool(), size_of::<ngx_buf_t>()).cast();
        if buffer.is_null() {
            return NGX_ERROR as ngx_int_t;
        }
        (*buffer).pos = body.as_ptr().cast_mut();
        (*buffer).last = (*buffer).pos.add(body.len());
        bits::buffer::set_memory(buffer, 1);
        bits::buffer::set_last_buf(buffer, 1);
        bits::buffer::set_last_in_chain(buffer, 1);
        let mut chain = ngx_chain_t {
            buf: buffer,
            next: ptr::null_mut(),
        };
        ngx_http_output_filter(r, &raw mut chain)
    }
}
