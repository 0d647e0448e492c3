//! Shared code of the dialects: the reader of an answer.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::{Map, Value};

use super::{AnswerContext, exchange, kind};
use crate::config::Dialect;
use crate::jwt::{
    self, Algorithm, Claims, Compact, Expected, JwtError, KeySet, ObjectError, VerifyError,
};
use crate::oauth::Purpose;
use crate::{Active, Error, ErrorKind, Verdict};

/// The maximum time by which `nbf` may be ahead of our clock, in seconds. A server whose clock is a little ahead of
/// ours issues tokens that are not valid yet by a second or two, and they are meant to be used at once. `exp` has no
/// such leeway: expired means expired.
pub(super) const NOT_BEFORE_LEEWAY: i64 = 60;

/// A reader of one answer.
pub(super) struct Reader<'a> {
    pub asked: AnswerContext<'a>,
    pub now: i64,
    /// The reason why an active token is refused, for the log.
    note: RefCell<Option<String>>,
}

/// Gives access to the request that was asked.
impl<'a> Deref for Reader<'a> {
    type Target = AnswerContext<'a>;

    fn deref(&self) -> &AnswerContext<'a> {
        &self.asked
    }
}

impl<'a> Reader<'a> {
    pub fn new(asked: &AnswerContext<'a>, now: i64) -> Self {
        Reader {
            asked: *asked,
            now,
            note: RefCell::default(),
        }
    }

    /// Refuses an active token, and notes the reason for the log.
    pub fn refuse(&self, why: &str) -> Verdict {
        let place = self.provider.place(self.endpoint);
        self.note
            .replace(Some(format!("{place}: an active token is refused: {why}")));
        Verdict::Inactive
    }

    /// The message to log, if any.
    pub fn into_note(self) -> Option<String> {
        self.note.into_inner()
    }

    pub fn error(&self, kind: ErrorKind, what: &str) -> Error {
        Error::new(
            kind,
            format!("{}: {what}", self.provider.place(self.endpoint)),
        )
    }

