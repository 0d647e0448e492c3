//! The way of a request through nginx's phases, and what is done to it on the way.
//!
//! | phase | what happens |
//! | --- | --- |
//! | server rewrite | headers that the gateway fills in all locations of the server are taken out of what the client sent |
//! | rewrite | the same of those that it fills in this location, before the location's own `if`; what leaves a location with a provider loses its token |
//! | preaccess | with `phantom_token_phase preaccess`: the token is resolved, so that its variables are there |
//! | access | it is decided whether the request goes on, and its token is swapped for the JWT |
//! | precontent | whatever let the request in, no token of the client's goes on |

use std::ptr::NonNull;
use std::sync::Arc;

use ngx::ffi::{
    NGX_AGAIN, NGX_DECLINED, NGX_ERROR, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NO_CONTENT,
    NGX_HTTP_OPTIONS, NGX_LOG_ERR, NGX_LOG_INFO, NGX_OK, ngx_http_request_t, ngx_int_t, ngx_time,
};
use ngx::ngx_log_error;
use phantom_token::gateway::access_policy::{Admitted, Denial};
use phantom_token::gateway::outcome::DenialReason;
use phantom_token::{Active, CallFailure};

use crate::conf::{LocationConf, MainConf, Phase, Preflight, forget};
use crate::nginx::evaluated::Secrets;
use crate::nginx::panic::contained;
use crate::nginx::request::Request;
use crate::phases::decide::{Decision, decide, denial};
use crate::phases::forward;
use crate::phases::respond;
use crate::phases::source;
use crate::process::state::State;
use crate::process::subrequest::Subrequest;

const AGAIN: ngx_int_t = NGX_AGAIN as ngx_int_t;
const ALLOWED: ngx_int_t = NGX_OK as ngx_int_t;
const DECLINED: ngx_int_t = NGX_DECLINED as ngx_int_t;
const ERROR: ngx_int_t = NGX_ERROR as ngx_int_t;
const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
const NO_CONTENT: ngx_int_t = NGX_HTTP_NO_CONTENT as ngx_int_t;

/// The server's rewrite phase, before its `if` and `set`: takes out the client's headers that are the gateway's in every
/// location of the server. In which location the request will be is not known yet.
pub unsafe extern "C" fn server_rewrite(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return FAILED;
        };
        // It is in no location yet, so that this is the server's.
        let names = LocationConf::of(request).and_then(|conf| conf.token.stripped_by_server());
        match names {
            Some(names) if !forward::strip(request, &names) => FAILED,
            _ => DECLINED,
        }
    })
}

/// The location's rewrite phase, in the place of nginx's rewrite module, which is called then: a request has come into a
/// location, whose `if` and `set` have seen nothing of it yet. Takes out the client's headers that are the gateway's here.
///
/// It is no handler of its own, because nginx's looks whether it is the first of this phase.
pub unsafe extern "C" fn rewrite(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return FAILED;
        };
        // SAFETY: as above; the reference ends before nginx goes on.
        if let Some(ours) = unsafe { Subrequest::of(r) }
            && !may_begin(request, ours)
        {
            // No `error_page` is to be looked for.
            return ERROR;
        }
        if let Some(conf) = LocationConf::of(request)
            && !(enter(request, conf) && forward::strip(request, conf.token.stripped()))
        {
            return FAILED;
        }
        match MainConf::of(request).and_then(|main| main.rewrite) {
            // SAFETY: it was there to be called in this phase, with this request.
            Some(handler) => unsafe { handler(r) },
            None => DECLINED,
        }
    })
}

/// A request has come into a location. Returns whether it could be done what is to be done then.
///
/// A location with a provider is to judge the token. A request that leaves it with the token still in place has been refused
/// there (`error_page`), or led away; so nothing that comes after is to have the token, unless `phantom_token_pass_opaque`
/// says otherwise.
fn enter(request: Request, conf: &'static LocationConf) -> bool {
    if conf.protection.is_on() {
        if !request.is_main() {
            // It is let in by nothing, and may lead elsewhere before the access phase is over.
            return clear_subrequest(request, conf) == DECLINED;
        }
        let Some(state) = State::of_or_new(request) else {
            return false;
        };
        return match state.guard.replace(Some(NonNull::from(conf))) {
            // SAFETY: it is of the configuration, which outlives its requests.
            Some(former) if former != NonNull::from(conf) => unsafe {
                let kept = conf.token.sources();
                source::strip_but(request, Some(state), former.as_ref(), kept)
            },
            _ => true,
        };
    }
    if !request.is_internal() || conf.token.passes_opaque() {
        return true;
    }
    let state = State::of(request);
    let Some(guard) = state.and_then(|state| state.guard.get()) else {
        return true;
    };
    let bearer = source::is_in_authorization(request, state);
    // SAFETY: as above.
    let guard = unsafe { guard.as_ref() };
    source::strip(request, state, guard) && (!bearer || forward::remove_authorization(request))
}

