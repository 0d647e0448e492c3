//! Reading JWTs (RFC 7519) and the claims that gateways act on.
//!
//! Reading is not verifying: the JWT comes from the authorization server itself over an authenticated channel,
//! and the API behind the gateway verifies it. What is checked here is that nothing but a JWT can reach a header.

mod claims;

pub use claims::{Claims, ClaimsError};

/// The longest JWT that is accepted, in bytes.
pub const MAX_JWT_LENGTH: usize = 64 * 1024;

/// A JWT in compact form whose shape has been checked: see [`check_compact`].
#[derive(Clone, Copy)]
pub struct Compact<'a>(&'a str);

impl<'a> Compact<'a> {
    /// The text: three base64url parts and two dots, and nothing else.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}
