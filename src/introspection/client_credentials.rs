//! An access token of our own (RFC 6749 §4.4): the request to the token endpoint, and its answer. Pure.
//!
//! With `client_auth client_credentials` this token authenticates us at the introspection endpoint. RFC 7662 §2.1
//! allows that beside client authentication, and some servers support nothing else.

use http::HeaderMap;
use serde_json::Value;

use crate::introspection;
use crate::oauth::ClientAuth;
use crate::oauth::Request;
use crate::oauth::{Endpoint, Server};
use crate::secret::Secret;
use crate::{Error, ErrorKind, Provider, Token, jwt};

/// The default lifetime of a token without a stated one, in seconds. If the token expires earlier, its refusal tells.
const USUAL_LIFETIME: u64 = 300;
/// The maximum lifetime that is accepted: a day.
const LONGEST_LIFETIME: u64 = 86_400;

/// An access token, and its lifetime in seconds.
pub(crate) struct Granted {
    pub token: Secret,
    pub lifetime: u64,
}

/// The request for a token. `now` is in seconds since the epoch.
///
/// # Errors
/// [`ErrorKind::Internal`] when our credentials can't be made.
pub(crate) fn request(
    provider: &Provider,
    server: &Server,
    endpoint: &Endpoint,
    now: i64,
) -> Result<Request, Error> {
    let credentials = &provider.credentials;
    let method = credentials.method_at_token_endpoint(server);
    let mut request = Request::form(method, "application/json");
    request.add(&[("grant_type", "client_credentials")]);
    if let Some(scope) = &credentials.scope {
        request.add(&[("scope", scope)]);
    }
    let issuer = server.issuer.as_deref();
    credentials.apply(method, endpoint, issuer, now, &mut request)?;
    Ok(request)
}

/// Reads the answer of `endpoint` to a call that was authenticated with `client_auth`. `now` is in seconds since the
/// epoch.
///
/// # Errors
/// Any answer that is not a token. The message names the provider, the endpoint, the answer, and the fix. It contains
/// nothing of the body except an error code of RFC 6749 §5.2.
pub(crate) fn read(
    provider: &Provider,
    endpoint: &Endpoint,
    client_auth: ClientAuth,
    (status, headers, body): (u16, &HeaderMap, &[u8]),
    now: i64,
) -> Result<Granted, Error> {
    let error = |kind, what: &str| {
        Error::new(
            kind,
            format!(
                "{}: no access token for client_auth client_credentials: {what}",
                provider.place(endpoint)
            ),
        )
    };
    let bad = |what: &str| error(ErrorKind::BadAnswer, what);
    if introspection::is_encoded(headers) {
        return Err(bad(
            "the answer has a Content-Encoding although none was asked for; turn off compression at the authorization \
             server, or at the proxy in front of it",
        ));
    }
    if status != 200 {
        let code = introspection::error_code(body);
        let code = code.as_deref();
        let said = match code {
            Some(code) => format!("{status}, {code}"),
            None => status.to_string(),
        };
        return Err(match (status, code) {
            (401, _) | (400, Some("invalid_client")) => error(
                ErrorKind::ClientRefused,
                &format!(
                    "the authorization server refuses our client authentication ({said}; {}); check that {}",
                    client_auth.as_str(),
                    introspection::what_to_check(client_auth)
                ),
            ),
            (400, Some("unauthorized_client" | "unsupported_grant_type")) | (403, _) => error(
                ErrorKind::ClientRefused,
                &format!(
                    "the authorization server does not grant one ({said}); let this client have the grant \
                     client_credentials"
                ),
            ),
            (400, Some("invalid_scope")) => error(
                ErrorKind::ClientRefused,
                &format!(
                    "the authorization server does not grant its scope ({said}); check client_credentials_scope"
                ),
            ),
            (429 | 503, _) => error(
                ErrorKind::Busy,
                &format!("the authorization server is busy ({said})"),
            )
            .with_retry_after(introspection::retry_after(headers, now)),
            (500..=599, _) => bad(&format!(
                "the authorization server failed ({said}); its own log says why"
            ))
            .with_server_failed(),
            (300..=399, _) => bad(&format!(
                "the answer is a redirect ({said}), and redirects are not followed; set token_endpoint to the URL that \
                 it leads to"
            )),
            _ => bad(&format!(
                "the answer has the unexpected status {said}; check token_endpoint"
            )),
        });
    }
    let mut members = jwt::object(body).map_err(|_| {
        bad("the answer is not a JSON object with unique names; is this the token endpoint?")
    })?;
    match members.get("token_type") {
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => {}
        Some(Value::String(_)) => {
            return Err(bad(
                "its token_type is not Bearer, and no other kind can be used here; let the server give this client \
                 bearer tokens",
            ));
        }
        _ => {
            return Err(bad(
                "the answer has no token_type, so it is no token response (RFC 6749 §5.1); is this the token endpoint?",
            ));
        }
    }
    let token = match members.remove("access_token") {
        Some(Value::String(token)) => Secret::new(token),
        _ => {
            return Err(bad(
                "the answer has no access_token, so it is no token response (RFC 6749 §5.1); is this the token endpoint?",
            ));
        }
    };
    if Token::parse(token.expose().as_bytes()).is_err() {
        return Err(bad(
            "the access token is none that can stand in a header (RFC 6750 §2.1); this is a fault of the authorization \
             server",
        ));
    }
    let lifetime = match members.get("expires_in") {
        None | Some(Value::Null) => USUAL_LIFETIME,
        // Some servers put it in quotes.
        Some(Value::String(text)) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse().unwrap_or(USUAL_LIFETIME)
        }
        Some(value) => match value.as_u64() {
            Some(seconds) => seconds,
            None => {
                return Err(bad(
                    "its expires_in is not a number of seconds; this is a fault of the authorization server",
                ));
            }
        },
    };
    Ok(Granted {
        token,
        lifetime: lifetime.min(LONGEST_LIFETIME),
    })
}

#[cfg(test)]
mod tests;
