//! What a client is told whom the module answers itself.

use std::ptr::{self, NonNull};
use std::time::Duration;

use ngx::ffi::{
    NGX_DONE, NGX_ERROR, NGX_HTTP_FORBIDDEN, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_OK,
    NGX_HTTP_UNAUTHORIZED, NGX_OK, ngx_buf_t, ngx_chain_t, ngx_http_finalize_request,
    ngx_http_output_filter, ngx_http_send_header, ngx_int_t, ngx_list_push, ngx_pcalloc,
    ngx_table_elt_t, ngx_time, ngx_uint_t,
};

use crate::conf::{ErrorCode, LocationConf};
use crate::nginx::bits;
use crate::nginx::request::Request;
use crate::nginx::strings::string;
use crate::phases::decide::Refusal;
use crate::process::state::{Outcome, State};

const UNAUTHORIZED: ngx_int_t = NGX_HTTP_UNAUTHORIZED as ngx_int_t;
const FORBIDDEN: ngx_int_t = NGX_HTTP_FORBIDDEN as ngx_int_t;
const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// What a client may do when it is not known how long something lasts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How a refusal is to be told.
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

/// Prepares the answer: sets the headers that go with it, whoever sends it.
pub fn prepare(
    request: Request,
    state: &State,
    conf: &'static LocationConf,
    refusal: &Refusal,
) -> Answer {
    let status = refusal.status as ngx_int_t;
    if set_headers(request, state, conf, refusal).is_none() {
        return Answer::Nginx(FAILED);
    }
    let others_may_allow = request.satisfies_any() && matches!(status, UNAUTHORIZED | FORBIDDEN);
    let is_delayed = status == UNAUTHORIZED && request.delays_unauthorized();
    if others_may_allow || is_delayed || request.has_error_page(status) {
        return Answer::Nginx(status);
    }
    Answer::Own {
        status,
        body: body(refusal),
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

/// The body: the names are those of other gateways that do the same.
fn body(refusal: &Refusal) -> &'static str {
    match (refusal.outcome, refusal.status) {
        (Outcome::Malformed, _) if refusal.reason == "several" => {
            r#"{"code":"invalid_request","message":"The request presents more than one access token"}"#
        }
        (Outcome::Malformed, _) if refusal.reason == "host" => {
            r#"{"code":"invalid_request","message":"The request names no valid host"}"#
        }
        (Outcome::Malformed, _) if refusal.reason != "token" => {
            r#"{"code":"invalid_request","message":"The access token is malformed"}"#
        }
        (Outcome::Malformed, _) => {
            r#"{"code":"invalid_request","message":"The Authorization header is malformed"}"#
        }
        (Outcome::Missing, _) => {
            r#"{"code":"unauthorized_request","message":"Access denied due to missing bearer token"}"#
        }
        (Outcome::Inactive, _) => {
            r#"{"code":"unauthorized_request","message":"Access denied due to an invalid or expired token"}"#
        }
        (Outcome::Invalid, _) => {
            r#"{"code":"unauthorized_request","message":"Access denied: the token is not for here"}"#
        }
        (Outcome::Unproven, _) => {
            r#"{"code":"unauthorized_request","message":"Access denied: the request does not show that the token is its sender's"}"#
        }
        (Outcome::StepUp, _) => {
            r#"{"code":"insufficient_user_authentication","message":"The user must be authenticated anew or in another way"}"#
        }
        (Outcome::Forbidden, _) => {
            r#"{"code":"insufficient_scope","message":"The token lacks a scope that is required here"}"#
        }
        (_, 502) => {
            r#"{"code":"server_error","message":"The token could not be verified: the authorization server cannot be used"}"#
        }
        (_, 503) => {
            r#"{"code":"server_error","message":"The token could not be verified now: try again later"}"#
        }
        (_, 504) => {
            r#"{"code":"server_error","message":"The token could not be verified in time"}"#
        }
        _ => r#"{"code":"server_error","message":"The request could not be processed"}"#,
    }
}

/// Sets the headers that go with the refusal, whoever sends the answer.
fn set_headers(
    request: Request,
    state: &State,
    conf: &'static LocationConf,
    refusal: &Refusal,
) -> Option<()> {
    let challenges = conf.challenges()?;
    if refusal.error == Some(ErrorCode::UseDpopNonce) {
        push_nonce(request, conf)?;
    }
    let challenge = match (refusal.error, refusal.outcome) {
        (Some(error), _) => challenges.refused(refusal.scheme, error),
        (None, Outcome::Missing) => &challenges.missing,
        // It is not the client's fault.
        (None, _) => {
            withdraw_challenge(request, state);
            if refusal.status == 503 {
                push_retry_after(request, refusal.retry_after)?;
            }
            return Some(());
        }
    };
    set_challenge(request, state, challenge.as_bytes())
}

/// Adds `DPoP-Nonce` (RFC 9449 §9), where proofs are to have one.
pub fn push_nonce(request: Request, conf: &LocationConf) -> Option<()> {
    let Some(nonces) = &conf.sender.rules().nonces else {
        return Some(());
    };
    let nonce = request.copy(nonces.current(ngx_time()).as_bytes())?;
    push_header(request, b"DPoP-Nonce", nonce).map(drop)
}

/// Adds `Retry-After` (RFC 9110 §10.2.3).
pub fn push_retry_after(request: Request, after: Option<Duration>) -> Option<()> {
    let after = after.unwrap_or(RETRY_AFTER);
    // A part of a second is a whole one to a client that counts seconds.
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    let seconds = request.copy(seconds.max(1).to_string().as_bytes())?;
    push_header(request, b"Retry-After", seconds).map(drop)
}

/// Sets `WWW-Authenticate`, in the field by which nginx takes it back when another check allows the request.
/// `value` is part of the configuration, which outlives the request.
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
