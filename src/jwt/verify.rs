//! Verification of JWTs (RFC 7515 §5.2, RFC 7519 §7.2, RFC 8725).
//!
//! The author of a JWT also writes its header, so the header can only choose a key among those that we hold, and an
//! algorithm among those that are allowed. `jwk`, `jku`, `x5c` and `x5u` are ignored, an extension that is called
//! critical is one that we do not understand, and algorithms with a shared secret can't be allowed. Claims are read
//! only after the signature has been verified.

use std::fmt;

use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use serde_json::{Map, Value};

use super::claims::{list, present, seconds};
use super::keys::VerifyingKey;
use super::{Algorithm, ClaimsError, JwtError, KeySet, ObjectError, Parts, decode, object, parts};

/// The maximum number of keys to try: all keys that have the `kid` and the type, or, where the JWT names none, those
/// that fit its algorithm.
const MAX_TRIED: usize = 8;

/// The maximum number of characters of a header or a claim that are shown.
const SHOWN: usize = 64;

/// The requirements on a JWT. There are no defaults, so that no requirement is forgotten.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The algorithms that are allowed.
    pub algorithms: &'a [Algorithm],
    /// The values that `typ` may have (RFC 7515 §4.1.9): compared without case, with and without `application/`.
    /// The empty text stands for a JWT that has no `typ`. `None`: it may have any, or none.
    pub types: Option<&'a [&'a str]>,
    /// The issuer, compared byte by byte. `None`: any, or none.
    pub issuer: Option<&'a str>,
    /// The audiences of which the JWT must name one. `None`: any, or none.
    pub audiences: Option<&'a [&'a str]>,
    /// The time, in seconds since the epoch.
    pub now: i64,
    /// The maximum time by which a JWT's `nbf` may be ahead of `now`, in seconds: the server's clock may be ahead of
    /// ours. `exp` has no such leeway: expired means expired.
    pub leeway: i64,
}

/// The reason why a JWT is refused. The parts of the JWT that it shows are short and escaped, so that they may be
/// logged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VerifyError {
    /// It does not have the form of a JWT.
    NotJwt(JwtError),
    /// A duplicate name in its header.
    DuplicateInHeader,
    /// Its `alg` is not among those that are allowed. Contains the `alg`, escaped.
    Algorithm(Box<str>),
    /// It has `crit`: a recipient that does not understand the extensions it names must refuse it, and we understand
    /// none.
    Critical,
    /// Its `b64` is not true: the payload would not be base64url (RFC 7797).
    Unencoded,
    /// Its `typ` is none of those expected. Contains the `typ`, escaped; `None` when it has none.
    Type(Option<Box<str>>),
    /// None of the keys is the one it was signed with. Contains its `kid`, escaped, or `None` when it names none and no
    /// key that was tried fits. Fetching the key set again may help.
    UnknownKey(Option<Box<str>>),
    /// The key that it names is not for its algorithm.
    KeyNotForAlgorithm(Algorithm),
    /// The signature is not that of the key it names.
    Signature,
    /// Its payload is not a JSON object with unique names.
    Payload,
    /// A claim has the wrong type.
    Claim(ClaimsError),
    /// It expired, at this second since the epoch.
    Expired(i64),
    /// It is not valid before this second since the epoch.
    NotYetValid(i64),
    /// Its `iss` is another. Contains the `iss`, escaped; `None` when it has none.
    Issuer(Option<Box<str>>),
    /// Its `aud` names none of those expected. Contains the first that it names, escaped; `None` when it names none.
    Audience(Option<Box<str>>),
}

