//! Dialect `exchange`: the token is exchanged for a JWT at the token endpoint (RFC 8693).
//!
//! A server that exchanges a token says by that that the token is active; there is no other sign of it. It reports an
//! inactive token with `invalid_grant` or `invalid_request`; but a request that is wrong in itself is an
//! `invalid_request` as well (§2.2.2). The subject of `error_description` tells the two apart: where it names a
//! parameter that we choose, the token is not at fault. Neither gives access; the difference is who is notified.

use http::HeaderMap;
use serde_json::{Map, Value};

use super::answer::{Reader, is_encoded};
use super::status;
use crate::config::TokenType;
use crate::{Error, ErrorKind, Provider, Token, Verdict, jwt};

/// The grant, as metadata lists it.
pub(super) const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// The parameters of a token exchange request (RFC 8693 §2.1).
pub(super) fn parameters<'a>(provider: &'a Provider, token: Token<'a>) -> Vec<(&'a str, &'a str)> {
    let exchange = &provider.acquisition.exchange;
    let mut parameters = vec![
        ("grant_type", GRANT),
        ("subject_token", token.expose()),
        ("subject_token_type", ACCESS_TOKEN),
        ("requested_token_type", urn(exchange.token_type)),
    ];
    let ours = &exchange.parameters;
    parameters.extend(ours.iter().map(|(name, value)| (*name, value.as_str())));
    parameters
}

fn urn(token_type: TokenType) -> &'static str {
    match token_type {
        TokenType::Jwt => JWT,
        TokenType::AccessToken => ACCESS_TOKEN,
    }
}

pub(super) fn read(
    reader: &Reader<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Verdict, Error> {
    let mut answer = reader.object(headers, body)?;
    match answer.get("issued_token_type") {
        // It is required, but some servers leave it out; the issued token must be a JWT in any case.
        None | Some(Value::Null) => {}
        Some(Value::String(issued)) if issued == JWT || issued == ACCESS_TOKEN => {}
        Some(_) => {
            return Err(reader.bad(
                "the token was exchanged, but for something that is neither a JWT nor an access token \
                 (issued_token_type); set exchange_token_type to the other one, or let the server issue what is asked for",
            ));
        }
    }
    match answer.get("token_type") {
        None | Some(Value::Null) => {}
        Some(Value::String(kind))
            if kind.eq_ignore_ascii_case("Bearer") || kind.eq_ignore_ascii_case("N_A") => {}
        Some(_) => {
            return Err(reader.bad(
                "the token was exchanged for one that can't be sent as a bearer token (token_type); let the server issue \
                 bearer tokens to this client",
            ));
        }
    }
    let Some(Value::String(issued)) = answer.remove("access_token") else {
        return Err(reader.bad(&format!(
            "the answer has no access_token, so it is no token response (RFC 8693 §2.2.1); {}",
            reader.is_this()
        )));
    };
    if !issued.contains('.') {
        return Err(reader.bad(
            "the token was exchanged, but for an opaque token, where a JWT is wanted; set exchange_token_type to the other \
             one (jwt, access_token), or let the server issue JWTs to this client",
        ));
    }
    let mut response = Map::new();
    if let Some(lifetime) = answer.get("expires_in").filter(|value| !value.is_null()) {
        let lifetime = jwt::seconds(lifetime).ok_or_else(|| {
            reader.bad(
                "the answer's expires_in is not a number of seconds; this is a fault of the authorization server",
            )
        })?;
        let exp = reader.now.saturating_add(lifetime);
        response.insert("exp".to_owned(), exp.into());
    }
    // It is present where it differs from the requested scope (RFC 6749 §5.1).
    if let Some(scope) = answer.remove("scope") {
        response.insert("scope".to_owned(), scope);
    }
    reader.verdict(issued.as_bytes(), response)
}

/// Status 400 (RFC 6749 §5.2, RFC 8693 §2.2.2).
pub(super) fn bad_request(
    reader: &Reader<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Verdict, Error> {
    let bad = |what: &str| Err(reader.bad(what));
    let code = (!is_encoded(headers))
        .then(|| status::error_code(body))
        .flatten();
    match code.as_deref() {
        Some("invalid_grant") => Ok(Verdict::Inactive),
        Some("invalid_request") if !is_about_request(body) => Ok(Verdict::Inactive),
        Some("invalid_request") => bad(
            "the authorization server refuses the request itself and not the token (400, invalid_request); check \
             exchange_token_type, exchange_audience, exchange_resource and exchange_scope, and that this client may \
             exchange tokens",
        ),
        Some("invalid_target") => bad(
            "the authorization server issues no token for this target (400, invalid_target); check exchange_audience and \
             exchange_resource",
        ),
        Some("invalid_scope") => bad(
            "the authorization server does not grant this scope (400, invalid_scope); check exchange_scope",
        ),
        Some("unsupported_grant_type") => bad(
            "the authorization server does not exchange tokens (400, unsupported_grant_type), or not for this client; let \
             it, or set another dialect: mint does with plain introspection",
        ),
        Some("access_denied") => Err(reader.error(
            ErrorKind::ClientRefused,
            "the authorization server does not let us exchange this token (400, access_denied); let this client exchange \
             tokens, for the audience in exchange_audience if that is set",
        )),
        _ => Err(status::error(reader, 400, headers, body)),
    }
}

/// Whether the description of an error is about parameters that the configuration chooses. This decides only who is
/// notified.
fn is_about_request(body: &[u8]) -> bool {
    const OURS: [&str; 9] = [
        "requested_token_type",
        "subject_token_type",
        "grant_type",
        "audience",
        "resource",
        "scope",
        "not enabled",
        "not supported",
        "unsupported",
    ];
    let Ok(members) = jwt::object(body) else {
        return false;
    };
    let Some(text) = members.get("error_description").and_then(Value::as_str) else {
        return false;
    };
    let text = text.to_ascii_lowercase();
    OURS.iter().any(|ours| text.contains(ours))
}
