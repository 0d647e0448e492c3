//! Whether a request may pass, and what its client is told if not: for hosts that are not nginx.
//!
//! A [`Gate`] is a [`Policy`] together with what an answer needs besides: a realm, the URL of the metadata, and what is
//! done about tokens that are bound to a key of their sender. It decides, and does nothing: the time and what the
//! request presents come in as arguments.
//!
//! ```
//! # fn ask(client: &phantom_token::Client, active: &phantom_token::Active) -> Result<(), phantom_token::gateway::policy::PolicyError> {
//! use phantom_token::gateway::gate::{Gate, Presentation};
//!
//! let mut gate = Gate::default();
//! gate.set("realm", "orders")?;
//! gate.set("scopes", "orders:read orders:write")?;
//! gate.set("require", r#"tenant acme "big corp" ~^test-"#)?;
//!
//! let presented = Presentation {
//!     authorization: Some(b"Bearer 8f3c0a..."),
//!     ..Presentation::default()
//! };
//! let now = phantom_token::clock::now().unix;
//! let mut first_use = |proof: &_, time| client.first_use(proof, time);
//! match gate.check(active, Some(&presented), now, &mut first_use) {
//!     Ok(admitted) => println!("it may pass, with {} bytes upstream", admitted.authorization().len()),
//!     Err(refusal) => println!("{} WWW-Authenticate: {:?}", refusal.http_status, refusal.challenge),
//! }
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::sync::Arc;

use crate::Active;
use crate::cache::{FirstUse, ProofId, ProofTime};
use crate::gateway::challenge::Challenge;
use crate::gateway::policy::{self, Policy, PolicyError};
use crate::gateway::sender::{
    self, Constraint as SenderConstraint, NONCE_STEP, Nonces, Presented, Proof, Rules, SenderError,
    Thumbprint, Uri, WINDOWS, has_path,
};
use crate::token::{Credentials, Scheme};
use crate::values::{no_key, time};

/// What stands between a request and what it asks for. By default only an active token is needed; one that is bound to a
/// key of its sender comes with its proof.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    policy: Policy,
    realm: Option<Box<str>>,
    resource_metadata: Option<Box<str>>,
    sender: SenderConstraint,
    rules: Rules,
}

/// What a request presents. By default: nothing.
#[derive(Clone, Copy)]
pub struct Presentation<'a> {
    /// The value of its `Authorization` header.
    pub authorization: Option<&'a [u8]>,
    /// Its method, as it stands in the request.
    pub method: &'a [u8],
    /// What it asks for, as the client sees it: `https://api.example.com/orders`. Made of a `Host` that is a host and
    /// maybe a port, and nothing else, and of the target of the request, which begins with a slash.
    pub url: &'a [u8],
    /// Its `DPoP` header.
    pub proof: Proof<'a>,
    /// The certificate with which the client has authenticated its connection, as DER.
    pub client_certificate: Option<&'a [u8]>,
}

impl Default for Presentation<'_> {
    fn default() -> Self {
        Presentation {
            authorization: None,
            method: b"",
            url: b"",
            proof: Proof::None,
            client_certificate: None,
        }
    }
}

impl fmt::Debug for Presentation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It holds the token.
        f.write_str("Presentation(..)")
    }
}

/// A request that may pass, and what goes upstream with it.
#[derive(Clone, Copy)]
pub struct Admitted<'a>(&'a Active);

impl<'a> Admitted<'a> {
    /// The value of the `Authorization` header to send upstream: `Bearer <jwt>`. The byte after it is NUL.
    pub fn authorization(&self) -> &'a str {
        self.0.authorization_after_sender_check()
    }

    /// The JWT in compact form (RFC 7519 §3). The byte after it is NUL.
    pub fn jwt(&self) -> &'a str {
        self.0.jwt_after_sender_check()
    }
}

impl fmt::Debug for Admitted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It holds the JWT.
        f.write_str("Admitted(..)")
    }
}

/// Why a request may not pass, and what it is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status (RFC 9110 §15).
    pub http_status: u16,
    /// The error code (RFC 6750 §3.1, RFC 9449 §7.1, RFC 9470 §3); none when there is no token.
    pub error: Option<&'static str>,
    /// What is wrong, in one word, for a log: `scope:write`, `audience`, `inactive`.
    pub reason: Box<str>,
    /// The value of `WWW-Authenticate`; none where it is not the client's fault.
    pub challenge: Option<String>,
    /// The value of `DPoP-Nonce` (RFC 9449 §9), where one is asked for.
    pub dpop_nonce: Option<String>,
}

/// The keys of [`Gate::set`] that a [`Policy`] does not have.
const OWN: [&str; 5] = [
    "realm",
    "resource_metadata",
    "sender_constraint",
    "dpop_window",
    "dpop_nonce",
];

