//! The introspection protocol (RFC 7662), pure: what to send, and what an answer says. No I/O happens here.
//!
//! [`request`] makes the one call there is; [`read`] turns what came back into a verdict or an error. What an
//! answer says of a token is believed only when it says it in the form that the provider's dialect has; whatever
//! is unexpected is an error, which names the mend, and lets nobody through.
//!
//! # `Accept`
//!
//! Authorization servers choose the form of their answer by it, and not all of them read it as a list: Keycloak
//! compares it with `application/jwt` as it stands, and adds the `jwt` claim to its JSON only then. So it names
//! one type: `application/jwt` under `jwt` and `auto`, which Curity answers with a bare JWT and Keycloak with
//! JSON that holds one, and `application/json` under `json`, for servers that hand over a bare JWT when they can
//! although a claim is wanted, or that know no other type.

mod answer;
mod auto;
mod json;
mod jwt;
mod status;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use crate::config::Dialect;
use crate::server::Endpoint;
use crate::{Error, Provider, Token, Verdict};

use answer::Reader;

/// A call to make to one of the authorization server's endpoints.
pub struct Request {
    /// How.
    pub method: Method,
    /// Headers, credentials among them marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The form, percent-encoded.
    pub body: Zeroizing<Vec<u8>>,
}

impl Request {
    /// A call that gets a JSON document.
    pub(crate) fn get_json() -> Self {
        Request {
            method: Method::GET,
            headers: vec![(ACCEPT, HeaderValue::from_static("application/json"))],
            body: Zeroizing::default(),
        }
    }
}

/// The call that asks `provider` about `token` (RFC 7662 §2.1).
pub fn request(provider: &Provider, token: Token<'_>) -> Request {
    const TOKEN: &[u8] = b"token=";
    const HINT: &[u8] = b"&token_type_hint=access_token";

    let token = token.expose().as_bytes();
    let credentials = provider.form_credentials.expose().as_bytes();
    // Reserved in full (a byte takes at most three when encoded): a buffer that grows leaves a copy behind.
    let mut body = Zeroizing::new(Vec::with_capacity(
        TOKEN.len() + 3 * token.len() + HINT.len() + credentials.len(),
    ));
    body.extend_from_slice(TOKEN);
    for piece in form_urlencoded::byte_serialize(token) {
        body.extend_from_slice(piece.as_bytes());
    }
    body.extend_from_slice(HINT);
    body.extend_from_slice(credentials);

    let accept = match provider.dialect {
        Dialect::Jwt | Dialect::Auto => "application/jwt",
        Dialect::Json => "application/json",
    };
    let mut headers = Vec::with_capacity(3);
    headers.push((
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-www-form-urlencoded"),
    ));
    headers.push((ACCEPT, HeaderValue::from_static(accept)));
    if let Some(authorization) = &provider.authorization {
        headers.push((AUTHORIZATION, authorization.clone()));
    }
    Request {
        method: Method::POST,
        headers,
        body,
    }
}

/// Reads the answer that came from `endpoint` by the provider's dialect. `now` is in seconds since the epoch.
///
/// # Errors
/// Everything that is not a verdict. The message names provider and endpoint, what came, and what to do about
/// it; it holds nothing of the body but an error code of RFC 6749 §5.2.
pub fn read(
    provider: &Provider,
    endpoint: &Endpoint,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Verdict, Error> {
    let reader = Reader {
        provider,
        endpoint,
        now,
    };
    match (status, provider.dialect) {
        (200, dialect) => {
            reader.refuse_encoded(headers)?;
            match dialect {
                Dialect::Jwt => jwt::read(&reader, headers, body),
                Dialect::Json => json::read(&reader, headers, body),
                Dialect::Auto => auto::read(&reader, headers, body),
            }
        }
        // How servers that answer with a bare JWT say that there is none.
        (204, Dialect::Jwt | Dialect::Auto) => Ok(Verdict::Inactive),
        (status, _) => Err(status::error(&reader, status, headers, body)),
    }
}

#[cfg(test)]
mod tests;
