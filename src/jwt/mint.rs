//! What the JWTs that we sign ourselves say.

use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::claims::{present, seconds};
use super::sign::{NO_RANDOM_BYTES, SigningError};
use super::{ClaimsError, check_compact};

/// The claims of a JWT that stands for an opaque token, made of an introspection response (RFC 7662 §2.2) and shaped as
/// RFC 9068 §2.2 has it.
///
/// What the server says of the token is kept as it is, but for `active`, members that are `null`, and members that are
/// themselves a JWT: those would be credentials in the hand of every API. Where `allow` is given, only what it names is
/// kept of the rest, and in any case nothing that `deny` names. Ours are `iss`, `iat`, `exp` and `jti`, whatever the server
/// and both lists say: `exp` is `now` and `lifetime_cap`, or the token's own where that is earlier.
///
/// Nothing is made up: a response without `sub` or `aud` gives a JWT without.
///
/// # Errors
/// [`SigningError`] when the response's `exp` is not a number of seconds, and when the system has no random bytes.
pub fn minted_claims(
    introspection: Map<String, Value>,
    issuer: &str,
    now: i64,
    lifetime_cap: Duration,
    allow: Option<&[String]>,
    deny: &[String],
) -> Result<Map<String, Value>, SigningError> {
    let mut exp = now.saturating_add_unsigned(lifetime_cap.as_secs());
    if let Some(token) = present(&introspection, "exp") {
        const ERROR: ClaimsError = ClaimsError("exp is not a number of seconds");
        exp = exp.min(seconds(token).ok_or_else(|| SigningError::new(ERROR.0))?);
    }
    let is_jwt = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| check_compact(text.trim().as_bytes()).is_ok())
    };
    let kept = |name: &String, value: &Value| {
        name != "active"
            && !value.is_null()
            && !is_jwt(value)
            && allow.is_none_or(|allow| allow.contains(name))
            && !deny.contains(name)
    };
    let mut claims: Map<String, Value> = introspection
        .into_iter()
        .filter(|(name, value)| kept(name, value))
        .collect();
    for (name, value) in [
        ("iss", issuer.into()),
        ("iat", now.into()),
        ("exp", exp.into()),
        ("jti", random_id()?.into()),
    ] {
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}

/// The claims with which a client authenticates at a server: RFC 7523 §3, OpenID Connect Core §9. `audience` is what the
/// server wants to be called, its issuer or one of its endpoints; no server takes the same `jti` twice.
///
/// # Errors
/// [`SigningError`] when the system has no random bytes.
pub fn client_assertion_claims(
    client_id: &str,
    audience: &str,
    now: i64,
    lifetime: Duration,
) -> Result<Map<String, Value>, SigningError> {
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": now,
        "exp": now.saturating_add_unsigned(lifetime.as_secs()),
        "jti": random_id()?,
    });
    match claims {
        Value::Object(claims) => Ok(claims),
        _ => Ok(Map::new()),
    }
}

/// 128 random bits, in base64url.
fn random_id() -> Result<String, SigningError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| SigningError::new(NO_RANDOM_BYTES))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