impl VerifyError {
    /// Whether fetching the server's key set again may help: it may have a new key.
    pub fn is_unknown_key(&self) -> bool {
        matches!(self, VerifyError::UnknownKey(_))
    }
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VerifyError::NotJwt(error) => error.fmt(f),
            VerifyError::DuplicateInHeader => f.write_str("a name stands twice in its header"),
            VerifyError::Algorithm(alg) => write!(f, "its alg \"{alg}\" is not one that is allowed"),
            VerifyError::Critical => f.write_str(
                "its header has crit, which asks for extensions that are not known here (RFC 7515 §4.1.11)",
            ),
            VerifyError::Unencoded => {
                f.write_str("its header has a b64 that is not true (RFC 7797)")
            }
            VerifyError::Type(Some(typ)) => write!(f, "its typ \"{typ}\" is not the one expected"),
            VerifyError::Type(None) => f.write_str("its header has no typ, and one is expected"),
            VerifyError::UnknownKey(Some(kid)) => {
                write!(f, "the JWKS has no key with its kid \"{kid}\"")
            }
            VerifyError::UnknownKey(None) => {
                f.write_str("it names no kid, and no key of the JWKS that was tried verifies it")
            }
            VerifyError::KeyNotForAlgorithm(algorithm) => {
                write!(f, "the key with its kid is not for its alg {algorithm}")
            }
            VerifyError::Signature => {
                f.write_str("its signature is not that of the key with its kid")
            }
            VerifyError::Payload => JwtError::BadPayload.fmt(f),
            VerifyError::Claim(error) => write!(f, "its claim {error}"),
            VerifyError::Expired(exp) => write!(f, "it has expired (exp {exp})"),
            VerifyError::NotYetValid(nbf) => write!(f, "it is not valid yet (nbf {nbf})"),
            VerifyError::Issuer(Some(iss)) => {
                write!(f, "its iss \"{iss}\" is not the issuer expected")
            }
            VerifyError::Issuer(None) => f.write_str("it has no iss"),
            VerifyError::Audience(Some(aud)) => {
                write!(f, "its aud (\"{aud}\") does not name the audience expected")
            }
            VerifyError::Audience(None) => f.write_str("it has no aud"),
        }
    }
}

impl std::error::Error for VerifyError {}

/// Verifies a JWT in compact form and returns its claims.
///
/// The checks are, in this order: its form and length; in the header unique names, `alg`, `crit`, `b64`, `typ`; then
/// the signature, with the keys of that `kid` (without one, with the first eight that fit the algorithm); in the
/// payload unique names at every depth, `exp`, `nbf`, `iss`, `aud`. A JWT without `exp` or `nbf` is not refused for
/// that.
///
/// # Errors
/// [`VerifyError`] when it fails one of them.
pub fn verify(
    jwt: &str,
    keys: &KeySet,
    expected: &Expected<'_>,
) -> Result<Map<String, Value>, VerifyError> {
    let parts = parts(jwt.as_bytes()).map_err(VerifyError::NotJwt)?;
    let header = decode(parts.header).map_err(VerifyError::NotJwt)?;
    let signature = decode(parts.signature).map_err(VerifyError::NotJwt)?;
    let header = Header::read(&header, expected)?;

    let signed_by = |key: &VerifyingKey| is_signed(&parts, &signature, header.algorithm, key);
    let named = |key: &&VerifyingKey| match &header.kid {
        Some(kid) => key.kid.as_deref() == Some(kid),
        None => true,
    };
    let fitting = |key: &&VerifyingKey| key.takes(header.algorithm);
    let mut candidates = keys
        .keys()
        .iter()
        .filter(named)
        .filter(fitting)
        .take(MAX_TRIED)
        .peekable();
    if candidates.peek().is_none()
        && header.kid.is_some()
        && keys.keys().iter().any(|key| named(&key))
    {
        return Err(VerifyError::KeyNotForAlgorithm(header.algorithm));
    }
    if candidates.peek().is_none() {
        return Err(VerifyError::UnknownKey(header.kid.as_deref().map(shown)));
    }
    if !candidates.any(signed_by) {
        return Err(match header.kid {
            Some(_) => VerifyError::Signature,
            None => VerifyError::UnknownKey(None),
        });
    }

    let payload = decode(parts.payload).map_err(VerifyError::NotJwt)?;
    let payload = object(&payload).map_err(|_| VerifyError::Payload)?;
    check_claims(&payload, expected)?;
    Ok(payload)
}

/// Whether a JWT is signed with a key.
pub(super) fn is_signed(
    parts: &Parts<'_>,
    signature: &Vec<u8>,
    algorithm: Algorithm,
    key: &VerifyingKey,
) -> bool {
    // The signed text: both parts unchanged, and the dot between them.
    let message = &parts.text[..parts.header.len() + 1 + parts.payload.len()];
    // Of this crate's own features, not of the process: another user of the library can't take it from us.
    (DEFAULT_PROVIDER.verifier_factory)(&algorithm.native(), &key.key)
        .is_ok_and(|verifier| verifier.verify(message.as_bytes(), signature).is_ok())
}

