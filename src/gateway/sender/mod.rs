//! Whether a token is presented by whom it was issued to.
//!
//! An authorization server may bind a token to a key of its client (`cnf`, RFC 7800): to the certificate of its TLS
//! connections (`x5t#S256`, RFC 8705 §3), or to a key that it proves to have with each request (`jkt`, RFC 9449). Such a
//! token is worth nothing to a thief, as long as somebody looks; this is where that is done, on every request, whether or
//! not the token was remembered.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `mod.rs` | which confirmations a token needs |
//! | `dpop.rs` | a proof, check by check (RFC 9449 §4.3) |
//! | `target.rs` | the URI of a request, of what a server knows of it |
//! | `uri.rs` | whether two URIs are the same |
//! | `nonce.rs` | nonces of the server (RFC 9449 §9) |
//! | `certificate.rs` | thumbprints of certificates |
//!
//! All of it is pure. That a proof is used once is for the caller to see to, who is asked when all else is right:
//! [`Client::first_use`](crate::Client::first_use) does.
//!
//! ```
//! # fn ask(client: &phantom_token::Client, active: &phantom_token::Active, token: phantom_token::Token<'_>) {
//! use phantom_token::gateway::sender::{RequestContext, Proof, ProofRules, Uri, check};
//! use phantom_token::token::Scheme;
//!
//! let presented = RequestContext {
//!     scheme: Scheme::Dpop,
//!     method: b"GET",
//!     uri: Uri::Whole(b"https://api.example.com/orders"),
//!     proof: Proof::One(b"eyJ0eXAiOiJkcG9wK2p3dCIs..."),
//!     certificate: &|| None,
//! };
//! let now = phantom_token::clock::now().unix;
//! let mut first_use = |proof: &_, time| client.first_use(proof, time);
//! match check(active, token, &presented, &ProofRules::default(), now, &mut first_use) {
//!     Ok(_) => println!("it is the client's own"),
//!     Err(error) => println!("{}", error.reason()),
//! }
//! # }
//! ```

mod certificate;
mod dpop;
mod nonce;
mod target;
mod uri;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use strum::{EnumString, IntoStaticStr};

pub use self::certificate::Thumbprint;
pub use self::dpop::{AHEAD, MAX_JTI_LENGTH, MAX_PROOF_LENGTH};
pub use self::nonce::Nonces;
pub use self::target::{Target, Uri};
use crate::cache::{FirstUse, ProofId, ProofTime};
use crate::gateway::outcome::ErrorCode;
use crate::jwt::{Algorithm, Claims};
use crate::token::Scheme;
use crate::values::time;
use crate::{Active, Token};

/// What is done about tokens that are bound to a key of their sender (RFC 7800).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Constraint {
    /// One that is bound is refused without its proof.
    #[default]
    Enforce,
    /// One that is not bound is refused as well.
    Require,
    /// Nobody looks: something else has.
    Ignore,
}

impl Constraint {
    /// The constraint of this name: `enforce`, `require` or `ignore`.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Whether a request with this token must show who sends it: most need not.
    ///
    /// # Errors
    /// [`SenderError::NotBound`] for a token that is bound to nothing where that is required.
    pub fn applies_to(self, active: &Active, scheme: Scheme) -> Result<bool, SenderError> {
        match self {
            Constraint::Ignore => Ok(false),
            Constraint::Require if !active.is_bound() => Err(SenderError::NotBound),
            Constraint::Require => Ok(true),
            Constraint::Enforce => Ok(active.is_bound() || scheme == Scheme::Dpop),
        }
    }
}

/// For how long a proof may be accepted: it is remembered as long.
pub const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// Reads such a time.
pub fn window(text: &str) -> Option<Duration> {
    time(text).filter(|window| WINDOWS.contains(window))
}

/// How often there is a new nonce. One is accepted for as long again.
pub const NONCE_STEP: Duration = Duration::from_secs(60);

/// What is asked of a proof beside that it is right.
#[derive(Debug, Clone)]
pub struct ProofRules {
    /// For how long a proof is accepted from its `iat` on.
    pub window: Duration,
    /// The nonces of which a proof must have one. `None`: it need not have any, and whichever it has is not looked at.
    pub nonces: Option<Arc<Nonces>>,
}

impl Default for ProofRules {
    fn default() -> Self {
        ProofRules {
            window: Duration::from_secs(60),
            nonces: None,
        }
    }
}

/// The `DPoP` header of a request (RFC 9449 §4.1).
#[derive(Clone, Copy)]
pub enum Proof<'a> {
    /// There is none.
    None,
    /// There is one: its value.
    One(&'a [u8]),
    /// There are several, which is not allowed.
    Several,
}

impl fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Proof::None => "None",
            Proof::One(_) => "One(..)",
            Proof::Several => "Several",
        })
    }
}

