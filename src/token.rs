//! The opaque access token and its cache key.
//!
//! A [`Token`] is a borrowed, checked view of bytes that the host already holds: taking one costs no
//! allocation. It has no `Debug` and no `Display`, so that it cannot slip into a log.
use std::fmt;

use aws_lc_rs::digest;
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// The longest token that is accepted, in bytes.
pub const MAX_TOKEN_LENGTH: usize = 8192;

/// Whether all bytes are of those before the padding in
/// `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
///
/// Without a branch or a table for each, so that the compiler looks at many at once: every byte of every request's
/// token is looked at.
fn is_b64token(bytes: &[u8]) -> bool {
    let among = |byte: u8, first: u8, last: u8| byte.wrapping_sub(first) <= last - first;
    bytes.iter().fold(true, |so_far, &byte| {
        so_far
            // Both cases of a letter: they differ in this bit.
            & (among(byte | 0x20, b'a', b'z')
                // From `-` to `9`: the signs `-`, `.`, `/` and the digits.
                | among(byte, b'-', b'9')
                | (byte == b'_')
                | (byte == b'~')
                | (byte == b'+'))
    })
}

/// An opaque access token: `b64token` of RFC 6750 §2.1, at most [`MAX_TOKEN_LENGTH`] bytes.
#[derive(Clone, Copy)]
pub struct Token<'a>(&'a str);

impl fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The reason why bytes are not a token. It contains none of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// No byte at all.
    #[error("the access token is empty")]
    Empty,
    /// More than [`MAX_TOKEN_LENGTH`] bytes.
    #[error("the access token is longer than 8192 bytes")]
    TooLong,
    /// A byte that `b64token` does not have.
    #[error("the access token has a byte that RFC 6750 does not allow")]
    BadByte,
}

/// The scheme of a token in an `Authorization` header, or of the challenge that asks for one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Scheme {
    /// A bearer token: any party that has it may use it (RFC 6750 §2.1).
    #[default]
    Bearer,
    /// A token with a proof that the sender has the key that the token is bound to (RFC 9449 §7.1).
    Dpop,
}

impl Scheme {
    const ALL: [Scheme; 2] = [Scheme::Bearer, Scheme::Dpop];

    /// The name in a header. It is compared without case (RFC 9110 §11.1).
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Bearer => "Bearer",
            Scheme::Dpop => "DPoP",
        }
    }
}

/// The credentials that a request presents.
#[derive(Debug)]
pub enum Credentials<'a> {
    /// A well-formed access token, and how it is presented.
    Token(Scheme, Token<'a>),
    /// No access token: no header, or another scheme.
    Missing,
    /// The scheme is one of [`Scheme`], and what follows is no token.
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
        let padding = bytes.iter().rev().take_while(|&&byte| byte == b'=').count();
        let body = &bytes[..bytes.len() - padding];
        if body.is_empty() || !is_b64token(body) {
            return Err(TokenError::BadByte);
        }
        // SAFETY: text must be UTF-8. Each byte of the body is one of RFC 6750's characters (`is_b64token`), and each byte
        // after it is `=`: all are ASCII.
        Ok(Token(unsafe { std::str::from_utf8_unchecked(bytes) }))
    }

    /// The token itself. The caller is responsible for where it goes.
    pub fn expose(self) -> &'a str {
        self.0
    }
}

impl<'a> Credentials<'a> {
    /// Reads the value of an `Authorization` header (RFC 6750 §2.1, RFC 9449 §7.1). The scheme is case-insensitive, one
    /// or more spaces follow it (RFC 9110 §11.4).
    pub fn from_authorization(value: &'a [u8]) -> Self {
        let value = trim(value);
        let scheme = Scheme::ALL.into_iter().find_map(|scheme| {
            let name = scheme.as_str();
            let (start, rest) = value.split_at_checked(name.len())?;
            start
                .eq_ignore_ascii_case(name.as_bytes())
                .then_some((scheme, rest))
        });
        let Some((scheme, rest)) = scheme else {
            return Credentials::Missing;
        };
        match rest.first() {
            // The scheme alone.
            None => Credentials::Malformed,
            Some(b' ') => match Token::parse(rest.trim_ascii_start_spaces()) {
                Ok(token) => Credentials::Token(scheme, token),
                Err(_) => Credentials::Malformed,
            },
            // A tab or another control byte: not the separator that RFC 9110 has.
            Some(byte) if byte.is_ascii_whitespace() || byte.is_ascii_control() => {
                Credentials::Malformed
            }
            // Another scheme, whose name begins with this one's.
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

/// A digest of the settings on which a provider's answers depend: part of every [`Key`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub(crate) [u8; 32]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // It is made of settings, among them digests of secrets.
        f.write_str("Fingerprint(..)")
    }
}

impl Fingerprint {
    /// Computes the fingerprint of a description. The description must differ wherever answers may differ.
    pub fn of(description: &[u8]) -> Self {
        Fingerprint(sha256(description))
    }

