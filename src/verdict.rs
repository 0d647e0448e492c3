//! The introspection result of a token: the verdict and its cache status.

use std::fmt;
use std::sync::{Arc, OnceLock};

use strum::{IntoStaticStr, VariantArray};

use crate::jwt::{self, Claims, Compact};

/// The authorization server's verdict on a token. An error is never a verdict.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The token is active. Contains its JWT.
    Active(Arc<Active>),
    /// The token is unknown, expired, revoked or not meant for us; the server does not say which of these (RFC 7662
    /// §2.2).
    Inactive,
}

/// The source of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "UPPERCASE")]
#[non_exhaustive]
pub enum CacheStatus {
    /// From this process's memory.
    Hit,
    /// From the store that is shared with other processes.
    Shared,
    /// Another request had already asked; this one shared its answer.
    Coalesced,
    /// From memory, past its lifetime: the authorization server can't be asked, and `stale_if_error` allows it.
    Stale,
    /// The authorization server was asked for this request.
    Miss,
}

impl CacheStatus {
    /// All values, in the order in which they are counted.
    pub const ALL: &'static [CacheStatus] = Self::VARIANTS;

    /// The index in [`CacheStatus::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name in logs and in `$phantom_token_cache`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A verdict and its source.
#[derive(Debug, Clone)]
pub struct Resolution {
    /// The verdict.
    pub verdict: Verdict,
    /// The source of the verdict.
    pub cache: CacheStatus,
}

const PREFIX: &str = "Bearer ";

/// Properties of claims that have not been parsed yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unread {
    /// The claims' `exp`.
    pub exp: Option<i64>,
    /// Whether the claims have a `cnf`.
    pub bound: bool,
    /// The size of the parsed claims on the heap, in bytes.
    pub claims_size: usize,
}

/// The JWT of an active token, ready to be sent, and its claims. Never changes once made, so that one copy serves every
/// request until it expires.
///
/// When it is read from a store, its claims are parsed on first use: most requests use none, and parsing JSON costs
/// more than all the rest of opening an entry.
// The order of the fields is kept: where the header's value is stands beside the reference count, in the one line of
// the processor's cache that a hit touches anyway.
// Aligned so that an address has four bits to spare: the C ABI keeps what it knows of a result there.
#[repr(C, align(16))]
pub struct Active {
    /// `Bearer <jwt>`, followed by one NUL as a courtesy to C.
    authorization: Box<str>,
    exp: Option<i64>,
    /// See [`Active::is_bound`].
    bound: bool,
    /// The members of the introspection response that the JWT does not have, as [`jwt::extra_claims`] writes them.
    extra_claims: Box<str>,
    claims: OnceLock<Claims>,
    /// The size of the parsed claims on the heap, in bytes. It is computed at the start, so that the total size is the
    /// same at all times.
    claims_size: usize,
}

impl Active {
    /// Creates an active verdict from a JWT that [`crate::jwt::check_compact`] has accepted, and from the claims in its
    /// payload.
    pub fn new(jwt: &Compact<'_>, claims: Claims) -> Self {
        Self::with_response(jwt, Box::default(), claims)
    }

    /// Creates an active verdict from a JWT, from the additional members of the introspection response (see
    /// [`jwt::extra_claims`]), and from the claims of both.
    pub(crate) fn with_response(jwt: &Compact<'_>, extra_claims: Box<str>, claims: Claims) -> Self {
        let unread = Unread {
            exp: claims.exp,
            bound: claims.is_bound(),
            claims_size: claims.heap_size(),
        };
        let active = Self::unread(jwt, extra_claims, unread);
        // The cell is empty: no other thread has access to it yet.
        let _ = active.claims.set(claims);
        active
    }

    /// Like [`Active::with_response`], but the claims are parsed on first use.
    pub(crate) fn unread(jwt: &Compact<'_>, extra_claims: Box<str>, unread: Unread) -> Self {
        let jwt = jwt.as_str();
        let mut authorization = String::with_capacity(PREFIX.len() + jwt.len() + 1);
        authorization.push_str(PREFIX);
        authorization.push_str(jwt);
        authorization.push('\0');
        Active {
            authorization: authorization.into_boxed_str(),
            exp: unread.exp,
            bound: unread.bound,
            extra_claims,
            claims: OnceLock::new(),
            claims_size: unread.claims_size,
        }
    }

    /// The value of the `Authorization` header to send upstream, `Bearer <jwt>`, for a sender that need not prove a
    /// key; `None` for a token that is bound to a key ([`Active::is_bound`]). For a bound token,
    /// [`AccessPolicy`](crate::gateway::access_policy::AccessPolicy::decide) gives the JWT to a request that has proved
    /// the key.
    pub fn authorization(&self) -> Option<&str> {
        (!self.bound).then(|| self.authorization_after_sender_check())
    }

    /// The JWT in compact form (RFC 7519 §3), like [`Active::authorization`].
    pub fn jwt(&self) -> Option<&str> {
        (!self.bound).then(|| self.jwt_after_sender_check())
    }

    /// [`Active::authorization`] for a host that has checked the sender itself ([`crate::gateway::sender::check`]), or
    /// knows that another party checks it. Without that check, anybody with a copy of a token that is bound to a key
    /// would get access without the key. The byte after the value is NUL.
    #[inline]
    pub fn authorization_after_sender_check(&self) -> &str {
        // Does not search for the NUL: it is at the end of a thousand bytes that are not in the processor's cache.
        // SAFETY: `unread` has put a NUL there, and a character that is one byte ends where it begins.
        unsafe {
            self.authorization
                .get_unchecked(..self.authorization.len() - 1)
        }
    }

