//! DPoP proofs: a proof that the sender of a request has a key (RFC 9449 §4.3).
//!
//! [`check`] contains every check once. The signature is verified after the checks that cost nothing, so that a client
//! that sends junk causes little computation. Replay detection comes last, so that only a valid proof takes memory.

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

/// The longest proof that is parsed, in bytes. A proof with an RSA key of 4096 bits and its signature has 1,700.
pub const MAX_PROOF_LENGTH: usize = 8192;

/// The longest `jti` of a proof, in bytes.
pub const MAX_JTI_LENGTH: usize = 256;

/// The tolerance for a client's clock that is ahead of ours: the `iat` of a proof may be this much later than now.
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

/// Checks a proof for a token that is bound to the key with the thumbprint `jkt`.
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
    // These claims are optional in a proof (RFC 9449 §4.2). If they are present, they must hold (RFC 7519 §4.1).
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
        // No proofs are recorded, so a replay can't be detected.
        FirstUse::Lost | FirstUse::Unsupported => Err(SenderError::ReplaysLost),
    }
}

/// The identifier of a proof: its key and its `jti`. A key uses a `jti` once for all URIs (RFC 9449 §4.2), so the URI
/// is not included. And no client can use up a `jti` of another client's key.
fn id(jkt: &str, jti: &str) -> ProofId {
    let mut context = Context::new(&digest::SHA256);
    context.update(b"phantom-token proof\0");
    // The length is constant: `jkt` was compared with a thumbprint.
    context.update(jkt.as_bytes());
    context.update(jti.as_bytes());
    let mut id = [0; 32];
    id.copy_from_slice(context.finish().as_ref());
    ProofId(id)
}
