//! Whether a request may go on: what it presents, what that stands for, and whether it suffices here.
//!
//! What it presents has been taken in before (`source.rs`). Nothing of the request is changed by a decision, so that it can be made before the access phase
//! (`phantom_token_phase preaccess`), and again there; `access.rs` acts on it. What is expensive of it is remembered in
//! the request's [`State`]; what depends on the location is found out anew, because an internal redirect leads to
//! another one.

use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use ngx::ffi::ngx_time;
use phantom_token::gateway::requirements::Ground;
use phantom_token::gateway::sender::SenderError;
use phantom_token::token::{Context, Scheme};
use phantom_token::{Active, Error, Resolution, Submitted, Token, Verdict};

use crate::conf::{ErrorCode, LocationConf, Protection};
use crate::context;
use crate::request::Request;
use crate::sender;
use crate::state::{Outcome, State};
use crate::suspend::{self, Wait};

/// Where a request stands.
pub enum Decision {
    /// It waits; it is decided again when there is a verdict.
    Suspended,
    /// It may go on, with the JWT of this.
    Admitted(Arc<Active>),
    /// It may go on with nothing: it presents no token, and none is needed.
    Anonymous,
    /// It must not go on, as far as this module is concerned.
    Refused(Refusal),
}

/// Why a request is refused.
pub struct Refusal {
    /// What became of it.
    pub outcome: Outcome,
    /// One word more: what exactly. It is part of the program or of the configuration.
    pub reason: &'static str,
    /// The status of the answer.
    pub status: u16,
    /// What the challenge says, where the token is at fault.
    pub error: Option<ErrorCode>,
    /// With which scheme the challenge says it.
    pub scheme: Scheme,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    fn new(outcome: Outcome, reason: &'static str) -> Self {
        Refusal {
            outcome,
            reason,
            status: match outcome {
                Outcome::Malformed => 400,
                Outcome::Forbidden => 403,
                Outcome::Unavailable => 503,
                _ => 401,
            },
            error: match outcome {
                Outcome::Malformed => Some(ErrorCode::InvalidRequest),
                Outcome::Inactive | Outcome::Invalid | Outcome::Unproven => {
                    Some(ErrorCode::InvalidToken)
                }
                Outcome::Forbidden => Some(ErrorCode::InsufficientScope),
                Outcome::StepUp => Some(ErrorCode::InsufficientUserAuthentication),
                Outcome::Ok | Outcome::Missing | Outcome::Unavailable => None,
            },
            scheme: Scheme::Bearer,
            retry_after: None,
        }
    }

    /// Something that must not happen has happened here: no memory, most likely.
    pub fn failed() -> Self {
        Refusal {
            status: 500,
            ..Self::new(Outcome::Unavailable, "failed")
        }
    }

    fn of(error: &Error) -> Self {
        Refusal {
            status: error.kind().http_status(),
            retry_after: error.retry_after(),
            ..Self::new(Outcome::Unavailable, error.kind().as_str())
        }
    }
}

/// Decides, and notes the result in the request's state. `conf` is that of the location the request is in, and
/// outlives it.
pub fn decide(request: Request, state: &State, conf: &'static LocationConf) -> Decision {
    if state.pending.borrow().is_some() {
        return Decision::Suspended;
    }
    let decision = match find_out(request, state, conf) {
        Ok(None) => return Decision::Suspended,
        Ok(Some(active)) => Decision::Admitted(active),
        Err(refusal) if refusal.outcome == Outcome::Missing && conf.token.is_optional() => {
            Decision::Anonymous
        }
        Err(refusal) if refusal.outcome == Outcome::Unproven => Decision::Refused(refusal),
        // Whoever has come with a proof is answered in the same way.
        Err(refusal) => Decision::Refused(Refusal {
            scheme: state.scheme.get(),
            ..refusal
        }),
    };
    let (result, reason) = match &decision {
        Decision::Refused(refusal) => (Some(refusal.outcome), refusal.reason),
        Decision::Anonymous => (Some(Outcome::Missing), ""),
        _ => (Some(Outcome::Ok), ""),
    };
    state.result.set(result);
    state.reason.set(reason);
    decision
}

/// From what the request presents to what it stands for, if that suffices. `None`: it waits.
fn find_out(
    request: Request,
    state: &State,
    conf: &'static LocationConf,
) -> Result<Option<Arc<Active>>, Refusal> {
    let resumed = state.resumed.take();
    let provider = provider(request, state, conf)?;
    state.provider.set(Some(provider));
    if let Some(fault) = state.fault.get() {
        return Err(Refusal::new(Outcome::Malformed, fault));
    }
    let context = context::of(request, conf, provider).ok_or_else(Refusal::failed)?;
    let same = resumed || state.context.get() == context;
    let known = same && matches!(&*state.verdict.borrow(), Some((by, _)) if *by == provider);
    if !known {
        // What another provider has said counts for nothing here: nobody is let in with it while this one is asked.
        state.result.set(None);
        if !ask(request, state, provider, context)? {
            return Ok(None);
        }
    }
    let active = match &*state.verdict.borrow() {
        None => return Err(Refusal::failed()),
        Some((_, Err(error))) => return Err(Refusal::of(error)),
        Some((_, Ok(resolution))) => match &resolution.verdict {
            Verdict::Inactive => return Err(Refusal::new(Outcome::Inactive, "")),
            Verdict::Active(active) => Arc::clone(active),
        },
    };
    sent_by_its_client(request, state, conf, provider, &active)?;
    suffices(request, state, conf, &active)?;
    Ok(Some(active))
}

