//! The way of a request.

use std::time::Duration;

use ngx::ffi::{
    NGX_AGAIN, NGX_DECLINED, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NO_CONTENT, NGX_HTTP_OPTIONS,
    NGX_OK, ngx_http_request_t, ngx_int_t, ngx_str_t,
};
use phantom_token::token::{Credentials, Scheme};
use phantom_token::{Error, Resolution, Submitted, Verdict};

use crate::conf::{LocationConf, Preflight, Protection};
use crate::panic::contained;
use crate::request::{Authorization, Request};
use crate::respond;
use crate::state::{Outcome, State};
use crate::suspend::{self, Wait};

const AGAIN: ngx_int_t = NGX_AGAIN as ngx_int_t;
const ALLOWED: ngx_int_t = NGX_OK as ngx_int_t;
const DECLINED: ngx_int_t = NGX_DECLINED as ngx_int_t;
const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;
const NO_CONTENT: ngx_int_t = NGX_HTTP_NO_CONTENT as ngx_int_t;

/// Why a request is refused.
pub struct Refusal {
    /// What became of it.
    pub outcome: Outcome,
    /// The status of the answer.
    pub status: u16,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    fn new(outcome: Outcome, status: u16) -> Self {
        Refusal {
            outcome,
            status,
            retry_after: None,
        }
    }

    /// Something that must not happen has happened here: no memory, most likely.
    fn failed() -> Self {
        Self::new(Outcome::Unavailable, 500)
    }

    fn of(error: &Error) -> Self {
        Refusal {
            outcome: Outcome::Unavailable,
            status: error.kind().http_status(),
            retry_after: error.retry_after(),
        }
    }
}

/// Where a request stands.
enum Step {
    /// It waits; this is called again when there is a verdict.
    Suspended,
    /// Its header holds the JWT.
    Admitted,
    /// It must not go on, as far as this module is concerned.
    Refused(Refusal),
}

/// The access phase: decides whether the request goes on, and swaps its token for the JWT.
pub unsafe extern "C" fn access(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live main request, and the handle is kept only as `suspend` promises.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return FAILED;
        };
        let Some(conf) = request.location() else {
            return FAILED;
        };
        let Protection::On(provider) = conf.protection else {
            return DECLINED;
        };
        if request.method() == NGX_HTTP_OPTIONS
            && conf.preflight() != Preflight::Deny
            && is_preflight(request)
        {
            return match conf.preflight() {
                Preflight::Pass if request.remove_authorization() => ALLOWED,
                Preflight::Pass => FAILED,
                Preflight::Answer | Preflight::Deny => NO_CONTENT,
            };
        }
        let Some(state) = request.state_or_new() else {
            return FAILED;
        };
        match resolve(request, state, conf, provider) {
            Step::Suspended => AGAIN,
            Step::Admitted => ALLOWED,
            Step::Refused(refusal) => {
                let answer = respond::prepare(request, state, conf, &refusal);
                respond::give(request, &answer)
            }
        }
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
        let Some(request) = (unsafe { Request::new(r) }) else {
            return FAILED;
        };
        let Some(conf) = request.location() else {
            return FAILED;
        };
        let Protection::On(provider) = conf.protection else {
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
        if matches!(
            Credentials::from_authorization(bytes(&value)),
            Credentials::Missing | Credentials::Token(Scheme::Dpop, _)
        ) {
            // Another scheme, which another check has accepted.
            return DECLINED;
        }
        if request.is_main() {
            let Some(state) = request.state_or_new() else {
                return FAILED;
            };
            match resolve(request, state, conf, provider) {
                Step::Suspended => return AGAIN,
                Step::Admitted => return DECLINED,
                Step::Refused(_) => {}
            }
        }
        if request.remove_authorization() {
            DECLINED
        } else {
            FAILED
        }
    })
}

/// Whether this `OPTIONS` is a CORS preflight (Fetch, "CORS-preflight request").
fn is_preflight(request: Request) -> bool {
    request.has_header(b"origin") && request.has_header(b"access-control-request-method")
}