    /// The fingerprint's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut name = [0; 32];
    name.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    name
}

/// Computes the keys of one provider.
///
/// A key is the SHA-256 of the fingerprint, filled with zeroes to one of SHA-256's blocks of 64 bytes, and of the
/// token. The first block is the same for every token, so the state of SHA-256 after it is kept. A token of up to 55
/// bytes costs one more block, and that is all the hashing of a hit. The message's end is written here too: a hasher's
/// own buffer, copied and cleared for every token, costs as much again as the block.
#[derive(Clone, Copy)]
pub(crate) struct Keys {
    /// The state of SHA-256 after the blocks that precede the token.
    before_token: [u32; 8],
    /// The size of those blocks in bytes.
    bytes: usize,
}

/// A digest of the further inputs of a verdict besides its provider and its token.
///
/// It is for a host that makes the calls itself ([`crate::oauth::HostEndpoint`]) in a way that depends on more than the
/// provider, for example on the host name that a client has requested. Requests with equal contexts share verdicts,
/// others do not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Context([u8; 32]);

/// Computes a [`Context`] from its parts. Allocates nothing.
#[derive(Clone, Default)]
pub struct ContextBuilder(Sha256);

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context(..)")
    }
}

impl fmt::Debug for ContextBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContextBuilder(..)")
    }
}

impl ContextBuilder {
    /// Adds a part. The order of the parts and their boundaries count.
    pub fn add(&mut self, part: &[u8]) -> &mut Self {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    /// The context of the parts so far.
    pub fn finish(self) -> Context {
        Context(self.0.finalize().into())
    }
}

/// The initial state of SHA-256 (FIPS 180-4 §5.3.3).
const SHA256_START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

const BLOCK: usize = 64;

impl Keys {
    /// The keys of the provider with this fingerprint.
    pub fn of(fingerprint: &Fingerprint) -> Self {
        let mut first = [0; BLOCK];
        first[..32].copy_from_slice(&fingerprint.0);
        let mut after_fingerprint = SHA256_START;
        compress256(&mut after_fingerprint, &[first]);
        Keys {
            before_token: after_fingerprint,
            bytes: BLOCK,
        }
    }

    /// The keys of the same provider in a context. The context is one more block before the token. A token has no zero
    /// byte, so no token can be mistaken for a context and a shorter token.
    pub fn within(&self, context: &Context) -> Self {
        let mut block = [0; BLOCK];
        block[..32].copy_from_slice(&context.0);
        let mut before_token = self.before_token;
        compress256(&mut before_token, &[block]);
        Keys {
            before_token,
            bytes: self.bytes + BLOCK,
        }
    }

    /// The key of a token.
    pub fn key(&self, token: Token<'_>) -> Key {
        let mut state = self.before_token;
        let (whole, rest) = token.0.as_bytes().as_chunks::<BLOCK>();
        if !whole.is_empty() {
            compress256(&mut state, whole);
        }
        // The padding after the message (FIPS 180-4 §5.1.1): one bit, zeroes, and its length in bits at the end of a
        // block.
        let mut end = [[0; BLOCK]; 2];
        let bytes = end.as_flattened_mut();
        bytes[..rest.len()].copy_from_slice(rest);
        bytes[rest.len()] = 0x80;
        let bits = 8 * (self.bytes + token.0.len()) as u64;
        let blocks = if rest.len() < BLOCK - 8 { 1 } else { 2 };
        bytes[blocks * BLOCK - 8..blocks * BLOCK].copy_from_slice(&bits.to_be_bytes());
        compress256(&mut state, &end[..blocks]);
        end.as_flattened_mut().zeroize();

        let mut name = [0; 32];
        for (bytes, word) in name.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        Key(name)
    }
}

/// The SHA-256 cache key of a token. The token cannot be computed from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Key(pub(crate) [u8; 32]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}…)", self.id().as_str())
    }
}

