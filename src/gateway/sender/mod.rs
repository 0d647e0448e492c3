//! Sender-constrained tokens: checks that a token is presented by the client that it was issued to.
//!
//! An authorization server may bind a token to a key of its client (`cnf`, RFC 7800). The key is that of the
//! certificate of its TLS connections (`x5t#S256`, RFC 8705 §3), or a key that the client proves to have with each
//! request (`jkt`, RFC 9449). Such a token is useless to a thief if the resource server checks the binding. This module
//! checks it on every request, whether or not the verdict came from a cache.
//!
//! | file | contents |
//! | --- | --- |
//! | `mod.rs` | the required confirmations of a token |
//! | `dpop.rs` | all checks of a proof (RFC 9449 §4.3) |
//! | `target.rs` | the URI of a request, composed of its parts |
//! | `uri.rs` | comparison of URIs |
//! | `nonce.rs` | nonces of the server (RFC 9449 §9) |
//! | `certificate.rs` | thumbprints of certificates |
//!
//! All of it is pure. The caller must ensure that a proof is used once; it is asked after all other checks have passed.
//! [`Client::first_use`](crate::Client::first_use) does that.
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
use crate::values::{NOT_A_TIME, time};
use crate::{Active, Token};

/// How tokens that are bound to a key of their sender (RFC 7800) are handled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Constraint {
    /// A bound token without its proof is refused.
    #[default]
    Enforce,
    /// An unbound token is refused as well.
    Require,
    /// The binding is not checked here: another component checks it.
    Ignore,
}

impl Constraint {
    /// The constraint of this name: `enforce`, `require` or `ignore`.
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// Whether a request with this token must prove its sender: most need not.
    ///
    /// # Errors
    /// [`SenderError::NotBound`] for an unbound token where a binding is required.
    pub fn applies_to(self, active: &Active, scheme: Scheme) -> Result<bool, SenderError> {
        match self {
            Constraint::Ignore => Ok(false),
            Constraint::Require if !active.is_bound() => Err(SenderError::NotBound),
            Constraint::Require => Ok(true),
            Constraint::Enforce => Ok(active.is_bound() || scheme == Scheme::Dpop),
        }
    }
}

/// The allowed values of [`ProofRules::window`]. A used proof is remembered for that time.
pub const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// Parses a value of [`ProofRules::window`].
///
/// # Errors
/// The rest of the message about a value that is not one.
pub fn window(text: &str) -> Result<Duration, &'static str> {
    let window = time(text).ok_or(NOT_A_TIME)?;
    match WINDOWS.contains(&window) {
        true => Ok(window),
        false => Err("is out of range: it must be 1s to 10m"),
    }
}

/// The interval at which the nonce changes. A nonce is accepted for one more interval.
pub const NONCE_STEP: Duration = Duration::from_secs(60);

/// The requirements on a proof besides being valid.
#[derive(Debug, Clone)]
pub struct ProofRules {
    /// How long a proof is accepted, counted from its `iat`.
    pub window: Duration,
    /// The accepted nonces. `None`: a proof need not have a nonce, and a nonce in it is not checked.
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
    /// The request has none.
    None,
    /// The request has one, with this value.
    One(&'a [u8]),
    /// The request has several, which is not allowed.
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

/// The parts of a request that are needed to check its sender.
#[derive(Clone, Copy)]
pub struct RequestContext<'a> {
    /// The scheme with which the token is presented.
    pub scheme: Scheme,
    /// The method, unchanged: it is case-sensitive.
    pub method: &'a [u8],
    /// The requested URI, as the client sees it.
    pub uri: Uri<'a>,
    /// The request's `DPoP` header.
    pub proof: Proof<'a>,
    /// The certificate with which the client has authenticated its TLS connection, of any issuer. Called only when the
    /// token is bound to a certificate.
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

/// The result of a successful check of the sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proven {
    /// Whether the answer should carry the current nonce (RFC 9449 §8.2): the nonce of the proof will soon no longer be
    /// accepted.
    pub renew_nonce: bool,
}

/// The reason why a token is not accepted from this sender. Contains nothing of the token or the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum SenderError {
    /// The token is bound, and the host does not report how the request presents it.
    #[strum(serialize = "presentation_missing")]
    NotPresented,
    /// The token is bound to a key, and presented with the scheme `Bearer` (RFC 9449 §7.2).
    Scheme,
    /// The token is not bound to a key, and presented with the scheme `DPoP` (RFC 9449 §7.1).
    NotBound,
    /// The token is bound by a confirmation method that is unknown here, or its confirmation is invalid.
    ConfirmationUnknown,
    /// The token is bound to a certificate, and the client has none.
    CertificateMissing,
    /// The token is bound to another certificate.
    CertificateOther,
    /// The request has no proof.
    ProofMissing,
    /// The request has more than one proof.
    ProofSeveral,
    /// The proof is not a JWT with all required members (RFC 9449 §4.2), or too long.
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
    /// Its `htm` is another method.
    ProofHtm,
    /// The proof is for another URI, or for none.
    ProofHtu,
    /// The host that the client has named is invalid.
    Host,
    /// Its `iat` is too old, or in the future.
    ProofIat,
    /// Its `jti` is missing, or too long.
    ProofJti,
    /// Its `ath` is that of another token.
    ProofAth,
    /// Its key is not the key that the token is bound to.
    ProofKey,
    /// Its nonce is missing, or not accepted (any more).
    ProofNonce,
    /// The proof was used before.
    ProofReplayed,
    /// The use of the proof can't be recorded: there is no space left.
    ReplaysFull,
    /// It is not known whether the proof was used before. A new proof will be accepted.
    ReplaysLost,
}

impl SenderError {
    /// The reason in one word, for logs.
    pub fn reason(self) -> &'static str {
        self.into()
    }

    /// The HTTP status of the answer: 400 when the request is malformed, 401 when the sender must present another
    /// proof, certificate or token, 503 when the request may be valid and can't be checked.
    pub fn http_status(self) -> u16 {
        match self {
            SenderError::Host => 400,
            SenderError::ReplaysFull | SenderError::ReplaysLost => 503,
            _ => 401,
        }
    }

    /// The `error` of the challenge (RFC 6750 §3.1, RFC 9449 §7.1). `None` when the client is not at fault; the request
    /// is still denied.
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

    /// The scheme of the challenge for this error.
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

/// A sentence for an `error_description`, with characters that are allowed in quotes.
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

/// The accepted signature algorithms for proofs, in the format of the `algs` of a challenge (RFC 9449 §7.1).
pub fn algorithms() -> String {
    let names: Vec<_> = Algorithm::ALL.iter().map(|one| one.as_str()).collect();
    names.join(" ")
}

/// Checks that a token is presented by the client that it was issued to: every confirmation of the token must be
/// satisfied.
///
/// `now` is in seconds since the epoch. `first_use` is called last, for a proof that passed all other checks, and must
/// record that the proof is used.
///
/// # Errors
/// [`SenderError`] when the check fails, or when it can't be completed.
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

/// The confirmations of a bound token: at least one.
struct Confirmations<'a> {
    /// A certificate (RFC 8705 §3.1).
    certificate: Option<Thumbprint>,
    /// The thumbprint of a key (RFC 9449 §6.1).
    key: Option<&'a str>,
}

impl<'a> Confirmations<'a> {
    /// Reads `cnf`. Unknown members are ignored beside a known one (RFC 7800 §3.1). A known member that is invalid
    /// confirms nothing, and the token is still bound.
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