    /// [`Active::jwt`], as [`Active::authorization_after_sender_check`]. The byte after it is NUL.
    pub fn jwt_after_sender_check(&self) -> &str {
        &self.authorization_after_sender_check()[PREFIX.len()..]
    }

    /// The token's expiry, in seconds since the epoch: the claims' `exp`. Does not parse the other claims.
    pub fn exp(&self) -> Option<i64> {
        self.exp
    }

    /// Whether the token is bound to a key of its sender (`cnf`, RFC 7800 §3.1). Does not parse the claims: every hit
    /// calls this.
    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// The token's claims.
    pub fn claims(&self) -> &Claims {
        // Stored claims could be parsed before they were stored. Should parsing fail one day, the token has no claims
        // and so no scope.
        self.claims.get_or_init(|| {
            jwt::reread(self.jwt_after_sender_check(), &self.extra_claims)
                .unwrap_or_else(|_| Claims::empty())
        })
    }

    /// The members of the introspection response that the JWT does not have, as one JSON object; empty if there are
    /// none.
    pub(crate) fn extra_claims(&self) -> &str {
        &self.extra_claims
    }

    /// The size of the parsed claims on the heap, in bytes.
    pub(crate) fn claims_size(&self) -> usize {
        self.claims_size
    }

    /// The size in memory, in bytes, for the bound of a cache. It is the same whether or not the claims have been
    /// parsed.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.authorization.len() + self.extra_claims.len() + self.claims_size
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the JWT nor its personal data belongs in a log.
        f.debug_struct("Active")
            .field("exp", &self.exp)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{check_compact, reread, test_jwt};

    fn unread(exp: i64) -> Unread {
        Unread {
            exp: Some(exp),
            bound: false,
            claims_size: 0,
        }
    }

    #[test]
    fn whether_a_token_is_bound_is_known_without_reading_its_claims() {
        for (claims, bound) in [
            (r#"{"cnf":{"jkt":"x"}}"#, true),
            // Any `cnf` counts: a binding that can't be checked must not pass unchecked.
            (r#"{"cnf":"x"}"#, true),
            (r#"{"cnf":null}"#, false),
            (r#"{"sub":"cnf"}"#, false),
        ] {
            let jwt = test_jwt(claims);
            let compact = check_compact(jwt.as_bytes()).unwrap();
            for (extra_claims, bound) in [("", bound), (r#"{"cnf":{}}"#, true)] {
                let active = Active::with_response(
                    &compact,
                    extra_claims.into(),
                    reread(&jwt, extra_claims).unwrap(),
                );
                assert_eq!(active.is_bound(), bound, "{claims} {extra_claims}");
                // The result for a caller that makes no sender check.
                assert_eq!(active.jwt().is_none(), bound, "{claims} {extra_claims}");
                assert_eq!(active.authorization().is_none(), bound);
                assert_eq!(active.jwt_after_sender_check(), jwt);
            }
        }
    }

    #[test]
    fn claims_that_are_read_late_are_those_that_were_read_early_and_weigh_the_same() {
        let jwt = test_jwt(r#"{"sub":"alice","scope":"read write","exp":1700000300}"#);
        let compact = check_compact(jwt.as_bytes()).unwrap();
        let extra_claims = r#"{"exp":1700000200,"scope":"read"}"#;
        let early = Active::with_response(
            &compact,
            extra_claims.into(),
            reread(&jwt, extra_claims).unwrap(),
        );
        let late = Active::unread(
            &compact,
            early.extra_claims().into(),
            Unread {
                exp: early.exp(),
                bound: early.is_bound(),
                claims_size: early.claims_size(),
            },
        );
        let size = late.size();
        assert_eq!(size, early.size());
        assert_eq!(late.authorization(), Some(&*format!("Bearer {jwt}")));
        assert_eq!(late.exp(), Some(1_700_000_200));
        assert_eq!(late.claims().exp, late.exp());
        assert_eq!(&*late.claims().scope, "read");
        assert_eq!(late.claims().json(), early.claims().json());
        assert_eq!(late.claims().heap_size(), late.claims_size());
        assert_eq!(late.size(), size);
    }

    #[test]
    fn claims_that_cannot_be_read_again_grant_nothing() {
        let jwt = test_jwt(r#"{"scope":"read write","exp":5}"#);
        let compact = check_compact(jwt.as_bytes()).unwrap();
        for extra_claims in ["{", "[]", r#"{"scope":1}"#] {
            let active = Active::unread(&compact, extra_claims.into(), unread(5));
            assert_eq!(active.claims().json(), "{}", "{extra_claims}");
            assert!(active.claims().scope.is_empty());
            assert_eq!(active.exp(), Some(5), "it still ends in time");
        }
    }

    #[test]
    fn debug_shows_nobody() {
        let jwt = test_jwt(r#"{"sub":"alice"}"#);
        let compact = check_compact(jwt.as_bytes()).unwrap();
        let active = Active::unread(&compact, r#"{"sub":"bob"}"#.into(), unread(7));
        assert_eq!(format!("{active:?}"), "Active { exp: Some(7), .. }");
    }
}
