//! The sender of a token that is bound to a key, as nginx knows it: input for the access policy, which decides.

use std::ptr::NonNull;
use std::sync::Arc;

use ngx::ffi::{NGX_LOG_WARN, ngx_time};
use ngx::ngx_log_error;
use phantom_token::gateway::access_policy::AccessPolicy;
use phantom_token::gateway::sender::{
    Proof, Proven, RequestContext, SenderError, Target, Thumbprint, Uri,
};
use phantom_token::{Active, Client, Token, cache::FirstUse};

use crate::conf::{LocationConf, Value};
use crate::nginx::request::{Field, Request};
use crate::process::Process;
use crate::process::state::{SenderFinding, State};

/// Checks the sender, once per request and location: a proof may be used once, and the same request is decided about
/// several times.
pub fn check(
    request: Request,
    state: &State,
    conf: &LocationConf,
    policy: &AccessPolicy,
    client: Option<&Client>,
    token: Token<'_>,
    active: &Arc<Active>,
) -> Result<Proven, SenderError> {
    let place = NonNull::from(conf);
    if let Some(known) = &*state.sender.borrow()
        && known.place == place
        && Arc::ptr_eq(&known.active, active)
    {
        return known.found;
    }
    let context = RequestContext {
        scheme: state.credentials.get().scheme(),
        method: request.method_name(),
        uri: match conf.sender.uri() {
            // No proof is for nothing.
            Some(uri) => Uri::Whole(uri.evaluate(request).unwrap_or_default()),
            None => Uri::Of(target(request)),
        },
        proof: match request.header(b"dpop") {
            Field::None => Proof::None,
            Field::One(proof) => Proof::One(proof),
            Field::Several => Proof::Several,
        },
        certificate: &|| thumbprint(request, conf.sender.certificate()),
    };
    let mut first_use = |proof: &_, time| {
        // By an earlier location that this request was in.
        if state.proof_counted.get() {
            return FirstUse::First;
        }
        let Some(client) = client else {
            return FirstUse::Lost;
        };
        let first = client.first_use(proof, time);
        state.proof_counted.set(first == FirstUse::First);
        if matches!(first, FirstUse::Full | FirstUse::Lost) {
            warn(request, client, first);
        }
        first
    };
    let found = policy.check_sender(active, token, &context, ngx_time(), &mut first_use);
    state.sender.replace(Some(SenderFinding {
        place,
        active: Arc::clone(active),
        found,
    }));
    found
}

/// The target of the request, as nginx knows it.
fn target<'a>(request: Request) -> Target<'a> {
    let variable = |name| request.variable(name).unwrap_or_default();
    let authority = request.authority();
    let port = match authority {
        Some(_) => 0,
        None => std::str::from_utf8(variable(b"server_port"))
            .ok()
            .and_then(|port| port.parse().ok())
            .unwrap_or(0),
    };
    Target {
        scheme: variable(b"scheme"),
        authority,
        host: variable(b"host"),
        port,
        path: request.target(),
    }
}

/// Tells the operator that requests are refused because of us.
fn warn(request: Request, client: &Client, why: FirstUse) {
    let Some(worker) = Process::of(request).and_then(|process| process.worker.as_deref()) else {
        return;
    };
    let Some(more) = worker.unnoted_proofs.now(ngx_time()) else {
        return;
    };
    let log = request.log();
    let name = client.provider().name();
    let why = match why {
        FirstUse::Full => {
            "there is no room to note DPoP proofs, and requests that bring one are refused: give it a larger \
             phantom_token_zone, or set a shorter phantom_token_dpop_window"
        }
        _ => {
            "it is not known any more which DPoP proofs were used: a part of the zone was lost with a worker that died, \
             the clock was set back, or phantom_token_dpop_window was raised; those of before are refused"
        }
    };
    ngx_log_error!(
        NGX_LOG_WARN,
        log,
        "phantom_token: provider \"{name}\": {why} ({more} more of this kind since the last line)"
    );
}

/// The thumbprint of the certificate with which the client has authenticated its connection: to nginx, or to the
/// proxy that has told nginx.
fn thumbprint(request: Request, told: Option<&Value>) -> Option<Thumbprint> {
    let pem = match told {
        Some(value) if is_ambiguous(request, value) => return None,
        Some(value) => value.evaluate(request)?,
        None => request.variable(b"ssl_client_raw_cert")?,
    };
    Thumbprint::of_pem(pem)
}

/// Whether a header that the value reads is there twice, or in another spelling: `$http_x_cert` is `X_Cert` as well
/// (`underscores_in_headers on`), which a proxy that sets `X-Cert` before nginx may not know, and lets pass.
fn is_ambiguous(request: Request, value: &Value) -> bool {
    value.headers().iter().any(|name| {
        let mut found = request.headers_in().filter(|header| name.is_of(*header));
        match (found.next(), found.next()) {
            (None, _) => false,
            (Some(header), None) => !name.is_spelled_by(header),
            (Some(_), Some(_)) => true,
        }
    })
}
