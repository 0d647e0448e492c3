//! The location that forgets tokens: `phantom_token_purge`.
//!
//! It is a content handler, so that everything that protects a location protects it. What it is asked for is read by
//! the core crate; the worker's client of the provider forgets, in the zone too, so that all workers do.

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

/// Why nothing is forgotten.
enum Refusal {
    /// It is not a POST.
    Method,
    /// It is no purge.
    Form(PurgeError),
    /// The body could not be read, which nginx has logged.
    Unreadable,
    /// The worker could not start the client or has stopped it, which is in the log.
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

/// The body is there.
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

/// Whether it may be a purge, by what it says of where it comes from. A header that is there several times is taken for one
/// that says nothing good.
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

/// Does what the form asks for.
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

/// Tells the client, and returns what the request is to be finalized with.
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