/// Whether a subrequest that introspects a token may begin in the location that it has come to. It begins in the one that is
/// named or nowhere: any other would send the token to the upstream of that location.
fn may_begin(request: Request, ours: &mut Subrequest) -> bool {
    let name = request.location_name();
    // The text of a regular expression may be the same.
    if ours.may_begin_in(request.literal_location_name().unwrap_or_default()) {
        return true;
    }
    let log = request.log();
    ngx_log_error!(
        NGX_LOG_ERR,
        log,
        "phantom_token: what is for location \"{}\" comes to \"{}\", where no token is introspected, and is ended: no other \
         location and no rewriting of the server must come before it",
        ours.location(),
        String::from_utf8_lossy(name),
    );
    ours.fail(CallFailure::Failed);
    false
}

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
            let main = LocationConf::of(request.main());
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
        let (state, decision) = match decided(request, conf) {
            Ok(decided) => decided,
            Err(result) => return result,
        };
        state.refresh(request);
        // What the token says is there for the limits, as headers too.
        if matches!(decision, Decision::Admitted(_))
            && !forward::set_upstream_headers(request, Some(state), conf)
        {
            return FAILED;
        }
        DECLINED
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
            if !strip_preflight(request, conf) {
                return FAILED;
            }
            return match preflight {
                // No reason to let it in where another check is to decide (`satisfy any`).
                Preflight::Pass => DECLINED,
                Preflight::Answer | Preflight::Deny => NO_CONTENT,
            };
        }
        let (state, decision) = match decided(request, conf) {
            Ok(decided) => decided,
            Err(result) => return result,
        };
        state.taken.set(false);
        state.settled.set(None);
        let failed = || denial(state, DenialReason::Failed);
        let denial = match decision {
            Decision::Suspended => return AGAIN,
            Decision::Admitted(admitted) => {
                if admit(request, state, conf, &admitted) {
                    respond::withdraw_challenge(request, state);
                    return ALLOWED;
                }
                failed()
            }
            Decision::Anonymous => {
                state.refresh(request);
                if forward::remove_authorization(request)
                    && forward::set_upstream_headers(request, Some(state), conf)
                {
                    respond::withdraw_challenge(request, state);
                    // No reason to let it in where another check is to decide (`satisfy any`).
                    return DECLINED;
                }
                failed()
            }
            Decision::Denied(denial) => denial,
        };
        state.refresh(request);
        // What an earlier location has put in goes nowhere from here (`error_page`).
        if !forward::withdraw(request, state) {
            return FAILED;
        }
        log_denial(request, state, &denial);
        let answer = respond::prepare(request, state, conf, &denial);
        respond::send_denial(request, &answer)
    })
}

/// The decision about a request, with its credentials extracted; else the result of the phase's handler: the request waits,
/// or there is no memory.
fn decided<'a>(
    request: Request,
    conf: &'static LocationConf,
) -> Result<(&'a State, Decision), ngx_int_t> {
    let state = State::of_or_new(request).ok_or(FAILED)?;
    if !source::extract_credentials(request, state, conf) {
        return Err(FAILED);
    }
    match decide(request, state, conf) {
        Decision::Suspended => Err(AGAIN),
        decision => Ok((state, decision)),
    }
}

/// After the access phase: whatever let the request in, no access token that is not a JWT of ours goes on from a
/// location that has a provider, and no header that the gateway fills says what a client likes, in any location.
///
/// Two kinds of request come here with a token. With `satisfy any`, another check may have let it in: its token is
/// resolved all the same, and taken off if it is not good. And a subrequest has not been checked by anything: its
/// token is taken off.
pub unsafe extern "C" fn after_access(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request, and the handle is kept only as `suspend` promises.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return DECLINED;
        };
        let Some(conf) = LocationConf::of(request) else {
            return DECLINED;
        };
        if conf.protection.is_on() {
            // Another check may have let it in before the access handler saw it.
            if request.is_main() && preflight(request, conf).is_some() {
                return match strip_preflight(request, conf) {
                    true => DECLINED,
                    false => FAILED,
                };
            }
            let cleared = match request.is_main() {
                true => clear(request, conf),
                false => clear_subrequest(request, conf),
            };
            if cleared != DECLINED {
                return cleared;
            }
        }
        let state = State::of(request);
        if !request.is_main() && conf.token.fills_headers() {
            // Subrequests share the values of variables with others, whose headers are not the same.
            forget(request, Secrets::default());
        }
        // By the access phase already.
        let settled = request.is_main()
            && state
                .as_ref()
                .is_some_and(|state| state.settled.get() == Some(NonNull::from(conf)));
        if settled {
            return DECLINED;
        }
        if let Some(state) = state {
            state.refresh(request);
        }
        match forward::set_upstream_headers(request, state, conf) {
            true => DECLINED,
            false => FAILED,
        }
    })
}

