//! What the dialects have in common.

use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Map, Value};

use crate::config::ClientAuth;
use crate::jwt::{self, Claims, JwtError, ObjectError};
use crate::server::Endpoint;
use crate::{Active, Error, ErrorKind, Provider, Verdict};

/// How far ahead of our clock `nbf` may lie, in seconds. A server whose clock is a little ahead of ours issues
/// tokens that are not valid yet by a second or two, and they are meant to be used at once. `exp` has no such
/// leeway: expired means expired.
const NOT_BEFORE_LEEWAY: i64 = 60;

/// One answer, being read.
pub(super) struct Reader<'a> {
    pub provider: &'a Provider,
    pub endpoint: &'a Endpoint,
    /// How the call was authenticated.
    pub client_auth: ClientAuth,
    pub now: i64,
}

impl Reader<'_> {
    pub fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(
            kind,
            format!("{}: {what}", self.provider.place(self.endpoint)),
        )
    }

    pub fn bad(&self, what: &str) -> Error {
        self.error(ErrorKind::BadAnswer, what)
    }

    /// We ask for no compression, and a bound on what is read bounds nothing once it is unpacked.
    pub fn refuse_encoded(&self, headers: &HeaderMap) -> Result<(), Error> {
        if is_encoded(headers) {
            return Err(self.bad(
                "the answer has a Content-Encoding although none was asked for; turn off compression at the \
                 authorization server, or at the proxy in front of it",
            ));
        }
        Ok(())
    }

    /// The JSON object that the body is.
    pub fn object(&self, headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Error> {
        jwt::object(body).map_err(|error| match error {
            ObjectError::Duplicate => self.bad(
                "the answer is a JSON object in which a name stands twice, so that it says two things at once; \
                 this is a fault of the authorization server",
            ),
            ObjectError::NotObject if body.trim_ascii().is_empty() => {
                self.bad("the answer is empty; is this the introspection endpoint?")
            }
            ObjectError::NotObject => self.bad(&format!(
                "the answer is neither a JWT nor a JSON object{}; is this the introspection endpoint?",
                content_type(headers)
            )),
        })
    }

    /// Whether an RFC 7662 response says that the token is active (§2.2).
    pub fn is_active(&self, response: &Map<String, Value>) -> Result<bool, Error> {
        match response.get("active") {
            Some(Value::Bool(active)) => Ok(*active),
            Some(_) => Err(self.bad(
                "the answer's member active is not true or false, as RFC 7662 has it; this is a fault of the \
                 authorization server",
            )),
            None => Err(self.bad(
                "the answer is JSON without the member active, so it is no introspection response (RFC 7662 \
                 §2.2); is this the introspection endpoint?",
            )),
        }
    }

    /// Whether the response says that what was presented is no access token. The server may look for every kind of
    /// token it knows, whatever the hint says (RFC 7662 §2.1); a refresh token opens no API.
    pub fn is_of_another_kind(response: &Map<String, Value>) -> bool {
        // Where servers say it: RFC 7662 itself, Ory Hydra, Keycloak.
        ["token_type", "token_use", "typ"]
            .iter()
            .filter_map(|name| response.get(*name)?.as_str())
            .any(|kind| {
                ["refresh_token", "refresh", "offline", "id_token", "id"]
                    .iter()
                    .any(|other| kind.eq_ignore_ascii_case(other))
            })
    }

    /// The JWT in an active response, with the response less it and `active`.
    pub fn take_jwt(
        &self,
        mut response: Map<String, Value>,
    ) -> Result<(String, Map<String, Value>), Error> {
        response.remove("active");
        let claims = &self.provider.jwt_claims;
        let mut found = None;
        for name in claims {
            // All of them leave the response: a JWT is no claim to hand on.
            let value = response.remove(name).filter(|value| !value.is_null());
            if found.is_none() {
                found = value.map(|value| (name, value));
            }
        }
        match found {
            Some((_, Value::String(jwt))) => Ok((jwt, response)),
            Some((name, _)) => Err(self.bad(&format!(
                "the claim {name} is not a string; set jwt_claim to the one that holds the JWT"
            ))),
            None => Err(self.no_jwt(&response)),
        }
    }

    fn no_jwt(&self, response: &Map<String, Value>) -> Error {
        let looked_for = self.provider.jwt_claims.join(", ");
        let elsewhere = response.values().any(|value| {
            value
                .as_str()
                .is_some_and(|text| jwt::check_compact(text.as_bytes()).is_ok())
        });
        let dialect = self.provider.dialect.as_str();
        if elsewhere {
            return self.bad(&format!(
                "the token is active, but there is no JWT where dialect {dialect} looks for it (claim \
                 {looked_for}); another member of the answer holds one: set jwt_claim to its name"
            ));
        }
        let keycloak = match self.provider.dialect {
            crate::config::Dialect::Json => ", and set dialect auto",
            _ => "",
        };
        self.bad(&format!(
            "the token is active, but the server answers plain RFC 7662 and hands over no JWT (dialect {dialect} \
             looked for the claim {looked_for}); let it add the JWT (Keycloak: switch on \"Support JWT claim in \
             introspection response\" for this client{keycloak}), and set jwt_claim to the name of the claim"
        ))
    }

    /// The verdict on an active token: its JWT, and what the introspection response says beside it.
    pub fn verdict(&self, jwt: &[u8], response: Map<String, Value>) -> Result<Verdict, Error> {
        let (compact, payload) = jwt::read_compact(jwt).map_err(|error| self.not_a_jwt(error))?;
        let beside = jwt::beside(&payload, &response);
        let claims = Claims::from_members(payload, response).map_err(|error| {
            self.bad(&format!(
                "the token is active, but what is claimed of it cannot be used: {error}; this is a fault of the \
                 authorization server"
            ))
        })?;
        if claims.exp.is_some_and(|exp| exp <= self.now) {
            return Ok(Verdict::Inactive);
        }
        let latest = self.now.saturating_add(NOT_BEFORE_LEEWAY);
        if claims.nbf.is_some_and(|nbf| nbf > latest) {
            return Ok(Verdict::Inactive);
        }
        let active = Active::with_response(&compact, beside, claims);
        Ok(Verdict::Active(Arc::new(active)))
    }

    fn not_a_jwt(&self, error: JwtError) -> Error {
        self.bad(&format!(
            "what the server hands over is not a signed JWT in compact form: {error}; let it issue signed JWTs \
             (JWS compact serialization, RFC 7515)"
        ))
    }
}

/// Whether the body begins as a JSON object does. The bytes decide and not `Content-Type`: servers that answer
/// one and label it the other exist, and the two cannot be confused.
pub(super) fn is_json(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

/// The body without one line break at its end: what a file or a template adds. Nothing else is stripped.
pub(super) fn without_line_break(body: &[u8]) -> &[u8] {
    match body.strip_suffix(b"\n") {
        Some(body) => body.strip_suffix(b"\r").unwrap_or(body),
        None => body,
    }
}

pub(crate) fn is_encoded(headers: &HeaderMap) -> bool {
    headers.get_all(CONTENT_ENCODING).iter().any(|value| {
        !value
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"identity")
    })
}

/// What the answer calls itself, where that is a media type and nothing else.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    let essence = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    match essence {
        Some(essence)
            if !essence.is_empty()
                && essence.len() <= 64
                && essence.bytes().all(|byte| {
                    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'+' | b'.')
                }) =>
        {
            format!(" (it calls itself {essence})")
        }
        _ => String::new(),
    }
}