/// The keys of [`Gate::set`].
static KEYS: [&str; policy::KEYS.len() + OWN.len()] = {
    let mut keys = [""; policy::KEYS.len() + OWN.len()];
    let mut at = 0;
    while at < keys.len() {
        keys[at] = if at < policy::KEYS.len() {
            policy::KEYS[at]
        } else {
            OWN[at - policy::KEYS.len()]
        };
        at += 1;
    }
    keys
};

impl Gate {
    /// Sets one key: one of [`Policy::set`], whose values are separated by spaces here, or
    ///
    /// | key | value |
    /// | --- | --- |
    /// | `realm` | what is protected, as challenges name it (RFC 9110 §11.5) |
    /// | `resource_metadata` | the URL of its metadata (RFC 9728), which challenges tell |
    /// | `sender_constraint` | `enforce`, `require` or `ignore`: see [`SenderConstraint`] |
    /// | `dpop_window` | for how long a proof is accepted from its `iat` on: from `1s` to `10m`; by default `60s` |
    /// | `dpop_nonce` | whether a proof must hold a nonce of this process (RFC 9449 §9): `on` or `off` |
    ///
    /// A value with spaces in it is written in double or single quotes, a quote or a backslash behind a backslash; any
    /// other backslash stands for itself.
    ///
    /// # Errors
    /// [`PolicyError`] when there is no such key, or the value is not one of it. Nothing is changed then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), PolicyError> {
        if !KEYS.contains(&key) {
            return Err(PolicyError::plain(no_key(&KEYS, key)));
        }
        let refused = |complaint: &str| PolicyError::plain(format!("{key}: {complaint}"));
        let values = words(value).ok_or_else(|| refused("a quote is not closed"))?;
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        if Policy::keys().contains(&key) {
            return self.policy.set(key, &values);
        }
        if values.iter().any(|value| value.contains(char::is_control)) {
            return Err(refused("the value has a control character"));
        }
        match (key, &*values) {
            ("realm", values) => self.realm = Some(values.join(" ").into()),
            ("resource_metadata", &[url]) if is_url(url) => {
                self.resource_metadata = Some(url.into());
            }
            ("resource_metadata", _) => {
                return Err(refused(
                    "an https or http URL without spaces and quotes is needed",
                ));
            }
            ("sender_constraint", values) => {
                self.sender = match values {
                    [name] => SenderConstraint::from_name(name),
                    _ => None,
                }
                .ok_or_else(|| refused("it is enforce, require or ignore"))?;
            }
            ("dpop_window", values) => {
                let window = match values {
                    [value] => time(value),
                    _ => None,
                };
                self.rules.window = window
                    .filter(|window| WINDOWS.contains(window))
                    .ok_or_else(|| refused("it is a time from 1s to 10m"))?;
            }
            (_, &["on"]) => {
                let nonces = Nonces::random(NONCE_STEP).map_err(refused)?;
                self.rules.nonces = Some(Arc::new(nonces));
            }
            (_, &["off"]) => self.rules.nonces = None,
            _ => return Err(refused("it is on or off")),
        }
        Ok(())
    }

    /// The keys of [`Gate::set`].
    pub fn keys() -> &'static [&'static str] {
        &KEYS
    }

    /// What is asked of a token beyond being active and its sender's.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What a request is answered with of whose token there is no verdict, because it has presented none.
    pub fn without_token(&self, presented: Option<&Presentation<'_>>) -> Refusal {
        let authorization = presented.and_then(|presented| presented.authorization);
        if let Some(Credentials::Malformed) = authorization.map(Credentials::from_authorization) {
            return self.refuse(Scheme::Bearer, 400, Some("invalid_request"), "malformed");
        }
        let mut refusal = self.refuse(Scheme::Bearer, 401, None, "missing");
        if self.sender == SenderConstraint::Require || self.rules.nonces.is_some() {
            // Both in one field: it is a list (RFC 9110 §11.6.1).
            let other = self.challenge(Scheme::Dpop, None, None);
            refusal.challenge = refusal.challenge.map(|one| format!("{one}, {other}"));
        }
        refusal
    }

    /// What a request is answered with whose token is not active.
    pub fn inactive(&self, presented: Option<&Presentation<'_>>) -> Refusal {
        self.refuse(scheme(presented), 401, Some("invalid_token"), "inactive")
    }

    /// Decides about a request whose token is active. `now` is in seconds since the epoch; `first_use` is asked last
    /// about a proof that is right in all else, and must note that it is used
    /// ([`Client::first_use`](crate::Client::first_use) does). Nothing is allocated for a request that may pass and
    /// needs no proof.
    ///
    /// # Errors
    /// [`Refusal`] when it may not.
    pub fn check<'a>(
        &self,
        active: &'a Active,
        presented: Option<&Presentation<'_>>,
        now: i64,
        first_use: &mut dyn FnMut(&ProofId, ProofTime) -> FirstUse,
    ) -> Result<Admitted<'a>, Refusal> {
        self.check_sender(active, presented, now, first_use)?;
        if self.policy.is_empty() {
            return Ok(Admitted(active));
        }
        self.policy
            .check(active.claims(), now, &mut |_| None)
            .map(|()| Admitted(active))
            .map_err(|denial| {
                let ground = denial.ground;
                let error = Some(ground.error());
                self.refuse(
                    scheme(presented),
                    ground.http_status(),
                    error,
                    denial.reason,
                )
            })
    }

    fn check_sender(
        &self,
        active: &Active,
        presented: Option<&Presentation<'_>>,
        now: i64,
        first_use: &mut dyn FnMut(&ProofId, ProofTime) -> FirstUse,
    ) -> Result<(), Refusal> {
        match self.sender {
            SenderConstraint::Ignore => return Ok(()),
            SenderConstraint::Require if !active.is_bound() => {
                return Err(self.refuse_sender(SenderError::NotBound, now));
            }
            SenderConstraint::Require | SenderConstraint::Enforce => {}
        }
        let nothing = Presentation::default();
        let presented = presented.unwrap_or(&nothing);
        let credentials = presented.authorization.map(Credentials::from_authorization);
        let Some(Credentials::Token(scheme, token)) = credentials else {
            // How it was presented is not known, which matters only if there is something to prove.
            return if active.is_bound() {
                let error = Some("invalid_token");
                Err(self.refuse(Scheme::Bearer, 401, error, "presentation_missing"))
            } else {
                Ok(())
            };
        };
        // A host with a `?` in it makes a query of the path, and a proof for no path would open any.
        if scheme == Scheme::Dpop && !presented.url.is_empty() && !has_path(presented.url) {
            return Err(self.refuse_sender(SenderError::Host, now));
        }
        let presented = Presented {
            scheme,
            method: presented.method,
            uri: Uri::Whole(presented.url),
            proof: presented.proof,
            certificate: &|| presented.client_certificate.map(Thumbprint::of_der),
        };
        sender::check(active, token, &presented, &self.rules, now, first_use)
            .map(drop)
            .map_err(|error| self.refuse_sender(error, now))
    }

    fn refuse_sender(&self, error: SenderError, now: i64) -> Refusal {
        let Some(code) = error.error() else {
            return Refusal {
                http_status: error.http_status(),
                error: None,
                reason: error.reason().into(),
                challenge: None,
                dpop_nonce: None,
            };
        };
        let description = error.to_string();
        let challenge = self.challenge(error.scheme(), Some(code), Some(&description));
        let nonces = self.rules.nonces.as_deref();
        Refusal {
            http_status: error.http_status(),
            error: Some(code),
            reason: error.reason().into(),
            challenge: Some(challenge),
            dpop_nonce: nonces
                .filter(|_| error.scheme() == Scheme::Dpop && error != SenderError::Host)
                .map(|nonces| nonces.current(now)),
        }
    }

    fn refuse(
        &self,
        scheme: Scheme,
        http_status: u16,
        error: Option<&'static str>,
        reason: &str,
    ) -> Refusal {
        Refusal {
            http_status,
            error,
            reason: reason.into(),
            challenge: Some(self.challenge(scheme, error, None)),
            dpop_nonce: None,
        }
    }

    fn challenge(&self, scheme: Scheme, error: Option<&str>, description: Option<&str>) -> String {
        let algorithms = match scheme {
            Scheme::Bearer => None,
            Scheme::Dpop => Some(sender::algorithms()),
        };
        Challenge {
            realm: self.realm.as_deref(),
            error_description: description,
            resource_metadata: self.resource_metadata.as_deref(),
            algs: algorithms.as_deref(),
            ..Challenge::new(scheme, error, &self.policy)
        }
        .to_string()
    }
}

