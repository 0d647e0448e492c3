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
//! although a claim is wanted, or that know no other type. `signed` asks for what RFC 9701 §4 names, and `mint` for
//! plain JSON. `exchange` asks another question at another endpoint (RFC 8693).

mod answer;
mod auto;
mod exchange;
mod json;
mod jwt;
mod mint;
mod signed;
mod status;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use crate::config::Dialect;
use crate::jwt::KeySet;
use crate::server::{Endpoint, Server};
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

/// The call that asks `provider` about `token` (RFC 7662 §2.1, RFC 8693 §2.1).
pub fn request(provider: &Provider, token: Token<'_>) -> Request {
    let parameters = match provider.dialect {
        Dialect::Exchange => exchange::parameters(provider, token),
        _ => vec![
            ("token", token.expose()),
            ("token_type_hint", "access_token"),
        ],
    };
    let credentials = provider.form_credentials.expose().as_bytes();
    // Reserved in full (a byte takes at most three when encoded): a buffer that grows leaves a copy behind.
    let most: usize = parameters
        .iter()
        .map(|(name, value)| "&=".len() + name.len() + 3 * value.len())
        .sum();
    let mut body = Zeroizing::new(Vec::with_capacity(most + credentials.len()));
    for (name, value) in parameters {
        if !body.is_empty() {
            body.push(b'&');
        }
        body.extend_from_slice(name.as_bytes());
        body.push(b'=');
        for piece in form_urlencoded::byte_serialize(value.as_bytes()) {
            body.extend_from_slice(piece.as_bytes());
        }
    }
    body.extend_from_slice(credentials);

    let accept = match provider.dialect {
        Dialect::Jwt | Dialect::Auto => "application/jwt",
        Dialect::Signed => "application/token-introspection+jwt",
        Dialect::Json | Dialect::Exchange | Dialect::Mint => "application/json",
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

/// Whom an answer came from, and what it is read with.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// By whose dialect.
    pub provider: &'a Provider,
    /// What is known of the authorization server.
    pub server: &'a Server,
    /// Where it was asked.
    pub endpoint: &'a Endpoint,
    /// The keys that it publishes, if they are known.
    pub keys: Option<&'a KeySet>,
}

/// Reads an answer by the provider's dialect. `now` is in seconds since the epoch.
///
/// # Errors
/// Everything that is not a verdict. The message names provider and endpoint, what came, and what to do about
/// it; it holds nothing of the body but an error code of RFC 6749 §5.2, and of a JWT that does not verify the one member
/// that is wrong, cut and escaped. An answer that is signed with a key that is not among `keys` may be read again with
/// newer ones.
pub fn read(
    asked: &Asked<'_>,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Verdict, Error> {
    let reader = Reader { asked: *asked, now };
    match (status, asked.provider.dialect) {
        (200, dialect) => {
            reader.refuse_encoded(headers)?;
            match dialect {
                Dialect::Jwt => jwt::read(&reader, headers, body),
                Dialect::Json => json::read(&reader, headers, body),
                Dialect::Auto => auto::read(&reader, headers, body),
                Dialect::Signed => signed::read(&reader, headers, body),
                Dialect::Exchange => exchange::read(&reader, headers, body),
                Dialect::Mint => mint::read(&reader, headers, body),
            }
        }
        // How servers that answer with a bare JWT say that there is none.
        (204, Dialect::Jwt | Dialect::Auto) => Ok(Verdict::Inactive),
        (400, Dialect::Exchange) => exchange::bad_request(&reader, headers, body),
        (status, _) => Err(status::error(&reader, status, headers, body)),
    }
}

#[cfg(test)]
mod tests;
