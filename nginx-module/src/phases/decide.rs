//! The decision about a request, by the access policy of its location (`phantom_token::gateway::access_policy`).
//!
//! The request's credentials have been extracted before (`source.rs`). Nothing of the request is changed by a decision, so that it
//! can be made before the access phase (`phantom_token_phase preaccess`), and again there; `access.rs` acts on it. What is expensive
//! of it is kept in the request's [`State`]; what depends on the location is found out again, because an internal redirect
//! leads to another one.

use std::ptr::NonNull;
use std::sync::Arc;

use ngx::ffi::ngx_time;
use phantom_token::gateway::access_policy::{self, Admitted, Denial, Resolved};
use phantom_token::gateway::outcome::{DenialReason, Outcome};
use phantom_token::token::Context;
use phantom_token::{Active, Error, ErrorKind, Resolution, Submitted, Token};

use crate::conf::{LocationConf, MainConf, Protection};
use crate::nginx::request::Request;
use crate::phases::context;
use crate::phases::sender;
use crate::process::Process;
use crate::process::state::State;
use crate::process::suspend::{self, Wait};

/// Where a request stands.
pub enum Decision {
    /// It waits; it is decided again when there is a verdict.
    Suspended,
    /// It may go on, with the JWT of this.
    Admitted(Admitted<Arc<Active>>),
    /// It may go on with nothing: it presents no token, and none is needed.
    Anonymous,
    /// It must not go on, as far as this module is concerned.
    Denied(Denial<'static>),
}

/// Decides, and notes the result in the request's state. `conf` is that of the location the request is in, and
/// outlives it.
pub fn decide(request: Request, state: &State, conf: &'static LocationConf) -> Decision {
    if state.pending.borrow().is_some() {
        return Decision::Suspended;
    }
    let decision = find_out(request, state, conf)
        .unwrap_or_else(|reason| Decision::Denied(denial(state, reason)));
    let (result, reason) = match &decision {
        Decision::Suspended => return decision,
        Decision::Denied(denial) => (denial.outcome(), denial.reason.detail()),
        Decision::Anonymous => (Outcome::Missing, ""),
        Decision::Admitted(_) => (Outcome::Ok, ""),
    };
    state.result.set(Some(result));
    state.reason.set(reason);
    decision
}

/// The denial of a request for a reason of the module's own.
pub fn denial(state: &State, reason: DenialReason<'static>) -> Denial<'static> {
    Denial::new(reason, &state.credentials.get())
}

/// From what the request presents to what it stands for, and whether that suffices.
fn find_out(
    request: Request,
    state: &State,
    conf: &'static LocationConf,
) -> Result<Decision, DenialReason<'static>> {
    let resumed = state.resumed.take();
    let provider = provider(request, state, conf)?;
    state.provider.set(Some(provider));
    let policy = conf.policy().ok_or(DenialReason::Failed)?;
    let credentials = state.credentials.get();
    let token = match policy.token(&credentials) {
        Ok(Some(token)) => token,
        Ok(None) => return Ok(Decision::Anonymous),
        Err(denial) => return Ok(Decision::Denied(denial)),
    };
    let context = context::of(request, conf, provider).ok_or(DenialReason::Failed)?;
    let same = resumed || state.context.get() == context;
    let known = same && matches!(&*state.verdict.borrow(), Some((by, _)) if *by == provider);
    if !known {
        // What another provider has said counts for nothing here: nobody is let in with it while this one is asked.
        state.result.set(None);
        if !ask(request, state, provider, token, context)? {
            return Ok(Decision::Suspended);
        }
    }
    let resolved = match &*state.verdict.borrow() {
        None => return Err(DenialReason::Failed),
        Some((_, Ok(resolution))) => Resolved::from(Ok(resolution.verdict.clone())),
        Some((_, Err(error))) => Resolved::from(Err(error)),
    };
    let check_sender = |active: &Arc<Active>| {
        let client =
            Process::of(request).and_then(|process| process.worker.as_deref()?.client(provider));
        sender::check(request, state, conf, policy, client, token, active)
    };
    let mut value = |slot: usize| {
        // It may depend on an earlier verdict.
        state.refresh(request);
        MainConf::of(request)?.values.get(slot)?.evaluate(request)
    };
    let now = ngx_time();
    Ok(
        match policy.decide_resolved(&credentials, resolved, now, check_sender, &mut value) {
            access_policy::Decision::Admitted(admitted) => Decision::Admitted(admitted),
            access_policy::Decision::Anonymous => Decision::Anonymous,
            access_policy::Decision::Denied(denial) => Decision::Denied(denial),
        },
    )
}

/// Who is to be asked about the token here.
fn provider(
    request: Request,
    state: &State,
    conf: &'static LocationConf,
) -> Result<usize, DenialReason<'static>> {
    match conf.protection {
        Protection::On(provider) => Ok(provider),
        Protection::Chosen => choose(request, state, conf).ok_or(DenialReason::Provider),
        // Nobody decides where there is nothing to protect.
        Protection::Unset | Protection::Off | Protection::Named => Err(DenialReason::Failed),
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
        .zip(MainConf::of(request))
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

/// Asks the provider about a token. `false` when there is no answer yet: the request is suspended.
fn ask(
    request: Request,
    state: &State,
    provider: usize,
    token: Token<'_>,
    context: Option<Context>,
) -> Result<bool, DenialReason<'static>> {
    state.context.set(context);
    let worker = Process::of(request).and_then(|process| process.worker.as_deref());
    let Some((worker, client)) =
        worker.and_then(|worker| worker.client(provider).map(|client| (worker, client)))
    else {
        // It could not be started, which is in the log.
        return Err(DenialReason::Unavailable {
            kind: ErrorKind::Stopped,
            retry_after: None,
        });
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
                Err(DenialReason::Failed)
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
