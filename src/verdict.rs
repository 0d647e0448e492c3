//! What is known of a token: the verdict, and how it was come by.

use std::fmt;
use std::sync::Arc;

use crate::jwt::Claims;

/// What the authorization server says of a token. An error is never a verdict.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The token is active: here is its JWT.
    Active(Arc<Active>),
    /// The token is unknown, expired, revoked or not meant for us; the server does not say which
    /// (RFC 7662 §2.2).
    Inactive,
}

/// Where a verdict came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheStatus {
    /// Remembered.
    Hit,
    /// The authorization server was asked for this request.
    Miss,
    /// Another request had already asked; this one shared its answer.
    Coalesced,
    /// Remembered in the store that is shared with others.
    Shared,
    /// Remembered, and past its time: the authorization server can't be asked, and `stale_if_error` allows it.
    Stale,
}

impl CacheStatus {
    /// The word in logs and in `$phantom_token_cache`.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheStatus::Hit => "HIT",
            CacheStatus::Miss => "MISS",
            CacheStatus::Coalesced => "COALESCED",
            CacheStatus::Shared => "SHARED",
            CacheStatus::Stale => "STALE",
        }
    }
}

/// A verdict and where it came from.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// What is known of the token.
    pub verdict: Verdict,
    /// Where that came from.
    pub cache: CacheStatus,
}

const PREFIX: &str = "Bearer ";

/// What an active token stands for: a JWT, ready to be sent, and its claims. Never changes once made, so that
/// one copy serves every request until it expires.
// The order of the fields is kept: where the header's value is stands beside the reference count, in the one line of
// the processor's cache that a hit touches anyway.
#[repr(C)]
pub struct Active {
    /// `Bearer <jwt>`, followed by one NUL as a courtesy to C.
    authorization: Box<str>,
    claims: Claims,
}

impl Active {
    /// An active verdict of a JWT that [`crate::jwt::check_compact`] has accepted.
    pub fn new(jwt: &crate::jwt::Compact<'_>, claims: Claims) -> Self {
        let jwt = jwt.as_str();
        let mut authorization = String::with_capacity(PREFIX.len() + jwt.len() + 1);
        authorization.push_str(PREFIX);
        authorization.push_str(jwt);
        authorization.push('\0');
        Active {
            authorization: authorization.into_boxed_str(),
            claims,
        }
    }

    /// The value of the `Authorization` header to send upstream: `Bearer <jwt>`. The byte after it is NUL.
    pub fn authorization(&self) -> &str {
        &self.authorization[..self.authorization.len() - 1]
    }

    /// The JWT in compact form (RFC 7519 §3). The byte after it is NUL.
    pub fn jwt(&self) -> &str {
        &self.authorization()[PREFIX.len()..]
    }

    /// What is claimed of the token.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// What this takes in memory, in bytes, for the bound of a cache.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.authorization.len() + self.claims.heap_size()
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the JWT nor what it says of a person belongs in a log.
        f.debug_struct("Active")
            .field("exp", &self.claims.exp)
            .finish_non_exhaustive()
    }
}
