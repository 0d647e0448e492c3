//! The opaque access token and the name under which it is remembered.
//!
//! A [`Token`] is a borrowed, checked view of bytes that the host already holds: taking one costs no
//! allocation. It has no `Debug` and no `Display`, so that it cannot slip into a log.

use std::fmt;

use aws_lc_rs::digest;

/// The longest token that is accepted, in bytes.
pub const MAX_TOKEN_LENGTH: usize = 8192;

/// An opaque access token: `b64token` of RFC 6750 §2.1, at most [`MAX_TOKEN_LENGTH`] bytes.
#[derive(Clone, Copy)]
pub struct Token<'a>(&'a str);

/// Why bytes are not a token. Says nothing of the bytes themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// No byte at all.
    Empty,
    /// More than [`MAX_TOKEN_LENGTH`] bytes.
    TooLong,
    /// A byte that `b64token` does not have.
    BadByte,
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TokenError::Empty => "the access token is empty",
            TokenError::TooLong => "the access token is longer than 8192 bytes",
            TokenError::BadByte => "the access token has a byte that RFC 6750 does not allow",
        })
    }
}

impl std::error::Error for TokenError {}

/// What a request presents as credentials.
pub enum Credentials<'a> {
    /// A well-formed bearer token.
    Token(Token<'a>),
    /// No bearer token: no header, or another scheme.
    Missing,
    /// The scheme is `Bearer`, and what follows is no token.
    Malformed,
}

impl<'a> Token<'a> {
    /// Checks that `bytes` are a token.
    ///
    /// # Errors
    /// [`TokenError`] when they are empty, too long, or hold a byte outside `b64token`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TokenError> {
        if bytes.is_empty() {
            return Err(TokenError::Empty);
        }
        if bytes.len() > MAX_TOKEN_LENGTH {
            return Err(TokenError::TooLong);
        }
        // b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="
        let body = bytes
            .iter()
            .position(|&byte| byte == b'=')
            .unwrap_or(bytes.len());
        let (body, padding) = bytes.split_at(body);
        if body.is_empty()
            || !body.iter().all(|&byte| {
                byte.is_ascii_alphanumeric()
                    || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'+' | b'/')
            })
            || !padding.iter().all(|&byte| byte == b'=')
        {
            return Err(TokenError::BadByte);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Token(text)),
            Err(_) => Err(TokenError::BadByte),
        }
    }

    /// The token itself. Whoever calls this answers for where it goes.
    pub fn expose(self) -> &'a str {
        self.0
    }
}

impl<'a> Credentials<'a> {
    /// Reads the value of an `Authorization` header (RFC 6750 §2.1). The scheme is case-insensitive, one or
    /// more spaces follow it (RFC 9110 §11.4).
    pub fn from_authorization(value: &'a [u8]) -> Self {
        const SCHEME: &[u8] = b"bearer";
        let value = value.trim_ascii();
        let Some((scheme, rest)) = value.split_at_checked(SCHEME.len()) else {
            return Credentials::Missing;
        };
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            return Credentials::Missing;
        }
        match rest.first() {
            // The scheme alone.
            None => Credentials::Malformed,
            Some(b' ') => {
                let token = rest.trim_ascii_start_spaces();
                Token::parse(token).map_or(Credentials::Malformed, Credentials::Token)
            }
            // A tab or another control byte: not the separator that RFC 9110 has.
            Some(byte) if byte.is_ascii_whitespace() || byte.is_ascii_control() => {
                Credentials::Malformed
            }
            // Another scheme whose name begins in the same way.
            Some(_) => Credentials::Missing,
        }
    }
}

trait TrimSpaces {
    fn trim_ascii_start_spaces(&self) -> &Self;
}

impl TrimSpaces for [u8] {
    fn trim_ascii_start_spaces(&self) -> &[u8] {
        let start = self
            .iter()
            .position(|&byte| byte != b' ')
            .unwrap_or(self.len());
        &self[start..]
    }
}

/// What distinguishes one provider's answers from another's: part of every [`Key`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub(crate) [u8; 32]);

/// The SHA-256 name under which a token is remembered. The token cannot be had from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub(crate) [u8; 32]);

impl Key {
    /// `SHA-256(fingerprint ‖ token)`.
    pub fn new(fingerprint: &Fingerprint, token: Token<'_>) -> Self {
        // One call over one buffer: the incremental interface costs half as much again for input this short.
        const INLINE: usize = 512;
        let token = token.0.as_bytes();
        let mut name = [0; 32];
        let digest = if token.len() <= INLINE - 32 {
            let mut buffer = [0; INLINE];
            buffer[..32].copy_from_slice(&fingerprint.0);
            buffer[32..32 + token.len()].copy_from_slice(token);
            let digest = digest::digest(&digest::SHA256, &buffer[..32 + token.len()]);
            zeroize::Zeroize::zeroize(&mut buffer[32..32 + token.len()]);
            digest
        } else {
            let mut context = digest::Context::new(&digest::SHA256);
            context.update(&fingerprint.0);
            context.update(token);
            context.finish()
        };
        name.copy_from_slice(digest.as_ref());
        Key(name)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // A SHA-256 is as good a hash as any: no second one is computed over it.
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        state.write_u64(u64::from_le_bytes(first));
    }
}
