//! Client authentication: `client_secret_basic`, `client_secret_post` (RFC 6749 §2.3.1) and a static bearer token.

use std::borrow::Cow;
use std::collections::HashMap;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use percent_encoding::percent_decode_str;

use crate::oauth_error::OAuthError;

/// The clients that may authenticate, with their secrets.
pub struct Clients(HashMap<String, String>);

impl Clients {
    /// Clients by id, with their secrets.
    pub fn new(clients: HashMap<String, String>) -> Self {
        Self(clients)
    }

    /// Authenticates a client by its `Authorization` header or by its form parameters; using both is an error.
    pub fn authenticate(&self, headers: &HeaderMap, form: &Form) -> Result<String, OAuthError> {
        let posted = form.get("client_secret");
        let (id, secret) = match (authorization(headers), posted) {
            (Some(_), Some(_)) => {
                return Err(OAuthError::invalid_request(
                    "more than one method of client authentication",
                ));
            }
            (Some((scheme, credentials)), None) if scheme.eq_ignore_ascii_case("basic") => {
                basic_credentials(credentials).ok_or_else(OAuthError::invalid_client)?
            }
            (None, Some(secret)) => {
                let id = form
                    .get("client_id")
                    .ok_or_else(OAuthError::invalid_client)?;
                (id.to_owned(), secret.to_owned())
            }
            _ => return Err(OAuthError::invalid_client()),
        };
        match self.0.get(&id) {
            Some(expected) if same(expected, &secret) => Ok(id),
            _ => Err(OAuthError::invalid_client()),
        }
    }
}

/// The scheme and the credentials of the `Authorization` header.
pub fn authorization(headers: &HeaderMap) -> Option<(&str, &str)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ').unwrap_or((value, ""));
    Some((scheme, credentials.trim_matches(' ')))
}

/// Client id and secret of Basic credentials: both were form-encoded before they were joined and base64-encoded.
pub fn basic_credentials(credentials: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    Some((form_decoded(id)?, form_decoded(secret)?))
}

/// Compares secrets in a time that does not depend on where they differ.
pub fn same(expected: &str, given: &str) -> bool {
    verify_slices_are_equal(expected.as_bytes(), given.as_bytes()).is_ok()
}

fn form_decoded(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(Cow::into_owned)
}

/// A form, its parameters in the order in which they came.
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Reads a form body. A parameter without a value counts as absent, and only those named in `repeatable` may
    /// come more than once (RFC 6749 §3.2).
    pub fn parse(
        headers: &HeaderMap,
        body: &[u8],
        repeatable: &[&str],
    ) -> Result<Self, OAuthError> {
        let content_type = headers
            .get(http::header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let media_type = content_type
            .and_then(|value| value.split(';').next())
            .unwrap_or_default()
            .trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(OAuthError::invalid_request(
                "the body must be application/x-www-form-urlencoded",
            ));
        }
        let mut form = Self(Vec::new());
        for (name, value) in form_urlencoded::parse(body) {
            if value.is_empty() {
                continue;
            }
            if form.get(&name).is_some() && !repeatable.contains(&&*name) {
                return Err(OAuthError::invalid_request(
                    "a parameter comes more than once",
                ));
            }
            form.0.push((name.into_owned(), value.into_owned()));
        }
        Ok(form)
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.iter()
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// All parameters.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}