/// How a request presents its token.
fn scheme(presented: Option<&Presentation<'_>>) -> Scheme {
    let authorization = presented.and_then(|presented| presented.authorization);
    match authorization.map(Credentials::from_authorization) {
        Some(Credentials::Token(scheme, _)) => scheme,
        _ => Scheme::Bearer,
    }
}

fn is_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'))
}

/// The words of a text, as nginx reads the arguments of a directive; `None` when a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut rest = text.trim_start_matches(is_space).chars().peekable();
    while let Some(&first) = rest.peek() {
        let quote = matches!(first, '"' | '\'').then_some(first);
        if quote.is_some() {
            rest.next();
        }
        let mut word = String::new();
        loop {
            match (rest.next(), quote) {
                (None, Some(_)) => return None,
                (None, None) => break,
                (Some(character), Some(quote)) if character == quote => break,
                (Some(character), None) if is_space(character) => break,
                (Some('\\'), _) => {
                    let escaped = rest.next_if(|next| matches!(next, '"' | '\'' | '\\'));
                    word.push(escaped.unwrap_or('\\'));
                }
                (Some(character), _) => word.push(character),
            }
        }
        words.push(word);
        while rest.next_if(|next| is_space(*next)).is_some() {}
    }
    Some(words)
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests;
