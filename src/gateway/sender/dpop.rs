//! A proof that the sender of a request has a key (RFC 9449 §4.3).
//!
//! Every check there is stands in [`check`], once. The signature comes after those that cost nothing, so that whoever
//! sends junk makes us compute little; whether the proof was used before comes last, so that only a proof that is right
//! takes any room.

use std::time::Duration;

use aws_lc_rs::digest::{self, Context};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::uri::normalized;
use super::{Proof, ProofRules, Proven, RequestContext, SenderError};
use crate::Token;
use crate::cache::{FirstUse, PROOF_AHEAD, ProofId, ProofTime};
use crate::jwt::{SelfSigned, SelfSignedError, seconds};

/// The longest proof that is looked at, in bytes. One with an RSA key of 4096 bits and its signature has 1,700.
pub const MAX_PROOF_LENGTH: usize = 8192;

/// The longest `jti` of a proof, in bytes.
pub const MAX_JTI_LENGTH: usize = 256;

/// How far ahead of our clock that of a client may be: the `iat` of a proof may be as much later than now.
pub const AHEAD: Duration = PROOF_AHEAD;

impl From<SelfSignedError> for SenderError {
    fn from(error: SelfSignedError) -> Self {
        match error {
            SelfSignedError::Malformed => SenderError::ProofMalformed,
            SelfSignedError::Type => SenderError::ProofType,
            SelfSignedError::Algorithm => SenderError::ProofAlgorithm,
            SelfSignedError::Key => SenderError::ProofJwk,
            SelfSignedError::Signature => SenderError::ProofSignature,
        }
    }
}

/// Checks the proof that comes with a token which is bound to the key with the thumbprint `jkt`.
pub(super) fn check(
    jkt: &str,
    token: Token<'_>,
    presented: &RequestContext<'_>,
    rules: &ProofRules,
    now: i64,
    first_use: &mut dyn FnMut(&ProofId, ProofTime) -> FirstUse,
) -> Result<Proven, SenderError> {
    let proof = match presented.proof {
        Proof::None => return Err(SenderError::ProofMissing),
        Proof::Several => return Err(SenderError::ProofSeveral),
        Proof::One(proof) if proof.len() > MAX_PROOF_LENGTH => {
            return Err(SenderError::ProofMalformed);
        }
        Proof::One(proof) => SelfSigned::read(proof, "dpop+jwt")?,
    };
    if proof.thumbprint()? != jkt {
        return Err(SenderError::ProofKey);
    }

    let text = |name| proof.claims().get(name).and_then(Value::as_str);
    if text("htm").map(str::as_bytes) != Some(presented.method) {
        return Err(SenderError::ProofHtm);
    }
    let time = |name| match proof.claims().get(name) {
        None => Ok(None),
        Some(time @ Value::Number(_)) => Ok(seconds(time)),
        Some(_) => Err(SenderError::ProofMalformed),
    };
    let iat = time("iat")?.ok_or(SenderError::ProofMalformed)?;
    let [window, ahead] = [rules.window, AHEAD].map(|span| span.as_secs());
    let last = iat.saturating_add_unsigned(window);
    if last < now || iat > now.saturating_add_unsigned(ahead) {
        return Err(SenderError::ProofIat);
    }
    // A proof need not have these (RFC 9449 §4.2), but where they stand they hold (RFC 7519 §4.1).
    if time("exp")?.is_some_and(|exp| exp <= now)
        || time("nbf")?.is_some_and(|nbf| nbf > now.saturating_add_unsigned(ahead))
    {
        return Err(SenderError::ProofIat);
    }
    let jti = text("jti")
        .filter(|jti| (1..=MAX_JTI_LENGTH).contains(&jti.len()))
        .ok_or(SenderError::ProofJti)?;
    let ath = digest::digest(&digest::SHA256, token.expose().as_bytes());
    if text("ath") != Some(&URL_SAFE_NO_PAD.encode(ath)) {
        return Err(SenderError::ProofAth);
    }
    let uri = presented.uri.normalized()?;
    let htu = text("htu").and_then(|htu| normalized(htu.as_bytes()));
    if htu.is_none() || htu != uri {
        return Err(SenderError::ProofHtu);
    }
    let mut renew_nonce = false;
    if let Some(nonces) = &rules.nonces {
        let nonce = text("nonce").ok_or(SenderError::ProofNonce)?.as_bytes();
        renew_nonce = !nonces.is_current(nonce, now);
        if !nonces.accepts(nonce, now) {
            return Err(SenderError::ProofNonce);
        }
    }
    let id = id(jkt, jti);
    proof.verify()?;

    let time = ProofTime {
        iat,
        now,
        window: rules.window,
    };
    match first_use(&id, time) {
        FirstUse::First => Ok(Proven { renew_nonce }),
        FirstUse::Replayed => Err(SenderError::ProofReplayed),
        FirstUse::Full => Err(SenderError::ReplaysFull),
        // Nobody notes proofs: nobody knows.
        FirstUse::Lost | FirstUse::Unsupported => Err(SenderError::ReplaysLost),
    }
}

/// The name of a proof: its key and its `jti`. One key uses a `jti` once (RFC 9449 §4.2), whatever for, so the URI is no
/// part of it; and nobody can use up the `jti` of another's key.
fn id(jkt: &str, jti: &str) -> ProofId {
    let mut context = Context::new(&digest::SHA256);
    context.update(b"phantom-token proof\0");
    // Of one length always: it is that of a thumbprint, with which it has been compared.
    context.update(jkt.as_bytes());
    context.update(jti.as_bytes());
    let mut id = [0; 32];
    id.copy_from_slice(context.finish().as_ref());
    ProofId(id)
}
