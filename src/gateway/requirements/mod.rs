//! Requirements on a token beyond being active: pure, and evaluated on every request.
//!
//! [`TokenRequirements`] are made once, when the configuration is read; [`TokenRequirements::check`] looks at claims that have been read
//! already and allocates nothing, not even to say why a token is refused: all words that it may need are there before.
//!
//! ```
//! use phantom_token::jwt::Claims;
//! use phantom_token::gateway::requirements::{RequirementKind, TokenRequirements};
//!
//! let mut requirements = TokenRequirements::default();
//! requirements.set("scopes", &["read", "write"])?;
//! requirements.set("require", &["tenant", "acme", "~^test-"])?;
//!
//! let claims = Claims::from_json(r#"{"scope": "read write", "tenant": "test-7"}"#).unwrap();
//! assert!(requirements.check(&claims, 1_700_000_000, &mut |_| None).is_ok());
//!
//! let claims = Claims::from_json(r#"{"scope": "read", "tenant": "acme"}"#).unwrap();
//! let denial = requirements.check(&claims, 1_700_000_000, &mut |_| None).unwrap_err();
//! assert_eq!((denial.kind, denial.reason), (RequirementKind::Scope, "scope:write"));
//! assert_eq!(denial.kind.http_status(), 403);
//! # Ok::<(), phantom_token::gateway::requirements::PolicyError>(())
//! ```

mod claim_path;
mod header_value;
mod requirement;
mod scopes;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use claim_path::ClaimPath;
pub use header_value::is_exact_header_value;
pub use requirement::{Expected, Pattern};

use crate::gateway::outcome::ErrorCode;
use crate::jwt::{Claims, seconds};
use crate::values::{NOT_A_SWITCH, NOT_A_TIME, no_key, quoted, switch, time};
use requirement::Requirement;
use scopes::{BadScope, Scopes};

/// How far in the future a time may be that `max_age` counts from, in seconds: clocks differ.
const LEEWAY: i64 = 60;

/// What a location asks of a token beyond being active. By default that is nothing.
///
/// Its parts are scopes, audiences, issuers, clients, claims, authentication context classes and the age of the
/// authentication. Each that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct TokenRequirements {
    scopes: Scopes,
    /// Unset: they are required, and not only advertised.
    enforce_scopes: Option<bool>,
    audiences: Vec<Box<str>>,
    issuers: Vec<Box<str>>,
    clients: Vec<Box<str>>,
    requirements: Vec<Arc<Requirement>>,
    acr: Vec<Box<str>>,
    /// The same, separated by one space each.
    acr_values: String,
    max_age: Option<Duration>,
}

/// A policy that cannot be: says what is wrong with what was written, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError(String);

impl PolicyError {
    fn new(value: &str, complaint: &str) -> Self {
        PolicyError(format!("{} {complaint}", quoted(value)))
    }

    pub(crate) fn plain(complaint: impl Into<String>) -> Self {
        PolicyError(complaint.into())
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PolicyError {}

/// The requirement that an active token fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnmetRequirement<'a> {
    /// Its kind.
    pub kind: RequirementKind,
    /// The same in one word of printable ASCII, for a log: `scope:write`, `claim:tenant`, `audience`, …
    pub reason: &'a str,
}

/// The kind of a requirement on an active token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequirementKind {
    /// It was not granted a scope.
    Scope,
    /// It is for others (RFC 7519 §4.1.3).
    Audience,
    /// Somebody else issued it.
    Issuer,
    /// Another client's.
    Client,
    /// A claim is not as required.
    Claim,
    /// The user has not been authenticated in a way that is required (RFC 9470).
    Acr,
    /// The user's authentication was too long ago (RFC 9470).
    MaxAge,
}

impl RequirementKind {
    /// The error code of the challenge.
    pub fn error(self) -> ErrorCode {
        match self {
            RequirementKind::Scope | RequirementKind::Client | RequirementKind::Claim => {
                ErrorCode::InsufficientScope
            }
            RequirementKind::Audience | RequirementKind::Issuer => ErrorCode::InvalidToken,
            RequirementKind::Acr | RequirementKind::MaxAge => {
                ErrorCode::InsufficientUserAuthentication
            }
        }
    }

