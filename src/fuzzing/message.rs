//! The format of inputs that describe an answer of an authorization server.
//!
//! ```text
//! 200
//! Content-Type: application/json
//!
//! {"active":true,"jwt":"~{"alg":"EdDSA"}~{"sub":"alice"}~"}
//! ```
//!
//! The status, headers, an empty line, and the body. In the body, `~header~payload~` stands for a JWT of these two, signed
//! with the server's key: a fuzzer can't change JSON inside base64 in a useful way, and can't guess a
//! signature.

use std::sync::LazyLock;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::jwt::{KeySet, SigningKey, jwks};

/// The longest body; a longer one is refused before it is parsed. Small enough for a fuzzer to make progress.
const LONGEST: usize = 16 << 10;

/// An answer.
pub(super) struct Message {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Whether the server has signed anything in the body.
    pub signed: bool,
}

impl Message {
    /// Parses an input; `None` when it is too long.
    pub fn read(input: &[u8]) -> Option<Self> {
        if input.len() > LONGEST {
            return None;
        }
        let (head, body) = match input.windows(2).position(|two| two == b"\n\n") {
            Some(at) => (&input[..at], &input[at + 2..]),
            None => (input, &b""[..]),
        };
        let mut lines = head.split(|&byte| byte == b'\n');
        let status = lines
            .next()
            .and_then(|line| std::str::from_utf8(line).ok()?.trim().parse().ok())
            .filter(|status| (100..1000).contains(status))
            .unwrap_or(200);
        let mut headers = HeaderMap::new();
        for line in lines {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else {
                continue;
            };
            let name = HeaderName::from_bytes(&line[..colon]);
            let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.append(name, value);
            }
        }
        let (body, signed) = with_jwts(body);
        Some(Message {
            status,
            headers,
            body,
            signed,
        })
    }
}

/// The text with the JWTs that stand in it as `~header~payload~`, and whether there are any.
pub(super) fn with_jwts(text: &[u8]) -> (Vec<u8>, bool) {
    let mut pieces = text.split(|&byte| byte == b'~');
    let mut written = pieces.next().unwrap_or_default().to_vec();
    let mut signed = false;
    while let Some(header) = pieces.next() {
        let (Some(payload), Some(rest)) = (pieces.next(), pieces.next()) else {
            break;
        };
        written.extend_from_slice(sign(header, payload).as_bytes());
        written.extend_from_slice(rest);
        signed = true;
    }
    (written, signed)
}

/// A JWT in compact form of any two byte strings, signed with [`PAIR`].
fn sign(header: &[u8], payload: &[u8]) -> String {
    let mut jwt = URL_SAFE_NO_PAD.encode(header);
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut jwt);
    let signature = PAIR.sign(jwt.as_bytes());
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    jwt
}

/// Decodes base64url with another decoder than ours, which accepts any input.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' => 62,
            _ => 63,
        };
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

/// The key pair of the server, and of the gateway where it signs: a fixed test key.
static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed"));

/// The same for signing.
pub(super) static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let der = PAIR.to_pkcs8v1().expect("a pair has its PKCS#8");
    let text = STANDARD.encode(der.as_ref());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
    SigningKey::from_pem(pem.as_bytes()).expect("PKCS#8 of an Ed25519 key is taken")
});

/// The public key, for verification.
pub(super) static KEYS: LazyLock<KeySet> = LazyLock::new(|| {
    KeySet::parse(jwks(std::slice::from_ref(&*KEY)).as_bytes()).expect("what we publish is read")
});

/// Its thumbprint (RFC 7638).
pub(super) static JKT: LazyLock<String> = LazyLock::new(|| KEY.kid().to_owned());
