//! Requirements on a token beyond being active: pure, and evaluated on every request.
//!
//! [`TokenRequirements`] are made once, when the configuration is read. [`TokenRequirements::check`] evaluates parsed
//! claims. It allocates nothing, not even for the reason of a denial: the text of every possible reason exists before.
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

use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use claim_path::ClaimPath;
pub use header_value::is_exact_header_value;
pub use requirement::{Expected, Pattern};

use crate::gateway::outcome::ErrorCode;
use crate::jwt::{Claims, seconds};
use crate::values::{NOT_A_SWITCH, NOT_A_TIME, no_key, quoted, switch, time};
use requirement::Requirement;
use scopes::{BadScope, Scopes};

/// The tolerance for a time in the future that `max_age` counts from, in seconds: clocks differ.
const LEEWAY: i64 = 60;

/// The requirements of a location on a token, beyond being active. By default there are none.
///
/// They are about scopes, audiences, issuers, clients, claims, authentication context classes and the age of the
/// authentication. Each requirement that is set must hold.
#[derive(Debug, Clone, Default)]
pub struct TokenRequirements {
    scopes: Scopes,
    /// `None`: scopes are enforced, and not only advertised.
    enforce_scopes: Option<bool>,
    audiences: Vec<Box<str>>,
    issuers: Vec<Box<str>>,
    clients: Vec<Box<str>>,
    requirements: Vec<Arc<Requirement>>,
    acr: Vec<Box<str>>,
    /// The authentication context classes, separated by one space each.
    acr_values: String,
    max_age: Option<Duration>,
}

/// An error about an invalid policy: says what is wrong in the text, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl PolicyError {
    fn new(value: &str, complaint: &str) -> Self {
        PolicyError(format!("{} {complaint}", quoted(value)))
    }

    pub(crate) fn plain(complaint: impl Into<String>) -> Self {
        PolicyError(complaint.into())
    }
}

/// The requirement that an active token fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnmetRequirement<'a> {
    /// Its kind.
    pub kind: RequirementKind,
    /// The requirement in one word of printable ASCII, for logs: `scope:write`, `claim:tenant`, `audience`, …
    pub reason: &'a str,
}