/// Who is to be asked about the token here.
fn provider(
    request: Request,
    state: &State,
    conf: &'static LocationConf,
) -> Result<usize, Refusal> {
    match conf.protection {
        Protection::On(provider) => Ok(provider),
        Protection::Chosen => {
            choose(request, state, conf).ok_or_else(|| Refusal::new(Outcome::Invalid, "provider"))
        }
        // Nobody decides where there is nothing to protect.
        Protection::Unset | Protection::Off | Protection::Named => Err(Refusal::failed()),
    }
}

/// Chooses among the providers of this location, once: what names one may change while the request is on its way.
fn choose(request: Request, state: &State, conf: &'static LocationConf) -> Option<usize> {
    let here = NonNull::from(conf);
    if let Some((place, chosen)) = state.chosen.get()
        && place == here
    {
        return chosen;
    }
    let chosen = conf
        .token
        .choice()
        .zip(request.main_conf())
        .and_then(|(choice, main)| {
            let name = choice.value.evaluate(request)?;
            choice.allowed.iter().copied().find(|index| {
                main.providers
                    .get(*index)
                    .is_some_and(|defined| defined.provider.name().as_bytes() == name)
            })
        });
    state.chosen.set(Some((here, chosen)));
    chosen
}

/// Asks the provider about what the client presents. `false` when there is no answer yet: the request is suspended.
fn ask(
    request: Request,
    state: &State,
    provider: usize,
    context: Option<Context>,
) -> Result<bool, Refusal> {
    let token = presented(state)?;
    state.context.set(context);
    let worker = request.main_conf().and_then(|main| main.worker.as_deref());
    let Some((worker, client)) =
        worker.and_then(|worker| worker.client(provider).map(|client| (worker, client)))
    else {
        // It could not be started, which is in the log.
        return Err(Refusal::new(Outcome::Unavailable, "stopped"));
    };
    let tag = worker.slots.borrow().next_tag();
    let submitted = match &context {
        None => client.submit(token, &worker.queue, tag),
        Some(context) => client.submit_within(context, token, &worker.queue, tag),
    };
    match submitted {
        Submitted::Ready(outcome) => {
            answered(state, provider, outcome);
            Ok(true)
        }
        Submitted::Pending(id) => {
            let wait = Wait {
                worker,
                client,
                provider,
                id,
            };
            if suspend::suspend(request, state, &wait) {
                Ok(false)
            } else {
                Err(Refusal::failed())
            }
        }
    }
}

/// Notes what was found out at once.
fn answered(state: &State, provider: usize, outcome: Result<Resolution, Error>) {
    state
        .cache
        .set(outcome.as_ref().ok().map(|resolution| resolution.cache));
    state.time.set(state.time.get().or(Some(0)));
    state.verdict.replace(Some((provider, outcome)));
}

/// The token that the client presents, as it was taken in (`source.rs`): what is in the header may be a JWT of ours by now.
fn presented(state: &State) -> Result<Token<'static>, Refusal> {
    state
        .token
        .get()
        .ok_or_else(|| Refusal::new(Outcome::Missing, ""))
}

/// Whether a token that is bound to a key comes from who has that.
fn sent_by_its_client(
    request: Request,
    state: &State,
    conf: &LocationConf,
    provider: usize,
    active: &Arc<Active>,
) -> Result<(), Refusal> {
    let refused = |error: SenderError| match error.error() {
        // It is not the client's fault.
        None => Refusal::new(Outcome::Unavailable, error.reason()),
        Some(_) if error.http_status() == 400 => Refusal::new(Outcome::Malformed, error.reason()),
        Some(code) => Refusal {
            error: Some(ErrorCode::of(code)),
            scheme: error.scheme(),
            ..Refusal::new(Outcome::Unproven, error.reason())
        },
    };
    if !sender::is_asked_for(conf, state, active).map_err(refused)? {
        return Ok(());
    }
    let token = presented(state)?;
    let client = request
        .main_conf()
        .and_then(|main| main.worker.as_deref()?.client(provider))
        .ok_or_else(Refusal::failed)?;
    let proven = sender::check(request, state, conf, client, token, active).map_err(refused)?;
    state.renew_nonce.set(proven.renew_nonce);
    Ok(())
}

/// Whether what is known of the token is what this location asks for.
fn suffices(
    request: Request,
    state: &State,
    conf: &'static LocationConf,
    active: &Active,
) -> Result<(), Refusal> {
    let Some(policy) = conf.policy.as_deref().filter(|policy| !policy.is_empty()) else {
        return Ok(());
    };
    let values = request.main_conf().map_or(&[][..], |main| &main.values);
    if !values.is_empty() {
        // They may depend on an earlier verdict.
        state.refresh(request);
    }
    policy
        .check(active.claims(), ngx_time(), &mut |slot| {
            values.get(slot)?.evaluate(request)
        })
        .map_err(|denial| {
            let outcome = match denial.ground {
                Ground::Audience | Ground::Issuer => Outcome::Invalid,
                Ground::Acr | Ground::MaxAge => Outcome::StepUp,
                // And whatever there will be.
                _ => Outcome::Forbidden,
            };
            Refusal {
                status: denial.ground.http_status(),
                error: Some(ErrorCode::of(denial.ground.error())),
                ..Refusal::new(outcome, denial.reason)
            }
        })
}
