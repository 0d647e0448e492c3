//! The introspection protocol (RFC 7662), pure: the request, and the meaning of an answer. No I/O happens here.
//!
//! [`request`] makes the only kind of call; [`read`] turns the response into a verdict or an error. A statement about a
//! token is accepted only in the form that the provider's dialect has. Anything unexpected is an error, which names the
//! fix, and gives no access.
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
pub(crate) mod client_credentials;
mod exchange;
mod json;
mod jwt;
mod kind;
mod mint;
mod signed;
mod status;
pub(crate) mod subject_token;

use http::HeaderMap;

use crate::config::Dialect;
use crate::jwt::KeySet;
use crate::oauth::{ClientAuth, Endpoint, Request, Server};
use crate::{Error, Provider, Token, Verdict};

use answer::Reader;
pub(crate) use answer::is_encoded;
pub(crate) use status::{error_code, retry_after, what_to_check};

/// The request that asks `server` at `endpoint` about `token` (RFC 7662 §2.1, RFC 8693 §2.1), with credentials for this
/// one call. `now` is in seconds since the epoch.
///
/// # Errors
/// [`crate::ErrorKind::Internal`] when our credentials can't be made.
pub fn request(
    provider: &Provider,
    server: &Server,
    endpoint: &Endpoint,
    token: Token<'_>,
    now: i64,
) -> Result<Request, Error> {
    let credentials = &provider.credentials;
    let client_auth = provider.client_auth(server);
    let accept = match provider.dialect {
        Dialect::Jwt | Dialect::Auto => "application/jwt",
        Dialect::Signed => "application/token-introspection+jwt",
        Dialect::Json | Dialect::Exchange | Dialect::Mint => "application/json",
    };
    let mut request = Request::form(client_auth, accept);
    match provider.dialect {
        Dialect::Exchange => request.add(&exchange::parameters(provider, token)),
        _ => request.add(&[
            ("token", token.expose()),
            ("token_type_hint", "access_token"),
        ]),
    }
    let issuer = server.issuer.as_deref();
    credentials.apply(client_auth, endpoint, issuer, now, &mut request)?;
    Ok(request)
}

/// The origin of an answer, and the data to read it with.
#[derive(Clone, Copy)]
pub struct AnswerContext<'a> {
    /// The provider, whose dialect is used.
    pub provider: &'a Provider,
    /// The metadata and endpoints of the authorization server.
    pub server: &'a Server,
    /// The endpoint that was asked.
    pub endpoint: &'a Endpoint,
    /// The client authentication of the call.
    pub client_auth: ClientAuth,
    /// The keys that the server publishes, if they are known.
    pub keys: Option<&'a KeySet>,
}

/// An answer that has been read.
pub(crate) struct Reading {
    pub verdict: Verdict,
    /// The reason why a token is refused that the server calls active: a line for the log.
    pub note: Option<String>,
}

/// Reads an answer by the provider's dialect. `now` is in seconds since the epoch.
///
/// # Errors
/// Any answer that is not a verdict. The message names the provider, the endpoint, the answer, and the fix. It contains
/// nothing of the body except an error code of RFC 6749 §5.2 and, of a JWT that does not verify, the one wrong member,
/// cut and escaped. An answer that is signed with a key that is not among `keys` may be read again with newer keys.
#[cfg(any(test, feature = "fuzzing"))]
pub fn read(
    asked: &AnswerContext<'_>,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Verdict, Error> {
    read_noting(asked, status, headers, body, now).map(|reading| reading.verdict)
}

/// [`read`], with the note for the log.
pub(crate) fn read_noting(
    asked: &AnswerContext<'_>,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Reading, Error> {
    let reader = Reader::new(asked, now);
    let verdict = read_by_dialect(&reader, status, headers, body)?;
    Ok(Reading {
        verdict,
        note: reader.into_note(),
    })
}

fn read_by_dialect(
    reader: &Reader<'_>,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Verdict, Error> {
    match (status, reader.provider.dialect) {
        (200, dialect) => {
            reader.refuse_encoded(headers)?;
            match dialect {
                Dialect::Jwt => jwt::read(reader, headers, body),
                Dialect::Json => json::read(reader, headers, body),
                Dialect::Auto => auto::read(reader, headers, body),
                Dialect::Signed => signed::read(reader, headers, body),
                Dialect::Exchange => exchange::read(reader, headers, body),
                Dialect::Mint => mint::read(reader, headers, body),
            }
        }
        // Servers that answer with a bare JWT use this status to say that there is none.
        (204, Dialect::Jwt | Dialect::Auto) => Ok(Verdict::Inactive),
        (400, Dialect::Exchange) => exchange::bad_request(reader, headers, body),
        (status, _) => Err(status::error(reader, status, headers, body)),
    }
}

#[cfg(test)]
mod tests;
