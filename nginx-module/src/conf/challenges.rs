//! What a refused client is told in `WWW-Authenticate`, made once per location.

use std::fmt::Write as _;

use phantom_token::policy::RequiredScopes;

/// The values of `WWW-Authenticate` (RFC 6750 §3), made once.
#[derive(Default)]
pub struct Challenges {
    /// There is no token: no error code (RFC 6750 §3.1).
    pub missing: Box<str>,
    /// What is there is no token.
    pub malformed: Box<str>,
    /// The token is not active.
    pub inactive: Box<str>,
    /// The token lacks a scope.
    pub forbidden: Box<str>,
}

impl Challenges {
    pub(super) fn new(realm: &str, scopes: Option<&RequiredScopes>) -> Self {
        let mut quoted = String::with_capacity(realm.len());
        for character in realm.chars() {
            // quoted-pair, RFC 9110 §5.6.4
            if matches!(character, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(character);
        }
        let challenge = |error: &str, with_scope: bool| {
            let mut text = format!("Bearer realm=\"{quoted}\"");
            if !error.is_empty() {
                let _ = write!(text, ", error=\"{error}\"");
            }
            if let Some(scopes) = scopes.filter(|scopes| with_scope && !scopes.is_empty()) {
                let _ = write!(text, ", scope=\"{}\"", scopes.as_str());
            }
            text.into_boxed_str()
        };
        Challenges {
            missing: challenge("", true),
            malformed: challenge("invalid_request", false),
            inactive: challenge("invalid_token", false),
            forbidden: challenge("insufficient_scope", true),
        }
    }
}
