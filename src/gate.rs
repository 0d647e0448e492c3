//! Whether a request may pass, and what its client is told if not: for hosts that are not nginx.
//!
//! A [`Gate`] is a [`Policy`] together with what an answer needs besides: a realm, the URL of the metadata, and what is
//! done about tokens that are bound to a key of their sender. It decides, and does nothing: the time and what the
//! request presents come in as arguments.
//!
//! ```
//! # fn ask(active: &phantom_token::Active) -> Result<(), phantom_token::policy::PolicyError> {
//! use phantom_token::gate::Gate;
//!
//! let mut gate = Gate::default();
//! gate.set("realm", "orders")?;
//! gate.set("scopes", "orders:read orders:write")?;
//! gate.set("require", r#"tenant acme "big corp" ~^test-"#)?;
//!
//! match gate.check(active, None, phantom_token::clock::now().unix) {
//!     Ok(()) => println!("it may pass"),
//!     Err(refusal) => println!("{} WWW-Authenticate: {:?}", refusal.http_status, refusal.challenge),
//! }
//! # Ok(())
//! # }
//! ```

use crate::Active;
use crate::challenge::Challenge;
use crate::config::no_key;
use crate::policy::{Policy, PolicyError};
use crate::token::{Credentials, Scheme};

/// What is done about tokens that are bound to a key of their sender (RFC 7800).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SenderConstraint {
    /// One that is bound is refused without its proof.
    #[default]
    Enforce,
    /// One that is not bound is refused as well.
    Require,
    /// Nobody looks: something else has.
    Ignore,
}

/// What stands between a request and what it asks for. By default only an active token is needed; one that is bound to a
/// key of its sender comes with its proof.
#[derive(Debug, Clone, Default)]
pub struct Gate {
    policy: Policy,
    realm: Option<Box<str>>,
    resource_metadata: Option<Box<str>>,
    sender: SenderConstraint,
}

/// What a request presents.
#[derive(Clone, Copy, Default)]
pub struct Presentation<'a> {
    /// The value of its `Authorization` header.
    pub authorization: Option<&'a [u8]>,
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
    /// The value of `WWW-Authenticate`.
    pub challenge: Option<String>,
}

/// The keys of [`Gate::set`].
const KEYS: [&str; 11] = [
    "scopes",
    "scope",
    "audience",
    "issuer",
    "client",
    "require",
    "acr",
    "max_age",
    "realm",
    "resource_metadata",
    "sender_constraint",
];

impl Gate {
    /// Sets one key: one of [`Policy::set`], whose values are separated by spaces here, or
    ///
    /// | key | value |
    /// | --- | --- |
    /// | `realm` | what is protected, as challenges name it (RFC 9110 §11.5) |
    /// | `resource_metadata` | the URL of its metadata (RFC 9728), which challenges tell |
    /// | `sender_constraint` | `enforce`, `require` or `ignore`: see [`SenderConstraint`] |
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
            (_, &["enforce"]) => self.sender = SenderConstraint::Enforce,
            (_, &["require"]) => self.sender = SenderConstraint::Require,
            (_, &["ignore"]) => self.sender = SenderConstraint::Ignore,
            _ => return Err(refused("it is enforce, require or ignore")),
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
        match authorization.map(Credentials::from_authorization) {
            Some(Credentials::Malformed) => {
                self.refuse(Scheme::Bearer, 400, Some("invalid_request"), "malformed")
            }
            _ => self.refuse(Scheme::Bearer, 401, None, "missing"),
        }
    }

    /// What a request is answered with whose token is not active.
    pub fn inactive(&self, presented: Option<&Presentation<'_>>) -> Refusal {
        self.refuse(scheme(presented), 401, Some("invalid_token"), "inactive")
    }

    /// Decides about a request whose token is active. `now` is in seconds since the epoch. Nothing is allocated for one
    /// that may pass.
    ///
    /// # Errors
    /// [`Refusal`] when it may not.
    pub fn check(
        &self,
        active: &Active,
        presented: Option<&Presentation<'_>>,
        now: i64,
    ) -> Result<(), Refusal> {
        let scheme = scheme(presented);
        if self.sender != SenderConstraint::Ignore && active.is_bound() {
            return Err(self.refuse(scheme, 401, Some("invalid_token"), "bound"));
        }
        if self.policy.is_empty() {
            return Ok(());
        }
        self.policy
            .check(active.claims(), now, &mut |_| None)
            .map_err(|denial| {
                let ground = denial.ground;
                let error = Some(ground.error());
                self.refuse(scheme, ground.http_status(), error, denial.reason)
            })
    }

    fn refuse(
        &self,
        scheme: Scheme,
        http_status: u16,
        error: Option<&'static str>,
        reason: &str,
    ) -> Refusal {
        let challenge = Challenge {
            realm: self.realm.as_deref(),
            resource_metadata: self.resource_metadata.as_deref(),
            ..Challenge::new(scheme, error, &self.policy)
        };
        Refusal {
            http_status,
            error,
            reason: reason.into(),
            challenge: Some(challenge.to_string()),
        }
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