/// The parts of a header that verification uses.
struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
}

impl Header {
    fn read(json: &[u8], expected: &Expected<'_>) -> Result<Self, VerifyError> {
        const BAD: VerifyError = VerifyError::NotJwt(JwtError::BadHeader);
        let mut members = object(json).map_err(|error| match error {
            ObjectError::NotObject | ObjectError::Number => BAD,
            ObjectError::Duplicate => VerifyError::DuplicateInHeader,
        })?;
        let Some(Value::String(alg)) = members.get("alg") else {
            return Err(BAD);
        };
        let algorithm = Algorithm::from_name(alg)
            .filter(|algorithm| expected.algorithms.contains(algorithm))
            .ok_or_else(|| VerifyError::Algorithm(shown(alg)))?;
        if members.contains_key("crit") {
            return Err(VerifyError::Critical);
        }
        if members.get("b64").is_some_and(|b64| b64 != true) {
            return Err(VerifyError::Unencoded);
        }
        if let Some(types) = expected.types {
            let typ = match members.get("typ") {
                None => None,
                Some(Value::String(typ)) => Some(typ.as_str()),
                Some(_) => return Err(BAD),
            };
            if !types.iter().any(|one| same_type(one, typ.unwrap_or(""))) {
                return Err(VerifyError::Type(typ.map(shown)));
            }
        }
        let kid = match members.remove("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid),
            Some(_) => return Err(BAD),
        };
        Ok(Header { algorithm, kid })
    }
}

/// Whether two values of `typ` are one media type: `application/` may be left out where no other slash is.
fn same_type(one: &str, other: &str) -> bool {
    fn subtype(typ: &str) -> &str {
        const PREFIX: &str = "application/";
        match typ.split_at_checked(PREFIX.len()) {
            Some((prefix, rest))
                if prefix.eq_ignore_ascii_case(PREFIX)
                    && !rest.is_empty()
                    && !rest.contains('/') =>
            {
                rest
            }
            _ => typ,
        }
    }
    subtype(one).eq_ignore_ascii_case(subtype(other))
}

fn check_claims(payload: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), VerifyError> {
    let time = |name, error| {
        present(payload, name)
            .map(|value| seconds(value).ok_or(VerifyError::Claim(ClaimsError(error))))
            .transpose()
    };
    let exp = time("exp", "exp is not a number of seconds")?;
    let nbf = time("nbf", "nbf is not a number of seconds")?;
    if let Some(exp) = exp.filter(|&exp| exp <= expected.now) {
        return Err(VerifyError::Expired(exp));
    }
    if let Some(nbf) = nbf.filter(|&nbf| nbf > expected.now.saturating_add(expected.leeway)) {
        return Err(VerifyError::NotYetValid(nbf));
    }
    let iss = match present(payload, "iss") {
        None => None,
        Some(Value::String(iss)) => Some(iss.as_str()),
        Some(_) => return Err(VerifyError::Claim(ClaimsError("iss is not a string"))),
    };
    if expected.issuer.is_some() && iss != expected.issuer {
        return Err(VerifyError::Issuer(iss.map(shown)));
    }
    let aud = present(payload, "aud")
        .map(|value| {
            const ERROR: ClaimsError = ClaimsError("aud is neither a string nor a list of strings");
            list(value).ok_or(VerifyError::Claim(ERROR))
        })
        .transpose()?
        .unwrap_or_default();
    if let Some(audiences) = expected.audiences
        && !aud.iter().any(|aud| audiences.contains(&&**aud))
    {
        return Err(VerifyError::Audience(aud.first().map(|aud| shown(aud))));
    }
    Ok(())
}

/// The beginning of a text, without characters that a terminal or a log would interpret.
fn shown(text: &str) -> Box<str> {
    let mut shown = String::new();
    for char in text.chars().take(SHOWN) {
        if char.is_ascii() {
            shown.extend(char.escape_debug());
        } else {
            shown.extend(char.escape_unicode());
        }
    }
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown.into_boxed_str()
}

#[cfg(test)]
mod tests;
