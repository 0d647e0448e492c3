//! The introspection of a token that is to be exchanged.
//!
//! A token may be bound to a key of its sender (`cnf`). A server that exchanges the token need not say so: RFC 8693
//! leaves open whether the issued token is bound, to whom, and whether the server checks the binding of the token it
//! receives. A stolen token would become a bearer token again. So the token is introspected first (RFC 7662), and its
//! binding and its expiry apply to the JWT.

use http::HeaderMap;
use serde_json::{Map, Value};

use super::answer::Reader;
use super::{AnswerContext, Reading, Request, kind};
use crate::jwt;
use crate::oauth::{Endpoint, Server};
use crate::{Error, Provider, Token, Verdict};

/// An introspected token, as far as it matters for the exchange.
pub(crate) enum SubjectToken {
    /// The token is active. Contains the members of the answer that apply to the JWT as well.
    Active(Map<String, Value>),
    /// The token is inactive: there is nothing to exchange.
    Inactive {
        /// A line for the log.
        note: Option<String>,
    },
}

/// Whether a token is introspected before it is exchanged at `server`. The metadata of a server, if known, says whether
/// the server binds tokens to keys: to the keys of DPoP proofs (RFC 9449 §5.1) or to certificates (RFC 8705 §3.3).
pub(crate) fn is_wanted(provider: &Provider, server: &Server) -> bool {
    use crate::config::Dialect::Exchange;
    let set = provider.acquisition.exchange.introspect;
    provider.dialect == Exchange && set.unwrap_or(server.binds_tokens != Some(false))
}

/// The request that introspects a token before it is exchanged.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] when our credentials can't be made.
pub(crate) fn request(
    provider: &Provider,
    server: &Server,
    endpoint: &Endpoint,
    token: Token<'_>,
    now: i64,
) -> Result<Request, Error> {
    let credentials = &provider.credentials;
    // With `client_credentials`, the access token of our own is not obtained for this dialect.
    let client_auth = match credentials.method_at_introspection(server) {
        crate::oauth::ClientAuth::ClientCredentials => credentials.method_at_token_endpoint(server),
        method => method,
    };
    let mut request = Request::form(client_auth, "application/json");
    request.add(&[
        ("token", token.expose()),
        ("token_type_hint", "access_token"),
    ]);
    let issuer = server.issuer.as_deref();
    credentials.apply(client_auth, endpoint, issuer, now, &mut request)?;
    Ok(request)
}

/// Reads the answer.
///
/// # Errors
/// As [`super::read`].
pub(crate) fn read(
    asked: &AnswerContext<'_>,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<SubjectToken, Error> {
    let reader = Reader::new(asked, now);
    if status != 200 {
        return Err(super::status::error(&reader, status, headers, body));
    }
    reader.refuse_encoded(headers)?;
    let mut response = reader.object(headers, body)?;
    if !reader.is_active(&response)? {
        return Ok(SubjectToken::Inactive { note: None });
    }
    // The request tells the server to exchange an access token, and the server checks that itself.
    if kind::refused_as_other(&reader, &response).is_some() {
        return Ok(SubjectToken::Inactive {
            note: reader.into_note(),
        });
    }
    response
        .retain(|name, value| matches!(name.as_str(), "cnf" | "exp" | "nbf") && !value.is_null());
    Ok(SubjectToken::Active(response))
}

/// Applies the known properties of the token to the token that it was exchanged for.
///
/// # Errors
/// [`crate::ErrorKind::BadAnswer`] when a member has the wrong form.
pub(crate) fn applied(
    asked: &AnswerContext<'_>,
    reading: Reading,
    subject: &Map<String, Value>,
    now: i64,
) -> Result<Reading, Error> {
    let Verdict::Active(active) = &reading.verdict else {
        return Ok(reading);
    };
    if subject.is_empty() {
        return Ok(reading);
    }
    let reader = Reader::new(asked, now);
    let unreadable = |_| reader.bad("what the token was exchanged for can't be read again");
    let (compact, payload) = jwt::read_compact(active.jwt_after_sender_check().as_bytes())
        .map_err(|error| {
            reader.bad(&format!(
                "what the token was exchanged for is not a JWT: {error}"
            ))
        })?;
    let mut response = match active.extra_claims() {
        "" => Map::new(),
        text => jwt::object(text.as_bytes()).map_err(unreadable)?,
    };
    for (name, value) in subject {
        let stricter = match (name.as_str(), response.get(name).and_then(jwt::seconds)) {
            ("exp", Some(exp)) => jwt::seconds(value).is_none_or(|other| other < exp),
            ("nbf", Some(nbf)) => jwt::seconds(value).is_none_or(|other| other > nbf),
            _ => true,
        };
        if stricter {
            response.insert(name.clone(), value.clone());
        }
    }
    let verdict = reader.active(&compact, payload, response)?;
    Ok(Reading {
        verdict,
        note: reading.note,
    })
}
