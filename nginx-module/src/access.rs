//! The way of a request through nginx's phases, and what is done to it on the way.
//!
//! | phase | what happens |
//! | --- | --- |
//! | preaccess | with `phantom_token_phase preaccess`: the token is resolved, so that its variables are there |
//! | access | it is decided whether the request goes on, and its token is swapped for the JWT |
//! | precontent | whatever let the request in, no token of the client's goes on |

use ngx::ffi::{
    NGX_AGAIN, NGX_DECLINED, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NO_CONTENT, NGX_HTTP_OPTIONS,
    NGX_LOG_INFO, NGX_OK, ngx_http_request_t, ngx_int_t,
};
use ngx::ngx_log_error;
use phantom_token::token::Credentials;

use crate::conf::{LocationConf, Phase, Preflight};
use crate::decide::{Decision, Refusal, decide};
use crate::panic::contained;
use crate::request::{Authorization, Request};
use crate::respond;
use crate::state::State;
use crate::subrequest::Subrequest;

const AGAIN: ngx_int_t = NGX_AGAIN as ngx_int_t;
const ALLOWED: ngx_int_t = NGX_OK as ngx_int_t;
const DECLINED: ngx_int_t = NGX_DECLINED as ngx_int_t;
const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
const NO_CONTENT: ngx_int_t = NGX_HTTP_NO_CONTENT as ngx_int_t;

/// The preaccess phase, before the limits: finds out what the token stands for where that is wanted so early. It
/// refuses nothing, which is the access phase's business: others have a say there.
pub unsafe extern "C" fn preaccess(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request, and the handle is kept only as `suspend` promises.
        let (request, ours) = unsafe { (Request::new(r), Subrequest::of(r).is_some()) };
        let Some(request) = request else {
            return FAILED;
        };
        if !request.is_main() {
            // One of ours that runs before its main request has come to the limits would be counted in its place, and
            // refused for it: it goes past them.
            let main = request.main().location();
            let early = ours && main.is_some_and(|conf| conf.phase() == Phase::Preaccess);
            return if early { ALLOWED } else { DECLINED };
        }
        // SAFETY: as above.
        let Some((request, conf)) = (unsafe { protected(r) }) else {
            return DECLINED;
        };
        if conf.phase() != Phase::Preaccess || preflight(request, conf).is_some() {
            return DECLINED;
        }
        let Some(state) = request.state_or_new() else {
            return FAILED;
        };
        match decide(request, state, conf) {
            Decision::Suspended => AGAIN,
            Decision::Admitted(_) | Decision::Refused(_) => DECLINED,
        }
    })
}

/// The access phase: decides whether the request goes on, and swaps its token for the JWT.
pub unsafe extern "C" fn access(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live main request, and the handle is kept only as `suspend` promises.
        let Some((request, conf)) = (unsafe { protected(r) }) else {
            return DECLINED;
        };
        if let Some(preflight) = preflight(request, conf) {
            return match preflight {
                Preflight::Pass if request.remove_authorization() => ALLOWED,
                Preflight::Pass => FAILED,
                Preflight::Answer | Preflight::Deny => NO_CONTENT,
            };
        }
        let Some(state) = request.state_or_new() else {
            return FAILED;
        };
        let refusal = match decide(request, state, conf) {
            Decision::Suspended => return AGAIN,
            Decision::Admitted(active) => {
                let nonce = !state.renew_nonce || respond::push_nonce(request, conf).is_some();
                state.renew_nonce = false;
                if nonce && state.swap(request, &active) {
                    respond::withdraw_challenge(request, state);
                    return ALLOWED;
                }
                Refusal::failed()
            }
            Decision::Refused(refusal) => refusal,
        };
        log_refusal(request, state, &refusal);
        let answer = respond::prepare(request, state, conf, &refusal);
        respond::give(request, &answer)
    })
}

/// After the access phase: whatever let the request in, no bearer token that is not a JWT of ours goes on from a
/// location that has a provider.
///
/// Two kinds of request come here with one. With `satisfy any`, another check may have let it in: its token is
/// resolved all the same, and taken off if it is not good. And a subrequest has not been checked by anything: its
/// token is taken off.
pub unsafe extern "C" fn after_access(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request, and the handle is kept only as `suspend` promises.
        let Some((request, conf)) = (unsafe { protected(r) }) else {
            return DECLINED;
        };
        let value = match request.authorization() {
            Authorization::None => return DECLINED,
            Authorization::One(value) => value,
            Authorization::Several => return FAILED,
        };
        if request.state().is_some_and(|state| state.is_in(request)) {
            return DECLINED;
        }
        let value = request.bytes(&value);
        if matches!(Credentials::from_authorization(value), Credentials::Missing) {
            // Another scheme, which another check has accepted.
            return DECLINED;
        }
        if request.is_main() {
            let Some(state) = request.state_or_new() else {
                return FAILED;
            };
            match decide(request, state, conf) {
                Decision::Suspended => return AGAIN,
                Decision::Admitted(active) if state.swap(request, &active) => return DECLINED,
                Decision::Admitted(_) | Decision::Refused(_) => {}
            }
        }
        if request.remove_authorization() {
            DECLINED
        } else {
            FAILED
        }
    })
}

/// The request and its location's configuration, if that has a provider.
///
/// # Safety
/// As [`Request::new`].
unsafe fn protected(r: *mut ngx_http_request_t) -> Option<(Request, &'static LocationConf)> {
    // SAFETY: the caller's promise.
    let request = unsafe { Request::new(r) }?;
    let conf = request.location()?;
    conf.protection.is_on().then_some((request, conf))
}

/// What happens to the request if it is a CORS preflight (Fetch, "CORS-preflight request") that needs no token here.
fn preflight(request: Request, conf: &LocationConf) -> Option<Preflight> {
    let is_preflight = request.method() == NGX_HTTP_OPTIONS
        && conf.preflight() != Preflight::Deny
        && request.has_header(b"origin")
        && request.has_header(b"access-control-request-method");
    is_preflight.then(|| conf.preflight())
}

/// One line for each refused request, for whoever wants to know why: it names neither the token nor anybody.
fn log_refusal(request: Request, state: &State, refusal: &Refusal) {
    let log = request.log();
    let Refusal {
        outcome, reason, ..
    } = refusal;
    ngx_log_error!(
        NGX_LOG_INFO,
        log,
        "phantom_token: refused: {}{}{reason}, token {}",
        outcome.as_str(),
        if reason.is_empty() { "" } else { " " },
        state
            .token_id(request)
            .as_ref()
            .map_or("-", |id| id.as_str()),
    );
}
