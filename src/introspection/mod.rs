//! The protocol.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use crate::{Active, Error, Provider, Token};

/// A call to make: `POST`, always.
pub struct Request {
    /// Where to.
    pub url: url::Url,
    /// Headers, credentials among them marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The form, percent-encoded.
    pub body: Zeroizing<Vec<u8>>,
}

/// What an answer says.
pub enum Answer {
    /// The token is active.
    Active(Arc<Active>),
    /// The token is not active.
    Inactive,
}

/// The call that asks `provider` about `token`.
pub fn request(provider: &Provider, token: Token<'_>) -> Request {
    let _ = (provider, token);
    todo!()
}

/// Reads the answer to it by the provider's dialect. `now` is in seconds since the epoch.
///
/// # Errors
/// Everything that is not a verdict.
pub fn read(
    provider: &Provider,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Answer, Error> {
    let _ = (provider, status, headers, body, now);
    todo!()
}
