//! The variables `$phantom_token_…`.
//!
//! Their values change during a request, so they are registered as not cacheable. A token's claims are
//! available only once the request has been accepted with it, in the access phase or by an earlier decision
//! (`phantom_token_phase preaccess`): nothing may act on the claims of a token that may be stolen.

use std::fmt::Write as _;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_PREFIX, NGX_OK, ngx_conf_t,
    ngx_http_add_variable, ngx_http_get_variable_pt, ngx_http_request_t, ngx_http_variable_value_t,
    ngx_int_t, ngx_str_t, ngx_time, ngx_uint_t,
};
use ngx::ngx_string;
use phantom_token::gateway::requirements::{ClaimPath, is_exact_header_value};

use crate::nginx::bits;
use crate::nginx::panic::contained;
use crate::nginx::request::Request;
use crate::nginx::strings;
use crate::process::state::State;

/// The variable that a handler evaluates, as nginx passes it back in `data`.
#[derive(Clone, Copy)]
#[repr(usize)]
enum What {
    Result,
    Reason,
    Cache,
    Time,
    Id,
    Sub,
    ClientId,
    Scope,
    ExpiresIn,
}

const ALL: [(ngx_str_t, What); 9] = [
    (ngx_string!("phantom_token_result"), What::Result),
    (ngx_string!("phantom_token_reason"), What::Reason),
    (ngx_string!("phantom_token_cache"), What::Cache),
    (ngx_string!("phantom_token_time"), What::Time),
    (ngx_string!("phantom_token_id"), What::Id),
    (ngx_string!("phantom_token_sub"), What::Sub),
    (ngx_string!("phantom_token_client_id"), What::ClientId),
    (ngx_string!("phantom_token_scope"), What::Scope),
    (ngx_string!("phantom_token_expires_in"), What::ExpiresIn),
];

/// The prefix of variables of claims; the rest is the claim's name, with `__` for each dot of its path.
const CLAIM: &str = "phantom_token_claim_";

/// Registers the variables.
///
/// # Safety
/// Called by nginx before it reads the `http` block.
pub unsafe fn register(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: the caller's promise, for all of them.
    let all = ALL
        .into_iter()
        .all(|(name, what)| unsafe { add(cf, name, 0, Some(get), what as usize) });
    // SAFETY: as above.
    all && unsafe {
        add(
            cf,
            ngx_string!("phantom_token_claim_"),
            NGX_HTTP_VAR_PREFIX as ngx_uint_t,
            Some(get_claim),
            0,
        )
    }
}

/// # Safety
/// As [`register`].
unsafe fn add(
    cf: *mut ngx_conf_t,
    mut name: ngx_str_t,
    flags: ngx_uint_t,
    get: ngx_http_get_variable_pt,
    data: usize,
) -> bool {
    let flags = flags | NGX_HTTP_VAR_NOCACHEABLE as ngx_uint_t;
    // SAFETY: `cf` is valid; nginx copies the name, and its answer is a valid variable or NULL.
    unsafe {
        let Some(variable) = ngx_http_add_variable(cf, &raw mut name, flags).as_mut() else {
            return false;
        };
        variable.get_handler = get;
        variable.data = data;
    }
    true
}

/// Evaluates a variable.
unsafe extern "C" fn get(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    what: usize,
) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with a live request, for the time of the call.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return NGX_ERROR as ngx_int_t;
        };
        let found = ALL
            .iter()
            .find(|(_, known)| *known as usize == what)
            .zip(State::of(request))
            .and_then(|((_, what), state)| show(request, state, *what));
        // SAFETY: nginx gives a valid place for the value; the text lives as long as the request.
        unsafe { set(value, found) };
        NGX_OK as ngx_int_t
    })
}

/// The present value of a variable. Text of the program or the configuration is referenced; a claim is
/// copied, because the request may get another verdict after an internal redirect.
fn show<'a>(request: Request, state: &State, what: What) -> Option<&'a [u8]> {
    let copy = |text: &str| request.copy(header_safe(text)?.as_bytes());
    match what {
        What::Result => state.result.get().map(|result| result.as_str().as_bytes()),
        What::Reason => Some(state.reason.get().as_bytes()).filter(|reason| !reason.is_empty()),
        What::Cache => state.cache.get().map(|cache| cache.as_str().as_bytes()),
        What::Time => {
            let milliseconds = state.time.get()?;
            let mut text = String::with_capacity(16);
            let _ = write!(text, "{}.{:03}", milliseconds / 1000, milliseconds % 1000);
            copy(&text)
        }
        What::Id => copy(state.token_id(request)?.as_str()),
        What::Sub => copy(state.admitted()?.claims().sub.as_deref()?),
        What::ClientId => copy(state.admitted()?.claims().client_id.as_deref()?),
        What::Scope => copy(&state.admitted()?.claims().scope),
        What::ExpiresIn => {
            let exp = state.admitted()?.exp()?;
            copy(&exp.saturating_sub(ngx_time()).max(0).to_string())
        }
    }
}

/// The handler of a variable of a claim.
unsafe extern "C" fn get_claim(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    name: usize,
) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with a live request, for the time of the call.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return NGX_ERROR as ngx_int_t;
        };
        // SAFETY: of a variable that is known by the beginning of its name, nginx hands back the whole of it, which is part of
        // the configuration.
        let name = unsafe {
            (name as *const ngx_str_t)
                .as_ref()
                .map(|name| strings::bytes(name))
        };
        let found = name
            .and_then(|name| std::str::from_utf8(name).ok())
            .and_then(|name| name.strip_prefix(CLAIM))
            .and_then(|name| ClaimPath::parse(&name.replace("__", ".")).ok())
            .zip(State::of(request))
            .and_then(|(path, state)| claim(request, state, &path));
        // SAFETY: nginx gives a valid place for the value; the text is in the request's memory.
        unsafe { set(value, found) };
        NGX_OK as ngx_int_t
    })
}

/// A claim of the token that the request was accepted with.
fn claim<'a>(request: Request, state: &State, path: &ClaimPath) -> Option<&'a [u8]> {
    let mut text = String::new();
    path.text(state.admitted()?.claims(), &mut text)
        .then(|| request.copy(text.as_bytes()))
        .flatten()
}

/// A claim that a header carries unchanged.
fn header_safe(text: &str) -> Option<&str> {
    is_exact_header_value(text.as_bytes()).then_some(text)
}

/// Fills in a variable's value.
///
/// # Safety
/// `value` must be valid; the text must live as long as the request.
unsafe fn set(value: *mut ngx_http_variable_value_t, found: Option<&[u8]>) {
    // SAFETY: the caller's promise.
    unsafe {
        match found {
            None => bits::variable::set_not_found(value, 1),
            Some(text) => {
                // None is longer than an answer of an authorization server may be.
                bits::variable::set_len(value, text.len());
                bits::variable::set_valid(value, 1);
                bits::variable::set_no_cacheable(value, 0);
                bits::variable::set_not_found(value, 0);
                (*value).data = text.as_ptr().cast_mut();
            }
        }
    }
}