impl Key {
    /// The key of a token of the provider with this fingerprint.
    pub fn new(fingerprint: &Fingerprint, token: Token<'_>) -> Self {
        Keys::of(fingerprint).key(token)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The beginning of the key, for logs.
    pub fn id(&self) -> TokenId {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut id = [0; 16];
        for (digits, byte) in id.as_chunks_mut().0.iter_mut().zip(self.0) {
            *digits = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
        }
        TokenId(id)
    }
}

/// A token's name in logs: the first 16 hexadecimal digits of its [`Key`]. The same token has the same name as long as
/// the provider's settings are the same. It identifies a token, and gives no access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenId([u8; 16]);

impl TokenId {
    /// The digits.
    pub fn as_str(&self) -> &str {
        // They are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // The key is a SHA-256, which is a good hash: no second one is computed over it.
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        state.write_u64(u64::from_le_bytes(first));
    }
}

/// A text without the spaces and tabs around it (RFC 6265 §5.2, RFC 9110 §5.6.3). The other characters that the library
/// counts as white space are not white space in a header.
pub fn trim(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().position(|byte| !is_space(byte));
    let Some(start) = start else { return &[] };
    let end = text.iter().rposition(|byte| !is_space(byte));
    &text[start..=end.unwrap_or(start)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn debug_shows_no_token_and_no_more_of_a_key_than_logs_do() {
        let header = b"Bearer s3cr3t";
        let credentials = Credentials::from_authorization(header);
        assert_eq!(format!("{credentials:?}"), "Token(Bearer, Token(..))");
        let fingerprint = Fingerprint::of(b"p4ssw0rd");
        assert_eq!(format!("{fingerprint:?}"), "Fingerprint(..)");
        let key = Key::new(&fingerprint, Token::parse(b"s3cr3t").unwrap());
        assert_eq!(format!("{key:?}"), format!("Key({}…)", key.id().as_str()));
    }

    #[test]
    fn a_token_is_named_in_logs_by_the_beginning_of_its_key() {
        let key = Key::new(&Fingerprint([7; 32]), Token::parse(b"opaque").unwrap());
        let hex: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(key.id().as_str(), &hex[..16]);
    }

    /// The result of `Token::parse`, in a form that can be compared.
    fn parse(bytes: impl AsRef<[u8]>) -> Result<String, TokenError> {
        Token::parse(bytes.as_ref()).map(|token| token.expose().to_owned())
    }

    /// The credentials in a header: the token, or a word.
    fn presented(value: impl AsRef<[u8]>) -> String {
        match Credentials::from_authorization(value.as_ref()) {
            Credentials::Token(Scheme::Bearer, token) => format!("token {}", token.expose()),
            Credentials::Token(Scheme::Dpop, token) => format!("bound {}", token.expose()),
            Credentials::Missing => "missing".to_owned(),
            Credentials::Malformed => "malformed".to_owned(),
        }
    }

    #[test]
    fn tokens_of_1_to_8192_bytes_are_taken_and_no_others() {
        assert_eq!(parse(""), Err(TokenError::Empty));
        assert_eq!(parse("a"), Ok("a".to_owned()));
        let longest = "a".repeat(8192);
        assert_eq!(parse(&longest), Ok(longest.clone()));
        assert_eq!(parse(format!("{longest}a")), Err(TokenError::TooLong));
        assert_eq!(
            parse(format!("{}=", &longest[1..])),
            Ok(format!("{}=", &longest[1..]))
        );
        assert_eq!(parse(format!("{longest}=")), Err(TokenError::TooLong));
    }

    #[test]
    fn every_byte_of_b64token_is_taken() {
        let all = "ABCXYZabcxyz0189-._~+/==";
        assert_eq!(parse(all), Ok(all.to_owned()));
        for text in ["-", ".", "_", "~", "+", "/", "//", "a=", "a==="] {
            assert_eq!(parse(text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn exactly_the_bytes_of_rfc_6750_may_stand_in_a_token() {
        for byte in 0..=u8::MAX {
            let allowed = byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
            for token in [vec![byte, b'a'], vec![b'a', byte, b'a']] {
                assert_eq!(parse(token).is_ok(), allowed, "{byte:#04x}");
            }
            // At the end padding may stand as well.
            assert_eq!(
                parse([b'a', byte]).is_ok(),
                allowed || byte == b'=',
                "{byte:#04x}"
            );
        }
    }

    #[test]
    fn what_could_mean_something_elsewhere_is_refused() {
        for text in [
            "&token=x",
            "a&token=x",
            "a%00",
            "%00",
            "a\0",
            "\0",
            "a\r\nX: y",
            "a\n",
            "a\t",
            "a b",
            " a",
            "a ",
            "\u{e9}",
            "a\u{1f600}",
            "=",
            "==",
            "=a",
            "a=b",
            "a==b=",
            "a,b",
            "a;b",
            "\"a\"",
            "a?",
            "a#",
            "a\\",
            "a*",
            "a@",
            "a:b",
            "\x7f",
            "\x1b[31m",
        ] {
            assert_eq!(parse(text), Err(TokenError::BadByte), "{text:?}");
        }
        assert_eq!(parse(b"a\xff"), Err(TokenError::BadByte));
        assert_eq!(parse(b"\xc3\x28"), Err(TokenError::BadByte));
    }

    #[test]
    fn a_bearer_header_presents_its_token_in_any_case_of_the_scheme() {
        for value in [
            "Bearer abc",
            "bearer abc",
            "BEARER abc",
            "bEaReR abc",
            "Bearer  abc",
            "Bearer                    abc",
            "  Bearer abc",
            "Bearer abc  ",
            "\tBearer abc\t",
        ] {
            assert_eq!(presented(value), "token abc", "{value:?}");
        }
        // The case of the token is preserved.
        assert_eq!(presented("Bearer AbC="), "token AbC=");
        assert_eq!(presented("Bearer Bearer"), "token Bearer");
    }

    #[test]
    fn no_header_value_and_other_schemes_present_nothing() {
        for value in [
            "",
            " ",
            "\t",
            "Basic",
            "Basic YTpi",
            "Digest foo=Bearer x",
            "Digest username=\"Bearer x\"",
            "DPo",
            "DPoP2 abc",
            "DPoPabc",
            "xDPoP abc",
            "Bear",
            "Beare",
            "Bearerx",
            "Bearerabc",
            "Bearer2 abc",
            "Bearer-abc",
            "Bearer=abc",
            "Bearer,abc",
            "xBearer abc",
            "x Bearer abc",
            "\"Bearer abc\"",
            "abc",
            "Negotiate Bearer abc",
            "\u{1f600}",
        ] {
            assert_eq!(presented(value), "missing", "{value:?}");
        }
        assert_eq!(presented(b"\xff\xff\xff\xff\xff\xff abc"), "missing");
    }

    #[test]
    fn a_bound_token_is_presented_with_a_scheme_of_its_own() {
        for value in ["DPoP abc", "dpop abc", "DPOP   abc", " dPoP abc "] {
            assert_eq!(presented(value), "bound abc", "{value:?}");
        }
        assert_eq!(presented("DPoP Bearer"), "bound Bearer");
        for value in ["DPoP", "dpop ", "DPoP\tabc", "DPoP abc def", "DPoP a=b"] {
            assert_eq!(presented(value), "malformed", "{value:?}");
        }
    }

    #[test]
    fn bearer_with_anything_but_one_token_is_malformed() {
        for value in [
            "Bearer",
            "bearer",
            " Bearer ",
            "Bearer     ",
            "Bearer\t",
            "Bearer\tabc",
            "Bearer\nabc",
            "Bearer\0abc",
            "Bearer \tabc",
            "Bearer abc def",
            "Bearer abc, Bearer def",
            "Bearer abc,def",
            "Bearer a\tb",
            "Bearer a\0",
            // Other kinds of white space are not white space in a header, and do not end a token.
            "Bearer a\u{c}",
            "Bearer a\n",
            "Bearer a\r\n",
            "Bearer a\u{b}",
            "Bearer &token=x",
            "Bearer a&token=x",
            "Bearer %00",
            "Bearer a=b",
            "Bearer =",
            "Bearer \"abc\"",
            "Bearer token=\"abc\"",
            "Bearer \u{e9}",
            "Bearer\u{b}abc",
            "Bearer \u{a0}abc",
        ] {
            assert_eq!(presented(value), "malformed", "{value:?}");
        }
        assert_eq!(presented(b"Bearer \xff"), "malformed");
    }

    #[test]
    fn the_bound_on_a_token_holds_in_a_header_too() {
        let longest = "a".repeat(8192);
        assert_eq!(
            presented(format!("Bearer {longest}")),
            format!("token {longest}")
        );
        assert_eq!(presented(format!("Bearer {longest}a")), "malformed");
        let spaces = " ".repeat(100_000);
        assert_eq!(presented(format!("Bearer{spaces}abc{spaces}")), "token abc");
    }

    #[test]
    fn errors_say_nothing_of_the_token() {
        for error in [TokenError::Empty, TokenError::TooLong, TokenError::BadByte] {
            assert!(
                error.to_string().starts_with("the access token "),
                "{error}"
            );
        }
    }

    #[test]
    fn a_key_is_the_sha_256_of_the_fingerprints_block_and_the_token_whatever_the_length() {
        let fingerprint = Fingerprint::of(b"a provider");
        let keys = Keys::of(&fingerprint);
        for length in (1..300).chain([511, 512, 8135, 8136, 8191, 8192]) {
            let text = "t".repeat(length);
            let token = Token::parse(text.as_bytes()).unwrap();
            let whole = [fingerprint.0.as_slice(), &[0; 32], text.as_bytes()].concat();
            // As computed by another implementation.
            assert_eq!(keys.key(token).as_bytes(), &sha256(&whole), "{length}");
            assert!(Key::new(&fingerprint, token) == keys.key(token));
        }
        // A published digest.
        assert_eq!(sha256(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }

    #[test]
    fn another_context_has_another_key() {
        let context = |parts: &[&str]| {
            let mut context = ContextBuilder::default();
            for part in parts {
                context.add(part.as_bytes());
            }
            context.finish()
        };
        let keys = Keys::of(&Fingerprint::of(b"a"));
        let token = Token::parse(b"t").unwrap();
        let key = |parts: &[&str]| keys.within(&context(parts)).key(token);
        assert!(key(&["a", "b"]) == key(&["a", "b"]));
        for other in [&["ab"][..], &["b", "a"], &["a"], &["a", "b", ""], &[]] {
            assert!(key(other) != key(&["a", "b"]), "{other:?}");
        }
        assert!(keys.key(token) != key(&[]));
    }

    #[test]
    fn a_key_in_a_context_is_the_sha256_of_fingerprint_context_and_token() {
        let fingerprint = Fingerprint::of(b"a");
        let context = ContextBuilder::default().finish();
        for length in [1, 54, 55, 56, 64, 120, 1000] {
            let text = "t".repeat(length);
            let mut whole = [0; 128];
            whole[..32].copy_from_slice(&fingerprint.0);
            whole[64..96].copy_from_slice(&context.0);
            let whole = [&whole, text.as_bytes()].concat();
            let keys = Keys::of(&fingerprint).within(&context);
            let key = keys.key(Token::parse(text.as_bytes()).unwrap());
            assert_eq!(key.as_bytes(), &sha256(&whole), "{length}");
        }
    }

    #[test]
    fn another_token_or_another_provider_has_another_key() {
        let key = |provider: &[u8], token: &[u8]| {
            Key::new(&Fingerprint::of(provider), Token::parse(token).unwrap())
        };
        assert!(key(b"a", b"t") == key(b"a", b"t"));
        assert!(key(b"a", b"t") != key(b"b", b"t"));
        assert!(key(b"a", b"t") != key(b"a", b"T"));
        assert!(key(b"a", b"t") != key(b"a", b"t="));
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_and_only_tokens_come_out(value in proptest::collection::vec(any::<u8>(), 0..64)) {
            for value in [value.clone(), [b"Bearer ", value.as_slice()].concat()] {
                if let Credentials::Token(_, token) = Credentials::from_authorization(&value) {
                    prop_assert!(Token::parse(token.expose().as_bytes()).is_ok());
                    prop_assert!(trim(&value).ends_with(token.expose().as_bytes()));
                }
            }
        }

        #[test]
        fn every_b64token_comes_out_as_it_went_in(token in "[A-Za-z0-9._~+/-]{1,100}={0,3}", spaces in " {1,5}") {
            prop_assert_eq!(presented(format!("bearer{spaces}{token}")), format!("token {token}"));
        }
    }
}
