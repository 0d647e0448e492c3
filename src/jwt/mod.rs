//! Reading, verifying and signing JWTs (RFC 7519), and the claims that gateways act on.
//!
//! Reading is not verifying: the JWT comes from the authorization server itself over an authenticated channel, and the
//! API behind the gateway verifies it. Every JWT is checked so that nothing else can reach a header
//! ([`check_compact`]). Where an answer must be authenticated by its signature, [`verify`] checks it against the
//! server's [`KeySet`]. JWTs of the gateway itself are signed with a [`SigningKey`].
//!
//! ```
//! use phantom_token::jwt::{Algorithm, Expected, KeySet, SigningKey, jwks, verify};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = SigningKey::generate()?;
//! let claims = serde_json::json!({"iss": "https://gateway.example.com", "sub": "alice", "exp": 2_000_000_000});
//! let jwt = key.sign(Some("at+jwt"), claims.as_object().unwrap())?;
//!
//! let keys = KeySet::parse(jwks(&[key]).as_bytes())?;
//! let expected = Expected {
//!     algorithms: &[Algorithm::ES256],
//!     types: Some(&["at+jwt"]),
//!     issuer: Some("https://gateway.example.com"),
//!     audiences: None,
//!     now: 1_700_000_000,
//!     leeway: 60,
//! };
//! assert_eq!(verify(&jwt, &keys, &expected)?["sub"], "alice");
//! # Ok(())
//! # }
//! ```

mod claims;
mod keys;
mod mint;
mod object;
#[cfg(feature = "gateway")]
mod self_signed;
mod sign;
#[cfg(test)]
pub(crate) mod testing;
mod verify;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

pub use claims::{Claims, ClaimsError};
pub(crate) use claims::{extra_claims, seconds};
pub use keys::{Algorithm, KeySet, KeySetError, MAX_JWKS_LENGTH, MAX_KEYS, Unusable};
pub use mint::{client_assertion_claims, minted_claims};
pub(crate) use object::{ObjectError, object};
#[cfg(feature = "gateway")]
pub(crate) use self_signed::{SelfSigned, SelfSignedError};
pub use sign::{SecretAlgorithm, SigningError, SigningKey, jwks, sign_with_secret};
pub use verify::{Expected, VerifyError, verify};

/// The maximum length of a JWT, in bytes.
pub const MAX_JWT_LENGTH: usize = 64 * 1024;

/// Whether all bytes are of those that a JWT in compact form has: base64url and dots.
///
/// Without a branch or a table for each, so that the compiler looks at many bytes at once: a JWT has a thousand of them
/// and more, and they are looked at whenever one comes out of a store.
fn is_compact_text(bytes: &[u8]) -> bool {
    let among = |byte: u8, first: u8, last: u8| byte.wrapping_sub(first) <= last - first;
    bytes.chunks(64).all(|chunk| {
        chunk.iter().fold(true, |so_far, &byte| {
            so_far
                // Both cases of a letter: they differ in this bit.
                & (among(byte | 0x20, b'a', b'z')
                    | among(byte, b'0', b'9')
                    | among(byte, b'-', b'.')
                    | (byte == b'_'))
        })
    })
}

/// A JWT in compact form whose shape has been checked: see [`check_compact`].
#[derive(Clone, Copy)]
pub struct Compact<'a>(&'a str);

impl<'a> Compact<'a> {
    /// The text: three base64url parts and two dots, and nothing else.
    pub fn as_str(&self) -> &'a str {
        self.0
    }
}

impl fmt::Debug for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compact(..)")
    }
}

/// The reason why bytes are not a JWT that may be passed on. It contains none of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwtError {
    /// No byte at all.
    #[error("it is empty")]
    Empty,
    /// More than [`MAX_JWT_LENGTH`] bytes.
    #[error("it is longer than 64 KiB")]
    TooLong,
    /// A byte that is neither base64url nor a dot: a space, a line break, padding, …
    #[error("it has a byte that is neither base64url nor a dot")]
    BadByte,
    /// Not three parts. Five would be an encrypted JWT (RFC 7516), which APIs cannot read.
    #[error("it is not three parts with two dots between them")]
    NotThreeParts,
    /// An empty part; an unsecured JWT ends with an empty third part (RFC 7519 §6).
    #[error("one of its parts is empty")]
    EmptyPart,
    /// A part that is not valid base64url.
    #[error("one of its parts is not base64url")]
    BadBase64,
    /// A header that is not a JSON object with unique names and exact numbers, and a string `alg`.
    #[error("its header is not a JSON object with unique names and an alg (RFC 7515 §4)")]
    BadHeader,
    /// A payload that is not a JSON object with unique names, or holds a whole number that is too large to be read exactly.
    #[error(
        "its payload is not a JSON object with unique names and whole numbers of at most 64 bits"
    )]
    BadPayload,
    /// `"alg":"none"`: it is not signed.
    #[error("its alg is none: it is not signed")]
    Unsecured,
}

