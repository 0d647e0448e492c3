//! The directive `phantom_token_purge`: a location that removes tokens from the cache.
//!
//! It is a content handler, so access rules of the location apply. The core crate parses the form. The worker's client
//! of the provider purges its own memory and the zone, which reaches all workers.

use std::ops::ControlFlow;

use ngx::ffi::{
    NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_POST, ngx_http_finalize_request, ngx_http_request_t,
    ngx_int_t,
};
use phantom_token::Token;
use phantom_token::gateway::purge::{Form, Origins, Purge, PurgeError};

use crate::conf::Content;
use crate::conf::LocationConf;
use crate::nginx::panic::contained;
use crate::nginx::request::{Field, Request};
use crate::phases::respond;
use crate::process::Process;

const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// Why a request purges nothing.
enum Refusal {
    /// The method is not `POST`.
    Method,
    /// The form is not a purge.
    Form(PurgeError),
    /// The body could not be read; nginx has logged why.
    Unreadable,
    /// The worker could not start the client or has stopped it; the log says so.
    Unavailable,
}

/// The content handler.
pub unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request, and the handle ends with the call.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return FAILED;
        };
        if request.method() != NGX_HTTP_POST {
            return answer(request, Err(Refusal::Method));
        }
        if let Err(error) = origins(request) {
            return answer(request, Err(Refusal::Form(error)));
        }
        // SAFETY: this is the content handler; `on_body` finalizes.
        unsafe { request.read_body(on_body) }
    })
}

/// The handler that nginx calls when it has read the body.
unsafe extern "C" fn on_body(r: *mut ngx_http_request_t) {
    let status = contained(FAILED, || {
        // SAFETY: nginx calls this with a live request, and the handle ends with the call.
        match unsafe { Request::new(r) } {
            Some(request) => answer(request, forget(request)),
            None => FAILED,
        }
    });
    // SAFETY: the request lives until here, and nobody touches it afterwards.
    unsafe { ngx_http_finalize_request(r, status) };
}

/// Checks the origin (`Origin`, `Sec-Fetch-Site`) and the content type of a purge. A duplicate header counts as an invalid one.
fn origins(request: Request) -> Result<(), PurgeError> {
    let value = |name| match request.header(name) {
        Field::None => None,
        Field::One(value) => Some(value),
        Field::Several => Some(&b""[..]),
    };
    Origins {
        content_type: value(b"content-type"),
        fetch_site: value(b"sec-fetch-site"),
        origin: value(b"origin"),
        // Over HTTP/2 it may be no header.
        host: value(b"host").or_else(|| Some(request.host())),
    }
    .check()
}

/// Purges what the form names.
fn forget(request: Request) -> Result<(), Refusal> {
    let mut form = Form::with_capacity(request.content_length());
    let mut taken = Ok(());
    let read = request.body(|piece| {
        taken = form.push(piece);
        match taken {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    if !read {
        return Err(Refusal::Unreadable);
    }
    let purge = taken.and_then(|()| form.read()).map_err(Refusal::Form)?;
    let client = LocationConf::of(request)
        .and_then(|conf| match conf.content {
            Some(Content::Purge(provider)) => Some(provider),
            _ => None,
        })
        .zip(Process::of(request).and_then(|process| process.worker.as_deref()))
        .and_then(|(provider, worker)| worker.client(provider))
        .ok_or(Refusal::Unavailable)?;
    let done = match purge {
        Purge::All => client.purge_all(),
        Purge::Token(token) => match Token::parse(token.as_bytes()) {
            Ok(token) => client.purge(token),
            // No request can present it.
            Err(_) => Ok(()),
        },
    };
    done.map_err(|_| Refusal::Unavailable)
}

/// Sends the response, and returns the code to finalize the request with.
fn answer(request: Request, done: Result<(), Refusal>) -> ngx_int_t {
    let (status, error, description) = match done {
        Ok(()) => (200, "", String::new()),
        Err(Refusal::Method) => (
            405,
            "invalid_request",
            "a token is forgotten with POST".to_owned(),
        ),
        Err(Refusal::Form(error)) => (error.http_status(), "invalid_request", error.to_string()),
        Err(Refusal::Unreadable) => return FAILED,
        // RFC 7009 §2.2.1
        Err(Refusal::Unavailable) => (
            503,
            "temporarily_unavailable",
            "nothing has been forgotten: try again later".to_owned(),
        ),
    };
    let headers =
        respond::push_header(request, b"Cache-Control", b"no-store").and_then(|_| match status {
            405 => respond::push_header(request, b"Allow", b"POST").map(drop),
            503 => respond::push_retry_after(request, 1),
            _ => Some(()),
        });
    if headers.is_none() {
        return FAILED;
    }
    if status == 200 {
        return respond::send_error(request, status, "");
    }
    // Both are words of ours, without quotes and backslashes.
    let body = format!(r#"{{"error":"{error}","error_description":"{description}"}}"#);
    respond::send_error(request, status, &body)
}
