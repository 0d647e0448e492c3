//! How what a token stands for goes on: the JWT in `Authorization` or in a header of its own, and what it says in others.
//!
//! Whatever a client sends in a header that the gateway fills is taken out on every request of the location, with a token
//! or without one: an API that believes such a header must be able to.

use ngx::ffi::NGX_LOG_WARN;
use ngx::ngx_log_error;
use phantom_token::policy::is_exact_header_value;

use crate::conf::LocationConf;
use crate::headers::{self, HeaderName};
use crate::request::Request;
use crate::state::State;
use crate::strings::{self, string};

/// Makes sure that the headers that the gateway fills here hold what it has to say and nothing else. Returns whether it
/// could be done. To do it again changes nothing.
pub fn settle(request: Request, state: Option<&State>, conf: &LocationConf) -> bool {
    if let Some(name) = conf.token.forward()
        && !headers::remove(request, |header| {
            name.is_of(header) && !state.is_some_and(|state| state.is_ours(header))
        })
    {
        return false;
    }
    let set = conf.token.headers();
    if set.is_empty() {
        return true;
    }
    if !headers::remove(request, |header| set.iter().any(|it| it.name.is_of(header))) {
        return false;
    }
    // While a main request waits, what runs is on behalf of the wait.
    let admitted =
        state.is_some_and(|state| state.admitted().is_some() && state.pending.borrow().is_none());
    !admitted
        || set
            .iter()
            .all(|it| put(request, &it.name, it.value.evaluate(request)))
}

/// Adds one of them, if it has something to say.
fn put(request: Request, name: &HeaderName, value: Option<&[u8]>) -> bool {
    let Some(value) = value else { return false };
    if value.is_empty() {
        return true;
    }
    if !is_exact_header_value(value) {
        let log = request.log();
        let name = name.as_str();
        ngx_log_error!(
            NGX_LOG_WARN,
            log,
            "phantom_token: \"{name}\" is not set: its value has a control character, or white space at its beginning or end"
        );
        return true;
    }
    headers::copy(request, value).is_some_and(|value| headers::put(request, name, value).is_some())
}

/// Puts a JWT into a header of its own, and takes out what else may hold one. Returns whether it could be done.
///
/// # Safety
/// `jwt` must be followed by a NUL and live as long as the request.
pub unsafe fn place(request: Request, state: &State, name: &HeaderName, jwt: &str) -> bool {
    // SAFETY: the caller's promise.
    let jwt: &'static [u8] = unsafe { strings::bytes(&string(jwt.as_bytes())) };
    request.remove_authorization()
        && headers::remove(request, |header| {
            name.is_of(header) || state.is_ours(header)
        })
        && headers::put(request, name, jwt).is_some()
}