/// A request, as far as the sender of its token is concerned.
#[derive(Clone, Copy)]
pub struct RequestContext<'a> {
    /// How the token is presented.
    pub scheme: Scheme,
    /// The method, as it stands in the request: it is case-sensitive.
    pub method: &'a [u8],
    /// What was asked for, as the client sees it.
    pub uri: Uri<'a>,
    /// The request's `DPoP` header.
    pub proof: Proof<'a>,
    /// The certificate with which the client has authenticated its connection, whoever has issued it. Asked for only when
    /// the token is bound to one.
    pub certificate: &'a dyn Fn() -> Option<Thumbprint>,
}

impl fmt::Debug for RequestContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestContext")
            .field("scheme", &self.scheme)
            .field("proof", &self.proof)
            .finish_non_exhaustive()
    }
}

/// A sender who has shown what was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proven {
    /// The proof's nonce will not be accepted for much longer: hand out the current one with the answer (RFC 9449 §8.2).
    pub renew_nonce: bool,
}

/// Why a token is not accepted from this sender. Says nothing of the token or the proof themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum SenderError {
    /// The token is bound, and the host does not say how the request presents it.
    #[strum(serialize = "presentation_missing")]
    NotPresented,
    /// The token is bound to a key, and presented with `Bearer` (RFC 9449 §7.2).
    Scheme,
    /// The token is bound to no key, and presented with `DPoP` (RFC 9449 §7.1).
    NotBound,
    /// The token is bound, and to what is not known here, or can't be read.
    ConfirmationUnknown,
    /// The client has no certificate, and the token is bound to one.
    CertificateMissing,
    /// The token is bound to another certificate.
    CertificateOther,
    /// There is no proof.
    ProofMissing,
    /// There is more than one.
    ProofSeveral,
    /// It is not a JWT with all that a proof has (RFC 9449 §4.2), or too long.
    ProofMalformed,
    /// Its `typ` is not `dpop+jwt`.
    #[strum(serialize = "proof_typ")]
    ProofType,
    /// Its `alg` is not one of [`Algorithm`].
    #[strum(serialize = "proof_alg")]
    ProofAlgorithm,
    /// Its `jwk` is not a public key that goes with its `alg`.
    ProofJwk,
    /// Its signature is not that of its `jwk`.
    ProofSignature,
    /// It is for another method.
    ProofHtm,
    /// It is for another URI, or for none.
    ProofHtu,
    /// What the client has named as the host that it asks is none.
    Host,
    /// It is too old, or of the future.
    ProofIat,
    /// It has no `jti`, or one that is too long.
    ProofJti,
    /// It is for another token.
    ProofAth,
    /// It is of another key than the one that the token is bound to.
    ProofKey,
    /// It has no nonce, or one that is not accepted (any more).
    ProofNonce,
    /// It was used before.
    ProofReplayed,
    /// It can't be noted that it was used: there is no room left.
    ReplaysFull,
    /// It is not known whether it was used before, and a new one will do.
    ReplaysLost,
}

impl SenderError {
    /// One word, for logs.
    pub fn reason(self) -> &'static str {
        self.into()
    }

    /// The status of the answer: 400 when the request itself is wrong, 401 when its sender has to show something else, 503
    /// when the request is as good as any and can't be answered.
    pub fn http_status(self) -> u16 {
        match self {
            SenderError::Host => 400,
            SenderError::ReplaysFull | SenderError::ReplaysLost => 503,
            _ => 401,
        }
    }

    /// The `error` of the challenge (RFC 6750 §3.1, RFC 9449 §7.1). `None` when it is not the client's fault, and never a
    /// pass.
    pub fn error(self) -> Option<ErrorCode> {
        Some(match self {
            SenderError::NotPresented
            | SenderError::Scheme
            | SenderError::NotBound
            | SenderError::ConfirmationUnknown
            | SenderError::CertificateMissing
            | SenderError::CertificateOther
            | SenderError::ProofKey => ErrorCode::InvalidToken,
            SenderError::ProofNonce => ErrorCode::UseDpopNonce,
            SenderError::Host => ErrorCode::InvalidRequest,
            SenderError::ReplaysFull | SenderError::ReplaysLost => return None,
            _ => ErrorCode::InvalidDpopProof,
        })
    }

    /// The scheme of the challenge that says it.
    pub fn scheme(self) -> Scheme {
        match self {
            SenderError::NotPresented
            | SenderError::ConfirmationUnknown
            | SenderError::CertificateMissing
            | SenderError::CertificateOther => Scheme::Bearer,
            _ => Scheme::Dpop,
        }
    }
}