/// Checks that `bytes` are a signed JWT in compact form (RFC 7519 §7.2, RFC 7515 §7.1) and nothing else: at most
/// [`MAX_JWT_LENGTH`] bytes, three parts of unpadded base64url, the first two JSON objects.
///
/// # Errors
/// [`JwtError`] when they are not.
pub fn check_compact(bytes: &[u8]) -> Result<Compact<'_>, JwtError> {
    read_compact(bytes).map(|(compact, _)| compact)
}

/// A JWT that [`check_compact`] has accepted before. It comes from memory that no other party can write to. Still, a
/// byte that is not allowed must never reach a header, so that much is checked again.
pub(crate) fn recheck_compact(bytes: &[u8]) -> Option<Compact<'_>> {
    if bytes.is_empty() || bytes.len() > MAX_JWT_LENGTH || !is_compact_text(bytes) {
        return None;
    }
    // SAFETY: all bytes are among those of `is_compact_text`, which are ASCII.
    Some(Compact(unsafe { std::str::from_utf8_unchecked(bytes) }))
}

/// The member of a signed introspection response that contains the claims of the token (RFC 9701 §5).
pub(crate) const TOKEN_INTROSPECTION: &str = "token_introspection";

/// The claims of a JWT about the token that it stands for: its own claims, or, of a signed introspection response,
/// those in its `token_introspection`. The claims beside that member are about the response: its `aud` is the gateway
/// and not the API.
pub(crate) fn about_token(mut payload: Map<String, Value>) -> Map<String, Value> {
    match payload.remove(TOKEN_INTROSPECTION) {
        None => payload,
        Some(Value::Object(mut members)) => {
            members.remove("active");
            members
        }
        // It was an object when it was first read.
        Some(_) => Map::new(),
    }
}

/// The claims of a JWT that [`check_compact`] has accepted before, and of the output of [`extra_claims`] for it.
///
/// # Errors
/// [`ClaimsError`] when they can't be parsed as such.
pub(crate) fn reread(jwt: &str, extra_claims: &str) -> Result<Claims, ClaimsError> {
    const UNREADABLE: ClaimsError = ClaimsError("the claims cannot be read again");
    let payload = jwt.split('.').nth(1).ok_or(UNREADABLE)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| UNREADABLE)?;
    let payload = about_token(object(&payload).map_err(|_| UNREADABLE)?);
    let response = match extra_claims {
        "" => Map::new(),
        text => object(text.as_bytes()).map_err(|_| UNREADABLE)?,
    };
    Claims::from_members(payload, response)
}

/// The three parts of a JWT in compact form, none of them empty, all of them of the bytes that it may have.
struct Parts<'a> {
    text: &'a str,
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
}

fn parts(bytes: &[u8]) -> Result<Parts<'_>, JwtError> {
    if bytes.is_empty() {
        return Err(JwtError::Empty);
    }
    if bytes.len() > MAX_JWT_LENGTH {
        return Err(JwtError::TooLong);
    }
    if !is_compact_text(bytes) {
        return Err(JwtError::BadByte);
    }
    // ASCII, by the check above.
    let text = std::str::from_utf8(bytes).map_err(|_| JwtError::BadByte)?;
    let mut parts = text.split('.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(JwtError::NotThreeParts);
    };
    if [header, payload, signature].contains(&"") {
        return Err(JwtError::EmptyPart);
    }
    Ok(Parts {
        text,
        header,
        payload,
        signature,
    })
}

fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwtError::BadBase64)
}