/// Makes sure that no token of the client's goes on with a main request, and the JWT does if there is one.
fn clear(request: Request, conf: &'static LocationConf) -> ngx_int_t {
    let known = State::of(request);
    let bearer = source::is_in_authorization(request, known);
    // An earlier location may have decided about the token, and the access handler of this one been skipped, because another
    // check had let the request in (`satisfy any`). A decision counts in its own location only.
    let is_settled = known.is_none_or(|state| {
        state.settled.get() == Some(NonNull::from(conf)) || state.credentials.get().places() == 0
    });
    if !bearer && is_settled && !conf.token.looks_elsewhere() {
        return DECLINED;
    }
    let Some(state) = State::of_or_new(request) else {
        return FAILED;
    };
    if !source::extract_credentials(request, state, conf) {
        return FAILED;
    }
    if state.taken.get() || bearer || !is_settled {
        match decide(request, state, conf) {
            Decision::Suspended => return AGAIN,
            Decision::Admitted(admitted) => {
                state.taken.set(false);
                if admit(request, state, conf, &admitted) {
                    return DECLINED;
                }
            }
            Decision::Anonymous | Decision::Denied(_) => {
                state.taken.set(false);
                state.refresh(request);
            }
        }
        // What an earlier location has put in is not for this one.
        if !forward::withdraw(request, state) {
            return FAILED;
        }
    }
    if !bearer || forward::remove_authorization(request) {
        DECLINED
    } else {
        FAILED
    }
}

/// The same of a subrequest, which carries what its main request does and is let in by nothing.
fn clear_subrequest(request: Request, conf: &LocationConf) -> ngx_int_t {
    let state = State::of(request);
    let bearer = source::is_in_authorization(request, state);
    if source::strip(request, state, conf) && (!bearer || forward::remove_authorization(request)) {
        DECLINED
    } else {
        FAILED
    }
}

/// Sends the request on with the JWT, and with what it says. Returns whether it could be done.
fn admit(
    request: Request,
    state: &State,
    conf: &LocationConf,
    admitted: &Admitted<Arc<Active>>,
) -> bool {
    let Some(policy) = conf.policy() else {
        return false;
    };
    let add = || match policy.added_headers(admitted, ngx_time()) {
        None => true,
        Some(added) => {
            respond::restrict_caches(request, state, added.cache_control).is_some()
                && respond::push_nonce(request, state, added.dpop_nonce.as_deref()).is_some()
        }
    };
    if forward::swap(request, state, admitted.active(), conf.token.forward())
        && add()
        && forward::set_upstream_headers(request, Some(state), conf)
    {
        state.settled.set(Some(NonNull::from(conf)));
        return true;
    }
    false
}

/// The request and its location's configuration, if that has a provider.
///
/// # Safety
/// As [`Request::new`].
unsafe fn protected(r: *mut ngx_http_request_t) -> Option<(Request, &'static LocationConf)> {
    // SAFETY: the caller's promise.
    let request = unsafe { Request::new(r) }?;
    let conf = LocationConf::of(request)?;
    conf.protection.is_on().then_some((request, conf))
}

/// The handling of the request if it is a CORS preflight (Fetch, "CORS-preflight request") that needs no token here.
fn preflight(request: Request, conf: &LocationConf) -> Option<Preflight> {
    let is_preflight = request.method() == NGX_HTTP_OPTIONS
        && conf.preflight() != Preflight::Deny
        && request.has_header(b"origin")
        && request.has_header(b"access-control-request-method");
    is_preflight.then(|| conf.preflight())
}

/// Takes everything about a user off a preflight, which says nothing about one: a token of the client's, and what an earlier
/// location has put in. Returns whether it could be done.
fn strip_preflight(request: Request, conf: &LocationConf) -> bool {
    let state = State::of(request);
    // A browser asks with the same query.
    if !source::strip(request, state, conf) {
        return false;
    }
    if let Some(state) = state {
        state.result.set(None);
        state.settled.set(None);
        state.refresh(request);
        if !forward::withdraw(request, state) {
            return false;
        }
    }
    forward::remove_authorization(request) && forward::set_upstream_headers(request, None, conf)
}

/// One line for each refused request, for an operator who looks for the reason: it names neither the token nor anybody.
fn log_denial(request: Request, state: &State, denial: &Denial<'_>) {
    let log = request.log();
    let detail = denial.reason.detail();
    ngx_log_error!(
        NGX_LOG_INFO,
        log,
        "phantom_token: refused: {}{}{detail}, token {}",
        denial.outcome().as_str(),
        if detail.is_empty() { "" } else { " " },
        state
            .token_id(request)
            .as_ref()
            .map_or("-", |id| id.as_str()),
    );
}
