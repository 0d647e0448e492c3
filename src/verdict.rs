//! What is known of a token: the verdict, and how it was come by.

use std::fmt;
use std::sync::{Arc, OnceLock};

use strum::{IntoStaticStr, VariantArray};

use crate::jwt::{self, Claims, Compact};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "UPPERCASE")]
#[non_exhaustive]
pub enum CacheStatus {
    /// Remembered.
    Hit,
    /// Remembered in the store that is shared with others.
    Shared,
    /// Another request had already asked; this one shared its answer.
    Coalesced,
    /// Remembered, and past its time: the authorization server can't be asked, and `stale_if_error` allows it.
    Stale,
    /// The authorization server was asked for this request.
    Miss,
}

impl CacheStatus {
    /// Every one, in the order in which they are counted.
    pub const ALL: &'static [CacheStatus] = Self::VARIANTS;

    /// Its place in [`CacheStatus::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word in logs and in `$phantom_token_cache`.
    pub fn as_str(self) -> &'static str {
        self.into()
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

/// What is known of claims that have not been read yet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unread {
    /// Their `exp`.
    pub exp: Option<i64>,
    /// Whether they have a `cnf`.
    pub bound: bool,
    /// What they will hold on the heap.
    pub claims_size: usize,
}

/// What an active token stands for: a JWT, ready to be sent, and its claims. Never changes once made, so that
/// one copy serves every request until it expires.
///
/// One that comes out of a store has its claims read when they are first asked for: most requests ask for none, and
/// reading JSON costs more than all the rest of opening an entry.
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
    /// What the introspection response says and the JWT does not, as [`jwt::extra_claims`] writes it.
    extra_claims: Box<str>,
    claims: OnceLock<Claims>,
    /// What the claims hold on the heap once they have been read, in bytes: counted from the beginning, so that the
    /// size is the same at all times.
    claims_size: usize,
}

impl Active {
    /// An active verdict of a JWT that [`crate::jwt::check_compact`] has accepted, and of the claims in its payload.
    pub fn new(jwt: &Compact<'_>, claims: Claims) -> Self {
        Self::with_response(jwt, Box::default(), claims)
    }

    /// An active verdict of a JWT, of what the introspection response says beside it (see [`jwt::extra_claims`]), and of the
    /// claims of both.
    pub(crate) fn with_response(jwt: &Compact<'_>, extra_claims: Box<str>, claims: Claims) -> Self {
        let unread = Unread {
            exp: claims.exp,
            bound: claims.is_bound(),
            claims_size: claims.heap_size(),
        };
        let active = Self::unread(jwt, extra_claims, unread);
        // It is empty: nobody else has it yet.
        let _ = active.claims.set(claims);
        active
    }

    /// The same, with the claims to be read when they are asked for.
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

    /// The value of the `Authorization` header to send upstream, `Bearer <jwt>`, for whom need not show a key; `None` for a
    /// token that is bound to one ([`Active::is_bound`]). Of that, an
    /// [`AccessPolicy`](crate::gateway::access_policy::AccessPolicy::decide) hands out the JWT to a request that has shown it.
    pub fn authorization(&self) -> Option<&str> {
        (!self.bound).then(|| self.authorization_after_sender_check())
    }

    /// The JWT in compact form (RFC 7519 §3), like [`Active::authorization`].
    pub fn jwt(&self) -> Option<&str> {
        (!self.bound).then(|| self.jwt_after_sender_check())
    }

    /// [`Active::authorization`] for a host that has checked the sender itself ([`crate::gateway::sender::check`]), or knows that
    /// another party does: whoever has a copy of a token that is bound to a key would else be let in without the key. The
    /// byte after it is NUL.
    #[inline]
    pub fn authorization_after_sender_check(&self) -> &str {
        // Without looking for the NUL: it is at the end of a thousand bytes that nothing has touched for a while.
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

    /// When the token expires, in seconds since the epoch: the claims' `exp`, without reading the others.
    pub fn exp(&self) -> Option<i64> {
        self.exp
    }

    /// Whether the token is bound to a key of its sender (`cnf`, RFC 7800 §3.1), without reading the claims: every hit
    /// asks.
    pub fn is_bound(&self) -> bool {
        self.bound
    }

    /// What is claimed of the token.
    pub fn claims(&self) -> &Claims {
        // What was stored could be read before it was. Should it be otherwise one day, a token of which nothing can be
        // said has no scope.
        self.claims.get_or_init(|| {
            jwt::reread(self.jwt_after_sender_check(), &self.extra_claims)
                .unwrap_or_else(|_| Claims::empty())
        })
    }

    /// What the introspection response says and the JWT does not, as one JSON object; empty if there is nothing.
    pub(crate) fn extra_claims(&self) -> &str {
        &self.extra_claims
    }

    /// What the claims hold on the heap once they have been read, in bytes.
    pub(crate) fn claims_size(&self) -> usize {
        self.claims_size
    }

    /// What this takes in memory, in bytes, for the bound of a cache: always the same, whether or not the claims have
    /// been read.
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.authorization.len() + self.extra_claims.len() + self.claims_size
    }
}

impl fmt::Debug for Active {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither the JWT nor what it says of a person belongs in a log.
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
            // Whatever it is: what can't be checked is not to pass unchecked.
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
                // What a caller gets who asks for nothing else.
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