/// [`check_compact`], with the payload.
pub(crate) fn read_compact(bytes: &[u8]) -> Result<(Compact<'_>, Map<String, Value>), JwtError> {
    let Parts {
        text,
        header,
        payload,
        signature,
    } = parts(bytes)?;
    decode(signature)?;
    let header = object(&decode(header)?).map_err(|_| JwtError::BadHeader)?;
    match header.get("alg") {
        // The name is case-sensitive, but `none` in another case is refused in the same way.
        Some(Value::String(alg)) if alg.eq_ignore_ascii_case("none") => {
            return Err(JwtError::Unsecured);
        }
        Some(Value::String(_)) => {}
        _ => return Err(JwtError::BadHeader),
    }
    let payload = object(&decode(payload)?).map_err(|_| JwtError::BadPayload)?;
    Ok((Compact(text), payload))
}

/// Makes JWTs for tests, with a signature that verifies nowhere.
#[cfg(test)]
pub(crate) fn test_jwt(payload: &str) -> String {
    test_jwt_with(r#"{"alg":"ES256","typ":"at+jwt"}"#, payload)
}

#[cfg(test)]
pub(crate) fn test_jwt_with(header: &str, payload: &str) -> String {
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    format!(
        "{}.{}.{}",
        encode(header.as_bytes()),
        encode(payload.as_bytes()),
        encode(b"not a signature")
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refused(bytes: impl AsRef<[u8]>) -> JwtError {
        check_compact(bytes.as_ref()).unwrap_err()
    }

    #[test]
    fn exactly_the_bytes_of_base64url_and_the_dot_are_a_jwts() {
        for byte in 0..=u8::MAX {
            let allowed = byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            for at in [0, 1, 63, 64, 99] {
                let mut bytes = [b'A'; 100];
                bytes[at] = byte;
                assert_eq!(is_compact_text(&bytes), allowed, "{byte:#04x} at {at}");
                assert_eq!(recheck_compact(&bytes).is_some(), allowed);
            }
        }
        assert!(recheck_compact(b"").is_none());
        assert!(recheck_compact(&[b'A'; MAX_JWT_LENGTH]).is_some());
        assert!(recheck_compact(&[b'A'; MAX_JWT_LENGTH + 1]).is_none());
    }

    #[test]
    fn a_signed_jwt_passes_and_comes_out_unchanged() {
        let jwt = test_jwt(r#"{"sub":"alice","exp":1700000000}"#);
        assert_eq!(check_compact(jwt.as_bytes()).unwrap().as_str(), jwt);
        // The example of RFC 7515 §A.3.
        let example = "eyJhbGciOiJFUzI1NiJ9.\
                       eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                       DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
        let (compact, payload) = read_compact(example.as_bytes()).unwrap();
        assert_eq!(compact.as_str(), example);
        assert_eq!(payload["iss"], "joe");
    }

    #[test]
    fn a_jwt_of_64_kib_passes_and_one_byte_more_does_not() {
        let shortest = test_jwt("{}").len();
        // Base64 has no text of length 4n+1: three signature bytes at a time keep clear of it.
        let mut jwt = test_jwt("{}");
        jwt.push_str(&"A".repeat((MAX_JWT_LENGTH - shortest) / 4 * 4));
        while jwt.len() < MAX_JWT_LENGTH {
            let header = format!(
                r#"{{"alg":"ES256","typ":"{}"}}"#,
                "x".repeat(MAX_JWT_LENGTH - jwt.len())
            );
            let rest = jwt.split_once('.').unwrap().1.to_owned();
            jwt = format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header));
            if jwt.len() > MAX_JWT_LENGTH {
                let over = (jwt.len() - MAX_JWT_LENGTH).div_ceil(4) * 4;
                jwt.truncate(jwt.len() - over);
                break;
            }
        }
        assert!(jwt.len() <= MAX_JWT_LENGTH && jwt.len() > MAX_JWT_LENGTH - 8);
        assert!(check_compact(jwt.as_bytes()).is_ok());
        jwt.push_str("AAAAAAAA");
        assert_eq!(refused(&jwt), JwtError::TooLong);
    }

    #[test]
    fn nothing_but_base64url_and_dots_gets_through() {
        let jwt = test_jwt("{}");
        assert_eq!(refused(""), JwtError::Empty);
        for bad in [
            format!("{jwt}\n"),
            format!("{jwt}\r\n"),
            format!(" {jwt}"),
            format!("Bearer {jwt}"),
            format!("{jwt}\r\nX-Injected: 1"),
            format!("{jwt}\0"),
            format!("{jwt}="),
            format!("{jwt}é"),
            jwt.replacen('.', ". ", 1),
            jwt.replacen('.', "+.", 1),
            jwt.replacen('.', "/.", 1),
            format!("\"{jwt}\""),
            format!("{jwt},{jwt}"),
        ] {
            assert_eq!(refused(&bad), JwtError::BadByte, "{bad:?}");
        }
        assert_eq!(refused(b"\xff.\xff.\xff"), JwtError::BadByte);
    }

    #[test]
    fn three_parts_it_must_be_with_something_in_each() {
        let jwt = test_jwt("{}");
        let parts: Vec<_> = jwt.split('.').collect();
        let (header, payload, signature) = (parts[0], parts[1], parts[2]);
        for bad in [
            header.to_owned(),
            format!("{header}.{payload}"),
            format!("{jwt}."),
            format!(".{jwt}"),
            format!("{jwt}.{signature}.{signature}"),
        ] {
            assert_eq!(refused(&bad), JwtError::NotThreeParts, "{bad}");
        }
        for bad in [
            format!("{header}.{payload}."),
            format!(".{payload}.{signature}"),
            format!("{header}..{signature}"),
            "..".to_owned(),
        ] {
            assert_eq!(refused(&bad), JwtError::EmptyPart, "{bad}");
        }
    }

    #[test]
    fn each_part_must_decode() {
        let jwt = test_jwt("{}");
        let parts: Vec<_> = jwt.split('.').collect();
        for bad in [
            format!("A.{}.{}", parts[1], parts[2]),
            format!("{}.A.{}", parts[0], parts[2]),
            format!("{}.{}.A", parts[0], parts[1]),
        ] {
            assert_eq!(refused(&bad), JwtError::BadBase64, "{bad}");
        }
    }

    #[test]
    fn header_and_payload_must_be_json_objects_with_unique_names() {
        for header in [
            "",
            "x",
            "[]",
            "null",
            "{}",
            r#"{"typ":"JWT"}"#,
            r#"{"alg":1}"#,
            r#"{"alg":null}"#,
            r#"{"alg":"ES256","alg":"none"}"#,
            r#"{"alg":"none","alg":"ES256"}"#,
        ] {
            let error = refused(test_jwt_with(header, "{}"));
            let expected = if header.is_empty() {
                JwtError::EmptyPart
            } else {
                JwtError::BadHeader
            };
            assert_eq!(error, expected, "{header}");
        }
        for payload in [
            "x",
            "[]",
            "null",
            "1",
            "\"x\"",
            "{} {}",
            r#"{"exp":1,"exp":2}"#,
        ] {
            assert_eq!(
                refused(test_jwt(payload)),
                JwtError::BadPayload,
                "{payload}"
            );
        }
    }

    #[test]
    fn a_jwt_that_nobody_signed_is_refused() {
        for alg in ["none", "None", "NONE"] {
            let header = format!(r#"{{"alg":"{alg}"}}"#);
            assert_eq!(refused(test_jwt_with(&header, "{}")), JwtError::Unsecured);
        }
    }

    #[test]
    fn neither_debug_nor_an_error_shows_the_jwt() {
        let jwt = test_jwt("{}");
        assert_eq!(
            format!("{:?}", check_compact(jwt.as_bytes()).unwrap()),
            "Compact(..)"
        );
        let error = refused(format!("{jwt} SECRET"));
        assert!(!format!("{error} {error:?}").contains("SECRET"));
    }

    proptest! {
        #[test]
        fn whatever_passes_can_stand_in_a_header(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(compact) = check_compact(&bytes) {
                prop_assert!(http::HeaderValue::from_str(compact.as_str()).is_ok());
            }
        }

        #[test]
        fn no_byte_can_be_put_into_a_jwt_unless_it_is_base64url(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut jwt = test_jwt(r#"{"sub":"alice"}"#).into_bytes();
            let at = at.index(jwt.len() + 1);
            jwt.insert(at, byte);
            if let Ok(compact) = check_compact(&jwt) {
                prop_assert!(byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
                prop_assert_eq!(compact.as_str().matches('.').count(), 2);
            }
        }

        #[test]
        fn every_object_is_read_back(sub in "\\PC{0,40}", exp in any::<i64>()) {
            let payload = serde_json::json!({"sub": sub, "exp": exp});
            let jwt = test_jwt(&payload.to_string());
            let (_, read) = read_compact(jwt.as_bytes()).unwrap();
            prop_assert_eq!(Value::Object(read), payload);
        }
    }
}
