//! Dialect `mint`: the server answers plain RFC 7662, and the gateway signs a JWT with the claims of the answer.
//!
//! A JWT is minted when an answer is read, and cached like a JWT from the server: once for each entry, not for each
//! request. It is never valid for longer than the token.

use http::HeaderMap;
use serde_json::{Map, Value};

use super::answer::{Reader, without_line_break};
use super::kind;
use crate::config::Minting;
use crate::jwt::{self, MAX_JWT_LENGTH, TOKEN_INTROSPECTION};
use crate::{Error, ErrorKind, Verdict};

/// The `typ` of a minted JWT (RFC 9068 §2.1).
const TYPE: &str = "at+jwt";

pub(super) fn read(
    reader: &Reader<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Verdict, Error> {
    if jwt::check_compact(without_line_break(body)).is_ok() {
        return Err(reader.bad(
            "the answer is a JWT, where dialect mint wants plain JSON (RFC 7662); set dialect jwt, or, if it is a signed \
             introspection response (RFC 9701), dialect signed",
        ));
    }
    let response = reader.object(headers, body)?;
    if !reader.is_active(&response)? {
        return Ok(Verdict::Inactive);
    }
    if let Some(refused) = kind::refused_by_answer(reader, &response) {
        return Ok(refused);
    }
    match &reader.provider.acquisition.minting {
        Some(minting) => mint(reader, minting, response, Map::new()),
        // The configuration is refused without it.
        None => Err(reader.bad("dialect mint needs mint_key and mint_issuer; set them")),
    }
}

/// The verdict on an active token with this `response`, with a JWT that is minted from it. `bounds` may shorten its
/// lifetime.
pub(super) fn mint(
    reader: &Reader<'_>,
    minting: &Minting,
    mut response: Map<String, Value>,
    bounds: Map<String, Value>,
) -> Result<Verdict, Error> {
    response.remove("active");
    // Its subjects would be mistaken for those of the configured server: an API knows both by our name.
    if let (Some(Value::String(iss)), Some(issuer)) = (response.get("iss"), &reader.server.issuer)
        && iss != issuer
    {
        return Ok(reader.refuse(
            "the answer says that another issuer has issued it (iss) than the one in issuer; check that setting",
        ));
    }
    // A JWT that has this member is about another (RFC 9701 §5).
    response.remove(TOKEN_INTROSPECTION);
    // A bound token must not become an unbound one because the claim has the wrong form.
    if response.get("cnf").is_some_and(is_jwt) {
        return Err(reader.bad(
            "the token is bound to a key (cnf), but by a JWT where RFC 7800 §3.1 has an object; this is a fault of the \
             authorization server",
        ));
    }
    // A JWT in it is a credential and not a claim. It belongs neither in the JWT nor in a log.
    response.retain(|_, value| !is_jwt(value));
    let failed = |what: &str| reader.error(ErrorKind::Internal, what);

    let mut claims = jwt::minted_claims(
        response.clone(),
        &minting.issuer,
        reader.now,
        minting.ttl,
        minting.allow.as_deref(),
        &minting.deny,
    )
    .map_err(|error| {
        reader.bad(&format!(
            "no JWT can be minted of the answer: {error}; if it is a claim that is wrong, this is a fault of the \
             authorization server"
        ))
    })?;
    if let Some(bound) = bounds.get("exp") {
        shorten(&mut claims, bound);
    }
    // An expired token is not worth a signature.
    let exp = claims.get("exp").and_then(Value::as_i64);
    if exp.is_none_or(|exp| exp <= reader.now) {
        return Ok(Verdict::Inactive);
    }
    let key = minting
        .keys
        .first()
        .ok_or_else(|| failed("there is no key to mint with"))?;
    let jwt = key
        .sign(Some(TYPE), &claims)
        .map_err(|error| failed(&format!("no JWT can be minted: {error}")))?;
    if jwt.len() > MAX_JWT_LENGTH {
        return Err(reader.bad(
            "a JWT of all that the answer says would be longer than 64 KiB; choose from it with mint_claims",
        ));
    }
    let (compact, payload) = jwt::read_compact(jwt.as_bytes())
        .map_err(|error| failed(&format!("what was minted is no JWT: {error}")))?;
    // Our own claims in it are not the server's.
    for name in ["iss", "iat", "exp", "jti"] {
        response.remove(name);
    }
    reader.active(&compact, payload, response)
}

fn is_jwt(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| jwt::check_compact(text.trim().as_bytes()).is_ok())
}

/// Shortens the claims' expiry to that of `bound`.
fn shorten(claims: &mut Map<String, Value>, bound: &Value) {
    let Some(bound) = jwt::seconds(bound) else {
        return;
    };
    let exp = claims.get("exp").and_then(Value::as_i64).unwrap_or(bound);
    claims.insert("exp".to_owned(), exp.min(bound).into());
}