    /// The HTTP status of the answer: 403 where another token of the same kind would not help, else 401.
    pub fn http_status(self) -> u16 {
        match self {
            RequirementKind::Scope | RequirementKind::Client | RequirementKind::Claim => 403,
            RequirementKind::Audience
            | RequirementKind::Issuer
            | RequirementKind::Acr
            | RequirementKind::MaxAge => 401,
        }
    }
}

/// The keys of [`TokenRequirements::set`].
pub(crate) const KEYS: [&str; 9] = [
    "scopes",
    "scope",
    "scopes_enforce",
    "audience",
    "issuer",
    "client",
    "require",
    "acr",
    "max_age",
];

impl TokenRequirements {
    /// Whether nothing is asked: then there is no need to read the claims.
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty()
            && self.audiences.is_empty()
            && self.issuers.is_empty()
            && self.clients.is_empty()
            && self.requirements.is_empty()
            && self.acr.is_empty()
            && self.max_age.is_none()
    }

    /// Adds an alternative: all scopes of a list separated by spaces. A token must have those of one alternative.
    ///
    /// # Errors
    /// [`PolicyError`] when the list is empty or RFC 6749 §3.3 does not allow one of the scopes.
    pub fn add_scopes(&mut self, list: &str) -> Result<(), PolicyError> {
        self.scopes
            .add_list(list)
            .map_err(|error| bad_scope(list, error))
    }

    /// Adds a scope (or several, separated by spaces) that a token must have whichever alternative holds.
    ///
    /// # Errors
    /// [`PolicyError`] when the list is empty or RFC 6749 §3.3 does not allow one of the scopes.
    pub fn add_scope(&mut self, scope: &str) -> Result<(), PolicyError> {
        self.scopes
            .add_always(scope)
            .map_err(|error| bad_scope(scope, error))
    }

    /// Sets whether a token must have the scopes (it must), or challenges only advertise them.
    pub fn set_scopes_enforce(&mut self, enforce: bool) {
        self.enforce_scopes = Some(enforce);
    }

    /// Sets whom the token must be for: `aud` (RFC 7519 §4.1.3) is or contains one of these.
    ///
    /// # Errors
    /// [`PolicyError`] when there is none, or one is empty or has a control character.
    pub fn set_audiences(&mut self, audiences: &[&str]) -> Result<(), PolicyError> {
        self.audiences = one_of(audiences)?;
        Ok(())
    }

    /// Sets who must have issued the token: `iss` (RFC 7519 §4.1.1) is one of these.
    ///
    /// # Errors
    /// [`PolicyError`] when there is none, or one is empty or has a control character.
    pub fn set_issuers(&mut self, issuers: &[&str]) -> Result<(), PolicyError> {
        self.issuers = one_of(issuers)?;
        Ok(())
    }

    /// Sets the client that the token must have been issued to: `client_id`, or `azp`, is one of these.
    ///
    /// # Errors
    /// [`PolicyError`] when there is none, or one is empty or has a control character.
    pub fn set_clients(&mut self, clients: &[&str]) -> Result<(), PolicyError> {
        self.clients = one_of(clients)?;
        Ok(())
    }

    /// Sets how the user must have been authenticated: `acr` is one of these authentication context classes
    /// (RFC 9470 §3).
    ///
    /// # Errors
    /// [`PolicyError`] when there is none, or one is empty or has anything but printable ASCII without spaces.
    pub fn set_acr(&mut self, values: &[&str]) -> Result<(), PolicyError> {
        if let Some(bad) = values
            .iter()
            .find(|value| !value.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            return Err(PolicyError::new(
                bad,
                "is not made of printable ASCII without spaces",
            ));
        }
        self.acr = one_of(values)?;
        self.acr_values = values.join(" ");
        Ok(())
    }

    /// Sets how long ago the user may have been authenticated (`auth_time`; of a token without it, how long ago it may
    /// have been issued, `iat`). Whole seconds count. A token that says neither, or a time that is more than a minute
    /// in the future, is denied.
    pub fn set_max_age(&mut self, max_age: Duration) {
        self.max_age = Some(max_age);
    }

    /// Adds a requirement on a claim: what `path` leads to (see [`ClaimPath`]) is one of `values`, or contains one if it
    /// is a list. Strings are compared as they are, numbers and booleans as JSON writes them; `null` and objects are
    /// equal to nothing. Without values the claim must be there, and be neither `null` nor `false` nor empty.
    ///
    /// # Errors
    /// [`PolicyError`] when `path` is not one.
    pub fn add_requirement(
        &mut self,
        path: &str,
        values: Vec<Expected>,
    ) -> Result<(), PolicyError> {
        let path = ClaimPath::parse(path)?;
        self.requirements
            .push(Arc::new(Requirement::new(path, values)));
        Ok(())
    }

    /// Sets one part by its name, as nginx, C and Python do:
    ///
    /// | key | values |
    /// | --- | --- |
    /// | `scopes` | scopes, all of which are required; set several times, those of one time suffice |
    /// | `scope` | scopes that are required in any case |
    /// | `audience`, `issuer`, `client`, `acr` | what the token must have one of; replaces what was set |
    /// | `require` | a claim and what it must be one of ([`Expected::parse`]); set several times, all must hold |
    /// | `max_age` | one time: `5m` |
    /// | `scopes_enforce` | `on`; or `off`: scopes are advertised and not required |
    ///
    /// What is refused changes nothing.
    ///
    /// # Errors
    /// [`PolicyError`] when there is no such key, or a value is not one of it.
    pub fn set(&mut self, key: &str, values: &[&str]) -> Result<(), PolicyError> {
        let Some(known) = KEYS.iter().find(|known| **known == key) else {
            return Err(PolicyError(no_key(&KEYS, key)));
        };
        let set = match *known {
            "scopes" => self.add_scopes(&values.join(" ")),
            "scope" => self.add_scope(&values.join(" ")),
            "audience" => self.set_audiences(values),
            "issuer" => self.set_issuers(values),
            "client" => self.set_clients(values),
            "acr" => self.set_acr(values),
            "scopes_enforce" => on_or_off(values).map(|enforce| self.set_scopes_enforce(enforce)),
            "max_age" => max_age(values).map(|max_age| self.set_max_age(max_age)),
            _ => match values {
                [] => Err(PolicyError::plain("the name of a claim is missing")),
                [path, values @ ..] => values
                    .iter()
                    .map(|value| Expected::parse(value))
                    .collect::<Result<_, _>>()
                    .and_then(|values| self.add_requirement(path, values)),
            },
        };
        set.map_err(|PolicyError(complaint)| PolicyError(format!("{key}: {complaint}")))
    }

    /// The keys of [`TokenRequirements::set`].
    pub fn keys() -> &'static [&'static str] {
        &KEYS
    }

    /// Takes each part that is not set here from the policy of the level above: `scopes` and `scope` are two parts, and
    /// what is required of each claim is one. So what is added here takes nothing away that is asked above.
    pub fn inherit(&mut self, above: &TokenRequirements) {
        fn part<T: Clone>(own: &mut Vec<T>, above: &[T]) {
            if own.is_empty() {
                own.extend_from_slice(above);
            }
        }
        self.scopes.inherit(&above.scopes);
        self.enforce_scopes = self.enforce_scopes.or(above.enforce_scopes);
        part(&mut self.audiences, &above.audiences);
        part(&mut self.issuers, &above.issuers);
        part(&mut self.clients, &above.clients);
        let own = self.requirements.len();
        for requirement in &above.requirements {
            let here = self.requirements[..own]
                .iter()
                .any(|own| own.path() == requirement.path());
            if !here {
                self.requirements.push(Arc::clone(requirement));
            }
        }
        if self.acr.is_empty() {
            self.acr.clone_from(&above.acr);
            self.acr_values.clone_from(&above.acr_values);
        }
        self.max_age = self.max_age.or(above.max_age);
    }

    /// Decides whether a token with these claims may pass. `now` is in seconds since the epoch; `values` gives what the
    /// host has for each [`Expected::Slot`]. Nothing is allocated, but by a regular expression that meets something for
    /// the first time.
    ///
    /// # Errors
    /// The first part that does not hold. What makes it a token for others comes first, what the user could mend by
    /// logging in again last: nobody is sent there in vain.
    pub fn check<'v>(
        &self,
        claims: &Claims,
        now: i64,
        values: &mut dyn FnMut(usize) -> Option<&'v [u8]>,
    ) -> Result<(), UnmetRequirement<'_>> {
        let deny = |kind, reason| Err(UnmetRequirement { kind, reason });
        if !self.issuers.is_empty() && !has(&self.issuers, claims.iss.as_deref()) {
            return deny(RequirementKind::Issuer, "issuer");
        }
        if !self.audiences.is_empty()
            && !claims
                .aud
                .iter()
                .any(|audience| has(&self.audiences, Some(audience)))
        {
            return deny(RequirementKind::Audience, "audience");
        }
        if !self.clients.is_empty() && !has(&self.clients, claims.client_id.as_deref()) {
            return deny(RequirementKind::Client, "client");
        }
        if self.enforce_scopes != Some(false)
            && let Some(reason) = self.scopes.lacking(&claims.scope)
        {
            return deny(RequirementKind::Scope, reason);
        }
        for requirement in &self.requirements {
            if !requirement.holds(claims, values) {
                return deny(RequirementKind::Claim, requirement.reason());
            }
        }
        if !self.acr.is_empty()
            && !has(
                &self.acr,
                claims.get("acr").and_then(|value| value.as_str()),
            )
        {
            return deny(RequirementKind::Acr, "acr");
        }
        if let Some(max_age) = self.max_age
            && !is_younger(claims, max_age, now)
        {
            return deny(RequirementKind::MaxAge, "max_age");
        }
        Ok(())
    }

    /// The scopes that a challenge advertises: those of the first alternative, separated by one space each; empty if
    /// none is required.
    pub fn scopes_advertised(&self) -> &str {
        self.scopes.advertised()
    }

    /// The scopes of all alternatives, each once: what metadata advertises (RFC 9728 §2, `scopes_supported`).
    pub fn scopes_supported(&self) -> Vec<&str> {
        self.scopes.union()
    }

    /// The authentication context classes, separated by one space each, as a challenge has them (RFC 9470 §3); empty
    /// if none is required.
    pub fn acr_values(&self) -> &str {
        &self.acr_values
    }

    /// How long ago the user may have been authenticated.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age
    }
}