/// A sentence that may stand in quotes, as an `error_description`.
impl fmt::Display for SenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SenderError::NotPresented => "It is not known how the token was presented",
            SenderError::Scheme => "The token is bound to a key: present it with DPoP",
            SenderError::NotBound => "The token is bound to no key: present it with Bearer",
            SenderError::ConfirmationUnknown => "What the token is bound to can't be checked here",
            SenderError::CertificateMissing => {
                "The token is bound to a certificate, and the connection has none"
            }
            SenderError::CertificateOther => "The token is bound to another certificate",
            SenderError::ProofMissing => "The request has no DPoP header",
            SenderError::ProofSeveral => "The request has more than one DPoP header",
            SenderError::ProofMalformed => "The DPoP proof is malformed",
            SenderError::ProofType => "The DPoP proof's typ is not dpop+jwt",
            SenderError::ProofAlgorithm => "The DPoP proof's alg is not accepted",
            SenderError::ProofJwk => {
                "The DPoP proof's jwk is not a public key that goes with its alg"
            }
            SenderError::ProofSignature => "The DPoP proof's signature is not that of its jwk",
            SenderError::ProofHtm => "The DPoP proof's htm is not the method of the request",
            SenderError::ProofHtu => "The DPoP proof's htu is not the URI of the request",
            SenderError::Host => "The request names no valid host",
            SenderError::ProofIat => "The DPoP proof's iat is too far from now",
            SenderError::ProofJti => "The DPoP proof has no jti that can be used",
            SenderError::ProofAth => "The DPoP proof's ath is not the hash of the token",
            SenderError::ProofKey => "The token is bound to another key than the DPoP proof's",
            SenderError::ProofNonce => "The DPoP proof needs the nonce that comes with this answer",
            SenderError::ProofReplayed => "The DPoP proof was used before",
            SenderError::ReplaysFull => "DPoP proofs can't be accepted at the moment",
            SenderError::ReplaysLost => {
                "It is not known whether the DPoP proof was used before: send a new one"
            }
        })
    }
}

impl std::error::Error for SenderError {}

/// The algorithms that a proof may be signed with, as the `algs` of a challenge (RFC 9449 §7.1) lists them.
pub fn algorithms() -> String {
    let names: Vec<_> = Algorithm::ALL.iter().map(|one| one.as_str()).collect();
    names.join(" ")
}

/// Checks that a token is presented by whom it was issued to: whatever it is bound to is shown, all of it.
///
/// `now` is in seconds since the epoch. `first_use` is asked last, about a proof that is right in all else, and must note
/// that it is used.
///
/// # Errors
/// [`SenderError`] when it is not, or when that can't be known.
pub fn check(
    active: &Active,
    token: Token<'_>,
    presented: &RequestContext<'_>,
    rules: &ProofRules,
    now: i64,
    first_use: &mut dyn FnMut(&ProofId, ProofTime) -> FirstUse,
) -> Result<Proven, SenderError> {
    if !active.is_bound() {
        return match presented.scheme {
            Scheme::Bearer => Ok(Proven::default()),
            Scheme::Dpop => Err(SenderError::NotBound),
        };
    }
    let bound = Confirmations::of(active.claims())?;
    if let Some(certificate) = bound.certificate {
        match (presented.certificate)() {
            None => return Err(SenderError::CertificateMissing),
            Some(other) if other != certificate => return Err(SenderError::CertificateOther),
            Some(_) => {}
        }
    }
    match (bound.key, presented.scheme) {
        (None, Scheme::Bearer) => Ok(Proven::default()),
        (None, Scheme::Dpop) => Err(SenderError::NotBound),
        (Some(_), Scheme::Bearer) => Err(SenderError::Scheme),
        (Some(key), Scheme::Dpop) => dpop::check(key, token, presented, rules, now, first_use),
    }
}

/// What a token is bound to: one of these at least.
struct Confirmations<'a> {
    /// A certificate (RFC 8705 §3.1).
    certificate: Option<Thumbprint>,
    /// The thumbprint of a key (RFC 9449 §6.1).
    key: Option<&'a str>,
}

impl<'a> Confirmations<'a> {
    /// Reads `cnf`. Members that are not known here are left alone beside one that is (RFC 7800 §3.1); one that is known
    /// and can't be read is no confirmation, and no reason to go without.
    fn of(claims: &'a Claims) -> Result<Self, SenderError> {
        const UNKNOWN: SenderError = SenderError::ConfirmationUnknown;
        let Some(Value::Object(members)) = claims.get("cnf") else {
            return Err(UNKNOWN);
        };
        let text = |name| match members.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(UNKNOWN),
        };
        let key = text("jkt")?;
        let certificate = text("x5t#S256")?
            .map(|text| Thumbprint::parse(text).ok_or(UNKNOWN))
            .transpose()?;
        if key.is_none() && certificate.is_none() {
            return Err(UNKNOWN);
        }
        Ok(Confirmations { certificate, key })
    }
}

#[cfg(test)]
mod tests;
