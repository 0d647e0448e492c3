//! How what a token stands for goes on: the JWT in `Authorization` or in a header of its own, and what it says in others.
//!
//! Whatever a client sends in a header that the gateway fills is taken out on every request of the location, with a token
//! or without one: an API that believes such a header must be able to.

use std::sync::Arc;

use ngx::ffi::NGX_LOG_WARN;
use ngx::ngx_log_error;
use phantom_token::Active;
use phantom_token::gateway::requirements::is_exact_header_value;

use crate::conf::{LocationConf, forget, variables};
use crate::nginx::evaluated::Secrets;
use crate::nginx::headers::{self, Header, HeaderName, is_authorization};
use crate::nginx::request::{Authorization, Request};
use crate::nginx::strings::{self, string};
use crate::process::state::State;

/// Takes the client's headers of these names out, so that nothing that reads headers from here on finds them: those that
/// the gateway has filled stay. Returns whether it could be done.
pub fn strip(request: Request, names: &[HeaderName]) -> bool {
    if names.is_empty() {
        return true;
    }
    let is_clients = |header: Header| {
        names.iter().any(|name| name.is_of(header))
            && !State::of(request)
                .is_some_and(|state| state.is_ours(header) || state.has_filled(header))
    };
    take_off(request, is_clients)
}

/// Takes headers off the request, and has values of variables forgotten if there are any. Returns whether it could be done.
fn take_off(request: Request, unwanted: impl Fn(Header) -> bool) -> bool {
    if !request.headers_in().any(&unwanted) {
        return true;
    }
    if !headers::remove(request, unwanted) {
        return false;
    }
    forget(request, Secrets::default());
    true
}

/// Makes sure that the headers that the gateway fills here hold what it has to say and nothing else. Returns whether it
/// could be done. To do it again changes nothing.
pub fn set_upstream_headers(request: Request, state: Option<&State>, conf: &LocationConf) -> bool {
    if let Some(name) = conf.token.forward()
        && !take_off(request, |header| {
            name.is_of(header) && !state.is_some_and(|state| state.is_ours(header))
        })
    {
        return false;
    }
    let set = conf.token.headers();
    if set.is_empty() {
        return true;
    }
    if !take_off(request, |header| set.iter().any(|it| it.name.is_of(header))) {
        return false;
    }
    // While a main request waits, what runs is on behalf of the wait.
    let admitted =
        state.filter(|state| state.admitted().is_some() && state.pending.borrow().is_none());
    let Some(state) = admitted else { return true };
    // Whether a header was put in that a value from before does not know.
    let mut has_put = false;
    for header in set {
        if has_put && header.value.reads_request() {
            forget(request, Secrets::default());
            has_put = false;
        }
        match put(request, state, &header.name, header.value.evaluate(request)) {
            None => return false,
            Some(put) => has_put |= put,
        }
    }
    if has_put {
        forget(request, Secrets::default());
    }
    true
}

/// Adds one of them, if it has something to say. Returns whether it had; `None` if it could not be done.
fn put(request: Request, state: &State, name: &HeaderName, value: Option<&[u8]>) -> Option<bool> {
    let value = value?;
    if value.is_empty() {
        return Some(false);
    }
    if !is_exact_header_value(value) {
        let log = request.log();
        let name = name.as_str();
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "phantom_token: \"{name}\" is not set: its value has a control character, or white space at its beginning or end"
        );
        return Some(false);
    }
    let value = headers::copy(request, value)?;
    state.note_filled(headers::put(request, name, value)?);
    Some(true)
}

/// Puts a JWT into a header of its own, and takes out what else may hold one. Returns whether it could be done.
///
/// # Safety
/// `jwt` must be followed by a NUL and live as long as the request.
unsafe fn place(request: Request, state: &State, name: &HeaderName, jwt: &str) -> bool {
    // SAFETY: the caller's promise.
    let jwt: &'static [u8] = unsafe { strings::bytes(&string(jwt.as_bytes())) };
    remove_authorization(request)
        && headers::remove(request, |header| {
            name.is_of(header) || state.is_ours(header)
        })
        && headers::put(request, name, jwt).is_some()
}

/// Takes `Authorization` off the request. Returns whether it could be done.
pub fn remove_authorization(request: Request) -> bool {
    request.remove_authorization(variables(request))
}

/// Takes off the request what the gateway has put in: the JWT, and headers that it fills. Returns whether it could be done.
pub fn withdraw(request: Request, state: &State) -> bool {
    if let Authorization::One(header) = request.authorization()
        && state.is_ours(header)
        && !remove_authorization(request)
    {
        return false;
    }
    state.moved.set(false);
    take_off(request, |header| {
        state.is_ours(header) || state.has_filled(header)
    })
}

/// Puts the JWT into the request's header, `Authorization` unless another is named, and has values of variables forgotten
/// that were computed before. Returns whether it could be done.
pub fn swap(
    request: Request,
    state: &State,
    active: &Arc<Active>,
    forward: Option<&HeaderName>,
) -> bool {
    if state.holds(active) && state.is_in(request, forward) {
        state.refresh(request);
        return true;
    }
    // Headers that the gateway has filled are about the former verdict.
    if state.has_filled_any() && !take_off(request, |header| state.has_filled(header)) {
        return false;
    }
    state.hold(active);
    let token = state.credentials.get().first_token();
    let read = token.map(|token| token.expose().as_bytes());
    let written = state.written.get();
    let forms = [read.unwrap_or_default(), written.unwrap_or_default()];
    let token = &forms[..usize::from(read.is_some()) + usize::from(written.is_some())];
    // Everything is forgotten below.
    state.note_forgotten();
    if let Some(name) = forward {
        state.moved.set(true);
        // SAFETY: as below.
        let placed = unsafe { place(request, state, name, active.jwt_after_sender_check()) };
        forget(
            request,
            Secrets {
                token,
                ..Secrets::default()
            },
        );
        return placed;
    }
    // An earlier location has put it elsewhere.
    if state.moved.take()
        && !headers::remove(request, |header| {
            state.is_ours(header) && !is_authorization(header)
        })
    {
        return false;
    }
    let value = active.authorization_after_sender_check();
    // SAFETY: the value is followed by a NUL, and lives as long as the state holds `active`: as long as the request's pool.
    unsafe { request.set_authorization(variables(request), value, token) }
}