fn has(set: &[Box<str>], value: Option<&str>) -> bool {
    value.is_some_and(|value| set.iter().any(|known| **known == *value))
}

/// Whether the user was authenticated at most `max_age` ago.
fn is_younger(claims: &Claims, max_age: Duration, now: i64) -> bool {
    let since = match claims.get("auth_time") {
        // One that cannot be read is not one that is not there.
        Some(auth_time) => seconds(auth_time),
        None => claims.iat,
    };
    let most = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
    since.is_some_and(|since| {
        since <= now.saturating_add(LEEWAY) && now.saturating_sub(since) <= most
    })
}

/// Values of which a token must have one.
fn one_of(values: &[&str]) -> Result<Vec<Box<str>>, PolicyError> {
    if values.is_empty() {
        return Err(PolicyError::plain("a value is missing"));
    }
    values
        .iter()
        .map(|value| {
            if value.is_empty() {
                return Err(PolicyError::plain("a value is empty"));
            }
            if value.contains(char::is_control) {
                return Err(PolicyError::new(value, "has a control character"));
            }
            Ok(Box::from(*value))
        })
        .collect()
}

fn on_or_off(values: &[&str]) -> Result<bool, PolicyError> {
    let text = values.join(" ");
    switch(&text).ok_or_else(|| PolicyError::new(&text, NOT_A_SWITCH))
}

fn max_age(values: &[&str]) -> Result<Duration, PolicyError> {
    let [value] = values else {
        return Err(PolicyError::plain("one time is needed, such as 5m"));
    };
    match time(value) {
        Some(max_age) if max_age.as_secs() > 0 => Ok(max_age),
        Some(_) => Err(PolicyError::new(
            value,
            "lets no token pass: write at least 1s",
        )),
        None => Err(PolicyError::new(value, NOT_A_TIME)),
    }
}

fn bad_scope(list: &str, error: BadScope) -> PolicyError {
    if list.trim_matches(' ').is_empty() {
        PolicyError::plain("a scope is missing")
    } else {
        PolicyError::new(list, &format!("will not do: {error}"))
    }
}
