//! Dialect `signed`: an introspection response that the server signs (RFC 9701).
//!
//! Only verified content is read. Verified are the signature with a key that the server publishes, and that the JWT is
//! an introspection response (`typ`), of our server (`iss`), and for us (`aud`). A response that is not signed is an
//! error whatever it says, since anybody could have written it.
//!
//! The response is about an access token and is not one itself (RFC 9701 §5). It goes upstream only where `forward
//! signed` says so; otherwise a JWT that is minted from it goes upstream.

use http::HeaderMap;
use serde_json::{Map, Value};

use super::answer::{NOT_BEFORE_LEEWAY, Reader, is_json, without_line_break};
use super::{kind, mint};
use crate::jwt::{self, Algorithm, Expected, TOKEN_INTROSPECTION, about_token};
use crate::{Error, Verdict};

/// The `typ` of the response (RFC 9701 §5).
const TYPE: &str = "token-introspection+jwt";

pub(super) fn read(
    reader: &Reader<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Verdict, Error> {
    if is_json(body) {
        // Its other contents do not matter: they are not trusted.
        return Err(reader.bad(
            "the answer is plain JSON, where dialect signed wants it signed (RFC 9701); let the server sign it (for most: \
             set introspection_signed_response_alg for this client, and have it answer Accept: \
             application/token-introspection+jwt), or set dialect mint",
        ));
    }
    let jwt = without_line_break(body);
    let dots = jwt.iter().filter(|&&byte| byte == b'.').count();
    if dots == 0 || jwt.trim_ascii_start().starts_with(b"<") {
        return Err(match reader.object(headers, body) {
            Err(error) => error,
            Ok(_) => reader.bad("the answer is not a JWT"),
        });
    }
    if dots == 4 {
        return Err(reader.bad(
            "the answer is encrypted (JWE), which can't be read here; remove introspection_encrypted_response_alg from \
             this client at the authorization server: TLS encrypts it already",
        ));
    }
    let (compact, _) = jwt::read_compact(jwt).map_err(|error| {
        reader.bad(&format!(
            "the answer is not a signed JWT in compact form: {error}; this is a fault of the authorization server"
        ))
    })?;
    let payload = verified(reader, compact.as_str())?;

    let Some(Value::Object(response)) = payload.get(TOKEN_INTROSPECTION) else {
        return Err(reader.bad(
            "the answer is signed but has no object token_introspection in it (RFC 9701 §5); this is a fault of the \
             authorization server",
        ));
    };
    if !reader.is_active(response)? {
        return Ok(Verdict::Inactive);
    }
    if let Some(refused) = kind::refused_by_answer(reader, response) {
        return Ok(refused);
    }
    // Not longer than the response itself is valid, if it says so.
    let mut bounds = Map::new();
    if let Some(exp) = payload.get("exp").filter(|exp| !exp.is_null()) {
        bounds.insert("exp".to_owned(), exp.clone());
    }
    let response = about_token(payload);
    match &reader.provider.acquisition.minting {
        None => reader.active(&compact, response, bounds),
        Some(minting) => mint::mint(reader, minting, response, bounds),
    }
}

/// The claims of a valid response.
fn verified(reader: &Reader<'_>, jwt: &str) -> Result<Map<String, Value>, Error> {
    // Neither can be missing: the configuration is refused without them.
    let (Some(issuer), Some(client_id)) = (
        reader.server.issuer.as_deref(),
        reader.provider.credentials.client_id.as_deref(),
    ) else {
        return Err(reader.bad("dialect signed needs issuer and client_id; set them"));
    };
    let listed = reader.server.introspection_signing_algorithms.as_deref();
    let algorithms: Vec<_> = match listed {
        None => Algorithm::ALL.to_vec(),
        Some(names) => names
            .iter()
            .filter_map(|name| Algorithm::from_name(name))
            .collect(),
    };
    if algorithms.is_empty() {
        return Err(reader.bad(
            "the server's metadata (introspection_signing_alg_values_supported) has no algorithm that can be verified \
             with a public key; let it sign with ES256, RS256, PS256 or EdDSA",
        ));
    }
    let expected = Expected {
        algorithms: &algorithms,
        types: Some(&[TYPE]),
        issuer: Some(issuer),
        audiences: Some(&[client_id]),
        now: reader.now,
        leeway: NOT_BEFORE_LEEWAY,
    };
    jwt::verify(jwt, reader.keys()?, &expected)
        .map_err(|error| reader.unverified("the signed answer", &error))
}