/// The kind of a requirement on an active token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequirementKind {
    /// A scope was not granted.
    Scope,
    /// The token is for another audience (RFC 7519 §4.1.3).
    Audience,
    /// The token is from another issuer.
    Issuer,
    /// The token was issued to another client.
    Client,
    /// A claim does not have a required value.
    Claim,
    /// The user was not authenticated in a required way (RFC 9470).
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
    /// Whether nothing is required. Then the claims need not be read.
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty()
            && self.audiences.is_empty()
            && self.issuers.is_empty()
            && self.clients.is_empty()
            && self.requirements.is_empty()
            && self.acr.is_empty()
            && self.max_age.is_none()
    }

    /// Adds an alternative: all scopes of a list separated by spaces. A token must have all scopes of one alternative.
    ///
    /// # Errors
    /// [`PolicyError`] when the list is empty, or RFC 6749 §3.3 does not allow one of the scopes.
    pub fn add_scopes(&mut self, list: &str) -> Result<(), PolicyError> {
        self.scopes
            .add_list(list)
            .map_err(|error| bad_scope(list, error))
    }

    /// Adds a scope (or several, separated by spaces) that a token must have with every alternative.
    ///
    /// # Errors
    /// [`PolicyError`] when the list is empty, or RFC 6749 §3.3 does not allow one of the scopes.
    pub fn add_scope(&mut self, scope: &str) -> Result<(), PolicyError> {
        self.scopes
            .add_always(scope)
            .map_err(|error| bad_scope(scope, error))
    }

    /// Sets whether scopes are enforced (the default), or only advertised in challenges.
    pub fn set_scopes_enforce(&mut self, enforce: bool) {
        self.enforce_scopes = Some(enforce);
    }

    /// Sets the accepted audiences: `aud` (RFC 7519 §4.1.3) is or contains one of these.
    ///
    /// # Errors
    /// [`PolicyError`] when the list is empty, or a value is empty or has a control character.
    pub fn set_audiences(&mut self, audiences: &[&str]) -> Result<(), PolicyError> {
        self.audiences = one_of(audiences)?;
        Ok(())
    }

    /// Sets the accepted issuers: `iss` (RFC 7519 §4.1.1) is one of these.
    ///
    /// # Errors
    /// [`PolicyError`] when the list is empty, or a value is empty or has a control character.
    pub fn set_issuers(&mut self, issuers: &[&str]) -> Result<(), PolicyError> {
        self.issuers = one_of(issuers)?;
        Ok(())
    }

    /// Sets the accepted clients: `client_id`, or `azp`, is one of these.
    ///
    /// # Errors
    /// [`PolicyError`] when the list is empty, or a value is empty or has a control character.
    pub fn set_clients(&mut self, clients: &[&str]) -> Result<(), PolicyError> {
        self.clients = one_of(clients)?;
        Ok(())
    }

    /// Sets the accepted authentication context classes of the user: `acr` is one of these (RFC 9470 §3).
    ///
    /// # Errors
    /// [`PolicyError`] when the list is empty, or a value is empty or has anything but printable ASCII without spaces.
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

    /// Sets the maximum age of the user's authentication (`auth_time`; for a token without it, `iat`). Whole seconds
    /// count. A token with neither claim, or with a time more than a minute in the future, is denied.
    pub fn set_max_age(&mut self, max_age: Duration) {
        self.max_age = Some(max_age);
    }

    /// Adds a requirement on a claim: the value at `path` (see [`ClaimPath`]) is one of `values`, or contains one if it
    /// is a list. Strings are compared unchanged, numbers and booleans as JSON writes them; `null` and objects equal
    /// nothing. Without `values` the claim must be present, and be neither `null` nor `false` nor empty.
    ///
    /// # Errors
    /// [`PolicyError`] when `path` is invalid.
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

    /// Sets one part by its key, as nginx, C and Python do:
    ///
    /// | key | values |
    /// | --- | --- |
    /// | `scopes` | scopes, all of which are required; set several times, one of the lists suffices |
    /// | `scope` | scopes that are always required |
    /// | `audience`, `issuer`, `client`, `acr` | the accepted values, of which the token must have one; replaces the values set before |
    /// | `require` | a claim and its accepted values ([`Expected::parse`]); set several times, all must hold |
    /// | `max_age` | one time: `5m` |
    /// | `scopes_enforce` | `on`; or `off`: scopes are advertised and not enforced |
    ///
    /// After an error nothing is changed.
    ///
    /// # Errors
    /// [`PolicyError`] when there is no such key, or a value is not valid for it.
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

    /// Inherits each part that is not set here from the policy of the level above. `scopes` and `scope` are two parts,
    /// and the requirements on each claim are one. So a part that is set here removes no requirement of another part
    /// above.
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

    /// Decides whether a token with these claims is accepted. `now` is in seconds since the epoch. `values` returns the
    /// host's value of each [`Expected::Slot`]. Nothing is allocated, except by a regular expression that meets
    /// something for the first time.
    ///
    /// # Errors
    /// The first requirement that the token does not meet. Requirements that reject a token of another audience come
    /// first. Requirements that the user could meet by logging in again come last: no user logs in again in vain.
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

    /// The scopes of all alternatives, without duplicates, as metadata advertises them (RFC 9728 §2,
    /// `scopes_supported`).
    pub fn scopes_supported(&self) -> Vec<&str> {
        self.scopes.union()
    }

    /// The authentication context classes, separated by one space each, in the format of a challenge (RFC 9470 §3);
    /// empty if none is required.
    pub fn acr_values(&self) -> &str {
        &self.acr_values
    }

    /// The maximum age of the user's authentication.
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
        // An unreadable time is not an absent one.
        Some(auth_time) => seconds(auth_time),
        None => claims.iat,
    };
    let most = i64::try_from(max_age.as_secs()).unwrap_or(i64::MAX);
    since.is_some_and(|since| {
        since <= now.saturating_add(LEEWAY) && now.saturating_sub(since) <= most
    })
}

/// Values, of which a token must have one.
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
