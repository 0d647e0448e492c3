//! What a location asks of a token beyond being active: pure, and evaluated on every request.

use crate::jwt::Claims;

/// The scopes that a location requires (RFC 6749 §3.3): all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequiredScopes {
    scopes: Vec<Box<str>>,
    /// All of them, separated by one space: what a challenge advertises.
    joined: String,
}

/// A scope that RFC 6749 §3.3 does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadScope;

impl std::fmt::Display for BadScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a scope is made of printable ASCII without space, quote and backslash")
    }
}

impl std::error::Error for BadScope {}

impl RequiredScopes {
    /// Adds the scopes of a list separated by spaces.
    ///
    /// # Errors
    /// [`BadScope`] when there is none in it, or one that has a byte RFC 6749 §3.3 does not allow.
    pub fn add(&mut self, list: &str) -> Result<(), BadScope> {
        let mut any = false;
        for scope in list.split(' ').filter(|scope| !scope.is_empty()) {
            if !scope
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
            {
                return Err(BadScope);
            }
            any = true;
            if !self.scopes.iter().any(|known| **known == *scope) {
                self.scopes.push(scope.into());
            }
        }
        if !any {
            return Err(BadScope);
        }
        self.joined = self.scopes.join(" ");
        Ok(())
    }

    /// Whether nothing is required.
    pub fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }

    /// All of them, separated by one space.
    pub fn as_str(&self) -> &str {
        &self.joined
    }

    /// The first required scope that the token lacks.
    pub fn missing<'a>(&'a self, claims: &Claims) -> Option<&'a str> {
        self.scopes
            .iter()
            .find(|required| {
                !claims
                    .scope
                    .split(' ')
                    .any(|granted| *granted == ***required)
            })
            .map(|scope| &**scope)
    }
}