    /// The question that ends a message about an answer that no such endpoint gives.
    pub fn is_this(&self) -> &'static str {
        match self.endpoint.purpose {
            Purpose::Token => "is this the token endpoint?",
            _ => "is this the introspection endpoint?",
        }
    }

    pub fn bad(&self, what: &str) -> Error {
        self.error(ErrorKind::BadAnswer, what)
    }

    /// Refuses an encoded answer: we ask for no compression, and the size limit bounds nothing once the body is
    /// unpacked.
    pub fn refuse_encoded(&self, headers: &HeaderMap) -> Result<(), Error> {
        if is_encoded(headers) {
            return Err(self.bad(
                "the answer has a Content-Encoding although none was asked for; turn off compression at the \
                 authorization server, or at the proxy in front of it",
            ));
        }
        Ok(())
    }

    /// Parses the body as a JSON object.
    pub fn object(&self, headers: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Error> {
        jwt::object(body).map_err(|error| self.no_object(headers, body, error))
    }

    fn no_object(&self, headers: &HeaderMap, body: &[u8], error: ObjectError) -> Error {
        match error {
            ObjectError::Duplicate => self.bad(
                "the answer is a JSON object in which a name stands twice, so that it says two things at once; \
                 this is a fault of the authorization server",
            ),
            ObjectError::Number => self.bad(
                "the answer holds a whole number that is too large to be read exactly (beyond 64 bits, or beyond 2^53 with \
                 a fraction or an exponent); let the authorization server write it as a string (RFC 7493 §2.2)",
            ),
            ObjectError::NotObject if body.trim_ascii().is_empty() => {
                self.bad(&format!("the answer is empty; {}", self.is_this()))
            }
            ObjectError::NotObject => self.bad(&format!(
                "the answer is neither a JWT nor a JSON object{}; {}",
                content_type(headers),
                self.is_this()
            )),
        }
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

    /// Takes the JWT out of an active response. Returns it with the rest of the response, without `active`.
    pub fn take_jwt(
        &self,
        mut response: Map<String, Value>,
    ) -> Result<(String, Map<String, Value>), Error> {
        response.remove("active");
        let claims = &self.provider.jwt_claims;
        let mut found = None;
        for name in claims {
            // All of them are removed from the response: a JWT is not a claim to pass on.
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
            Dialect::Json => ", and set dialect auto",
            _ => "",
        };
        self.bad(&format!(
            "the token is active, but the server answers plain RFC 7662 and hands over no JWT (dialect {dialect} \
             looked for the claim {looked_for}); {}; or let it add the JWT (Keycloak: switch on \"Support JWT claim in \
             introspection response\" for this client{keycloak}), and set jwt_claim to the name of the claim",
            self.alternatives()
        ))
    }

    /// The settings to suggest for a server that returns no JWT: those that it says it supports, and those that need no
    /// support.
    fn alternatives(&self) -> String {
        let mut ways = Vec::new();
        let signs = &self.server.introspection_signing_algorithms;
        if signs.as_ref().is_some_and(|names| !names.is_empty()) {
            ways.push(
                "\"dialect signed; mint_key key.pem; mint_issuer https://gateway.example.com;\" (its metadata says that it \
                 signs its answers, RFC 9701)",
            );
        }
        let grants = &self.server.grant_types;
        if grants
            .as_ref()
            .is_some_and(|names| names.iter().any(|name| name == exchange::GRANT))
        {
            ways.push(
                "\"dialect exchange;\" (its metadata says that it exchanges tokens, RFC 8693)",
            );
        }
        ways.push(
            "\"dialect mint; mint_key key.pem; mint_issuer https://gateway.example.com;\" (the gateway signs a JWT of its \
             answer)",
        );
        format!("set {}", ways.join(", or "))
    }

    /// The verdict on an active token, from the JWT that the server returns and the rest of its answer.
    pub fn verdict(&self, jwt: &[u8], response: Map<String, Value>) -> Result<Verdict, Error> {
        let (compact, payload) = jwt::read_compact(jwt).map_err(|error| self.not_a_jwt(error))?;
        // The JWT may say that the token is not active.
        if payload.contains_key(jwt::TOKEN_INTROSPECTION) {
            return Err(self.bad(
                "what the server hands over is a signed introspection response (RFC 9701) and no access token; set \
                 dialect signed",
            ));
        }
        if kind::is_other(&payload) {
            const WHAT: &str = "is itself no access token, but says that it is another (a refresh token or an ID token)";
            return match self.provider.dialect {
                // The client has not chosen it.
                Dialect::Exchange => Err(self.bad(&format!(
                    "what the token was exchanged for {WHAT}; let the server issue access tokens to this client"
                ))),
                _ => Ok(self.refuse(&format!("the JWT that the server hands over {WHAT}"))),
            };
        }
        if let Some(verification) = &self.provider.acquisition.verification {
            let audiences = verification.audiences.as_deref();
            let audiences =
                audiences.map(|list| list.iter().map(String::as_str).collect::<Vec<_>>());
            let expected = Expected {
                algorithms: Algorithm::ALL,
                types: None,
                issuer: self.server.issuer.as_deref(),
                audiences: audiences.as_deref(),
                now: self.now,
                leeway: NOT_BEFORE_LEEWAY,
            };
            match jwt::verify(compact.as_str(), self.keys()?, &expected) {
                Ok(_) => {}
                Err(VerifyError::Expired(_) | VerifyError::NotYetValid(_)) => {
                    return Ok(Verdict::Inactive);
                }
                Err(error) => {
                    return Err(self.unverified("the JWT that the server hands over", &error));
                }
            }
        }
        self.active(&compact, payload, response)
    }

    /// The verdict on an active token, from a JWT that needs no further check and from its payload.
    pub fn active(
        &self,
        jwt: &Compact<'_>,
        payload: Map<String, Value>,
        response: Map<String, Value>,
    ) -> Result<Verdict, Error> {
        let extra_claims = jwt::extra_claims(&payload, &response);
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
        let active = Active::with_response(jwt, extra_claims, claims);
        Ok(Verdict::Active(Arc::new(active)))
    }

    /// The keys of the authorization server.
    pub fn keys(&self) -> Result<&KeySet, Error> {
        self.keys.ok_or_else(|| {
            self.bad("the keys that the authorization server signs with are not known yet")
                .with_unknown_key()
        })
    }

    /// The error for a JWT that does not verify.
    pub fn unverified(&self, what: &str, error: &VerifyError) -> Error {
        let said = self.bad(&format!(
            "{what} does not verify, so nothing is believed of it: {error}{}",
            verify_mend(error)
        ));
        if error.is_unknown_key() {
            said.with_unknown_key()
        } else {
            said
        }
    }

    fn not_a_jwt(&self, error: JwtError) -> Error {
        self.bad(&format!(
            "what the server hands over is not a signed JWT in compact form: {error}; let it issue signed JWTs \
             (JWS compact serialization, RFC 7515)"
        ))
    }
}

fn verify_mend(error: &VerifyError) -> &'static str {
    match error {
        VerifyError::UnknownKey(_) => {
            "; check that jwks_uri is where this server publishes its keys (they are fetched anew for an unknown one, \
             once a minute at most)"
        }
        VerifyError::Algorithm(_) => {
            "; let the server sign with an asymmetric algorithm that it publishes a key for, such as ES256"
        }
        VerifyError::Issuer(_) => "; check issuer",
        VerifyError::Audience(_) => "; check client_id, or verify_audience where that is set",
        VerifyError::Expired(_) | VerifyError::NotYetValid(_) => {
            "; check the clocks of both machines"
        }
        _ => "; this is a fault of the authorization server, or somebody has forged it",
    }
}

/// Whether the body begins as a JSON object does. The bytes decide and not `Content-Type`: some servers send one and
/// label it as the other, and the two cannot be confused.
pub(super) fn is_json(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

/// The body without one line break at its end, which a file or a template adds. Nothing else is stripped.
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

/// The media type of the answer as a phrase for messages; empty if it is not a plain media type.
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
