//! Answers that hold no verdict by their status.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderMap;
use http::header::RETRY_AFTER;

use super::answer::{Reader, is_encoded};
use crate::config::Dialect;
use crate::oauth::ClientAuth;
use crate::oauth::Purpose;
use crate::{Error, ErrorKind, jwt};

const LEAST_WAIT: u64 = 1;
const LONGEST_WAIT: u64 = 3600;

pub(super) fn error(reader: &Reader<'_>, status: u16, headers: &HeaderMap, body: &[u8]) -> Error {
    if reader.endpoint.host.is_some()
        && let Some(error) = of_host(reader, status)
    {
        return error;
    }
    let key = reader.endpoint.purpose.key();
    let verb = match reader.endpoint.purpose {
        Purpose::Token => "exchange",
        _ => "introspect",
    };
    match status {
        204 => reader.bad(&format!(
            "the answer is empty (204), where dialect {} wants one; a server that says in this way that a token is not \
             active needs dialect jwt or auto",
            reader.provider.dialect.as_str()
        )),
        300..=399 => reader.bad(&format!(
            "the answer is a redirect ({status}), and redirects are not followed; set {key} to the URL that it leads to"
        )),
        400 => bad_request(reader, headers, body),
        401 => refused(reader, "401"),
        403 => reader.error(
            ErrorKind::ClientRefused,
            &format!(
                "the authorization server does not let us {verb} (403; client_auth {}); let this client {verb} tokens, and \
                 check that {}",
                reader.client_auth.as_str(),
                what_to_check(reader.client_auth)
            ),
        ),
        404 => reader.bad(&format!(
            "there is nothing at this URL (404); set {key} to the one that the authorization server's metadata names \
             (RFC 8414)"
        )),
        429 | 503 => reader
            .error(
                ErrorKind::Busy,
                &format!("the authorization server is busy ({status}); it may need more capacity, or a higher limit for us"),
            )
            .with_retry_after(retry_after(headers, reader.now)),
        405 | 406 | 415 => reader.bad(&format!(
            "the server takes no such request at this URL ({status}); check {key}, and with 406 try {}",
            if reader.provider.dialect == Dialect::Signed {
                "dialect mint: it may not sign its answers"
            } else {
                "dialect json"
            }
        )),
        500..=599 => reader
            .bad(&format!(
                "the authorization server failed ({status}); its own log says why"
            ))
            .with_server_failed(),
        _ => reader.bad(&format!(
            "the answer has the unexpected status {status}; {}",
            reader.is_this()
        )),
    }
}

/// The error for an answer that the host gives in place of the authorization server, or that only the host can fix.
/// `None` for all other answers.
fn of_host(reader: &Reader<'_>, status: u16) -> Option<Error> {
    let error = match status {
        401 | 403 => reader.error(
            ErrorKind::ClientRefused,
            &format!(
                "the authorization server refuses the credentials that are sent from there ({status}); check that they are \
                 right, and that this client may introspect tokens"
            ),
        ),
        404 => reader.bad(
            "there is nothing (404); check that introspection_endpoint is the name of what passes the call on, and that it \
             passes it on to the authorization server's introspection endpoint",
        ),
        405 | 406 | 415 => reader.bad(&format!(
            "no such request is taken ({status}); check that the call is passed on as it is, to the authorization \
             server's introspection endpoint"
        )),
        // The answers of a gateway about its upstream (RFC 9110 §15.6.3, §15.6.5).
        502 => reader.error(
            ErrorKind::Unreachable,
            "the authorization server can't be reached from there, or what it answers is not HTTP (502); the lines \
             before this one may say why",
        ),
        504 => reader.error(
            ErrorKind::Timeout,
            "the authorization server did not answer in time (504); it is too slow, or the timeouts set there are too \
             short",
        ),
        _ => return None,
    };
    Some(error)
}

/// RFC 7662 §2.2 has no 400 for an inactive token. The status is about the request, so it is no verdict.
fn bad_request(reader: &Reader<'_>, headers: &HeaderMap, body: &[u8]) -> Error {
    let key = reader.endpoint.purpose.key();
    let code = if is_encoded(headers) {
        None
    } else {
        error_code(body)
    };
    match code.as_deref() {
        // A client that authenticates in the form may be refused in this way (RFC 6749 §5.2).
        Some(code @ ("invalid_client" | "unauthorized_client")) => {
            refused(reader, &format!("400, {code}"))
        }
        Some(code) => reader.bad(&format!(
            "the authorization server refuses the request (400, {code}); check {key} and client_auth"
        )),
        None => reader.bad(&format!(
            "the authorization server refuses the request (400); check {key} and client_auth"
        )),
    }
}

fn refused(reader: &Reader<'_>, how: &str) -> Error {
    let method = reader.client_auth;
    reader.error(
        ErrorKind::ClientRefused,
        &format!(
            "the authorization server refuses our client authentication ({how}; client_auth {}); check that {}",
            method.as_str(),
            what_to_check(method)
        ),
    )
}

pub(crate) fn what_to_check(method: ClientAuth) -> &'static str {
    match method {
        ClientAuth::ClientSecretBasic => {
            "client_id and the client secret are right, and that the server takes client_secret_basic (else set \
             client_auth client_secret_post)"
        }
        ClientAuth::ClientSecretPost => {
            "client_id and the client secret are right, and that the server takes client_secret_post (else set \
             client_auth client_secret_basic)"
        }
        ClientAuth::ClientSecretJwt => {
            "client_id and the client secret are right, that the server takes client_secret_jwt with HS256, that this \
             machine's clock is right, and that assertion_audience is what the server wants"
        }
        ClientAuth::PrivateKeyJwt => {
            "client_id is right, that the server knows the public key of private_key by the same kid (private_key_id) \
             and takes its algorithm, that this machine's clock is right, and that assertion_audience is what the \
             server wants"
        }
        ClientAuth::TlsClientAuth => {
            "client_id is right, and that ssl_certificate is the one whose subject the server knows this client by"
        }
        ClientAuth::SelfSignedTlsClientAuth => {
            "client_id is right, and that the server knows ssl_certificate by the keys of this client"
        }
        ClientAuth::Bearer => "the bearer token is right and has not expired",
        ClientAuth::ClientCredentials => {
            "an access token that this client is granted lets it introspect: client_credentials_scope may have to name a \
             scope for that"
        }
        ClientAuth::None => {
            "the server lets anybody introspect; if not, set client_id and client_secret, or bearer_token"
        }
    }
}

/// The error code of RFC 6749 §5.2, if it is one: a short word that can do no harm in a log.
pub(crate) fn error_code(body: &[u8]) -> Option<String> {
    let members = jwt::object(body).ok()?;
    let code = members.get("error")?.as_str()?;
    let is_word = (1..=40).contains(&code.len())
        && code
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_word.then(|| code.to_owned())
}

/// The time of the next attempt (RFC 9110 §10.2.3): seconds, or a date. It is limited: servers that say "tomorrow" are
/// back sooner than that.
pub(crate) fn retry_after(headers: &HeaderMap, now: i64) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        value.parse().unwrap_or(u64::MAX)
    } else {
        let at = httpdate::parse_http_date(value).ok()?;
        let at = at.duration_since(UNIX_EPOCH).ok()?.as_secs();
        at.saturating_sub(u64::try_from(now).unwrap_or(0))
    };
    Some(Duration::from_secs(seconds.clamp(LEAST_WAIT, LONGEST_WAIT)))
}