/// The one path from header to header.
fn resolve(request: Request, state: &mut State, conf: &LocationConf, provider: usize) -> Step {
    if state.pending.is_some() {
        return Step::Suspended;
    }
    let known = matches!(&state.verdict, Some((by, _)) if *by == provider);
    if !known {
        match ask(request, state, provider) {
            Ok(Some(outcome)) => {
                state.cache = outcome.as_ref().ok().map(|resolution| resolution.cache);
                state.time.get_or_insert(0);
                state.verdict = Some((provider, outcome));
            }
            Ok(None) => return Step::Suspended,
            Err(refusal) => {
                state.result = Some(refusal.outcome);
                return Step::Refused(refusal);
            }
        }
    }
    let step = conclude(request, state, conf);
    state.result = Some(match &step {
        Step::Refused(refusal) => refusal.outcome,
        _ => Outcome::Ok,
    });
    step
}

/// Asks the provider about what the client sent. `None` when there is no answer yet: the request is suspended.
fn ask(
    request: Request,
    state: &mut State,
    provider: usize,
) -> Result<Option<Result<Resolution, Error>>, Refusal> {
    let original = match state.original {
        // What is in the header may be a JWT of ours by now.
        Some(original) => original,
        None => match request.authorization() {
            Authorization::None => return Err(Refusal::new(Outcome::Missing, 401)),
            Authorization::Several => return Err(Refusal::new(Outcome::Malformed, 400)),
            Authorization::One(value) => value,
        },
    };
    let token = match Credentials::from_authorization(bytes(&original)) {
        Credentials::Token(Scheme::Bearer, token) => token,
        Credentials::Missing | Credentials::Token(Scheme::Dpop, _) => {
            return Err(Refusal::new(Outcome::Missing, 401));
        }
        Credentials::Malformed => return Err(Refusal::new(Outcome::Malformed, 400)),
    };
    state.original = Some(original);

    let worker = request.main_conf().and_then(|main| main.worker.as_deref());
    let Some((worker, client)) =
        worker.and_then(|worker| worker.client(provider).map(|client| (worker, client)))
    else {
        // It could not be started, which is in the log.
        return Err(Refusal::new(Outcome::Unavailable, 503));
    };
    let tag = worker.slots.borrow().next_tag();
    match client.submit(token, &worker.queue, tag) {
        Submitted::Ready(outcome) => Ok(Some(outcome)),
        Submitted::Pending(id) => {
            let wait = Wait {
                worker,
                client,
                provider,
                id,
            };
            if suspend::suspend(request, state, &wait) {
                Ok(None)
            } else {
                Err(Refusal::failed())
            }
        }
    }
}

/// Applies what this location asks for to the verdict, and swaps the header if it is content.
fn conclude(request: Request, state: &mut State, conf: &LocationConf) -> Step {
    let active = match &state.verdict {
        None => return Step::Refused(Refusal::failed()),
        Some((_, Err(error))) => return Step::Refused(Refusal::of(error)),
        Some((_, Ok(resolution))) => match &resolution.verdict {
            Verdict::Inactive => return Step::Refused(Refusal::new(Outcome::Inactive, 401)),
            Verdict::Active(active) => active.clone(),
        },
    };
    let lacking = conf
        .scopes
        .as_ref()
        .and_then(|scopes| scopes.missing(active.claims()));
    if lacking.is_some() {
        return Step::Refused(Refusal::new(Outcome::Forbidden, 403));
    }
    if !state.swap(request, &active) {
        return Step::Refused(Refusal::failed());
    }
    respond::withdraw_challenge(request, state);
    Step::Admitted
}

/// The bytes of a header's value.
fn bytes(value: &ngx_str_t) -> &[u8] {
    if value.len == 0 {
        return &[];
    }
    // SAFETY: nginx's strings point to as many bytes as they say, here in the request's own memory or in a JWT that
    // the request holds.
    unsafe { std::slice::from_raw_parts(value.data, value.len) }
}
